"""Bad input: one line each, with file, line, what is wrong and what to do."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from understudy.errors import DataError, SettingsError
from understudy.settings import validate
from understudy.sources import Source, labels_in, load, read, validate_source
from understudy.task import Task

TASK = validate(
    Task,
    {
        "instruction": "Which?",
        "kind": "classification",
        "labels": ["card", "loan"],
        "fields": {"input": "text", "target": "label"},
    },
    "task",
)
GOOD = b'{"text": "a", "label": "card"}\n'

BROKEN = [
    ("a.jsonl", GOOD + b'{"text": "a",}\n', ":2: ", "broken JSON at column 13: trailing comma"),
    ("a.jsonl", GOOD + b'\n{"text": ', ":3: ", "broken JSON at column"),
    ("a.jsonl", b'{\n  "text": "a"\n}\n', ":1: ", "each line must be one whole object"),
    ("a.jsonl", b'{"text": "\\ud800"}\n', ":1: ", "broken JSON at column"),
    ("a.jsonl", b'{"text": ' + b"[" * 100_000 + b"\n", ":1: ", "broken JSON at column"),
    ("a.jsonl", GOOD + b'"text"\n', ":2: ", "a JSON object is expected on each line, got 'text'"),
    ("a.jsonl", GOOD + b'{"n": 123456789012345678901}\n', ":2: ", "beyond 64 bits; write it as a string"),
    ("a.jsonl", GOOD + b'{"text": "caf\xe9"}\n', ":2: ", "not UTF-8: byte 0xe9 at position 14 of the line"),
    ("a.json", b'\xef\xbb\xbf [{"text": "a"},\n {"text": "b"}]', ":1: ", "holds a JSON array"),
    ("a.jsonl", b"", ": ", "it holds no rows"),
    ("a.jsonl", b"\n \n", ": ", "it holds no rows"),
    ("a.csv", b"text,label\n", ": ", "it holds no rows"),
    ("a.csv", b'text,label\n"two\nlines",b\na,b,c\n', ":4: ", "names 2 fields, this row has 3 fields"),
    ("a.csv", b"text,label\na\n", ":2: ", "names 2 fields, this row has 1 field;"),
    ("a.csv", b"text,label,text\na,b,c\n", ":1: ", "the column 'text' twice"),
    ("a.csv", b'text,label\na,b\n"never closed,b\nc,d\n', ":3: ", "unexpected end of data"),
    ("a.csv", b'text,label\na,"b" c\n', ":2: ", "`quoted: false`"),
    ("a.csv", b"text,label\na,b\nc,\xff\n", ":3: ", "not UTF-8: byte 0xff at position 3"),
    ("a.txt", b"one\ntwo \xe9\n", ":2: ", "not UTF-8"),
    ("a.txt", b"\xff\xfeo\x00", ":1: ", "not UTF-8: byte 0xff at position 1"),
    ("a.jsonl.gz", gzip.compress(GOOD * 9000, mtime=0)[:-20], ": ", "the gzip file is cut off"),
    ("a.jsonl.gz", GOOD, ": ", "take .gz off its name"),
    ("a.jsonl.gz", gzip.compress(GOOD, mtime=0)[:-8] + b"12345678", ": ", "no valid gzip file (CRC"),
    ("a.parquet", b"text,label\n", ": ", "no readable Parquet file"),
    ("a.parquet", b"", ": ", "no readable Parquet file"),
    ("a.xlsx", b"PK", ": ", "Known: .jsonl, .ndjson, .json, .csv"),
    ("README", b"text", ": ", "give `format:`"),
]


def message(path: Path | str, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        list(read(Source(path=str(path), **settings)))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("name", "content", "place", "what"), BROKEN, ids=range(len(BROKEN)))
def test_a_broken_file(tmp_path: Path, name: str, content: bytes, place: str, what: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    said = message(path)
    assert said.startswith(f"{path}{place}")
    assert what in said


def test_rows_before_the_broken_line_are_still_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD * 3 + b"{\n")
    assert len(list(load(Source(path=str(path), limit=3), TASK))) == 3


def test_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(GOOD)
    assert "there is no such file. Did you mean 'train.jsonl'?" in message(tmp_path / "trian.jsonl")
    assert f"Looked in {str(tmp_path)!r}" in message(tmp_path / "other.csv")
    assert "There is no folder" in message(tmp_path / "none" / "train.jsonl")
    assert "this is a folder (it holds 'train.jsonl')" in message(tmp_path, format="jsonl")


def test_a_parquet_file_with_bytes_or_two_columns_of_one_name(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [b"text", b"\xff\xd8\xff"]}), path)
    assert f"{path}: row 1: a column holds bytes that are no text" in message(path)
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), path)
    assert "the column 'a' stands twice" in message(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", GOOD + b'{"txt": "a", "label": "card"}\n', ":2: field 'input': there is no column 'text'. Did you"),
        ("a.jsonl", GOOD + b'\n{"text": "a", "label": "laon"}\n', ":3: field 'target': 'laon' is none of the task's"),
        ("a.csv", b'label,text\ncard,"1\n2\n3"\nlaon,x\n', ":5: field 'target': 'laon' is none of the task's labels."),
        ("a.jsonl", GOOD + b'{"text": "a", "label": ["card", "loan"]}\n', ":2: field 'target': kind: classification"),
    ],
)
def test_a_row_that_does_not_fit_the_task(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(load(Source(path=str(path)), TASK))
    assert str(caught.value).startswith(f"{path}{said}")


def test_a_template_that_fails_on_a_row_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD.replace(b'"a"', b'{"b": 1}') + GOOD)
    fields = {"input": "{{ text | dictsort }}", "target": "label"}
    task = validate(Task, {"instruction": "Which?", "kind": "classification", "fields": fields}, "task")
    with pytest.raises(DataError, match=r"a.jsonl:2: field 'input': template .* fails on this row: AttributeError"):
        list(load(Source(path=str(path)), task))


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", GOOD + b'{"text": "a", "label": null}\n'), ("a.csv", b"text,label\na,\n")]
)
def test_a_test_row_needs_an_answer(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert [row.target for row in load(Source(path=str(path)), TASK)][-1] is None
    with pytest.raises(DataError) as caught:
        list(load(Source(path=str(path)), TASK, "test"))
    assert str(caught.value) == f"{path}:2: field 'target': a test row needs an answer"
    assert list(load(Source(path=str(path)), TASK.without_answers(), "test"))


def test_a_draw_by_label_looks_at_every_label(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD * 2 + b'{"text": "a", "label": "laon"}\n')
    assert len(list(load(Source(path=str(path), limit=2), TASK))) == 2
    with pytest.raises(DataError, match=r"a.jsonl:3: field 'target': 'laon' is none of the task's labels"):
        list(load(Source(path=str(path), limit=2, per_label=1), TASK))


def test_a_row_that_does_not_fit_in_parquet_is_named_by_its_number(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "b"], "label": ["card", "cart"]}), path)
    with pytest.raises(DataError, match=r"a.parquet: row 1: field 'target': 'cart' .* Did you mean 'card'\?"):
        list(load(Source(path=str(path)), TASK))


def test_a_row_too_deep_to_be_written_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": "card", "x": ' + "[" * 500 + "]" * 500 + "}\n")
    with pytest.raises(DataError, match=r"a.jsonl:1: .*ecursion"):
        list(load(Source(path=str(path)), TASK))


def test_the_first_look_reads_one_row_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD + b"broken\n")
    validate_source(Source(path=str(path), skip=5, sample=9), TASK)
    path.write_bytes(b'{"message": "a", "label": "card"}\n')
    with pytest.raises(DataError, match=r"a.jsonl:1: field 'input': there is no column 'text'"):
        validate_source(Source(path=str(path)), TASK)
    generation = validate(Task, {"instruction": "Write.", "kind": "generation", "fields": {"input": "text"}}, "task")
    with pytest.raises(DataError, match="per_label: 3 needs a task with labels"):
        validate_source(Source(path=str(path), per_label=3), generation)


def test_nothing_left_to_read_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD * 3)
    with pytest.raises(DataError, match="no row is left after skip: 3"):
        list(load(Source(path=str(path), skip=3), TASK))
    path.write_bytes(b'{"text": "a", "label": null}\n')
    with pytest.raises(DataError, match=r"no row is left after skip: 0; .* with an answer for per_label"):
        list(load(Source(path=str(path), per_label=2), TASK))
    with pytest.raises(DataError, match="no row has an answer"):
        labels_in(Source(path=str(path)), TASK)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "give one of path"),
        ({"path": "a.csv", "hub": "x/y"}, "give one of path"),
        ({"path": "a.csv", "split": "test"}, "split does not go with path"),
        ({"hub": "x/y", "format": "csv"}, "format does not go with hub"),
        ({"hub": "x/y", "quoted": False}, "quoted does not go with hub"),
        ({"hub": "x/y", "split": "train[:10]"}, "split: "),
        ({"path": "a.csv", "sample": 3, "per_label": 2}, "two ways to draw rows"),
        ({"path": "a", "format": "text", "delimiter": ";"}, "delimiter and quoted are for CSV"),
        ({"path": "a.csv", "limit": 0}, "limit: "),
        ({"path": "a.csv", "limt": 3}, "Did you mean 'limit'"),
        ({"path": ""}, "path: "),
    ],
)
def test_settings_that_make_no_sense(values: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        validate(Source, values, "study.yaml: task.train")
    assert said in str(caught.value)
