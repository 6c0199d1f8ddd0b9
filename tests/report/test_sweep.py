"""What a person reads of a sweep: SWEEP.md and its picture; and what a script does."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from understudy.report import SweepRun, build_sweep, terminal_sweep, write_sweep
from understudy.report.picture import sweep_picture

GOLD = "task.train.limit"
CURVE = {25: 0.55, 125: 0.72, 500: 0.84, 1000: 0.88}


def found(mean: float, width: float = 0.02) -> dict[str, Any]:
    scores = {"mean": mean, "low": mean - width, "high": mean + width, "per_seed": [mean - 0.01, mean + 0.01]}
    return scores | {"chance": 0.2, "at_chance": mean - width < 0.2}


def arm(chain: Sequence[str], gold: int, mean: float, made: int = 0, **more: Any) -> dict[str, Any]:
    dropped = {"not_a_label": made // 10} if made else {}
    return {
        "chain": list(chain),
        "gold_rows": gold,
        "training_rows": gold + made - made // 10,
        "metrics": {"accuracy": found(mean), "macro_f1": found(mean - 0.1)},
        "rows": {"in": gold, "made": made, "kept": gold + made - made // 10, "joined": 0, "dropped": dropped},
        **more,
    }


def run(values: dict[str, Any], gold: int, scores: dict[str, float], **more: Any) -> SweepRun:
    """A finished run: the first arm is gold-only, the others had 100 rows made for them."""
    names = list(scores)
    arms = {
        name: arm(["gold"] if name in ("gold", "ceiling") else ["answers"], gold, score, 100 * (name not in "gold"))
        for name, score in scores.items()
    }
    if "ceiling" in arms:
        arms["ceiling"] |= {"gold_rows": 4000, "overrides": ["task"]}
    compared = [
        {"metric": m, "a": a, "b": b, "difference": scores[a] - scores[b], "low": 0.001, "high": 0.2, "p": 0.01}
        for m in ("accuracy", "macro_f1")
        for at, b in enumerate(names)
        for a in names[at + 1 :]
    ]
    study = {
        "name": "desks",
        "instruction": "Which desk?",
        "kind": "classification",
        "metrics": ["accuracy", "macro_f1"],
        "seeds": [0, 1],
        "test_rows": 240,
        "fair": "every student takes the same number of training steps",
        "command": "",
        "teachers": ["tiny (openai)"],
        "students": ["classifier on MiniLM, 400 steps"],
    }
    notes = ["The data are invented.", *more.pop("notes", [])]
    report = {"study": study, "versions": {}, "arms": arms, "comparisons": compared, "notes": notes}
    texts = {key: "all" if value is None else str(value) for key, value in values.items()}
    folder = ",".join(f"{key}={text}" for key, text in texts.items())
    return SweepRun(values=values, texts=texts, folder=folder, report=report)


@pytest.fixture
def sweep() -> dict[str, Any]:
    """Four sizes of gold, three arms: annotation helps where gold is scarce."""
    runs = [
        run(
            {GOLD: None if rows == 1000 else rows},
            rows,
            {"gold": score, "answers": score + 0.1 * (1 - rows / 1000), "both": 0.86},
            notes=["One seed."] if rows == 25 else [],
        )
        for rows, score in CURVE.items()
    ]
    return build_sweep(runs, "understudy sweep desks.yaml task.train.limit=25,125,500,null")


def test_a_script_reads_every_arm_at_every_value(sweep: dict[str, Any]):
    assert sweep["keys"] == {GOLD: ["25", "125", "500", "all"]}
    assert [run["values"][GOLD] for run in sweep["runs"]] == [25, 125, 500, None]
    answers = sweep["runs"][1]["arms"]["answers"]
    assert set(answers["metrics"]["accuracy"]) >= {"mean", "low", "high", "per_seed"}
    assert (answers["gold_rows"], answers["training_rows"], answers["dropped"]) == (125, 215, {"not_a_label": 10})
    assert {(one["a"], one["b"]) for one in sweep["runs"][1]["comparisons"]} == {("answers", "gold"), ("both", "gold")}
    assert [point["gold_rows"] for point in sweep["points"]] == [25, 125, 500, 1000]
    assert sweep["notes"] == ["The data are invented.", "at 25: One seed."]
    assert orjson.loads(orjson.dumps(sweep)) == sweep


def test_label_saving_reads_the_curve_of_gold_over_the_sweep(sweep: dict[str, Any]):
    texts = [point["arms"]["both"]["label_saving"]["text"] for point in sweep["points"]]
    assert texts == [
        "as 707 gold rows (28.3 times its 25)",
        "as 707 gold rows (5.7 times its 125)",
        "as 707 gold rows (1.4 times its 500)",
        "as 707 gold rows (0.7 times its 1,000)",
    ]
    assert "label_saving" not in sweep["points"][0]["arms"]["gold"]


def test_label_saving_says_nothing_beyond_what_was_measured():
    runs = [run({GOLD: n}, n, {"gold": CURVE[n], "good": 0.95, "bad": 0.2}) for n in (25, 125)]
    arms = build_sweep(runs)["points"][1]["arms"]
    assert arms["good"]["label_saving"]["text"] == "as more than 125 gold rows (1.0 times its 125)"
    assert arms["bad"]["label_saving"]["text"] == "as fewer than 25 gold rows (0.2 times its 125)"


def test_other_students_are_no_part_of_the_curve():
    runs = [run({GOLD: n}, n, {"gold": CURVE[n], "answers": 0.7, "small": 0.1}) for n in (25, 125)]
    for one in runs:
        assert one.report is not None
        one.report["arms"]["small"] |= {"chain": ["gold"], "overrides": ["student"]}
    arms = build_sweep(runs)["points"][0]["arms"]
    assert "label_saving" in arms["answers"]
    assert "label_saving" not in arms["small"]


def test_without_gold_rows_on_the_axis_there_is_no_label_saving():
    runs = [run({"student.steps": n}, 25, {"gold": 0.5, "answers": 0.6}) for n in (100, 400)]
    sweep = build_sweep(runs)
    assert "label_saving" not in sweep["points"][0]["arms"]["answers"]
    assert "gold_rows" not in sweep["points"][0]


def test_a_ceiling_has_gold_rows_of_its_own_and_extends_the_curve():
    runs = [run({GOLD: n}, n, {"gold": CURVE[n], "answers": 0.86, "ceiling": 0.9}) for n in (25, 125, 500)]
    sweep = build_sweep(runs)
    assert [point["gold_rows"] for point in sweep["points"]] == [25, 125, 500]
    assert sweep["points"][0]["arms"]["answers"]["label_saving"]["relation"] == "="


def test_sweep_md_has_a_table_a_metric_the_saving_and_the_dropped_rows(sweep: dict[str, Any], tmp_path: Path):
    write_sweep(tmp_path, sweep)
    told = (tmp_path / "SWEEP.md").read_text()
    assert "| arm     | 25                | 125               | 500               | all (1,000)       |" in told
    assert "| gold    | .550 [.530, .570]" in told
    assert "+.098 [+.001, +.200] higher" in told
    assert "as 707 gold rows (28.3 times its 25)" in told
    assert "| answers | 10 not_a_label | 10 not_a_label |" in told
    assert "![accuracy of every arm against gold rows](sweep.svg)" in told
    assert "understudy sweep desks.yaml" in told
    text = StringIO()
    for table in terminal_sweep(sweep):
        Console(file=text, width=80).print(table)
    assert "desks: macro F1 over task.train.limit" in text.getvalue()


def test_with_several_runs_a_value_each_stands_beside_the_mean(tmp_path: Path):
    runs = [
        run(
            {GOLD: n, "task.train.seed": seed}, n, {"gold": round(CURVE[n] + seed / 100, 6), "answers": 0.8 + seed / 50}
        )
        for n in (25, 125)
        for seed in (0, 1, 2)
    ]
    runs[-1] = SweepRun(values=runs[-1].values, texts=runs[-1].texts, folder="x", error="the teacher is gone")
    sweep = build_sweep(runs)
    gold = sweep["points"][0]["arms"]["gold"]["metrics"]["accuracy"]
    assert gold == {"mean": 0.56, "per_run": [0.55, 0.56, 0.57]}
    write_sweep(tmp_path, sweep)
    told = (tmp_path / "SWEEP.md").read_text()
    assert ".560 (.550, .560, .570)" in told
    assert "task.train.limit=125, task.train.seed=2 failed, and is not shown: the teacher is gone" in told
    assert "at 125 only 2 of 3 runs are finished" in told
    assert sweep_picture(sweep) == (tmp_path / "sweep.svg").read_bytes()


@pytest.mark.slow
def test_the_picture_is_svg_and_the_same_bytes_every_time(sweep: dict[str, Any], tmp_path: Path):
    import matplotlib

    first = sweep_picture(sweep)
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 9}):  # a reader's own style
        assert sweep_picture(orjson.loads(orjson.dumps(sweep))) == first
        assert matplotlib.rcParams["font.size"] == 20
    root = ET.fromstring(first)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert b"desks: accuracy" in first
    assert b"<dc:date>" not in first
    other = orjson.loads(orjson.dumps(sweep))
    other["runs"][0]["arms"]["gold"]["metrics"]["accuracy"]["mean"] = 0.56
    assert sweep_picture(other) != first


AXES: dict[str, list[Any]] = {
    "one value": [4],
    "close numbers": [1, 2, 3],
    "far numbers, as texts": ["1e-5", "1e-4", "1e-3"],
    "zero among them": [0, 1, 100],
    "names": ["a/model-of-some-size", "another/model-with-a-longer-name", "$x$ and $y$"],
    "a number and null": [100, None],
}


@pytest.mark.slow
@pytest.mark.parametrize("case", AXES)
def test_the_axis_takes_any_values(case: str):
    names = {"gold": 0.5, **{f"arm {i}": 0.5 + i / 50 for i in range(9)}}
    sweep = build_sweep([run({"student.x": value}, 25, names) for value in AXES[case]])
    assert sweep_picture(sweep).startswith(b"<?xml")
