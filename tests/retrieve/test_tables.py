"""Any dataset as rows of text: which rows, which columns, and what a cell looks like."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when datasets is first imported

from understudy.errors import DataError, SettingsError
from understudy.retrieve.tables import DatasetSource, Table, TableRow, cells_of, read_sources


def jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def only(source: DatasetSource) -> dict[str, str]:
    """The cells of the one row."""
    (row,) = cells_of(source)
    return dict(row.cells)


def test_nested_values_become_one_cell_each(tmp_path: Path):
    row = {
        "question": "Where?",
        "user": {"says": "at home", "context": {"slots": ["time", "people"]}},
        "turns": [{"who": "a", "text": "hi", "score": 0.5, "gone": None}, {"who": "b", "text": "bye"}],
        "grid": [[1, 2], [3, 4]],
        "count": 43.0,
        "share": 0.25,
        "right": True,
        "blank": "  ",
        "none": None,
        "empty": [],
        "blanks": ["", None],
    }
    assert only(DatasetSource(path=jsonl(tmp_path / "rows.jsonl", [row]))) == {
        "question": "Where?",
        "user.says": "at home",
        "user.context.slots": "time\npeople",
        "turns": '[{"who":"a","text":"hi","score":0.5},{"who":"b","text":"bye"}]',
        "grid": "[[1,2],[3,4]]",
        "count": "43",
        "share": "0.25",
        "right": "True",
    }


@pytest.mark.parametrize(
    ("rows", "limit", "taken"), [(5, 1000, 5), (25, 10, 10), (20, 10, 10), (19, 10, 10), (7, 3, 3)]
)
def test_every_kth_row_is_taken_and_no_more_than_the_limit(tmp_path: Path, rows: int, limit: int, taken: int):
    every = max(1, rows // limit)
    listed = [{"text": f"row {i}"} for i in range(rows)]
    source = DatasetSource(path=jsonl(tmp_path / "rows.jsonl", listed))
    assert [row.row for row in cells_of(source, limit)] == [i * every for i in range(taken)]
    assert [row.row for row in cells_of(source, None)] == list(range(rows))


def test_the_rows_of_a_parquet_file_and_of_a_hub_dataset_are_the_same_ones(tmp_path: Path):
    from datasets import Dataset

    table = Dataset.from_list([{"text": f"row {i}"} for i in range(5_000)])
    table.to_parquet(tmp_path / "rows.parquet")
    table.save_to_disk(tmp_path / "saved")
    jsonl(tmp_path / "rows.jsonl", list(table))  # pyright: ignore[reportArgumentType]
    for limit in (7, 1_000, 2_600, None):
        wanted = list(cells_of(DatasetSource(path=str(tmp_path / "rows.jsonl")), limit))
        assert list(cells_of(DatasetSource(path=str(tmp_path / "rows.parquet")), limit)) == wanted
        assert list(cells_of(DatasetSource(hub=str(tmp_path / "saved")), limit)) == wanted


def typed() -> Any:
    """A hub dataset with a column of every kind."""
    import pyarrow as pa
    from datasets import ClassLabel, Dataset, Features, Image, List, Value

    features = Features(
        {
            "text": Value("string"),
            "label": ClassLabel(names=["card", "loan"]),
            "many": List(ClassLabel(names=["x", "y"])),
            "inner": {"text": Value("string"), "label": ClassLabel(names=["p", "q"])},
            "turns": List({"said": Value("string"), "label": ClassLabel(names=["u", "v"])}),
            "picture": Image(decode=False),
            "when": Value("timestamp[ns]"),
            "raw": Value("binary"),
            "hidden": {"day": Value("date32"), "photo": Image(decode=False)},
        }
    )
    row = {
        "text": "t",
        "label": 1,
        "many": [0, 1],
        "inner": {"text": "i", "label": 0},
        "turns": [{"said": "z", "label": 1}],
        "picture": {"bytes": b"\x89PNG", "path": None},
        "when": datetime(2026, 1, 2),
        "raw": b"text, but who knows",
        "hidden": {"day": datetime(2026, 1, 2).date(), "photo": {"bytes": b"\x89PNG", "path": None}},
    }
    unlabelled = row | {"label": -1, "inner": None}
    table = Dataset(pa.Table.from_pylist([row, unlabelled], schema=features.arrow_schema))
    table.info.description, table.info.license = "Messages\n  with pictures.", "CC-BY-4.0"
    return table


@pytest.mark.parametrize("kind", ["parquet", "saved"])
def test_label_ids_become_names_and_what_is_no_text_is_named_and_skipped(tmp_path: Path, kind: str):
    table = typed()
    if kind == "parquet":
        table.to_parquet(tmp_path / "rows.parquet")
        source = DatasetSource(path=str(tmp_path / "rows.parquet"))
    else:
        table.save_to_disk(tmp_path / "saved")
        source = DatasetSource(hub=str(tmp_path / "saved"))
    read = Table(source)
    first, second = read
    assert dict(first.cells) == {
        "text": "t",
        "label": "loan",
        "many": "x\ny",
        "inner.text": "i",
        "inner.label": "p",
        "turns": '[{"said":"z","label":"v"}]',
    }
    assert {"label", "inner.text"}.isdisjoint(column for column, _ in second.cells)
    assert read.skipped == {
        "picture": "image",
        "when": "date or time",
        "raw": "bytes",
        "hidden.day": "date or time",
        "hidden.photo": "image",
    }
    if kind == "saved":
        assert (read.description, read.licence) == ("Messages with pictures.", "CC-BY-4.0")


def test_what_the_settings_say_of_a_dataset_counts(tmp_path: Path):
    path = jsonl(
        tmp_path / "nli" / "train.jsonl", [{"premise": "a dog", "label": 2, "meta": {"id": "x", "tag": [0, 7]}}]
    )
    read = Table(DatasetSource(path=path, labels={"label": ["yes", "maybe", "no"], "meta.tag": {0: "old"}}))  # pyright: ignore
    assert [row.cells for row in read] == [
        (("premise", "a dog"), ("label", "no"), ("meta.id", "x"), ("meta.tag", "old\n7"))
    ]
    assert read.description == "nli/train: premise, label, meta.id, meta.tag"
    assert only(DatasetSource(path=path, columns=("premise", "meta"), skip_columns=("meta.id",))) == {
        "premise": "a dog",
        "meta.tag": "0\n7",
    }


def test_two_columns_of_one_name_are_told_apart(tmp_path: Path):
    path = jsonl(tmp_path / "rows.jsonl", [{"a.b": "first", "a": {"b": "second"}}])
    assert only(DatasetSource(path=path)) == {"a.b": "first", "a.b'": "second"}


def test_a_list_of_pictures_is_no_text(tmp_path: Path):
    path = jsonl(tmp_path / "rows.jsonl", [{"text": "one", "pictures": [{"bytes": None, "path": "a.png"}]}])
    table = Table(DatasetSource(path=path))
    assert [row.cells for row in table] == [(("text", "one"),)]
    assert table.skipped == {"pictures": "bytes"}


def test_csv_tsv_text_and_gzip_are_read(tmp_path: Path):
    (tmp_path / "a.csv").write_text('question,answer\n"Where, then?",here\n"",there\n')
    with gzip.open(tmp_path / "b.tsv.gz", "wt") as file:
        file.write("question\tanswer\nWhere?\there\n")
    (tmp_path / "c.txt").write_text("one\n\ntwo\n")
    a, b, c = (list(cells_of(source)) for source in read_sources([str(tmp_path)]))
    assert a == [
        TableRow(0, (("question", "Where, then?"), ("answer", "here"))),
        TableRow(1, (("answer", "there"),)),
    ]
    assert b == [TableRow(0, (("question", "Where?"), ("answer", "here")))]
    assert c == [TableRow(0, (("text", "one"),)), TableRow(2, (("text", "two"),))]


@pytest.mark.parametrize(
    ("rows", "settings", "said"),
    [
        ([{"a": 1, "b": "2.5"}], {}, "no column holds text: 'a' (numbers), 'b' (numbers)"),
        ([{"a": None}], {}, "no column holds text: every value is blank"),
        ([{"a": "text"}], {"columns": ("b",)}, "columns: no row has a column 'b'. Known: a"),
        ([{"a": "text"}], {"labels": {"b": {"0": "no"}}}, "labels: no row has a column 'b'. Known: a"),
        ([], {}, "it holds no rows"),
    ],
)
def test_a_dataset_that_is_of_no_use_says_why(tmp_path: Path, rows: list[Any], settings: dict[str, Any], said: str):
    source = DatasetSource(path=jsonl(tmp_path / "rows.jsonl", rows), **settings)
    with pytest.raises(DataError, match="rows.jsonl") as caught:
        list(cells_of(source))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_parquet_file_of_pictures_alone_is_of_no_use(tmp_path: Path):
    typed().select_columns(["picture", "when"]).to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"no column holds text: 'picture' \(image\), 'when' \(date or time\)"):
        list(cells_of(DatasetSource(path=str(tmp_path / "rows.parquet"))))


def test_settings_of_a_split_are_refused():
    with pytest.raises(ValueError, match="limit is for the splits of a study"):
        DatasetSource(path="rows.jsonl", limit=3)


def test_a_folder_is_searched_through_and_no_two_datasets_are_called_the_same(tmp_path: Path):
    from datasets import Dataset, DatasetDict

    for place in ("top.jsonl", "sets/train.jsonl", "more/sets/train.jsonl.gz", ".hidden/x.jsonl", "sets/notes.md"):
        jsonl(tmp_path / "data" / place, [{"text": "hello"}])
    table = Dataset.from_list([{"text": "hello"}])
    DatasetDict({"train": table, "test": table}).save_to_disk(tmp_path / "data" / "saved")
    assert [source.dataset for source in read_sources([str(tmp_path / "data")])] == [
        "data/top",
        "more/sets/train",
        "saved/test",
        "saved/train",
        "sets/train",
    ]


def test_a_list_of_sources_is_read_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    jsonl(tmp_path / "sets" / "a.jsonl", [{"text": "hello"}])
    jsonl(tmp_path / "sets" / "b.jsonl", [{"text": "hello"}])
    monkeypatch.setenv("SOME_DATA", str(tmp_path / "sets"))
    (tmp_path / "list.yaml").write_text(
        "- sets\n"
        "- {path: sets/a.jsonl, name: again, description: Greetings., licence: MIT}\n"
        "- path: ${SOME_DATA}/b.jsonl\n"
        "- hub:owner/name\n"
        "- {hub: owner/name, config: en, split: test}\n"
    )
    sources = read_sources([str(tmp_path / "list.yaml")])
    assert [source.dataset for source in sources] == [
        "sets/a", "sets/b", "again", "sets/b", "owner/name/train", "owner/name/en/test",
    ]  # fmt: skip
    assert [row.cells for row in cells_of(sources[2])] == [(("text", "hello"),)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path: a.jsonl\n", "a list of sources is expected"),
        ("- {path: a.jsonl, labls: {}}\n", "list.yaml: source 1.labls: unknown key. Did you mean 'labels'?"),
        ("- [a]\n", "source 1: a path, or a mapping with path or hub; got ['a']"),
        ("- {path: '${NO_SUCH_VARIABLE}/a'}\n", "the environment variable NO_SUCH_VARIABLE is not set"),
        ("- [\n", "not YAML"),
    ],
)
def test_a_wrong_list_is_refused_before_anything_is_read(tmp_path: Path, text: str, said: str):
    (tmp_path / "list.yaml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_sources([str(tmp_path / "list.yaml")])
    assert said in str(caught.value)


def test_a_folder_with_nothing_to_read_says_what_would_be(tmp_path: Path):
    with pytest.raises(DataError, match=r"nothing in this folder can be read. Known: \.jsonl"):
        read_sources([str(tmp_path)])


@pytest.mark.slow
def test_the_hub_is_asked_what_a_dataset_is(tmp_path: Path):
    card = {"id": "owner/name", "description": "Messages.", "cardData": {"license": ["mit", "cc0-1.0"]}, "siblings": []}

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path.startswith("/api/datasets/owner/name")
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(json.dumps(card).encode() if known else b"{}")

        def log_message(self, format: str, *args: Any) -> None: ...

    code = "from understudy.retrieve.arrow import hub_card; print(hub_card('owner/name'), hub_card('owner/other'))"
    with HTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        there = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_OFFLINE": "0"}
        done = subprocess.run([sys.executable, "-c", code], env=os.environ | there, capture_output=True, text=True)
        server.shutdown()
    assert done.stdout == "('Messages.', 'mit, cc0-1.0') (None, None)\n", done.stderr
