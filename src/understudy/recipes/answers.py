"""Answers: the teacher answers the unlabelled rows, and the student learns from its answers.

The plain control of every distillation: no method, only labels. With ``reasoning`` the teacher thinks before it
answers and its reasoning is kept as the row's rationale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from pydantic import Field

from understudy.curate import draw_shots
from understudy.errors import ParseError
from understudy.prompts import load_prompt
from understudy.prompts.conclusions import option_in
from understudy.prompts.replies import split_answer
from understudy.recipes import Given, Recipe
from understudy.records import Example, Row, Target
from understudy.settings import Settings
from understudy.students.reasoning import answer_in
from understudy.task import Task
from understudy.teachers import ask


class Answers(Settings):
    """How the teacher is asked."""

    reasoning: bool = False
    """Let the teacher reason first, and keep the reasoning as the rationale."""
    shots: int = Field(default=0, ge=0)
    """How many solved gold rows stand in each prompt, drawn in turn from every label."""


def answers(examples: Iterable[Example], given: Given, settings: Answers) -> Iterator[Row]:
    """Pass on what came, then each unlabelled row with the teacher's answer."""
    yield from examples
    prompt = load_prompt("answers").bind(
        instruction=given.task.instruction,
        labels=given.task.label_names,
        multilabel=given.task.kind == "multilabel",
        shots=draw_shots(given.train, given.task, settings.shots, given.seed, given.leaks),
        reasoning=settings.reasoning,
    )
    yield from ask(given.teacher, given.unlabelled, prompt, reader(given.task, settings), step="answers")


def reader(task: Task, settings: Answers) -> Callable[[Example, str], Example]:
    """How a reply becomes the row's answer."""

    def read(example: Example, reply: str) -> Example:
        rationale, answer = split_answer(reply) if settings.reasoning else (None, reply.strip())
        return example.child("answers", target=target(example, answer), rationale=rationale)

    def target(example: Example, answer: str) -> Target:
        if example.choices:
            return option_in(answer, example.choices)
        if not answer:
            raise ParseError("empty_reply", "the teacher wrote nothing")
        return answer_in(answer, task)

    return read


RECIPE = Recipe(
    make=answers,
    settings=Answers,
    prompts=("answers",),
    summary="the teacher's answers to the unlabelled rows",
    needs=lambda settings: frozenset({"unlabelled"}),
    gives=lambda settings: frozenset({"target", "rationale"} if settings.reasoning else {"target"}),
)
