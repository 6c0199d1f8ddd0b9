"""The examples of CoThought: one runs from its cassette and makes the same files again; students learn raw text."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import understudy
from understudy.students import load_model

EXAMPLES = Path(__file__).parents[2] / "examples"
QUICK = ["student.steps=3", "student.base.layers=1", "student.measurements=2", "seeds=[0, 1]"]


def training_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("steps/*/*.parquet")}


@pytest.mark.slow
def test_the_example_runs_from_its_cassette_and_makes_the_same_files_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("UNDERSTUDY_CACHE_DIR", str(tmp_path / "cache"))
    assert understudy.import_cassette(EXAMPLES / "cothought" / "replies.jsonl.gz").new == 128
    run, study = tmp_path / "run", EXAMPLES / "cothought-offline.yaml"
    report = understudy.run(study, folder=run, changes=[*QUICK, "task.test.limit=20"], offline=True)
    arms = report["arms"]
    assert arms["cothought"]["teacher"] | {"usd": 0} == arms["raw and cothought"]["teacher"] | {"usd": 0}
    assert arms["cothought"]["rows"]["dropped"] == {"low_score": 29}
    rows = {name: arm["training_rows"] for name, arm in arms.items()}
    assert rows["raw and cothought"] == rows["raw"] + rows["cothought"]
    assert set(arms["raw"]["groups"]["UID"]) <= {"agreement", "be", "determiners", "infinitives", "order"}
    assert [point["step"] for point in arms["raw"]["curves"]["1"]] == [0, 2, 3]
    assert arms["raw"]["curves"]["0"][2]["loss"] < arms["raw"]["curves"]["0"][0]["loss"]
    assert (run / "curves.svg").read_text("utf-8").startswith("<?xml")
    files = training_files(run)
    shutil.rmtree(run / "steps")
    again = understudy.run(study, folder=run, changes=[*QUICK, "task.test.limit=20"], offline=True)
    assert training_files(run) == files
    assert again["arms"]["raw"]["metrics"] == arms["raw"]["metrics"]


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("UNDERSTUDY_DATA"), reason="UNDERSTUDY_DATA is not set")
@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_raw_text_of_many_folders_under_equal_words_and_tokens(kind: str, tmp_path: Path):
    pairs = f"task.test.path={EXAMPLES / 'cothought' / 'pairs.jsonl'}"
    changes = [*QUICK, f"student.kind={kind}", "seeds=[0]", "equal=[words, tokens]", pairs, "task.test.sample=60",
               "task.pairs.known_words=1", "student.max_length=64"]  # fmt: skip
    report = understudy.run(EXAMPLES / "cothought-recorded.yaml", folder=tmp_path, changes=changes)
    arms = report["arms"]
    assert arms["raw@words"]["training_rows"] <= 100
    tokens = [arms[f"{name}@tokens"]["student"]["tokens"] for name in ("raw", "cothought", "raw and cothought")]
    assert max(tokens) - min(tokens) <= 8 * 64
    assert report["study"]["test_rows"] < 60  # pairs with words that the text has not are out
    folder = tmp_path / "arms" / "cothought@words" / "seed-0" / "model"
    (score,) = load_model(folder).scores(["It rained."])  # pyright: ignore[reportAttributeAccessIssue]
    assert score < 0
