"""Hub datasets, as local folders: no network is there."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when datasets is first imported

from understudy.errors import DataError, MissingPackage
from understudy.settings import validate
from understudy.sources import Source, content_hash, labels_in, load, read, validate_source
from understudy.task import Task

ROWS = [{"text": f"message {i}", "label": i % 3} for i in range(12)]
TASK = validate(
    Task,
    {
        "instruction": "Which?",
        "kind": "classification",
        "labels": {0: "card", 1: "loan", 2: "other"},
        "fields": {"input": "text", "target": "label"},
    },
    "task",
)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import config

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def table(rows: list[dict[str, Any]]) -> Any:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["card", "loan", "other"])})
    return Dataset.from_list(rows, features=features)


def test_a_folder_of_files_is_a_hub_dataset(tmp_path: Path) -> None:
    folder = tmp_path / "banking"
    folder.mkdir()
    table(ROWS).to_parquet(folder / "train.parquet")
    table(ROWS[:2]).to_parquet(folder / "test.parquet")
    train = Source(hub=str(folder), per_label=2)
    examples = list(load(train, TASK))
    assert len(examples) == 6
    assert {example.target for example in examples} == {"card", "loan", "other"}
    assert all(example.id.startswith("banking/train:") for example in examples)
    assert [row for _, row in read(Source(hub=str(folder), split="test"))] == ROWS[:2]
    assert labels_in(train, TASK) == ["card", "loan", "other"]
    validate_source(train, TASK)


@pytest.mark.parametrize("write", ["to_json", "to_csv"])
def test_folders_of_jsonl_and_csv(tmp_path: Path, write: str) -> None:
    folder = tmp_path / "banking"
    folder.mkdir()
    getattr(table(ROWS), write)(folder / f"train.{'jsonl' if write == 'to_json' else 'csv'}")
    assert list(read(Source(hub=str(folder)))) == list(enumerate(ROWS))


def test_folders_that_save_to_disk_wrote(tmp_path: Path) -> None:
    from datasets import DatasetDict

    one, several = tmp_path / "one", tmp_path / "several"
    table(ROWS).save_to_disk(one)
    DatasetDict({"train": table(ROWS), "test": table(ROWS[:3])}).save_to_disk(several)
    assert list(read(Source(hub=str(one)))) == list(enumerate(ROWS))
    assert [row for _, row in read(Source(hub=str(several), split="test"))] == ROWS[:3]
    for values, said in (
        ({"hub": str(one), "split": "test"}, "it holds one split"),
        ({"hub": str(several), "split": "dev"}, "there is no split 'dev'. Known: train, test"),
        ({"hub": str(several), "config": "main"}, "no configurations"),
        ({"hub": str(several), "revision": "main"}, "no revisions"),
    ):
        with pytest.raises(DataError, match=said):
            list(read(Source.model_validate(values)))


def test_the_hash_of_a_folder_is_of_its_content(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    table(ROWS).to_json(first / "train.jsonl")
    shutil.copytree(first, second)
    assert content_hash(Source(hub=str(first))) == content_hash(Source(hub=str(second)))
    table(ROWS[:5]).to_json(second / "train.jsonl")
    assert content_hash(Source(hub=str(first))) != content_hash(Source(hub=str(second)))


def test_what_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    full = tmp_path / "full"
    full.mkdir()
    table(ROWS).to_json(full / "train.jsonl")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "train.parquet").write_bytes(b"nothing of the kind")
    for values, said in (
        ({"hub": "nobody/nothing-of-this-name"}, "offline, give a file as `path:`"),
        ({"hub": str(folder)}, "doesn't contain any data files"),
        ({"hub": str(full), "split": "tset"}, "Unknown split"),
        ({"hub": str(full), "config": "main"}, "'main' not found"),
        ({"hub": str(broken)}, "cannot be loaded"),
        ({"hub": str(tmp_path / "none")}, "there is no such file"),
        ({"hub": str(full / "train.jsonl")}, "give it as `path:`"),
    ):
        with pytest.raises(DataError) as caught:
            list(read(Source.model_validate(values)))
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_without_the_package_the_line_to_install_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingPackage, match=r'pip install "understudy\[hub\]"'):
        list(read(Source(hub="x/y")))
