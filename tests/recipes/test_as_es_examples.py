"""The examples of AS-ES: one runs offline and makes the same files again, one takes beta from a sweep."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import understudy
from understudy.recipes.as_es import AsEs
from understudy.study_file import load_study

EXAMPLES = Path(__file__).parents[2] / "examples"


def training_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("steps/*/*.parquet")}


@pytest.mark.slow
def test_the_example_makes_the_same_files_again(tmp_path: Path):
    run = tmp_path / "run"
    changes = ["student.steps=2", "student.base.layers=1", "task.test.limit=4"]  # for speed
    report = understudy.run(EXAMPLES / "as_es-offline.yaml", folder=run, changes=changes, limit=40)
    rows = {name: arm["training_rows"] for name, arm in report["arms"].items()}
    assert rows["plain"] == 40 < rows["dual"] == rows["uni"]
    assert all(arm["teacher"]["requests"] == 0 for arm in report["arms"].values())
    (scorer,) = run.glob("teachers/*/model/model.safetensors")  # one for all arms
    files, weights = training_files(run), scorer.read_bytes()
    shutil.rmtree(run / "steps")
    shutil.rmtree(run / "teachers")
    understudy.run(EXAMPLES / "as_es-offline.yaml", folder=run, changes=changes, limit=40)
    assert scorer.read_bytes() == weights
    assert training_files(run) == files


@pytest.mark.parametrize("beta", [0.8, 1.8])
def test_beta_is_swept_by_the_key_that_the_example_names(beta: float):
    told = (EXAMPLES / "as_es-beta.yaml").read_text(encoding="utf-8")
    key = next(word for word in told.split() if word.startswith("arms.")).partition("=")[0]
    study, _ = load_study(EXAMPLES / "as_es-beta.yaml", [f"{key}={beta}"])
    (settings,) = (arm.chain[0].settings for arm in study.plans())
    assert isinstance(settings, AsEs)
    assert settings.beta == beta
