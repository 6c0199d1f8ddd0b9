"""Every format gives the rows that were written, typed where the format has types."""

from __future__ import annotations

import csv
import gzip
import json
import math
import os
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from understudy.errors import DataError
from understudy.settings import validate
from understudy.sources import Source, content_hash, load, read, selection
from understudy.task import Task

ROWS = [{"text": "where is my card?", "label": "card"}, {"text": "naïve — “quotes”, 日本", "label": "other"}]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)


def rows_of(path: Path, **settings: Any) -> list[dict[str, Any]]:
    return [row for _, row in read(Source(path=str(path), **settings))]


@pytest.mark.slow
@given(rows=st.lists(st.dictionaries(st.text(), scalars), min_size=1, max_size=8), packed=st.booleans())
@hypothesis(deadline=None)
def test_any_objects_written_as_jsonl_come_back_equal(rows: list[dict[str, Any]], packed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("rows.jsonl.gz" if packed else "rows.jsonl")
        content = "".join(json.dumps(row, ensure_ascii=len(row) % 2 == 0) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(content) if packed else content)
        assert list(read(Source(path=str(path)))) == list(enumerate(rows))


@given(rows=st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=8), delimiter=st.sampled_from(",;\t|"))
@hypothesis(deadline=None)
def test_any_table_that_a_csv_writer_wrote_comes_back_equal(rows: list[tuple[str, str]], delimiter: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *rows])
        assert rows_of(path, delimiter=delimiter) == [{"a": a, "b": b} for a, b in rows]


def write_jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))


def write_csv(path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["text", "label"], delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(ROWS)


def write_parquet(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=1)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("banking/train.jsonl", write_jsonl),
        ("banking/train.csv", write_csv),
        ("banking/train.tsv", write_csv),
        ("banking/train.parquet", write_parquet),
    ],
)
def test_the_same_rows_give_the_same_examples_from_every_format(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    path = tmp_path / name
    path.parent.mkdir()
    write(path)
    fields = {"input": "text", "target": "label"}
    task = validate(Task, {"instruction": "Which?", "kind": "classification", "fields": fields}, "task")
    first, second = load(Source(path=str(path), licence="CC-BY-4.0"), task, "test")
    assert (first.id, second.id) == ("banking/train:0-68a4d3", "banking/train:1-b100c2")
    assert (second.input, second.target, second.fields) == (ROWS[1]["text"], "other", ROWS[1])
    assert second.origin is not None
    assert (second.origin.dataset, second.origin.split, second.origin.row) == ("banking/train", "test", 1)
    assert second.origin.licence == "CC-BY-4.0"
    assert str(tmp_path) not in repr(second) + selection(Source(path=str(path)))


def test_text_skips_blank_lines_and_keeps_row_numbers(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_bytes(b"\xef\xbb\xbfOne.\r\n\r\n  \nTwo \xe2\x80\xa8 still two.\nThree")
    assert list(read(Source(path=str(path)))) == [
        (0, {"text": "One."}),
        (3, {"text": "Two \u2028 still two."}),
        (4, {"text": "Three"}),
    ]


def test_jsonl_of_other_writers(tmp_path: Path) -> None:
    path = tmp_path / "rows.log"
    path.write_bytes(b'\xef\xbb\xbf{"a": NaN, "b": [-Infinity, 1.5]}\r\n\n{"a": 12345678901234567890, "b": "\\u2028"}')
    assert list(read(Source(path=str(path), format="jsonl"))) == [
        (0, {"a": None, "b": [None, 1.5]}),
        (2, {"a": 12345678901234567890, "b": "\u2028"}),
    ]


def test_csv_values_stay_strings_and_quotes_can_be_plain_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('n,text\n01,"two\nlines, ""quoted"""\n\n1.0,\n')
    assert rows_of(path) == [{"n": "01", "text": 'two\nlines, "quoted"'}, {"n": "1.0", "text": ""}]
    path = tmp_path / "rows.tsv"
    path.write_text('n\ttext\n1\t"Open, never closed\n2\tsaid "x"\n')
    assert rows_of(path, quoted=False) == [{"n": "1", "text": '"Open, never closed'}, {"n": "2", "text": 'said "x"'}]


def test_a_csv_field_may_be_a_whole_document(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"text\n{'word ' * 100_000}\n")
    assert len(rows_of(path)[0]["text"]) == 500_000


def test_parquet_values_become_plain_python(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = {
        "n": 7,
        "x": math.nan,
        "yes": True,
        "day": date(2024, 2, 29),
        "price": Decimal("1.50"),
        "raw": "é".encode(),
        "list": ["a", None],
        "inner": {"deep": [1.5, math.inf]},
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "rows.parquet")
    assert rows_of(tmp_path / "rows.parquet") == [
        {
            "n": 7,
            "x": None,
            "yes": True,
            "day": "2024-02-29",
            "price": "1.50",
            "raw": "é",
            "list": ["a", None],
            "inner": {"deep": [1.5, None]},
        }
    ]


@pytest.mark.slow
def test_memory_stays_flat_over_200_000_lines(tmp_path: Path) -> None:
    path = tmp_path / "big.jsonl.gz"
    with gzip.open(path, "wt", compresslevel=1) as file:
        for i in range(200_000):
            file.write(f'{{"text": "message number {i} of a long file", "label": "{i % 7}"}}\n')
    tracemalloc.start()
    try:
        last = None
        for number, _ in read(Source(path=str(path))):
            last = number
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert last == 199_999
    assert peak < 4_000_000  # as a list the rows take more than 60 MB


def test_the_hash_is_of_the_content_not_of_the_place(tmp_path: Path) -> None:
    here, there = tmp_path / "a.jsonl", tmp_path / "b" / "c.jsonl"
    there.parent.mkdir()
    write_jsonl(here)
    write_jsonl(there)
    assert content_hash(Source(path=str(here))) == content_hash(Source(path=str(there)))
    there.write_text(there.read_text() + "\n")
    assert content_hash(Source(path=str(here))) != content_hash(Source(path=str(there)))
    with pytest.raises(DataError, match="there is no such file"):
        content_hash(Source(path=str(tmp_path / "none.jsonl")))


def test_names_do_not_depend_on_how_the_path_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "banking").mkdir()
    monkeypatch.chdir(tmp_path / "banking")
    monkeypatch.setenv("HOME", str(tmp_path))
    write_jsonl(Path("train.v2.jsonl"))
    names = ("train.v2.jsonl", "./train.v2.jsonl", "../banking/train.v2.jsonl", "~/banking/train.v2.jsonl")
    for name in names:
        assert Source.model_validate(name).dataset == "banking/train.v2"
        assert list(read(Source.model_validate(name))) == list(enumerate(ROWS))
    assert Source(path="train.jsonl", name="mine").dataset == "mine"
    assert Source.model_validate(Path("train.jsonl")) == Source.model_validate({"path": Path("train.jsonl")})


def test_reading_jsonl_loads_nothing_heavy() -> None:
    code = (
        "import sys, understudy.sources as s; list(s.read(s.Source(path=sys.argv[1])));"
        "print({'torch', 'transformers', 'datasets', 'pyarrow', 'numpy'} & sys.modules.keys())"
    )
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        file.write(b'{"a": 1}\n')
        file.flush()
        environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-c", code, file.name]
        shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
