"""Which rows come out: skip, draws and limit, always in file order and with the same ids."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.records import Example
from understudy.settings import validate
from understudy.sources import Source, labels_in, load, selection
from understudy.task import Task

COUNT = 60


def task(**changes: Any) -> Task:
    values = {"instruction": "Which?", "kind": "classification", "fields": {"input": "text", "target": "label"}}
    return validate(Task, values | changes, "task")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("data") / "train.jsonl"
    with file.open("w") as out:
        for i in range(COUNT):
            out.write(json.dumps({"text": "same text", "label": i * i % 7}) + "\n")
    return str(file)


def chosen(path: str, **settings: Any) -> list[Example]:
    return list(load(Source(path=path, **settings), task()))


def rows(examples: list[Example]) -> list[int]:
    return [example.origin.row for example in examples if example.origin]


def test_ids_are_unique_though_the_rows_are_equal(path: str) -> None:
    assert len({example.id for example in chosen(path)}) == COUNT


@given(at=st.integers(1, COUNT - 1))
def test_skip_and_limit_cut_a_file_into_two_parts(path: str, at: int) -> None:
    assert chosen(path, limit=at) + chosen(path, skip=at) == chosen(path)


@given(skip=st.integers(0, COUNT - 1), size=st.integers(1, COUNT + 5), seed=st.integers(0, 99))
def test_a_sample_keeps_file_order_and_ids(path: str, skip: int, size: int, seed: int) -> None:
    sample = chosen(path, skip=skip, sample=size, seed=seed)
    assert len(sample) == min(size, COUNT - skip)
    assert rows(sample) == sorted(set(rows(sample)))
    assert {example.id for example in sample} <= {example.id for example in chosen(path, skip=skip)}
    assert chosen(path, skip=skip, sample=size, seed=seed, limit=3) == sample[:3]


@given(small=st.integers(1, 12), more=st.integers(0, 12), seed=st.integers(0, 99))
def test_a_smaller_draw_is_part_of_a_larger_one(path: str, small: int, more: int, seed: int) -> None:
    for how in ("sample", "per_label"):
        few = rows(chosen(path, **{how: small}, seed=seed))
        assert set(few) <= set(rows(chosen(path, **{how: small + more}, seed=seed)))


@given(size=st.integers(1, 40), seed=st.integers(0, 99))
def test_per_label_takes_at_most_that_many_of_each(path: str, size: int, seed: int) -> None:
    drawn = chosen(path, per_label=size, seed=seed)
    everything = Counter(example.target for example in chosen(path))
    assert Counter(example.target for example in drawn) == {label: min(n, size) for label, n in everything.items()}
    assert rows(drawn) == sorted(rows(drawn))


def test_draws_follow_the_seed(path: str) -> None:
    draws = [tuple(rows(chosen(path, sample=10, seed=seed))) for seed in range(20)]
    assert draws[:2] == [tuple(rows(chosen(path, sample=10, seed=seed))) for seed in range(2)]
    assert len(set(draws)) == 20


def test_per_label_knows_a_label_by_its_value_and_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "mixed.jsonl"
    file.write_text("".join(json.dumps({"text": "a", "label": v}) + "\n" for v in (0, "no", 1, 0.0, "yes", None)))
    labelled = task(labels={0: "no", 1: "yes"})
    drawn = list(load(Source(path=str(file), per_label=2, seed=1), labelled))
    assert Counter(example.target for example in drawn) == {"no": 2, "yes": 2}


def test_labels_of_a_file_are_those_of_the_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    file.write_text(
        "".join(json.dumps({"text": "a", "label": v}) + "\n" for v in (["joy", "fear"], [], ["anger"], None))
    )
    assert labels_in(Source(path=str(file), limit=1), task(kind="multilabel")) == ["anger", "fear", "joy"]


def test_labels_of_a_csv_file_are_parted_and_never_blank(tmp_path: Path) -> None:
    file = tmp_path / "many.csv"
    file.write_text('text,label\na,"joy, fear"\nb,\nc,fear;anger\n')
    assert labels_in(Source(path=str(file)), task(kind="multilabel")) == ["anger", "fear", "joy"]
    file.write_text("text,label\na,joy\nb,\nc, \n")
    assert labels_in(Source(path=str(file)), task()) == ["joy"]


def test_an_empty_list_is_an_answer_and_a_missing_one_is_none(tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    file.write_text("".join(json.dumps({"text": "a", "label": v}) + "\n" for v in (["joy"], [], None)))
    many = task(kind="multilabel")
    assert [row.target for row in load(Source(path=str(file)), many)] == [("joy",), (), None]
    assert [row.target for row in load(Source(path=str(file), limit=2), many, "test")] == [("joy",), ()]


def test_the_selection_says_what_changes_rows_and_nothing_else(path: str) -> None:
    def key(**settings: Any) -> str:
        return selection(Source(path=path, **settings))

    assert key() == key(seed=5) == key(format="jsonl")
    changes: list[dict[str, Any]] = [
        {},
        {"skip": 1},
        {"limit": 9},
        {"sample": 9},
        {"sample": 9, "seed": 5},
        {"per_label": 9},
        {"name": "other"},
        {"licence": "CC0-1.0"},
        {"format": "text"},
    ]
    assert len({key(**change) for change in changes}) == len(changes)
