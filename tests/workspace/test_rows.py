"""Steps as files: rows come back as they went in, every one is accounted for, and a step is whole or absent."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.errors import RowsLost
from understudy.records import Dropped, Example, Origin
from understudy.workspace import rows as rows_on_disk
from understudy.workspace.rows import write_rows

texts = st.text(max_size=30)
json_values = st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts, st.lists, max_leaves=3)
examples = st.builds(
    Example,
    id=st.uuids().map(str),
    input=texts,
    target=st.none() | texts | st.lists(texts).map(tuple),
    choices=st.lists(texts).map(tuple),
    rationale=st.none() | texts,
    notes=st.dictionaries(texts, texts),
    fields=st.dictionaries(texts, json_values),
    origin=st.none() | st.builds(Origin, texts, texts, st.integers(0, 2**40), st.none() | texts),
    parents=st.lists(texts).map(tuple),
    replies=st.lists(texts).map(tuple),
)


def rows(*ids: str) -> list[Example]:
    return [Example(id=id, input=f"text of {id}", target="x") for id in ids]


@pytest.mark.slow
@settings(max_examples=25)
@given(st.lists(examples, unique_by=lambda row: row.id, max_size=5))
def test_examples_come_back_as_they_went_in(some: list[Example]):
    with tempfile.TemporaryDirectory() as folder:
        assert list(write_rows(Path(folder) / "step", "s", None, some, dict)) == some


def test_kept_dropped_made_and_joined_add_up(tmp_path: Path):
    first = write_rows(tmp_path / "first", "first", None, rows("a", "b", "c", "d"), dict)
    assert (first.taken.rows_in, first.taken.made, first.taken.kept) == (4, 0, 4)  # a source: rows come in

    def recipe():
        a, b, c, d = first
        yield a
        yield Dropped(b, "second", "too_long", "9 words")
        yield c.replace(id="c+d", parents=("c", "d"))
        yield a.replace(id="new", parents=())

    second = write_rows(tmp_path / "second", "second", first, recipe(), dict)
    taken = second.taken
    assert (taken.rows_in, taken.made, taken.kept, taken.joined, taken.dropped) == (4, 2, 3, 2, {"too_long": 1})
    assert [(row.example.id, row.reason, row.detail) for row in second.dropped()] == [("b", "too_long", "9 words")]


def test_a_row_that_vanishes_is_an_error_and_leaves_no_step(tmp_path: Path):
    first = write_rows(tmp_path / "first", "first", None, rows("a", "b"), dict)
    with pytest.raises(RowsLost, match="'thin' lost 1 of 2 rows"):
        write_rows(tmp_path / "second", "thin", first, list(first)[:1], dict)
    assert not (tmp_path / "second").exists()


def test_a_made_row_that_was_there_before_is_dropped_as_duplicate(tmp_path: Path):
    step = write_rows(tmp_path / "step", "made", None, rows("a", "b", "a"), dict)
    assert step.taken.kept == 2
    assert step.taken.dropped == {"duplicate": 1}


def test_an_interrupted_step_is_absent_and_the_same_rows_give_the_same_bytes(tmp_path: Path):
    def breaks():
        yield from rows("a", "b")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rows(tmp_path / "step", "s", None, breaks(), dict)
    assert not (tmp_path / "step").exists()
    one = write_rows(tmp_path / "step", "s", None, rows("a", "b"), dict)
    two = write_rows(tmp_path / "again", "s", None, rows("a", "b"), dict)
    for name in ("part-00000.parquet", "dropped.parquet"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()


def test_rows_are_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("understudy.workspace.rows.ROWS_PER_PART", 3)
    step = write_rows(tmp_path / "step", "s", None, rows(*map(str, range(7))), dict)
    assert [part.name for part in sorted(step.folder.glob("part-*"))] == [f"part-0000{i}.parquet" for i in range(3)]
    assert [row.id for row in step] == list(map(str, range(7)))


def test_long_texts_make_parts_of_fewer_rows(tmp_path: Path):
    some = [Example(id=str(n), input="x" * (rows_on_disk.CHARACTERS_PER_PART // 2)) for n in range(5)]
    step = write_rows(tmp_path / "step", "s", None, some, dict)
    assert len([*step.folder.glob("part-*")]) == 3
    assert list(step) == some
