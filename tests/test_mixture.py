"""A task whose rows come from many data sets: each read in its own way, with a cap of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from toys import write_jsonl

from understudy import run
from understudy.errors import SettingsError
from understudy.sources import load
from understudy.study_file import load_study
from understudy.workspace import Rows


@pytest.fixture
def study(tmp_path: Path) -> dict[str, Any]:
    quiz = [
        {"question": f"Which number follows {i}?", "options": [str(i + 2), str(i + 1)], "answer": i + 1, "area": "sums"}
        for i in range(10)
    ]
    trivia = [{"q": f"Is {i} even?", "says": "yes" if i % 2 == 0 else "no"} for i in range(8)]
    exam = [
        {"text": f"Which number follows {i}?", "A": i - 1, "B": i + 1, "key": "B", "subject": "number_theory"}
        for i in range(50, 54)
    ]
    lettered = {"input": "text", "choices": '{"A": "{{ A }}", "B": "{{ B }}"}', "target": "key", "target_is": "letter"}
    own = {"input": "q", "target": "says", "choices": None, "target_is": None, "subject": None}
    return {
        "name": "mixture",
        "task": {
            "instruction": "Answer.",
            "kind": "choice",
            "fields": {"input": "question", "choices": "options", "target": "answer", "target_is": "text"}
            | {"subject": "area"},
            "train": [
                {"path": str(write_jsonl(tmp_path / "quiz.jsonl", quiz)), "limit": 4, "name": "quiz"},
                {"path": str(write_jsonl(tmp_path / "trivia.jsonl", trivia)), "sample": 3, "name": "trivia"}
                | {"fields": own},
            ],
            "test": {
                "path": str(write_jsonl(tmp_path / "exam.jsonl", exam)),
                "fields": lettered | {"subject": "{{ subject | replace('_', ' ') }}"},
            },
        },
        "student": {"kind": "causal", "base": {"hidden_size": 16, "layers": 1, "heads": 2, "vocab_size": 300}}
        | {"steps": 2},
        "arms": {"gold": ["gold"]},
        "seeds": [0],
    }


@pytest.mark.slow
def test_every_source_is_read_in_its_own_way_and_up_to_its_own_cap(study: dict[str, Any], tmp_path: Path):
    report = run(study, folder=tmp_path / "run")
    assert report["arms"]["gold"]["rows"]["in"] == 7
    (step, _) = json.loads((tmp_path / "run" / "arms" / "gold" / "chain.json").read_text())
    rows = list(Rows(tmp_path / "run" / "steps" / step["key"]))
    assert [row.origin.dataset for row in rows if row.origin] == ["quiz"] * 4 + ["trivia"] * 3
    assert [row.notes.get("subject") for row in rows] == ["sums"] * 4 + [None] * 3
    assert {row.choices for row in rows[4:]} == {()}
    assert report["arms"]["gold"]["student"]["steps"] == 2


def test_the_test_rows_are_read_in_their_own_way(study: dict[str, Any]):
    checked, _ = load_study(study)
    first = next(load(checked.task.test, checked.task, "test"))
    assert (first.input, first.choices, first.target) == ("Which number follows 50?", ("49", "51"), "51")
    assert first.notes == {"subject": "number theory"}


def test_a_mixture_of_unlabelled_rows_shows_no_answers(study: dict[str, Any]):
    trivia = study["task"]["train"][1]
    study["task"]["unlabelled"] = [trivia]
    checked, _ = load_study(study)
    (source,) = checked.task.sources("unlabelled")
    assert {row.target for row in load(source, checked.task, "unlabelled")} == {None}


@pytest.mark.slow
def test_a_limit_holds_for_each_source(study: dict[str, Any], tmp_path: Path):
    assert run(study, folder=tmp_path / "run", limit=2)["arms"]["gold"]["rows"]["in"] == 4


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("task.train=[{pth: a.jsonl}]", "task.train.0.pth: unknown key. Did you mean 'path'?"),
        ("task.train={pth: a.jsonl}", "task.train.pth: unknown key. Did you mean 'path'?"),
        ("task.train=[]", "task: train: the list is empty; name at least one source"),
        ("task.train=[a.jsonl, {path: b.jsonl, fields: {inputs: q}}]", "task.train.1.fields.inputs: unknown key."),
        ("task.train.1.limits=5", "task.train.1.limits: unknown key. Did you mean 'limit'?"),
        ("task.train.limit=5", "'train' is a list of 2: say which by its number from 0"),
        ("task.train.1.fields.target=null", "needs 'target'; task.train.1 lacks it: name its column in fields.target"),
        (
            "task.train=[a.jsonl, {path: a.jsonl, fields: {input: q}}]",
            "train.1: its rows would be dropped as duplicates",
        ),
    ],
)
def test_what_is_wrong_in_a_source_is_said_with_its_place(study: dict[str, Any], change: str, line: str):
    with pytest.raises(SettingsError) as error:
        load_study(study, [change])
    assert line in str(error.value)


def test_a_source_of_a_mixture_is_changed_by_its_number(study: dict[str, Any], tmp_path: Path):
    checked, _ = load_study(study, ["task.train.0.limit=2", "task.train.1.fields.subject=says"])
    quiz, trivia = checked.task.sources("train")
    assert (quiz.limit, trivia.sample) == (2, 3)
    assert trivia.fields is not None
    assert (trivia.fields.subject, trivia.fields.input) == ("says", "q")


@pytest.mark.slow
def test_one_file_is_read_in_two_ways_under_two_names(study: dict[str, Any], tmp_path: Path):
    quiz = study["task"]["train"][0]
    free = {**quiz, "name": "free", "fields": {"choices": None, "target_is": None}}
    study["task"]["train"] = [quiz, free]
    assert run(study, folder=tmp_path / "run")["arms"]["gold"]["rows"]["kept"] == 8
