"""A small teacher trained in stages, as TeacherLM's is, and then asked by the recipe."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from toys import write_jsonl

from understudy import run
from understudy.errors import SettingsError
from understudy.study_file import load_study
from understudy.workspace import Rows

BIRDS, FISH = ("wug", "dax", "blick", "toma"), ("fep", "zib", "lorp", "gazz")


def problems() -> list[dict[str, Any]]:
    """How an animal moves: a bird flies, a fish swims."""
    made = []
    for number, name in enumerate([*BIRDS, *FISH]):
        kind, move = ("bird", "flies") if name in BIRDS else ("fish", "swims")
        options = ["flies", "swims"] if number % 2 else ["swims", "flies"]
        made.append(
            {"id": name, "question": f"How does a {name} move?", "options": options, "answer": move}
            | {"fundamentals": f"Every {kind} {move}.", "rationale": f"A {name} is a {kind}. So the answer is {move}."}
        )
    return made


@pytest.fixture
def study(tmp_path: Path) -> dict[str, Any]:
    rows = str(write_jsonl(tmp_path / "rows.jsonl", problems()))
    test = [{"question": "What does a wug do?", "options": ["flies", "swims"], "answer": "flies"}]
    why = ["fundamentals", "rationale"]
    replies = [
        {"path": rows, "match": {"id": f"{{{{ id if explanation == '{name}' else '' }}}}"}, "reply": name}
        for name in why
    ]
    lessons = {"explanations": why, "triggers": True, "shuffle": True}
    return {
        "name": "stages",
        "task": {
            "instruction": "Answer.",
            "kind": "choice",
            "fields": {"input": "question", "choices": "options"} | {"target": "answer", "target_is": "text"},
            "train": rows,
            "test": str(write_jsonl(tmp_path / "test.jsonl", test)),
        },
        "teacher": {"backend": "recorded", "replies": replies},
        "student": {"kind": "causal", "base": {"hidden_size": 64, "layers": 2, "heads": 4, "vocab_size": 300}}
        | {
            "loss_on": "all",
            "steps": 5,
            "batch_size": 8,
            "max_length": 256,
            "precision": "fp32",
            "learning_rate": 3e-3,
        },
        "arms": {
            "multi-task": ["gold"],
            "five-field": {"chain": [{"teacherlm": lessons}], "continues": "multi-task", "student": {"steps": 150}},
            "untouched": {"chain": ["gold"], "continues": "five-field", "student": {"steps": 0}},
        },
        "seeds": [0, 1],
    }


def weights(folder: Path, arm: str, seed: int) -> dict[str, Any]:
    return load_file(folder / "arms" / arm / f"seed-{seed}" / "model" / "model.safetensors")


@pytest.mark.slow
def test_a_teacher_is_trained_in_stages_and_then_explains(study: dict[str, Any], tmp_path: Path):
    folder = tmp_path / "run"
    report = run(study, folder=folder)
    for seed in (0, 1):  # each seed goes on from its own
        before, after = weights(folder, "five-field", seed), weights(folder, "untouched", seed)
        assert all(before[name].equal(after[name]) for name in before)
        assert not all(before[name].equal(other) for name, other in weights(folder, "multi-task", seed).items())
    told = "in stages, on top of what the stage before took: five-field after multi-task, untouched after five-field"
    assert told in (folder / "REPORT.md").read_text()
    assert report["arms"]["five-field"]["student"]["steps"] == 150
    card = (folder / "arms" / "five-field" / "seed-0" / "model" / "README.md").read_text()
    assert "- Base: the student of arm multi-task" in card

    stamps = {path: path.stat().st_mtime_ns for path in folder.glob("arms/*/*/model/*")}
    run(study, folder=folder)  # nothing is trained again
    assert {path: path.stat().st_mtime_ns for path in folder.glob("arms/*/*/model/*")} == stamps

    taught = str(folder / "arms" / "five-field" / "seed-0" / "model")
    local = {"backend": "transformers", "model": taught, "sampling": {"stop": "\n\n", "max_tokens": 60}}
    rationale = {"teacherlm": {"explanations": ["rationale"], "bare": True}}
    fundamentals = {"teacherlm": {"explanations": ["fundamentals"], "bare": True}, "teacher": local}
    pupil = {**study, "name": "taught", "teacher": local, "arms": {"explained": [rationale, fundamentals]}}
    pupil["student"] = {**study["student"], "steps": 2}
    run({**pupil, "seeds": [0]}, folder=tmp_path / "pupil")
    chain = json.loads((tmp_path / "pupil" / "arms" / "explained" / "chain.json").read_text())
    rows = list(Rows(tmp_path / "pupil" / "steps" / chain[-1]["key"]))
    assert len(rows) == 8
    for row in rows:  # it goes on after the trigger, and stops before the next
        assert re.fullmatch(r"A \w+ is a (bird|fish)\. So the answer is (flies|swims)\.", row.rationale or "")
        assert re.fullmatch(r"Every (bird|fish) (flies|swims)\.", row.notes["fundamentals"])
        assert row.notes["explanations"] == f"{row.rationale}\n\n{row.notes['fundamentals']}"


def test_a_later_stage_has_no_base_of_its_own(study: dict[str, Any]):
    study["arms"]["five-field"]["student"]["base"] = {"hidden_size": 32}
    with pytest.raises(SettingsError, match=re.escape("arms.five-field.student.base: it starts as the student of arm")):
        load_study(study)
    study["arms"]["five-field"]["student"]["base"] = study["student"]["base"]
    load_study(study)


@pytest.mark.slow
def test_stages_are_named_as_the_report_names_them(study: dict[str, Any], tmp_path: Path):
    study |= {"seeds": [0], "equal": ["steps", "tokens"]}
    study["arms"] = {"one": ["gold"], "two": {"chain": ["gold"], "continues": "one"}}
    study["student"] |= {"steps": 1}
    report = run(study, folder=tmp_path / "run")
    assert "two@steps after one@steps, two@tokens after one@tokens" in report["study"]["fair"]
    assert "two@tokens: goes on from one@tokens, so it learnt that arm's rows too, before its own." in report["notes"]
