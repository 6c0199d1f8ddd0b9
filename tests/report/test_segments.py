"""Segments in a report: counted as they stream by, and drawn for a person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.report.markdown import to_markdown
from understudy.report.segments import histogram, segments_section, summarise
from understudy.segment import Piece, Tag, tagged

QUESTION = "Tom has 3 apples.\nHe buys 4. How many has he?"
PIECES = tagged(["Tom has 3 apples.", " He buys 4.", "\n3 + 4 = 7."], [0.5, 0.25, 2.25])


def questions(count: int = 10) -> Iterator[tuple[str, list[Piece]]]:
    for _ in range(count):
        yield QUESTION, PIECES


def report(**segments: Any) -> dict[str, Any]:
    return {"arms": {"gold": {}, **{name.replace("_", " "): {"segments": found} for name, found in segments.items()}}}


def test_the_summary_counts_all_and_shows_the_first():
    found = summarise(questions(), beta=1.4, score="entropy", sample=2)
    assert (found["questions"], found["pieces"], found["share_as"]) == (10, 30, 0.333333)
    assert [one["question"] for one in found["sample"]] == [QUESTION, QUESTION]
    assert found["sample"][0]["pieces"][2] == {"text": "\n3 + 4 = 7.", "score": 2.25, "ratio": 2.25, "tag": "as"}
    assert orjson.loads(orjson.dumps(found)) == found
    nothing = summarise([("A question.", [])], beta=1.4, score="loss")
    assert (nothing["questions"], nothing["pieces"], nothing["share_as"]) == (1, 0, 0.0)


def test_a_bin_ends_with_its_edge_and_beta_is_one():
    ratios: list[tuple[float, Tag]] = [
        (-0.5, "es"), (0.0, "es"), (0.2, "es"), (1.5, "es"), (1.500001, "as"), (4.0, "as"), (90.0, "as"),
    ]  # fmt: skip
    drawn = histogram(ratios, 1.5)
    assert drawn["edges"][:3] == [0.0, 0.2, 0.4]
    assert (len(drawn["edges"]), drawn["edges"][-1]) == (22, 4.0)
    assert drawn["counts"]["es"][0] == 3
    at = drawn["edges"].index(1.5)
    assert (drawn["counts"]["es"][at - 1], drawn["counts"]["as"][at]) == (1, 1)
    assert drawn["counts"]["as"][-2:] == [1, 1]
    assert len(histogram([], 1.4)["edges"]) == 21
    assert histogram([(4.5, "es"), (5.5, "as")], 5)["counts"] == {"es": [0] * 20 + [1, 0], "as": [0] * 21 + [1]}


@given(st.lists(st.floats(0, 100)), st.floats(0.1, 6))
def test_no_piece_is_lost_and_the_threshold_parts_the_tags(ratios: list[float], beta: float):
    drawn = histogram([(ratio, "as" if ratio > beta else "es") for ratio in ratios], beta)
    at = drawn["edges"].index(beta)
    assert sum(map(sum, drawn["counts"].values())) == len(ratios)
    assert not any(drawn["counts"]["es"][at:])
    assert not any(drawn["counts"]["as"][:at])


def test_the_section_draws_the_bars_and_the_sample():
    text = segments_section(report(as_es=summarise(questions(), beta=1.4, score="entropy", sample=1)))
    assert "### as es\n\n10 questions, 30 pieces, 33.3% of them abstractive. Score: entropy, beta 1.4.\n" in text
    bars = text.split("```")[1].strip().splitlines()
    assert bars[0] == "score / mean  es  as"
    assert "0.2 to 0.4    10   0  " + "." * 40 in bars
    assert bars[8].startswith("---- beta 1.4 -----")
    assert bars[-1] == "2.2 to 2.4     0  10  " + "#" * 40
    assert text.split("```")[3].strip().splitlines() == [
        "Q: Tom has 3 apples. He buys 4. How many has he?",
        "es 0.500 (0.50) | Tom has 3 apples.",
        "es 0.250 (0.25) | He buys 4.",
        "as 2.250 (2.25) | 3 + 4 = 7.",
    ]


def test_arms_with_the_same_segments_are_shown_once_and_arms_without_any_not_at_all():
    same = summarise(questions(), beta=1.4, score="loss")
    text = segments_section(report(dual=same, uni=dict(same), other=same | {"beta": 0.8, "share_as": 0.5,
                                   "histogram": histogram([(9.0, "as")], 0.8)}))  # fmt: skip
    assert [line for line in text.splitlines() if line.startswith("### ")] == ["### dual, uni", "### other"]
    assert "over 4         0   1  " + "#" * 40 in text
    assert segments_section(report()) == ""


@pytest.mark.parametrize("pieces", [0, 1_000_000])
def test_few_and_many_pieces_can_be_drawn(pieces: int):
    found = summarise([], beta=1.4, score="loss")
    found["histogram"]["counts"]["es"][0] = pieces
    found["histogram"]["counts"]["as"][-1] = bool(pieces)
    bars = segments_section(report(one=found)).split("```")[1].splitlines()
    assert max(map(len, bars)) < 80
    assert bars[-1].endswith("#") == bool(pieces)


def test_the_report_has_both_sections_after_the_rows():
    plain = {"study": {"name": "n", "instruction": "i", "metrics": [], "seeds": [0], "test_rows": 4, "fair": "",
             "command": ""}, "versions": {}, "comparisons": [], "notes": []}  # fmt: skip
    rows = {"in": 3, "made": 0, "kept": 3, "joined": 0, "dropped": {}}
    arm = {"chain": ["gold"], "training_rows": 3, "metrics": {}, "rows": rows, "steps": [], "teacher": {"requests": 0,
           "usd": 0.0}, "student": {"tokens": 1, "seconds": 1.0}}  # fmt: skip
    stopped = {"marker": 6, "cap": 2, "stalled": 0}
    wrote = {"rounds": 2.125, "stopped": stopped, "share_capped": 0.25}
    told = plain | {"arms": {"gold": arm, "dual": arm | {"inference": wrote, "segments": summarise(
        questions(), beta=1.4, score="entropy")}}}  # fmt: skip
    text = to_markdown(told)
    written, segments = text.split("## How the students wrote")[1].split("## Segments")
    assert "| arm  | rounds |  cap | marker | stalled |" in written
    assert "| dual |   2.12 | .250 |   .750 |    .000 |" in written
    assert "### dual" in segments
    without = to_markdown(plain | {"arms": {"gold": arm}})
    assert "## How the students wrote" not in without
    assert "## Segments" not in without
