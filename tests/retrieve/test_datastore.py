"""A datastore: built from anything, added to, broken off at any moment, and read again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

sys.path.insert(0, str(Path(__file__).parent))
from hashing import HashingEncoder

from understudy.errors import DataError, OutOfSpace, SettingsError, WorkspaceError
from understudy.retrieve import building, store_files
from understudy.retrieve.building import build, remove
from understudy.retrieve.datastore import Dataset, Datastore, folder_of
from understudy.retrieve.tables import DatasetSource, read_sources

CARDS = [{"text": f"card number {i}", "intent": "card" if i % 2 else "loan"} for i in range(30)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three small datasets of different kinds."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "data"
    folder.mkdir()
    jsonl(folder / "cards.jsonl", CARDS)
    (folder / "sums.csv").write_text("question,answer\n" + "".join(f"{i} and {i}?,{2 * i}\n" for i in range(25)))
    days = pa.array([0, 1], pa.date32())
    pq.write_table(pa.table({"says": ["hello", "good bye"], "day": days}), folder / "talk.parquet")
    return folder


def jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a store with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def built(path: Path, *places: Path, **settings: Any) -> building.BuildReport:
    return build(path, read_sources([str(place) for place in places]), encoder=HashingEncoder(), **settings)


def test_what_was_put_in_comes_out(data: Path, tmp_path: Path):
    report = built(tmp_path / "store", data)
    assert [one.name for one in report.built] == ["data/cards", "data/sums", "data/talk"]
    store = Datastore.open(tmp_path / "store")
    assert (store.encoder_name, store.encoder_identity, store.width) == ("hashing", "hashing-16", 16)
    cards, _, talk = store.datasets
    assert (cards.rows, cards.cells, cards.summary.texts) == (30, 60, 32)
    assert cards.description == "data/cards: text, intent"
    assert talk.summary.skipped_columns == {"day": "date or time"}
    assert [row.row for row in cards.fetch([29, 0, 0])] == [29, 0, 0]
    assert cards.fetch([29])[0].cells == (("text", "card number 29"), ("intent", "card"))


def test_every_distinct_text_has_its_unit_vector_once(data: Path, tmp_path: Path):
    encoder = HashingEncoder()
    build(tmp_path / "store", read_sources([str(data)]), encoder=encoder)
    for dataset in Datastore.open(tmp_path / "store").datasets:
        assert_whole(dataset)
    assert sum(encoder.asked) == 32 + 50 + 2 + 3  # texts, and a description each


def assert_whole(dataset: Dataset) -> None:
    """Each cell points to the vector of its text."""
    vectors, cells, offsets = dataset.vectors(), dataset.cell_texts(), dataset.offsets()
    assert (vectors.dtype, cells.dtype, offsets.dtype) == ("<f2", "<i4", "<i8")
    assert (len(vectors), len(cells), len(offsets)) == (dataset.summary.texts, dataset.cells, dataset.rows + 1)
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float32), axis=1), 1, atol=1e-3)
    for place, row in enumerate(dataset.fetch(range(dataset.rows))):
        held = vectors[cells[offsets[place] : offsets[place + 1]]]
        expected = HashingEncoder().encode([text for _, text in row.cells]).astype("<f2")
        np.testing.assert_array_equal(held, expected)
    (expected,) = HashingEncoder().encode([dataset.description])
    np.testing.assert_array_equal(dataset.description_vector(), expected)


def test_two_builds_are_the_same_bytes_in_whatever_order(data: Path, tmp_path: Path):
    built(tmp_path / "one", data)
    for place in ("talk.parquet", "sums.csv", "cards.jsonl"):
        built(tmp_path / "other", data / place)
    assert files(tmp_path / "one") == files(tmp_path / "other")
    assert Datastore.open(tmp_path / "one").digest == Datastore.open(tmp_path / "other").digest


def test_a_datastore_is_no_source_of_another(data: Path, tmp_path: Path):
    built(data / "store", data / "sums.csv")
    assert [one.name for one in built(tmp_path / "store", data).built] == ["data/cards", "data/sums", "data/talk"]


def test_adding_and_removing_touch_nothing_else(data: Path, tmp_path: Path):
    store = tmp_path / "store"
    built(store, data / "cards.jsonl")
    before, digest = files(store), Datastore.open(store).digest
    report = built(store, data)
    assert (len(report.built), report.unchanged) == (2, ("data/cards",))
    assert before.items() <= files(store).items()
    assert Datastore.open(store).digest != digest
    remove(store, "data/sums")
    remove(store, "data/talk")
    assert files(store) == before
    with pytest.raises(SettingsError, match="holds no dataset 'data/sum'. Did you mean 'data/cards'"):
        remove(store, "data/sum")


def test_a_changed_source_takes_the_place_of_the_old_one(data: Path, tmp_path: Path):
    store = tmp_path / "store"
    built(store, data)
    jsonl(data / "cards.jsonl", CARDS[:3])
    report = built(store, data)
    assert [one.name for one in report.built] == ["data/cards"]
    built(tmp_path / "fresh", data)
    assert files(store) == files(tmp_path / "fresh")
    assert [one.name for one in built(store, data, rows_per_dataset=10).built] == [
        "data/cards",
        "data/sums",
        "data/talk",
    ]
    assert [dataset.rows for dataset in Datastore.open(store).datasets] == [3, 10, 2]


def test_what_cannot_be_read_is_skipped_with_its_reason_and_the_rest_goes_on(data: Path, tmp_path: Path):
    (data / "broken.jsonl").write_text('{"text": "fine"}\n{"text": "cut of')
    (data / "numbers.csv").write_text("a,b\n1,2\n")
    (data / "packed.jsonl.gz").write_text("not packed")
    (data / "cards.csv").write_text("text\nhello\n")
    report = built(tmp_path / "store", data, data / "nowhere.jsonl")
    assert [one.name for one in report.built] == ["data/cards", "data/sums", "data/talk"]
    reasons = {Path(one.source).name: one.reason for one in report.skipped}
    assert "broken.jsonl:2: broken JSON" in reasons["broken.jsonl"]
    assert "no column holds text: 'a' (numbers), 'b' (numbers)" in reasons["numbers.csv"]
    assert "no valid gzip file" in reasons["packed.jsonl.gz"]
    assert "another source is called 'data/cards' too" in reasons["cards.jsonl"]
    assert "there is no such file" in reasons["nowhere.jsonl"]
    assert len(reasons) == 5
    built(tmp_path / "clean", data / "cards.csv", data / "sums.csv", data / "talk.parquet")
    assert files(tmp_path / "store") == files(tmp_path / "clean")


def test_a_store_of_another_encoder_is_refused_and_both_are_named(data: Path, tmp_path: Path):
    built(tmp_path / "store", data / "sums.csv")
    with pytest.raises(DataError, match=r"built by the encoder 'hashing' .* this one is 'other' "):
        build(tmp_path / "store", read_sources([str(data)]), encoder=HashingEncoder("other"))


def test_a_name_may_hold_what_a_folder_may_not(data: Path, tmp_path: Path):
    names = ["..", ".partial-data", "a/b\\c:d*", "ä" * 200, "a b"]
    sources = [DatasetSource(path=str(data / "sums.csv"), name=name) for name in names]
    assert not build(tmp_path / "store", sources, encoder=HashingEncoder()).skipped
    assert [dataset.name for dataset in Datastore.open(tmp_path / "store").datasets] == sorted(names)
    assert {path.name for path in tmp_path.iterdir()} == {"data", "store"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "no datastore: nothing is there; make one with: understudy datastore build"),
        ({"notes.md": "hello"}, "no datastore: this folder holds none"),
        ({"store.json": '{"format": 7}'}, "a datastore of format 7, this version reads 1"),
        ({"store.json": "{"}, "broken JSON"),
        ({"store.json": '{"format": 1}'}, "not what a datastore holds"),
    ],
)
def test_what_is_no_datastore_says_so(tmp_path: Path, content: dict[str, str], said: str):
    for name, text in content.items():
        (tmp_path / "store").mkdir(exist_ok=True)
        (tmp_path / "store" / name).write_text(text)
    with pytest.raises(DataError) as caught:
        Datastore.open(tmp_path / "store")
    assert said in str(caught.value)


def test_a_folder_of_other_things_is_not_built_into(data: Path, tmp_path: Path):
    before = files(data)
    with pytest.raises(DataError, match="no datastore, and it holds 'cards.jsonl'; name a new folder"):
        built(data, data / "sums.csv")
    assert files(data) == before


def test_a_second_process_is_refused_while_one_is_at_work(data: Path, tmp_path: Path):
    store = tmp_path / "store"
    built(store, data / "sums.csv")
    with FileLock(store / ".lock"):
        for work in (lambda: built(store, data), lambda: remove(store, "data/sums")):
            with pytest.raises(WorkspaceError, match="another process is at work on this datastore"):
                run_elsewhere(work)
        assert len(Datastore.open(store).datasets) == 1  # readers need not wait
    assert len(built(store, data).built) == 2


def run_elsewhere(work: Any) -> None:
    """In a thread of its own: a lock is let through again where it was taken."""
    raised: list[BaseException] = []

    def go() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


CHILD = """
import os, signal, resource, sys
sys.path.insert(0, {tests!r})
from hashing import HashingEncoder
from understudy.retrieve import store_files
from understudy.retrieve.building import build
from understudy.retrieve.tables import read_sources
from understudy.errors import UnderstudyError
store_files.TEXTS_PER_CHUNK = {chunk}

class Dying(HashingEncoder):
    def encode(self, texts, progress=None):
        if len(self.asked) == {calls}:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(texts, progress)

if {largest_file}:
    resource.setrlimit(resource.RLIMIT_FSIZE, ({largest_file}, {largest_file}))
try:
    build({store!r}, read_sources([{data!r}]), encoder=Dying())
except UnderstudyError as error:
    print(f"{{type(error).__name__}}: {{error}}", file=sys.stderr)
    sys.exit(error.exit_code)
"""


def child(store: Path, data: Path, *, calls: int = -1, chunk: int = 8, largest_file: int = 0) -> tuple[int, str]:
    """Build in a process that kills itself at the encoder's call number ``calls``."""
    code = CHILD.format(
        tests=str(Path(__file__).parent),
        store=str(store),
        data=str(data),
        calls=calls,
        chunk=chunk,
        largest_file=largest_file,
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("calls", [0, 3, 5, 8, 11])
def test_a_killed_build_goes_on_at_the_last_whole_chunk(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
):
    monkeypatch.setattr(store_files, "TEXTS_PER_CHUNK", 8)
    built(tmp_path / "whole", data)
    assert child(tmp_path / "store", data, calls=calls)[0] == -signal.SIGKILL
    for path in (tmp_path / "store").glob("datasets/.partial-*/vectors.f16"):
        with path.open("ab") as file:
            file.write(b"half a chunk")  # as if it had died while it wrote
    if calls >= 5:  # four chunks and a description
        assert [dataset.name for dataset in Datastore.open(tmp_path / "store").datasets] == ["data/cards"]
    encoder = HashingEncoder()
    build(tmp_path / "store", read_sources([str(data)]), encoder=encoder)
    assert files(tmp_path / "store") == files(tmp_path / "whole")
    assert len(encoder.asked) == 4 + 1 + 7 + 1 + 1 + 1 - calls


@pytest.mark.parametrize("moment", ["before the moves", "between the two", "after both"])
def test_a_kill_while_a_dataset_is_replaced_loses_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
):
    store = tmp_path / "store"
    built(store, data)
    jsonl(data / "cards.jsonl", CARDS[:3])
    built(tmp_path / "fresh", data)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(building, "_put", killed)
        with pytest.raises(KeyboardInterrupt):
            built(store, data)
    folder = folder_of(store, "data/cards")
    if moment != "before the moves":
        folder.rename(folder.with_name(f".old-{folder.name}"))
    if moment == "after both":
        folder.with_name(f".partial-{folder.name}").rename(folder)
    encoder = HashingEncoder()
    build(store, read_sources([str(data)]), encoder=encoder)
    assert files(store) == files(tmp_path / "fresh")
    assert sum(encoder.asked) <= 1


@pytest.mark.slow
def test_a_disk_that_takes_no_more_is_one_clear_line_and_what_was_built_stays(data: Path, tmp_path: Path):
    words = [{"text": f"word{i} " + "x" * (i % 7)} for i in range(1_500)]
    jsonl(data / "words.jsonl", words)
    code, said = child(tmp_path / "store", data, chunk=512, largest_file=24_000)
    assert code == OutOfSpace.exit_code
    assert said.startswith("OutOfSpace: a file in")
    assert "run the same command again" in said
    assert said.count("\n") == 1
    assert [one.name for one in Datastore.open(tmp_path / "store").datasets] == ["data/cards", "data/sums", "data/talk"]
    built(tmp_path / "store", data)
    assert len(Datastore.open(tmp_path / "store").datasets) == 4


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path: Path):
    import tracemalloc

    peaks = []
    for rows in (2_000, 12_000):
        path = jsonl(tmp_path / f"{rows}.jsonl", [{"text": f"{'many words ' * 40}{i % 500}"} for i in range(rows)])
        tracemalloc.start()
        built(tmp_path / f"store-{rows}", path, rows_per_dataset=None)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2_000_000  # the texts alone are 4 MB more
