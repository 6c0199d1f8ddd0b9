"""What a report says of students that were pretrained: minimal pairs by groups, and learning curves."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from io import StringIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from understudy.records import Example, Prediction
from understudy.report import ArmResult, RunResults, StudentUse, build, terminal_tables, write_reports
from understudy.report.curves import PANELS, curves_picture, has_curves
from understudy.report.markdown import to_markdown
from understudy.report.pairs import groups_table
from understudy.task import Task
from understudy.workspace import Taken

TASK = Task.model_validate({"kind": "pretraining"})
SIZES = {"irregular": 40, "island": 40, "case": 80}
GROUPS = {"irregular": ("morphology", "agreement"), "island": ("syntax", "islands"), "case": ("syntax", "binding")}
TEST = [
    TASK.pair(
        {
            "sentence_good": f"good {name} {n}",
            "sentence_bad": f"bad {name} {n}",
            "field": GROUPS[name][0],
            "linguistics_term": GROUPS[name][1],
            "UID": name,
        },
        id=f"{name}-{n}",
    )
    for name, size in SIZES.items()
    for n in range(size)
]
CURVE = ({"loss": 6.5, "accuracy": 0.5}, {"loss": 5.0, "accuracy": 0.55}, {"loss": 4.5, "accuracy": 0.62})


def answered(right: dict[str, int], ties: int = 0) -> list[Prediction]:
    """Of each paradigm so many pairs are right, and the last of all are ties."""
    answers = [
        Prediction(f"{'good' if n < right[name] else 'bad'} {name} {n}")
        for name, size in SIZES.items()
        for n in range(size)
    ]
    return [*answers[: len(answers) - ties], *[Prediction(None)] * ties]


def use(seed: int, measured: tuple[str, ...]) -> StudentUse:
    curve = [
        {"step": 100 * n, "tokens": 10_000 * n + 10 * seed, **{name: one[name] + seed / 10 for name in measured}}
        for n, one in enumerate(CURVE)
    ]
    plain = {"steps": 200, "tokens": 20_000, "seconds": 3.0, "parameters": 22}
    return StudentUse(**plain, **({"curve": curve, "perplexity_a_word": 90.0 + seed} if measured else {}))


def arm(name: str, right: dict[str, int], ties: int = 0, measured: tuple[str, ...] = ()) -> ArmResult:
    return ArmResult(
        name=name,
        chain=[name],
        steps=[Taken(name=name, rows_in=60, kept=60)],
        students={seed: use(seed, measured) for seed in (0, 1)},
        predictions={0: answered(right, ties), 1: answered(right)},
        gold_rows=0,
        training_rows=60,
    )


RAW = arm("raw", {"irregular": 38, "island": 21, "case": 60}, ties=2, measured=("loss", "accuracy"))
COTHOUGHT = arm("cothought", {"irregular": 30, "island": 30, "case": 70})


def results(*arms: ArmResult) -> RunResults:
    return RunResults(study="baby", task=TASK, test=TEST, arms=arms)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return build(results(RAW, COTHOUGHT))


def test_accuracies_by_group_stand_with_each_arm(report: dict[str, Any]):
    raw = report["arms"]["raw"]
    assert raw["metrics"]["accuracy"]["per_seed"] == [119 / 160, 119 / 160]
    assert raw["metrics"]["accuracy"]["chance"] == 0.5
    assert {column: list(found) for column, found in raw["groups"].items()} == {
        "field": ["morphology", "syntax"],
        "linguistics_term": ["agreement", "binding", "islands"],
        "UID": ["case", "irregular", "island"],
    }
    island = raw["groups"]["UID"]["island"]
    assert (island["mean"], island["per_seed"], island["pairs"]) == (0.525, [0.525, 0.525], 40)
    assert island["low"] < 0.5 < island["high"]
    assert island["at_chance"]
    assert raw["groups"]["field"]["syntax"]["mean"] == 0.675
    assert not raw["groups"]["field"]["syntax"]["at_chance"]
    assert raw["over_paradigms"]["mean"] == round((0.95 + 0.525 + 0.75) / 3, 6)
    assert raw["ties"] == 2
    assert "raw: 2 of 320 choices were ties, which count wrong." in report["notes"]


def test_an_accuracy_below_one_half_is_marked_as_such():
    report = build(results(arm("odd", {"irregular": 4, "island": 21, "case": 20}), COTHOUGHT))
    odd = report["arms"]["odd"]
    marks = {
        name: (one["at_chance"], one["below_chance"])
        for name, one in {"all": odd["metrics"]["accuracy"], **odd["groups"]["UID"]}.items()
    }
    assert marks == {
        "all": (False, True), "irregular": (False, True), "case": (False, True), "island": (True, False),
    }  # fmt: skip
    assert not odd["over_paradigms"]["at_chance"]
    table = cells(to_markdown(report).split("## Minimal pairs")[1].split("## Rows")[0])
    assert [line[3].rpartition("] ")[2] for line in table if line[1] in ("all pairs", "islands")] == [
        "below chance", "at chance",
    ]  # fmt: skip
    assert any(
        "odd: accuracy is below chance: shown to be under 0.500, which a guess" in one for one in report["notes"]
    )


def test_curves_and_perplexity_stand_with_the_arms_that_have_them(report: dict[str, Any]):
    raw = report["arms"]["raw"]
    assert raw["curves"]["1"][2] == {"step": 200, "tokens": 20_010, "loss": 4.6, "accuracy": 0.72}
    assert raw["perplexity_a_word"] == {"0": 90.0, "1": 91.0}
    assert report["arms"]["cothought"].keys().isdisjoint({"curves", "perplexity_a_word"})


def test_arms_are_compared_on_the_same_pairs(report: dict[str, Any]):
    (found,) = report["comparisons"]
    assert (found["a"], found["b"], found["difference"]) == ("cothought", "raw", 0.06875)


def cells(text: str) -> list[list[str]]:
    """Of a Markdown table, without its rule."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in (lines[0], *lines[2:])]


def test_the_report_shows_groups_and_hides_many_paradigms(report: dict[str, Any]):
    text = to_markdown(report, "curves.svg")
    pairs, curves = text.split("## Minimal pairs")[1].split("## Rows")[0].split("## Learning curves")
    assert [line[:3] for line in cells(pairs)] == [
        ["", "group", "pairs"],
        ["", "all pairs", "160"],
        ["", "all 3 paradigms", "160"],
        ["field", "morphology", "40"],
        ["", "syntax", "120"],
        ["linguistics_term", "agreement", "40"],
        ["", "binding", "80"],
        ["", "islands", "40"],
        ["UID", "case", "80"],
        ["", "irregular", "40"],
        ["", "island", "40"],
    ]
    assert cells(pairs)[0][3:] == ["raw", "cothought"]
    assert cells(pairs)[-1][3].startswith(".525 [")
    assert cells(pairs)[-1][3].endswith("] at chance")
    assert cells(pairs)[-1][4].startswith(".750 [")
    many = {f"p{n:02}": report["arms"]["raw"]["groups"]["UID"]["island"] for n in range(13)}
    arms = {"raw": report["arms"]["raw"] | {"groups": report["arms"]["raw"]["groups"] | {"UID": many}}}
    assert [row[0] for row in groups_table(report | {"arms": arms}).rows if row[0]] == ["field", "linguistics_term"]
    assert "![Learning curves](curves.svg)" in curves
    assert cells(curves) == [
        ["arm", "tokens", "held-back loss", "perplexity a word", "accuracy as it learnt"],
        ["raw", "20.0k", "4.550 (4.500 to 4.600)", "90.5 (90.0 to 91.0)", ".670 (.620 to .720)"],
    ]
    assert "in nats a word" in curves  # tokens of different tokenizers do not compare
    assert "a token" not in curves
    assert "![" not in to_markdown(report)


def test_the_terminal_has_the_groups_too(report: dict[str, Any]):
    console = Console(width=80, file=StringIO())
    console.print(*terminal_tables(report))
    assert isinstance(console.file, StringIO)
    words = console.file.getvalue().split()
    assert {"morphology", "islands", "paradigms", ".525", "chance"} <= {*words}


@pytest.mark.slow
def test_the_picture_stands_beside_the_report(tmp_path: Path, report: dict[str, Any]):
    pytest.importorskip("matplotlib")
    write_reports(tmp_path, report)
    picture = (tmp_path / "curves.svg").read_bytes()
    assert ET.fromstring(picture).tag.endswith("svg")
    assert PANELS["loss"] == "held-back loss, nats a word"
    assert "(curves.svg)" in (tmp_path / "REPORT.md").read_text()
    assert orjson.loads((tmp_path / "report.json").read_bytes()) == report
    assert curves_picture(report) == picture
    write_reports(tmp_path, build(results(COTHOUGHT)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["REPORT.md", "report.json"]


@pytest.mark.parametrize("measured", ["loss", "accuracy"])
def test_a_curve_may_lack_a_measure(measured: str):
    pytest.importorskip("matplotlib")
    right = {"irregular": 38, "island": 21, "case": 60}
    report = build(results(arm("raw", right, measured=(measured,)), COTHOUGHT))
    assert has_curves(report)
    assert curves_picture(report, "png").startswith(b"\x89PNG")


def test_a_study_of_another_kind_has_none_of_it():
    other = RunResults(
        study="other",
        task=Task(instruction="Say it.", kind="generation"),
        test=[Example(id=str(n), input="a", target="b") for n in range(4)],
        arms=[
            ArmResult(
                name="gold",
                chain=["gold"],
                steps=RAW.steps,
                students=RAW.students,
                predictions={seed: [Prediction("b")] * 4 for seed in (0, 1)},
                gold_rows=9,
                training_rows=9,
            )
        ],
    )
    report = build(other)
    assert report["arms"]["gold"].keys().isdisjoint({"groups", "over_paradigms", "ties", "curves", "perplexity_a_word"})
    assert not has_curves(report)
    assert "## Minimal pairs" not in to_markdown(report)
    assert "## Learning curves" not in to_markdown(report)
    assert len(terminal_tables(report)) == 1
