"""Whether a row that a teacher wrote is a row of the task: one check after another, by the task's kind."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Literal, TypeAlias

from understudy.records import Dropped, Example, Row, digest, normalise
from understudy.task import Task

Check: TypeAlias = Callable[[Example], tuple[str, str] | None]
"""What is wrong with a row: the reason that is counted, and a detail for a person; ``None`` where it may stay."""
Part: TypeAlias = Literal["input", "answers"]
"""What rows are compared by."""


_COPIED = {
    "copy_of_gold": "a gold row",
    "copy_of_shot": "an example in the prompt",
    "copy_of_row": "a row that was there before",
    "copy_of_output": "a row written before",
}


def validated(rows: Iterable[Row], checks: Sequence[Check], step: str) -> Iterator[Row]:
    """The rows in order, each that fails a check dropped for the first one that it fails."""
    for row in rows:
        wrong = None if isinstance(row, Dropped) else next(filter(None, (check(row) for check in checks)), None)
        yield Dropped(row, step, *wrong) if wrong and isinstance(row, Example) else row


def checks_of(
    task: Task,
    shots: Iterable[Example],
    leaks: Callable[[str], bool],
    number_in: Callable[[str], object],
    there: Container[str] = (),
) -> list[Check]:
    """The checks for rows of this task that were written after ``shots``, the cheapest first.

    The last of them remembers the rows that passed: about 200 bytes a row.

    Args:
        there: what ``noted`` made of the rows that came before.
        leaks, number_in: as in ``checks_of_kind``.
    """
    return [*checks_of_kind(task, leaks, number_in), is_no_copy(shots, there)]


def checks_of_kind(task: Task, leaks: Callable[[str], bool], number_in: Callable[[str], object]) -> list[Check]:
    """The checks that look at one row alone.

    Args:
        leaks: whether a text is that of a test row, or near it.
        number_in: the number in a text, ``None`` where it holds none.
    """
    by_kind: dict[str, list[Check]] = {
        "classification": [is_of(task.label_names)],
        "multilabel": [is_of(task.label_names)],
        "choice": [is_a_choice],
        "extraction": [is_a_span],
        "numeric": [parses(number_in)],
    }
    return [is_not_empty, *by_kind.get(task.kind, []), is_not_near(leaks)]


def noted(rows: Iterable[Example], there: set[str]) -> Iterator[Example]:
    """The rows as they are; what they are compared by is added to ``there``: about 200 bytes a row."""
    for row in rows:
        there.update(*_keys(row).values())
        yield row


def is_not_empty(row: Example) -> tuple[str, str] | None:
    """``empty_input``; ``empty_output``; ``empty_rationale`` where a rationale was asked for."""
    if not row.input.strip():
        return "empty_input", "the input holds nothing"
    if not any(answer.strip() for answer in row.answers):
        return "empty_output", "the output holds nothing"
    if row.rationale is not None and not row.rationale.strip():
        return "empty_rationale", "the rationale holds nothing"
    return None


def is_of(labels: Sequence[str]) -> Check:
    """``not_a_label``: an answer is none of the labels, as they are spelled."""

    def check(row: Example) -> tuple[str, str] | None:
        wrong = [answer for answer in row.answers if answer not in labels]
        return ("not_a_label", f"{wrong[0]!r} is none of the {len(labels)} labels") if wrong else None

    return check


def is_a_choice(row: Example) -> tuple[str, str] | None:
    """``repeated_choice``: options are the same but for case and punctuation, or fewer than two; ``not_a_choice``: the
    answer is none of them."""
    if len(row.choices) < 2 or len({normalise(choice) for choice in row.choices}) < len(row.choices):
        return "repeated_choice", f"at least two different options are needed, got {list(row.choices)!r}"
    if row.target not in row.choices:
        return "not_a_choice", f"{row.target!r} is none of {list(row.choices)!r}"
    return None


def is_a_span(row: Example) -> tuple[str, str] | None:
    """``not_a_span``: the answer does not stand in the input as whole words, whatever case and punctuation.

    In scripts that have no spaces any piece of the input will do.
    """
    for answer in row.answers:
        is_piece = answer.strip() in row.input and not answer.isascii()
        if not is_piece and f" {normalise(answer)} " not in f" {normalise(row.input)} ":
            return "not_a_span", f"{answer!r} does not stand in the input"
    return None


def parses(number_in: Callable[[str], object]) -> Check:
    """``not_a_number``: no number can be read from the answer."""

    def check(row: Example) -> tuple[str, str] | None:
        wrong = [answer for answer in row.answers if number_in(answer) is None]
        return ("not_a_number", f"{wrong[0]!r} holds no number") if wrong else None

    return check


def is_not_near(leaks: Callable[[str], bool]) -> Check:
    """``near_test_split``: the input equals that of a test row, or nearly."""

    def check(row: Example) -> tuple[str, str] | None:
        return ("near_test_split", "its input equals that of a test row, or nearly") if leaks(row.input) else None

    return check


def is_no_copy(
    shown: Iterable[Example],
    there: Container[str],
    *,
    reason: Literal["copy_of_shot", "copy_of_gold"] = "copy_of_shot",
    by: Part = "input",
    written: set[str] | None = None,
) -> Check:
    """``reason``, ``copy_of_row``, ``copy_of_output``: its input with its options, or one of its answers, is that of a
    row that was shown, of one that came before, or of one that was written and passed.

    Args:
        there: what ``noted`` made of the rows that came before.
        by: what is compared.
        written: what is known of the rows that passed, about 200 bytes each; checks that share it know of each other.
    """
    known, passed = {key for row in shown for key in _keys(row)[by]}, set[str]() if written is None else written

    def check(row: Example) -> tuple[str, str] | None:
        keys = _keys(row)
        for found, before in ((reason, known), ("copy_of_row", there), ("copy_of_output", passed)):
            if any(key in before for key in keys[by]):
                return found, f"its normalised {by} equals that of {_COPIED[found]}"
        passed.update(*keys.values())
        return None

    return check


def _keys(row: Example) -> dict[Part, list[str]]:
    inputs = [digest("input", *map(normalise, (row.input, *row.choices)), size=8)]
    return {"input": inputs, "answers": [digest("answer", normalise(answer), size=8) for answer in row.answers]}
