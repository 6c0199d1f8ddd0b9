"""How diverse the lessons of a finished study are: once for every set of them, and the same when it is run again."""

from __future__ import annotations

from importlib.util import find_spec

import orjson
import pytest
from toys import Toy

import understudy


@pytest.mark.slow
def test_every_arm_has_its_figures_and_arms_of_the_same_rows_share_them(toy: Toy):
    toy.study["arms"] = {
        "gold": ["gold"],
        "again": {"chain": ["gold"], "student": {"steps": 4}},
        "answers": ["answers"],
    }
    toy.study["seeds"] = [0]
    toy.save()
    arms = understudy.run(toy.path, folder=toy.runs)["arms"]
    found = arms["gold"]["diversity"]
    assert arms["again"]["diversity"] == found
    assert (found["unique"], found["datasets"]) == (1, {"toy/train": 1})
    assert arms["answers"]["diversity"]["datasets"] == {"toy/more": round(30 / 42, 6), "toy/train": round(12 / 42, 6)}
    assert (found["nearest"] is None) == (find_spec("sentence_transformers") is None)
    kept = {path: path.stat().st_mtime_ns for path in toy.runs.glob("steps/*/diversity.json")}
    assert len(kept) == 2
    assert found in [orjson.loads(path.read_bytes()) for path in kept]
    assert understudy.run(toy.path, folder=toy.runs)["arms"]["gold"]["diversity"] == found
    if found["nearest"] is not None:
        assert kept == {path: path.stat().st_mtime_ns for path in kept}
    assert "## Diversity" in (toy.runs / "REPORT.md").read_text()
