"""Files and folders of raw text come out as rows with stable ids; what is left out says why."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from understudy.errors import DataError, SettingsError
from understudy.records import Dropped, Example, Origin
from understudy.settings import validate
from understudy.sources import Source, content_hash, load, load_corpus, read, selection, validate_source
from understudy.splits import StudyTask
from understudy.study_file import _anchored
from understudy.task import Task
from understudy.workspace.rows import write_rows


def task(**fields: Any) -> Task:
    return validate(Task, {"instruction": "Write.", "kind": "pretraining", "fields": {"input": "text"} | fields})


def rows(*paths: Path, split: str = "train", **settings: Any) -> tuple[list[Example], list[Dropped]]:
    source = Source(corpus=tuple(map(str, paths)), **settings)
    found = list(load_corpus(source, task(), split))
    return [row for row in found if isinstance(row, Example)], [row for row in found if isinstance(row, Dropped)]


def reasons(left_out: list[Dropped]) -> dict[str, str]:
    return {one.example.id: one.reason for one in left_out}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "books"
    (place / "talk").mkdir(parents=True)
    (place / "b.txt").write_text("\nThe first line.\r\nThe second.\n\n \nThe third.\n\n")
    with gzip.open(place / "talk" / "a.jsonl.gz", "wt") as file:
        file.write('\n{"text": "A title\\nIt rained.", "year": NaN}\n')
    pq.write_table(pa.table({"text": ["From a table."], "vector": [[1.0]]}), place / "c.parquet")
    (place / "d.csv").write_text('id,text\n1,"One, and\nmore"\n2\n3,Two\n')
    (place / "e.tsv").write_bytes(b"text\tid\nGood\t1\ncaf\xe9\t2\nBest\t3\n")
    return place


def test_a_folder_is_read_in_the_order_of_names(folder: Path):
    found, left_out = rows(folder, licence="CC0")
    assert [(row.id.rpartition("-")[0], row.input) for row in found] == [
        ("books/b.txt:1", "The first line.\nThe second.\n\nThe third."),
        ("books/c.parquet:0", "From a table."),
        ("books/d.csv:0", "One, and\nmore"),
        ("books/d.csv:2", "Two"),
        ("books/e.tsv:0", "Good"),
        ("books/e.tsv:2", "Best"),
        ("books/talk/a.jsonl.gz:1", "A title\nIt rained."),
    ]
    assert reasons(left_out) == {"books/d.csv:1": "broken_row", "books/e.tsv:1": "not_utf8"}
    assert (found[-1].fields, found[-1].target) == ({"text": "A title\nIt rained.", "year": None}, None)
    assert found[-1].origin == Origin("books/talk/a", "train", 1, "CC0")
    assert found[1].fields == {"text": "From a table."}  # of a table only what the task names is read
    assert left_out[1].example.input == "caf\\xe9 2"


def test_ids_do_not_depend_on_where_the_folder_lies(folder: Path, tmp_path: Path):
    before = rows(folder)
    hash = content_hash(Source(corpus=(str(folder),)))
    (tmp_path / "elsewhere").mkdir()
    there = folder.rename(tmp_path / "elsewhere" / "books")
    assert rows(there) == before
    assert content_hash(Source(corpus=(str(there),))) == hash
    assert [row.id for row in rows(there / "talk" / "a.jsonl.gz")[0]] == ["talk/a.jsonl.gz:1-" + before[0][-1].id[-6:]]
    (there / "b.txt").rename(there / "a.txt")
    assert content_hash(Source(corpus=(str(there),))) != hash


def test_what_comes_out_is_part_of_the_selection(folder: Path):
    source = Source(corpus=(str(folder), str(folder / "talk" / "a.jsonl.gz")))
    assert source.dataset == "books+talk/a"
    assert source.place == f"{folder}, {folder / 'talk' / 'a.jsonl.gz'}"
    told = [selection(source.model_copy(update=change)) for change in ({}, {"limit": 1}, {"format": "text"})]
    assert len(set(told)) == 3
    assert str(folder) not in told[0]
    found, left_out = rows(folder, name="mine", skip=1, limit=2)
    assert [row.id.rpartition("-")[0] for row in found] == ["mine/books/c.parquet:0", "mine/books/d.csv:0"]
    assert found[0].origin == Origin("mine/books/c", "train", 0)
    assert not left_out


def test_rows_left_out_go_with_the_rows_before_which_they_stand(folder: Path):
    whole = rows(folder)
    parts = [rows(folder, limit=3), rows(folder, skip=3, limit=1), rows(folder, skip=4, limit=100)]
    assert [row for found, _ in parts for row in found] == whole[0]
    assert [row for _, left_out in parts for row in left_out] == whole[1]


def test_the_text_stands_where_the_fields_say(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"title": "T", "body": "B"}\n{"title": "T"}\n')
    source = Source.model_validate({"corpus": str(tmp_path), "fields": {"input": "{{ title }}: {{ body }}"}})
    first, second = load_corpus(source, task())
    assert isinstance(first, Example)
    assert isinstance(second, Dropped)
    assert first.input == "T: B"
    assert (second.reason, second.example.input) == ("no_text", "{'title': 'T'}")
    assert "there is no column 'body'" in second.detail


def test_running_text_is_cut_into_rows_of_whole_lines(tmp_path: Path):
    lines = [f"This is line number {n:05} of a text.\n" for n in range(1000)]
    (tmp_path / "a.txt").write_text("".join(lines) + "x" * 5000 + "\nAfter it.\n")
    found, _ = rows(tmp_path)
    assert "\n".join(row.input for row in found) + "\n" == (tmp_path / "a.txt").read_text()
    assert {len(row.input) for row in found[:-3]} == {1997}
    assert [len(row.input) for row in found[-2:]] == [5000, 9]
    assert [row.origin and row.origin.row for row in found[:3]] == [0, 54, 108]
    (tmp_path / "a.txt").write_text("".join(("word " * 20 + "\n") * 6 + "\n" for _ in range(9)))
    found, _ = rows(tmp_path)  # an empty line is where a row ends, if it is long enough
    assert [row.input.count("\n\n") for row in found] == [1, 1, 1, 1, 0]
    assert all(row.input == row.input.strip("\n") for row in found)


def test_a_row_of_wrapped_text_ends_where_a_sentence_does(tmp_path: Path):
    sentence = "The long grey river runs to the sea,\nand behind it are the hills,\nwhere it rains."
    (tmp_path / "a.txt").write_text("\n".join([sentence] * 100))
    found, _ = rows(tmp_path)
    assert len(found) > 3
    assert all(row.input.endswith("rains.") for row in found)
    (tmp_path / "a.txt").write_text("a line without an end\n" * 2000)  # and where none does it ends all the same
    found, _ = rows(tmp_path)
    assert [len(row.input) < 16_001 for row in found] == [True] * 3


def test_files_that_are_no_text_are_dropped_with_a_reason(tmp_path: Path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "array.json").write_text('[{"text": "a"}]')
    (folder / "cut.txt.gz").write_bytes(gzip.compress(b"Before the cut.\n" + bytes(range(32, 127)) * 99, 0)[:2000])
    (folder / "good.txt").write_text("A good line.")
    (folder / "notes.md").write_text("# Notes")
    (folder / "nothing.txt").write_bytes(b"\n \n")
    (folder / "open.csv").write_text('text\nGood\n"never closed\n')
    (folder / "picture.txt").write_bytes(b"\x89PNG\0\0\0")
    (folder / "table.parquet").write_bytes(b"no table")
    pq.write_table(pa.table({"body": ["Text."]}), folder / "other.parquet")
    (folder / "loop").symlink_to(folder)
    (folder / "gone.txt").symlink_to(folder / "nowhere")
    found, left_out = rows(folder)
    assert [row.input for row in found if "cut" not in row.id] == ["A good line.", "Good"]
    assert reasons(left_out) == {
        "corpus/array.json": "unreadable_file",
        "corpus/cut.txt.gz": "unreadable_file",
        "corpus/gone.txt": "unreadable_file",
        "corpus/loop": "unreadable_file",
        "corpus/notes.md": "unknown_format",
        "corpus/nothing.txt": "empty_file",
        "corpus/open.csv": "unreadable_file",
        "corpus/other.parquet": "no_text",
        "corpus/picture.txt": "binary_file",
        "corpus/table.parquet": "unreadable_file",
    }
    assert not any(str(folder) in one.detail for one in left_out)
    assert content_hash(Source(corpus=(str(folder),)))
    assert [row.input for row in rows(folder / "notes.md", format="text")[0]] == ["# Notes"]


def test_rows_that_are_no_text_are_dropped_with_a_reason(tmp_path: Path):
    lines = [
        b'{"text": "A good one."}',
        b'{"text": "broken',
        b"\xff\xfe",
        b'{"text": null}',
        b'{"\\ud800": 1}',
        b'["text"]',
        b'{"text": "  \\n "}',
        b'{"text": "nul \\u0000 character"}',
        b'{"body": "Other."}',
        b"",
        b'{"text": "The last one."}',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    found, left_out = rows(tmp_path)
    assert [row.origin and row.origin.row for row in found] == [0, 10]
    assert [(one.example.origin and one.example.origin.row, one.reason) for one in left_out] == [
        (1, "broken_json"),
        (2, "not_utf8"),
        (3, "empty_document"),
        (4, "broken_json"),
        (5, "broken_json"),
        (6, "empty_document"),
        (7, "nul_character"),
        (8, "no_text"),
    ]
    step = write_rows(tmp_path / "step", "train", None, [*found, *left_out], dict)
    assert (step.taken.rows_in, step.taken.kept, sum(step.taken.dropped.values())) == (10, 2, 8)


def test_rows_of_a_table_that_are_no_text_are_dropped_with_a_reason(tmp_path: Path):
    values = pa.array([b"Text as bytes.", b"\xff", None, b"The last row."])
    pq.write_table(pa.table({"text": values}), tmp_path / "a.parquet")
    buffers = pa.array([b"It is text.", b"\xff"]).buffers()
    pq.write_table(pa.table({"text": pa.Array.from_buffers(pa.string(), 2, buffers)}), tmp_path / "b.parquet")
    found, left_out = rows(tmp_path)
    assert [one.input for one in found] == ["Text as bytes.", "The last row.", "It is text."]
    assert [one.reason for one in left_out] == ["no_text", "empty_document", "not_utf8"]


def test_a_line_that_is_not_utf8_ends_a_row(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfOne.\nTwo.\ncaf\xe9\nThree.\n")
    found, left_out = rows(tmp_path)
    assert [row.input for row in found] == ["One.\nTwo.", "Three."]
    assert [(one.reason, one.detail, one.example.input) for one in left_out] == [
        ("not_utf8", "byte 0xe9 at position 4", "caf\\xe9\n")
    ]


def test_lines_of_megabytes_are_rows_or_dropped_and_never_whole_in_memory(tmp_path: Path):
    with gzip.open(tmp_path / "a.txt.gz", "wb", compresslevel=1) as file:
        file.write(b"Before it.\n" + b"a " * 500_000 + b"\n")
        for _ in range(40):
            file.write(b"b " * 500_000)
        file.write(b"\nAfter it.\n")
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "c " * (9 << 20)}) + '\n{"text": "After it."}\n')
    (tmp_path / "c.csv").write_text("text\n" + "d " * (9 << 20) + "\n")
    found, left_out = rows(tmp_path)
    assert [(row.input[:9], len(row.input)) for row in found] == [
        ("Before it", 10),
        ("a a a a a", 1_000_000),
        ("After it.", 9),
        ("After it.", 9),
    ]
    name = tmp_path.name
    assert reasons(left_out) == {
        f"{name}/a.txt.gz:2": "long_document",
        f"{name}/b.jsonl:0": "long_document",
        f"{name}/c.csv": "unreadable_file",
    }
    assert all(len(one.example.input) <= 200 for one in left_out)


def test_a_corpus_of_which_nothing_is_left_counts_the_reasons(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"body": "A."}\n{"body": "B."}\n')
    (tmp_path / "b.bin").write_bytes(b"\0")
    with pytest.raises(DataError, match=r"no row of text \(dropped: 2 no_text, 1 unknown_format\); look at format"):
        rows(tmp_path)
    with pytest.raises(DataError, match="2 no_text"):
        validate_source(Source(corpus=(str(tmp_path),)), task())
    (tmp_path / "c.txt").write_text("A line.")
    validate_source(Source(corpus=(str(tmp_path),), skip=9), task())
    with pytest.raises(DataError, match="no row of text left of 1 after skip: 1"):
        rows(tmp_path, skip=1)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no file"):
        rows(tmp_path / "none")
    with pytest.raises(DataError, match="there is no such file"):
        rows(tmp_path / "nowhere")


def test_a_file_may_not_be_in_a_corpus_twice(tmp_path: Path):
    for place in ("a", "b"):
        (tmp_path / place / "x").mkdir(parents=True)
        (tmp_path / place / "x" / "1.txt").write_text("A line.")
    for other in (tmp_path / "b" / "x", tmp_path / "a" / "x" / "1.txt"):
        with pytest.raises(DataError, match="would both be 'x'"):
            rows(tmp_path / "a" / "x", other)


def test_only_texts_to_pretrain_on_are_read_from_a_corpus(tmp_path: Path):
    (tmp_path / "a.txt").write_text("A line.")
    source = Source(corpus=(str(tmp_path),))
    answers = Task(instruction="Write.", kind="generation")
    for other, split, message in ((answers, "train", "for kind: pretraining"), (task(), "test", "has no answers")):
        with pytest.raises(DataError, match=message):
            list(load_corpus(source, other, split))
    for refused in (load(source, task()), read(source)):
        with pytest.raises(DataError, match="a corpus is raw text to pretrain on"):
            list(refused)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample": 3}, "sample does not go with corpus"),
        ({"per_label": 3}, "per_label does not go with corpus"),
        ({"delimiter": ";"}, "delimiter does not go with corpus"),
        ({"config": "x"}, "config does not go with corpus"),
        ({"path": "a.txt"}, "give one of path"),
        ({"corpus": []}, "at least 1 item"),
    ],
)
def test_settings_that_do_not_go_with_a_corpus(changes: dict[str, Any], message: str):
    with pytest.raises(SettingsError, match=message):
        validate(Source, {"corpus": "texts"} | changes, "task.train")


def test_text_held_back_is_for_pretraining():
    pretraining = {"instruction": "Write.", "kind": "pretraining", "test": "pairs.jsonl", "held_back": "valid.jsonl"}
    checked = validate(StudyTask, pretraining | {"train": {"corpus": "texts"}}, "task")
    assert [source.path for source in checked.sources("held_back")] == ["valid.jsonl"]
    with pytest.raises(SettingsError, match="held_back is text for kind: pretraining"):
        validate(StudyTask, pretraining | {"kind": "generation"}, "task")
    with pytest.raises(SettingsError, match="train: a corpus is raw text for kind: pretraining"):
        validate(StudyTask, {**pretraining, "kind": "generation", "held_back": None, "train": {"corpus": "a"}}, "task")
    with pytest.raises(SettingsError, match="test: a corpus has no answers"):
        validate(StudyTask, pretraining | {"test": {"corpus": "texts"}}, "task")


def test_the_paths_of_a_corpus_are_relative_to_the_study():
    task = {"train": ["a.jsonl", {"corpus": ["b", "/c"]}], "held_back": {"corpus": "d"}}
    assert _anchored({"task": task}, Path("/studies"))["task"] == {
        "train": ["/studies/a.jsonl", {"corpus": ["/studies/b", "/c"]}],
        "held_back": {"corpus": "/studies/d"},
    }
