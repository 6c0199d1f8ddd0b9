"""The answer of a row: read from what a model wrote, and as it stands at the end of reasoning."""

from __future__ import annotations

from understudy.errors import ParseError
from understudy.prompts.conclusions import option_in
from understudy.prompts.replies import read_label, read_labels
from understudy.records import Example, Target
from understudy.students.serial import letters_of
from understudy.task import Task


def answer_in(text: str, task: Task) -> str | tuple[str, ...]:
    """The task's answer that a text is. Raises ParseError where it is no label of the task."""
    if task.kind == "multilabel":
        return read_labels(text, task.label_names)
    return read_label(text, task.label_names) if task.label_names else text.strip()


def answer_text(example: Example, task: Task) -> str:
    """The row's answer as its reasoning says it: an option by its letter, of several references the first."""
    answers = example.answers
    if example.choices and answers[0] in example.choices:
        return f"({letters_of(example)[example.choices.index(answers[0])]})"
    return ", ".join(answers) or "none" if task.kind == "multilabel" else answers[0]


def answer_said(text: str, example: Example, task: Task) -> Target:
    """The answer that ``text``, which stands after the answer's phrase, names; ``None`` where it names none."""
    try:
        return option_in(text, example.choices) if example.choices else answer_in(text.removesuffix("."), task)
    except ParseError:
        return None
