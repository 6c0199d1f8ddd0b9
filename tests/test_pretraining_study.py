"""A study of raw text from end to end: documents in, a student that knows its grammar a little, a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toys import write_jsonl

from understudy import run

NOUNS = {"cat": "sleeps", "dog": "barks", "hen": "pecks", "cats": "sleep", "dogs": "bark", "hens": "peck"}


def study(folder: Path, **student: Any) -> dict[str, Any]:
    write_jsonl(folder / "train.jsonl", [{"text": f"The {noun} {verb} here."} for noun, verb in NOUNS.items()] * 4)
    pairs = [
        {"sentence_good": f"The {noun} {verb}.", "sentence_bad": f"The {noun} sit."} for noun, verb in NOUNS.items()
    ]
    scratch = {"hidden_size": 32, "layers": 2, "heads": 2, "vocab_size": 300}
    return {
        "name": "grammar",
        "task": {
            "kind": "pretraining",
            "train": str(folder / "train.jsonl"),
            "test": str(write_jsonl(folder / "pairs.jsonl", pairs)),
        },
        "student": {"kind": "masked", "base": scratch, "max_length": 16, "steps": 2, "measurements": 1, **student},
        "arms": {"raw": ["raw"]},
        "seeds": [0],
    }


@pytest.mark.slow
def test_how_a_student_is_asked_costs_no_training(tmp_path: Path):
    folder = tmp_path / "run"
    first = run(study(tmp_path), folder=folder)
    seed = folder / "arms" / "raw" / "seed-0"
    weights, scores = seed / "model" / "model.safetensors", seed / "scores.json"
    before = weights.stat().st_mtime_ns, scores.stat().st_mtime_ns
    run(study(tmp_path), folder=folder)
    assert (weights.stat().st_mtime_ns, scores.stat().st_mtime_ns) == before
    second = run(study(tmp_path, within_word=True), folder=folder)
    assert weights.stat().st_mtime_ns == before[0]
    assert scores.stat().st_mtime_ns != before[1]
    assert first["arms"]["raw"]["student"]["steps"] == second["arms"]["raw"]["student"]["steps"] == 2
    run(study(tmp_path, steps=3), folder=folder)
    assert weights.stat().st_mtime_ns != before[0]
