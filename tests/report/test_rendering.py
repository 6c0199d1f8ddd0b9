"""What a person reads: REPORT.md and the terminal."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from understudy.report import terminal_tables, write_reports
from understudy.report.markdown import to_markdown
from understudy.report.tables import score_text, short_number, signed_text


def found(mean: float, **changes: Any) -> dict[str, Any]:
    scores = {"mean": mean, "low": mean - 0.01, "high": mean + 0.01, "per_seed": [mean, mean]}
    return {**scores, "chance": 0.1, "at_chance": False, **changes}


def arm(chain: list[str], mean: float, **changes: Any) -> dict[str, Any]:
    rows = {"in": 60, "made": 0, "kept": 60, "joined": 0, "dropped": {}}
    plain = {
        "chain": chain,
        "gold_rows": 60,
        "training_rows": 60,
        "metrics": {"accuracy": found(mean), "macro_f1": found(mean - 0.004)},
        "rows": rows,
        "steps": [{"name": step, **rows} for step in chain],
        "teacher": {"requests": 0, "from_ledger": 0, "prompt_tokens": 0, "completion_tokens": 0, "usd": 0.0},
        "student": {"steps": 200, "tokens": 812_345, "seconds": 12.3, "parameters": 22_713_216},
    }
    return {**plain, **changes}


def compared(metric: str, name: str, **numbers: float) -> dict[str, Any]:
    return {"metric": metric, "a": name, "b": "gold", **numbers}


@pytest.fixture
def report() -> dict[str, Any]:
    teacher = {"requests": 1300, "from_ledger": 0, "prompt_tokens": 90_000, "completion_tokens": 6_000, "usd": 0.0312}
    recorded = {"requests": 300, "from_ledger": 300, "prompt_tokens": None, "completion_tokens": None, "usd": None}
    rows = {"in": 360, "made": 40, "kept": 388, "joined": 0, "dropped": {"in_test_split": 3, "not_a_label": 9}}
    return {
        "study": {
            "name": "routing",
            "instruction": "Where does this\nmessage go?",
            "kind": "classification",
            "metrics": ["accuracy", "macro_f1"],
            "seeds": [0, 1],
            "test_rows": 240,
            "fair": "the student, 200 steps, the seeds.",
            "command": "understudy run examples/routing.yaml",
        },
        "versions": {"torch": "2.13.0", "understudy": "0.1.0"},
        "arms": {
            "gold": arm(["gold"], 0.812),
            "a|b": arm(["answers", "direct"], 0.884, training_rows=388, rows=rows, teacher=teacher),
            "ceiling": arm(["gold"], 1.0, gold_rows=240, training_rows=2400),
            "guess": arm(["answers"], 0.1, metrics={"accuracy": found(0.1, at_chance=True), "macro_f1": found(0.2)},
                         teacher=recorded),
        },
        "comparisons": [
            compared("accuracy", "a|b", difference=0.072, low=0.051, high=0.09, p=0.001),
            compared("accuracy", "guess", difference=-0.712, low=-0.8, high=-0.6, p=0.001),
            compared("macro_f1", "a|b", difference=0.004, low=-0.01, high=0.02, p=0.41),
        ],
        "label_saving": {
            "a|b": {"metric": "accuracy", "relation": "=", "rows": 1190, "gold_rows": 60, "text": "as 1,190 gold rows"},
            "guess": {"metric": "accuracy", "relation": "<", "rows": 60, "gold_rows": 0, "text": "as fewer than 60"},
        },
        "notes": ["The data were written for this demo."],
    }  # fmt: skip


def table_row(text: str, first: str) -> list[str]:
    """The cells of the first table line that starts with ``first``."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {first} "))
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_the_table_of_arms_shows_the_cost_beside_the_score(report: dict[str, Any]):
    text = to_markdown(report)
    headings = ["arm", "chain", "rows", "accuracy", "macro F1", "equal to gold rows"]
    assert table_row(text, "arm") == [*headings, "teacher requests", "USD", "student tokens"]
    assert table_row(text, r"a\|b") == [
        r"a\|b", "answers > direct", "388", ".884 [.874, .894]", ".880 [.870, .890]", "1,190 (19.8 x 60)",
        "1,300 (96.0k)", "0.0312", "812.3k in 12 s",
    ]  # fmt: skip
    assert table_row(text, "guess")[3:8] == [
        ".100 [.090, .110] at chance", ".200 [.190, .210]", "< 60", "300", "no price",
    ]  # fmt: skip
    assert table_row(text, "ceiling")[3] == "1.000 [.990, 1.010]"


def test_a_comparison_says_in_words_what_it_shows(report: dict[str, Any]):
    text = to_markdown(report)
    accuracy, macro = text.split("### Accuracy")[1].split("### Macro F1")
    assert table_row(accuracy, r"a\|b") == [r"a\|b", "gold", "+.072", "[+.051, +.090]", ".001", "higher"]
    assert table_row(accuracy, "guess")[-1] == "lower"
    assert table_row(macro, r"a\|b")[-1] == "no difference shown"


def test_rows_notes_and_the_command_follow(report: dict[str, Any]):
    text = to_markdown(report)
    assert text.startswith(
        "# routing\n\n> Where does this message go?\n\n240 test rows, 2 seeds. Equal for every arm: the"
    )
    rows = text.split("## Rows")[1]
    assert table_row(rows, r"a\|b") == [r"a\|b", "360", "40", "388", "0", "3 in_test_split, 9 not_a_label"]
    assert table_row(rows, r"a\|b: direct")[1:] == ["60", "0", "60", "0", "-"]
    assert "- The data were written for this demo." in text
    assert text.endswith("```\nunderstudy run examples/routing.yaml\n```\n\nWith torch 2.13.0, understudy 0.1.0.\n")


def test_how_diverse_the_rows_are_stands_beside_where_they_come_from(report: dict[str, Any]):
    assert "## Diversity" not in to_markdown(report)  # a report of before it was looked at
    shares = {"data/train": 0.6, "more/train": 0.25, "pets": 0.1, "(none)": 0.04, "cars": 0.01}
    figures = {"unique": 0.98765, "distinct_1": 0.4, "distinct_2": None, "nearest": 0.7131}
    report["arms"]["a|b"]["diversity"] = figures | {"datasets": shares}
    report["arms"]["gold"]["diversity"] = figures | {"unique": 1.0, "nearest": None, "datasets": {"data/train": 1.0}}
    text = to_markdown(report).split("## Diversity")[1]
    assert table_row(text, "arm") == ["arm", "unique inputs", "distinct-1", "nearest", "rows come from"]
    assert table_row(text, r"a\|b")[1:] == [".988", ".400", ".713", "data/train 60%, more/train 25%, pets 10%, 2 more"]
    assert table_row(text, "gold")[1:] == ["1.000", ".400", "-", "data/train 100%"]
    assert "| guess " not in text
    assert "*Nearest*: mean cosine" in text


def test_columns_that_say_nothing_are_left_out(report: dict[str, Any]):
    del report["label_saving"]
    report["arms"] = {"gold": report["arms"]["gold"]}
    report["comparisons"] = []
    text = to_markdown(report)
    assert table_row(text, "arm") == ["arm", "rows", "accuracy", "macro F1", "student tokens"]
    assert "## Comparisons" not in text


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_shows_every_arm_and_cuts_no_number(report: dict[str, Any], width: int):
    console = Console(width=width, file=StringIO())
    console.print(*terminal_tables(report))
    assert isinstance(console.file, StringIO)
    words = console.file.getvalue().split()
    for expected in ("a|b", "ceiling", ".884", "[.874,", ".894]", "1,190", "1,300", "0.0312", "812.3k", "chance"):
        assert expected in words


def test_the_files_are_whole_and_the_same_for_the_same_report(tmp_path: Path, report: dict[str, Any]):
    write_reports(tmp_path, report)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(first) == ["REPORT.md", "report.json"]
    assert orjson.loads(first["report.json"]) == report
    assert list(orjson.loads(first["report.json"])["arms"]) == list(report["arms"])
    write_reports(tmp_path, report)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


def test_a_report_that_cannot_be_written_leaves_nothing_half_done(tmp_path: Path, report: dict[str, Any]):
    (tmp_path / "REPORT.md").mkdir()
    with pytest.raises(IsADirectoryError):
        write_reports(tmp_path, report)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["REPORT.md", "report.json"]


def test_numbers_are_written_one_way():
    assert [score_text(x) for x in (0.8841, 1.0, 0.0, -0.0121, -0.00001, 0.9999)] == [
        ".884", "1.000", ".000", "-.012", ".000", "1.000",
    ]  # fmt: skip
    assert [signed_text(x) for x in (0.0721, -0.5, 0.0)] == ["+.072", "-.500", ".000"]
    assert [short_number(x) for x in (0, 999, 12_345, 1_215_333, 2_000_000_000)] == [
        "0",
        "999",
        "12.3k",
        "1.2M",
        "2.0G",
    ]
