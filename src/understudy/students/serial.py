"""The text of a row as a language model learns it: prompt, answer, then the explanations, as in TeacherLM.

The explanations come after the answer: they are a signal in training only, and cost nothing when the student answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from string import ascii_uppercase as LETTERS
from typing import Literal, TypeAlias

from understudy.errors import DataError
from understudy.records import Example
from understudy.task import CLOSED_KINDS, Task

LEAD = " The answer is"
SUBJECT = "The following are multiple choice questions (with answers) about {}.\n\n"  # as MMLU has it

RankBy: TypeAlias = Literal["letter", "text"]


def prompt_of(example: Example | str, preface: str = "") -> str:
    """The question: its subject and options where the row has them, the input, and where the answer goes.

    Args:
        preface: what ``preface_of`` made; without it the question stands between Q: and A:.

    Raises:
        DataError: the row has more options than there are letters.
    """
    subject = "" if isinstance(example, str) else example.notes.get("subject", "")
    before = SUBJECT.format(subject) if subject else ""
    if preface:
        return f"{preface}{before}{_question(example)}\n\n### Response:"
    return f"{before}Q: {_question(example)}\nA:"


def preface_of(task: Task, shots: Iterable[Example], rank_by: RankBy) -> str:
    """The task's instruction and solved examples, as they stand before a question (ReBase's prompt of the student).

    Raises: as ``answer_parts``.
    """
    solved = [f"Input: {_question(shot)}\nResponse:{''.join(answer_parts(shot, task, rank_by))}" for shot in shots]
    examples = "### Examples:\n" + "\n\n".join(solved) + "\n\n" if solved else ""
    return f"### Instruction:\n{task.instruction}\n\n{examples}### Input:\n"


def _question(example: Example | str) -> str:
    if isinstance(example, str):
        return example
    options = zip(letters_of(example), example.choices, strict=True)
    return example.input + "".join(f" ({letter}) {choice}" for letter, choice in options)


def answer_of(example: Example, task: Task, rank_by: RankBy = "letter") -> str:
    """What follows the prompt: ``The answer is (B).``, ``The answer is card.``, or the plain target.

    Raises: as ``answer_parts``.
    """
    return "".join(answer_parts(example, task, rank_by))


def answer_parts(example: Example, task: Task, rank_by: RankBy) -> tuple[str, ...]:
    """The answer cut where an option begins and ends, so that it is the same tokens in training and in ranking.

    Args:
        rank_by: whether a row with options is answered by the letter of one or by its text.

    Raises:
        DataError: the row has no target, or its target is none of its options.
    """
    target = _target_of(example)
    if example.choices:
        if target not in example.choices:
            raise DataError(f"example {example.id!r}: {target!r} is none of its choices {list(example.choices)!r}")
        if rank_by == "text":
            return LEAD, f" {target}", "."
        return f"{LEAD} (", letters_of(example)[example.choices.index(target)], ")."
    if task.kind in CLOSED_KINDS:
        return LEAD, label_part(target if isinstance(target, str) else ", ".join(target))
    return (f" {target if isinstance(target, str) else target[0]}",)


def _target_of(example: Example) -> str | tuple[str, ...]:
    if example.target is None:
        raise DataError(f"example {example.id!r}: a row without a target cannot be learnt from; drop it before")
    return example.target


def label_part(label: str) -> str:
    """A label as the end of an answer."""
    return f" {label}."


def explanations_of(example: Example) -> str:
    """What a teacher wrote on why the answer is right; empty where the row has none."""
    return example.notes.get("explanations", "")


def letters_of(example: Example) -> str:
    """One letter an option.

    Raises:
        DataError: the row has more options than there are letters.
    """
    if len(example.choices) > len(LETTERS):
        raise DataError(f"example {example.id!r}: {len(example.choices)} choices, but only {len(LETTERS)} letters")
    return LETTERS[: len(example.choices)]


def bare_of(example: Example, task: Task) -> tuple[str, str]:
    """The input and the target as they stand: the text of a row with ``prompt: bare``. Of several references the first.

    Raises:
        DataError: the row has no target.
    """
    target = _target_of(example)
    if not isinstance(target, str):
        target = ", ".join(target) if task.kind in CLOSED_KINDS else target[0]
    return example.input, target


def text_of(example: Example, task: Task, rank_by: RankBy, preface: str = "", *, bare: bool = False) -> tuple[str, ...]:
    """The whole text in the parts that are tokenised one by one; the first is the prompt. The stop token is not in it.

    Raises: as ``answer_parts``.
    """
    if bare:
        return bare_of(example, task)
    parts, explanations = answer_parts(example, task, rank_by), explanations_of(example)
    tail = f"\n{explanations}" if explanations else ""
    return prompt_of(example, preface), *parts[:-1], parts[-1] + tail
