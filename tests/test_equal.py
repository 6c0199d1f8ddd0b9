"""What the arms learn from: as many words as one another, each that a student reads once, and some at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toys import write_jsonl

from understudy import run
from understudy.errors import DataError


@pytest.fixture
def study(tmp_path: Path) -> dict[str, Any]:
    rows = [
        {"id": f"r{i}", "question": f"how many {i}", "options": ["one", "two"], "answer": "two", "why": "a b c"}
        for i in range(40)
    ]
    test = [{"id": "t", "question": "how many", "options": ["one", "two"], "answer": "two"}]
    return {
        "name": "equal",
        "task": {
            "instruction": "Answer.",
            "kind": "choice",
            "fields": {"input": "question", "choices": "options", "target": "answer", "target_is": "text"},
            "train": str(write_jsonl(tmp_path / "rows.jsonl", rows)),
            "test": str(write_jsonl(tmp_path / "test.jsonl", test)),
        },
        "teacher": {
            "backend": "recorded",
            "replies": {"path": str(tmp_path / "rows.jsonl"), "match": {"id": "id"}, "reply": "why"},
        },
        "student": {"kind": "causal", "base": {"hidden_size": 16, "layers": 1, "heads": 2, "vocab_size": 300}}
        | {"steps": 1, "threads": 1, "precision": "fp32"},
        "arms": {"gold": ["gold"], "why": [{"teacherlm": {"explanations": ["rationale", "mistakes"]}}]},
        "seeds": [0],
        "equal": ["words"],
    }


@pytest.mark.slow
def test_equal_words_are_those_that_the_student_reads(study: dict[str, Any], tmp_path: Path):
    arms = run(study, folder=tmp_path / "run")["arms"]
    assert arms["gold"]["rows"]["kept"] == 40  # 3 words of the question, 2 of the options, 1 of the answer: 240
    assert arms["why"]["rows"]["kept"] == 20  # and 3 of each explanation, which are learnt once: 12


def test_an_arm_whose_rows_are_all_dropped_is_named_before_any_is_trained(study: dict[str, Any], tmp_path: Path):
    study["teacher"]["replies"]["match"] = {"id": "{{ 'no' if id else '' }}"}
    with pytest.raises(DataError, match=r"arm 'why': no row is left to learn from \(dropped at teacherlm: 40 "):
        run(study | {"equal": ["steps"]}, folder=tmp_path / "run")
    assert not list((tmp_path / "run").glob("arms/*/*/model"))
