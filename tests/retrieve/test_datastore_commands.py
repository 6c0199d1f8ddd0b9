"""The datastore on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from toys import FILLER, WORDS, Toy, write_encoder
from typer.testing import CliRunner

from understudy.cli import app
from understudy.errors import DataError, SettingsError, UnderstudyError
from understudy.retrieve.dataset_source import OF_A_SPLIT, DatasetSource

TOPICS = list(WORDS)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A dataset for each topic, of messages that hold its words."""
    folder = tmp_path / "data"
    folder.mkdir()
    for topic in TOPICS:
        rows = [{"message": f"{FILLER[0]} {word}", "desk": topic, "number": i} for i, word in enumerate(WORDS[topic])]
        (folder / f"{topic}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def command(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; errors of ours pass through."""
    done = CliRunner().invoke(app, ["datastore", *map(str, arguments)], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    code = done.return_value if isinstance(done.return_value, int) else done.exit_code
    return code, done.stdout, done.stderr


@pytest.fixture
def store(data: Path, tmp_path: Path, encoder: str) -> Path:
    path = tmp_path / "store"
    assert command("build", path, data, "--encoder", encoder)[0] == 0
    return path


def test_build_says_what_was_built_and_what_was_skipped(data: Path, tmp_path: Path, encoder: str):
    (data / "broken.jsonl").write_text("{")
    code, out, err = command("build", tmp_path / "store", data, "--encoder", encoder)
    assert code == 0
    rows = len(WORDS[TOPICS[0]])
    assert f"data/{TOPICS[0]}: {rows} rows, {3 * rows} cells\n" in out
    assert out.endswith(f"store: {len(TOPICS)} built, 1 skipped\n")
    assert "broken.jsonl:1: broken JSON" in err
    code, out, err = command("build", tmp_path / "store", data, "--json")
    again = json.loads(out)
    assert (code, again["built"], again["unchanged"]) == (0, [], sorted(f"data/{topic}" for topic in TOPICS))
    assert "broken JSON" in again["skipped"][0]["reason"]


def test_a_build_of_nothing_but_broken_sources_fails(tmp_path: Path, encoder: str):
    (tmp_path / "broken.jsonl").write_text("{")
    build = ("build", tmp_path / "store", tmp_path / "broken.jsonl", "--encoder", encoder)
    for arguments in (build, (*build, "--json")):
        code, out, err = command(*arguments)
        assert code == 2
        assert "every source was skipped" in err
    assert json.loads(out)["built"] == []  # pyright: ignore[reportPossiblyUnboundVariable]


def test_add_needs_a_store_and_takes_its_encoder(store: Path, tmp_path: Path):
    (tmp_path / "more.csv").write_text("message,desk\nhello,other\nbye,other\n")
    with pytest.raises(DataError, match="no datastore: nothing is there; make one with"):
        command("add", tmp_path / "nowhere", tmp_path / "more.csv")
    assert command("add", store, tmp_path / "more.csv", "--rows", "1")[0] == 0
    told = json.loads(command("info", store, "--json")[1])
    (added,) = [one for one in told["datasets"] if one["name"].endswith("/more")]
    assert (added["rows"], added["cells"]) == (1, 2)


def test_remove_takes_the_named_ones_out(store: Path):
    assert command("remove", store, f"data/{TOPICS[0]}")[1] == f"removed data/{TOPICS[0]}\n"
    told = json.loads(command("info", store, "--json")[1])
    assert [one["name"] for one in told["datasets"]] == sorted(f"data/{topic}" for topic in TOPICS[1:])
    with pytest.raises(SettingsError, match="holds no dataset"):
        command("remove", store, f"data/{TOPICS[0]}")


def test_remove_of_an_unknown_one_leaves_all(store: Path):
    with pytest.raises(SettingsError, match="holds no dataset 'data/typo'"):
        command("remove", store, f"data/{TOPICS[0]}", "data/typo")
    assert len(json.loads(command("info", store, "--json")[1])["datasets"]) == len(TOPICS)


def test_info_lists_the_datasets_and_their_encoder(store: Path, encoder: str):
    out = command("info", store)[1]
    assert f"{len(TOPICS)} datasets" in out
    assert f"encoder {encoder} (" in out
    assert all(f"data/{topic}" in out for topic in TOPICS)


def test_search_finds_the_rows_with_the_words_of_the_examples(store: Path):
    topic, word = TOPICS[1], WORDS[TOPICS[1]][2]
    task = ("Which desk?", "--example", word, topic, "--example", f"{FILLER[0]} {word}", topic)
    out = command("search", store, *task, "-k", "3")[1]
    assert f"message: {FILLER[0]} {word}" in out
    found: list[dict[str, Any]] = json.loads(command("search", store, *task, "-k", "5", "--json")[1])
    assert [one["row"] for one in found if one["dataset"] == f"data/{topic}"][:1] == [2]
    assert [one["score"] for one in found] == sorted((one["score"] for one in found), reverse=True)
    without = command("search", store, *task, "--exclude", f"data/{topic}", "--json")[1]
    assert f"data/{topic}" not in {one["dataset"] for one in json.loads(without)}
    few = json.loads(command("search", store, *task, "--per-dataset", "1", "--json")[1])
    assert len({one["dataset"] for one in few}) == len(few)


def test_search_takes_the_task_of_a_study(store: Path, toy: Toy):
    found = json.loads(command("search", store, "--task", toy.path, "-k", "4", "--json")[1])
    assert len(found) == 4
    with pytest.raises(SettingsError, match="--task says instruction and examples"):
        command("search", store, "Which desk?", "--task", toy.path)


def test_a_search_without_a_task_says_what_is_missing(store: Path):
    for task in ((), ("Which desk?",)):
        with pytest.raises(SettingsError, match="an instruction and an example, e.g."):
            command("search", store, *task)


def test_a_store_is_not_searched_with_another_encoder(store: Path, tmp_path: Path):
    other = write_encoder(tmp_path / "other", {**WORDS, "new": ["word"]})
    with pytest.raises(UnderstudyError) as caught:
        command("search", store, "Which desk?", "--example", "a", "b", "--encoder", other)
    assert other in str(caught.value)


def test_an_error_is_one_line_and_exit_code_2(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "understudy", "datastore", "info", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_every_setting_of_a_source_stands_on_its_page():
    page = (Path(__file__).parents[2] / "docs" / "datastores.md").read_text(encoding="utf-8")
    for name in DatasetSource.model_fields:
        assert (f"`{name}`" in page) == (name not in OF_A_SPLIT), name
