"""What is no row of the task, kind by kind, and what was there before."""

from __future__ import annotations

import re
from typing import Any

import pytest

from understudy import Dropped, Example, Task
from understudy.curate import checks_of, is_no_copy, noted, validated

LABELS = {"labels": ["yes", "no"]}
GOOD = "\N{WHITE HEAVY CHECK MARK}"


def task(kind: str, **more: Any) -> Task:
    return Task.model_validate({"instruction": "Answer.", "kind": kind, "fields": {"choices": "options"}, **more})


def reasons(task: Task, *rows: Example) -> list[str]:
    """Why each row is dropped, or that it is good."""
    checks = checks_of(
        task,
        shots=[Example(id="shot", input="Is it the shot?", target="yes")],
        leaks=lambda text: "secret" in text,
        number_in=lambda text: re.search(r"\d", text),
    )
    kept = validated(rows, checks, "made")
    return [row.reason if isinstance(row, Dropped) else GOOD for row in kept]


def row(input: str, target: Any, **more: Any) -> Example:
    return Example(id=input, input=input, target=target, **more)


@pytest.mark.parametrize(
    ("kind", "answer", "reason"),
    [
        ("classification", "yes", GOOD),
        ("classification", "Yes", "not_a_label"),
        ("classification", "maybe", "not_a_label"),
        ("multilabel", ("no", "yes"), GOOD),
        ("multilabel", ("no", "never"), "not_a_label"),
    ],
)
def test_an_answer_is_in_the_list(kind: str, answer: Any, reason: str):
    assert reasons(task(kind, **LABELS), row("Is it?", answer)) == [reason]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("the Seine", GOOD),
        ("The seine,", GOOD),
        ("$5", GOOD),
        ("a river", "not_a_span"),
        ("Sein und", "not_a_span"),
        ("ris", "not_a_span"),
        ("e", "not_a_span"),
    ],
)
def test_what_is_extracted_stands_in_the_input(answer: str, reason: str):
    assert reasons(task("extraction"), row("Paris lies on the Seine. It costs $5. Where?", answer)) == [reason]


def test_a_number_can_be_read():
    assert reasons(task("numeric"), row("1 + 1?", "= 2"), row("1 + 2?", "three")) == [GOOD, "not_a_number"]


@pytest.mark.parametrize(
    ("options", "answer", "reason"),
    [
        (("a", "b"), "b", GOOD),
        (("a", "b"), "c", "not_a_choice"),
        (("a", "b", "A."), "b", "repeated_choice"),
        (("a",), "a", "repeated_choice"),
        ((), "a", "repeated_choice"),
    ],
)
def test_a_choice_is_one_of_several_different_options(options: tuple[str, ...], answer: str, reason: str):
    assert reasons(task("choice"), row("Which?", answer, choices=options)) == [reason]


def test_nothing_is_empty():
    rows = [row("", "x"), row("a", " "), row("b", ()), row("c", None), row("d", "x", rationale=" "), row("e", "x")]
    found = ["empty_input", "empty_output", "empty_output", "empty_output", "empty_rationale", GOOD]
    assert reasons(task("generation"), *rows) == found


def test_a_row_is_written_once_and_copies_neither_a_shot_nor_a_test_row():
    rows = [
        row("is it, the SHOT", "no"),
        row("A secret?", "no"),
        row("One?", "no"),
        row("one", "yes"),
        row("Two?", "no"),
    ]
    found = ["copy_of_shot", "near_test_split", GOOD, "copy_of_output", GOOD]
    assert reasons(task("classification", **LABELS), *rows) == found


def test_a_row_is_no_copy_of_one_that_was_there_before():
    there: set[str] = set()
    assert [one.input for one in noted([row("One?", "no")], there)] == ["One?"]
    checks = checks_of(task("classification", **LABELS), [], lambda text: False, len, there)
    (copied, other) = validated([row("ONE", "yes"), row("Two?", "no")], checks, "step")
    assert isinstance(copied, Dropped)
    assert copied.reason == "copy_of_row"
    assert isinstance(other, Example)


def test_a_row_that_was_dropped_is_no_earlier_row():
    rows = [row("One?", "perhaps"), row("One?", "yes")]
    assert reasons(task("classification", **LABELS), *rows) == ["not_a_label", GOOD]


def test_the_same_question_with_other_options_is_another_row():
    rows = [row("Which?", "a", choices=("a", "b")), row("Which?", "a", choices=("a", "c"))]
    assert reasons(task("choice"), *rows) == [GOOD, GOOD]


def test_a_row_that_is_out_stays_out_with_its_own_reason():
    out = Dropped(row("", "x"), "before", "cut_off")
    assert list(validated([out], checks_of(task("generation"), [], bool, str), "made")) == [out]


def test_copies_are_found_by_input_or_by_answer_and_checks_know_of_each_other():
    gold = [row("mat", ("a mat", "one mat"))]
    written = set[str]()
    there = set[str]()
    assert list(noted([row("hat", "a hat")], there))
    annotates = is_no_copy(gold, there, reason="copy_of_gold", written=written)
    generates = is_no_copy(gold, there, reason="copy_of_gold", by="answers", written=written)
    asked = [row("MAT.", "some mat"), row("cup", "it is a cup"), row("Cup!", "a cup")]
    assert [found and found[0] for found in map(annotates, asked)] == ["copy_of_gold", None, "copy_of_output"]
    drawn = [row("rug", "One mat!"), row("glass", "It is a cup."), row("cap", "A hat!")]
    found = [found and found[0] for found in map(generates, drawn)]
    assert found == ["copy_of_gold", "copy_of_output", "copy_of_row"]
    others = [row("it is a cup", "mat"), row("cup", "a red cup")]
    assert [*map(generates, others)] == [None, None]  # a text is compared with its like only
