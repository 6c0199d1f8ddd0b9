"""What became of every id of a step: as a dict would tell, in a file that is gone afterwards."""

import errno
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.workspace.fates import fates_in

ids = st.integers(0, 30).map(str)


@settings(max_examples=50)
@given(st.sets(ids), st.lists(st.tuples(ids, st.lists(ids, max_size=3)), max_size=60))
def test_every_id_is_first_once_and_every_parent_joined(incoming: set[str], rows: list[tuple[str, list[str]]]):
    left, made, joined = set(), set(), set()
    with tempfile.TemporaryDirectory() as folder:
        with fates_in(Path(folder)) as fates:
            assert fates.expect([*incoming, *incoming]) == len(incoming)
            for id, parents in rows:
                assert fates.is_first(id, parents) == (id not in left | made)
                if id in incoming:
                    left.add(id)
                else:
                    made.add(id)
                    joined |= incoming & {*parents}
            assert fates.lost == len(incoming - left - joined)
            assert fates.joined == len(joined - left)
        assert not [*Path(folder).iterdir()]


@pytest.mark.slow
def test_ten_times_the_ids_take_no_more_memory(tmp_path: Path):
    def peak(count: int) -> int:
        code = f"""
import resource
from pathlib import Path
from understudy.workspace.fates import fates_in
with fates_in(Path({str(tmp_path)!r})) as fates:
    assert fates.expect(map(str, range({count} // 2))) == {count} // 2
    assert all(fates.is_first(str(n), ()) for n in range({count}))
    assert not fates.is_first("7", ()) and not fates.lost
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
        return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    assert peak(500_000) < 1.2 * peak(50_000)


def test_a_full_disk_is_the_error_of_a_full_disk(tmp_path: Path):
    def fill() -> None:
        with fates_in(tmp_path) as fates:
            fates._table.execute("PRAGMA max_page_count = 20")
            fates.expect(map(str, range(10_000)))

    with pytest.raises(OSError, match="no space left") as full:
        fill()
    assert full.value.errno == errno.ENOSPC
