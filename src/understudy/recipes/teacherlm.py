"""TeacherLM: the teacher explains solved rows, and the student learns answer and explanations.

"TeacherLM: Teaching to Fish Rather Than Giving the Fish, Language Modeling Likewise", He et al. 2023, arXiv 2310.19019.
A sample is written out with its gold answer, ``Q: ... (A) .. (B) .. A: The answer is (X).``; after one of three trigger
phrases the teacher goes on with the fundamentals of the question, a chain of thought, or common mistakes. Nothing is
filtered. Students learn question, answer, and the explanations after it, so that answering costs nothing more.

A row becomes a row with the same answer, the chain of thought as ``rationale``, ``fundamentals`` and ``mistakes`` as
notes, and all of them in order as the note ``explanations``, after what an earlier link of the chain put there: so each
may come from a specialist of its own. A row whose explanation fails is dropped with the reason of that; so is one
without an answer (``no_target``), and one whose answer cannot be written out (``not_solved``).

Departs from the paper: any teacher can explain, so the trigger comes after a request in words, which ``bare`` leaves
out for a model that goes on with text, as the paper's own does; one that chats may repeat the trigger, which is taken
off. One teacher writes all explanations unless the chain names several. Temperature is the teacher's setting (the
paper's: 1). ``filter: agrees`` is not in the paper.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, tee
from typing import Literal

from pydantic import field_validator, model_validator

from understudy.errors import DataError, ParseError
from understudy.evaluation.numbers import last_number, same_number
from understudy.prompts import load_prompt
from understudy.prompts.conclusions import conclusion, ends_in
from understudy.recipes import Given, Recipe
from understudy.records import Dropped, Example, Row, digest
from understudy.settings import Settings
from understudy.students.serial import RankBy, answer_of, prompt_of
from understudy.task import Task
from understudy.teachers import ask
from understudy.teachers.ask import Renderer

Explanation = Literal["fundamentals", "rationale", "mistakes"]

TRIGGERS: dict[Explanation, str] = {
    "fundamentals": "The fundamental of this question is:",
    "rationale": "Let's think step by step.",
    "mistakes": "The common mistakes are:",
}
STEP = "teacherlm"
ASKED_FOR = "explanation"  # the field in which a question says which one it asks for; recorded replies match by it


class TeacherLM(Settings):
    """Which explanations, and in which order the student reads them."""

    explanations: tuple[Explanation, ...] = ("fundamentals", "rationale", "mistakes")
    """What the teacher writes, in the order in which it follows the answer; rationale is the chain of thought."""
    shuffle: bool = False
    """Draw the order for each row, by its id and the seed."""
    filter: Literal["none", "agrees"] = "none"
    """agrees drops rows whose rationale does not end in their answer."""
    bare: bool = False
    """Send only the solved row and the trigger, for a teacher that goes on with text, such as a TeacherLM."""
    answer: RankBy = "letter"
    """How the answer of a row with options is written out for the teacher: letter, or text for a TeacherLM that was
    trained with rank_by: text."""
    triggers: bool = False
    """Write each explanation after its trigger: lessons for a student that is to become a TeacherLM itself."""
    mixed: bool = False
    """Make several rows of each: as it was, with all explanations, and with each alone: all stages of a TeacherLM's
    training at once."""

    @field_validator("explanations")
    @classmethod
    def _each_once(cls, explanations: tuple[Explanation, ...]) -> tuple[Explanation, ...]:
        if not explanations or len(set(explanations)) < len(explanations):
            raise ValueError(f"name at least one of {', '.join(TRIGGERS)}, each once")
        return explanations

    @model_validator(mode="after")
    def _can_agree(self) -> TeacherLM:
        if self.filter == "agrees" and "rationale" not in self.explanations:
            raise ValueError("filter: agrees reads the rationale; add rationale to explanations")
        return self


def teacherlm(examples: Iterable[Example], given: Given, settings: TeacherLM) -> Iterator[Row]:
    """Each solved row with its explanations. All requests of a row are under way together."""
    names = settings.explanations
    asked, rows = tee(fit(example, given.task) for example in examples)
    questions = (question(row, name) for row in asked if isinstance(row, Example) for name in names)
    replies = ask(given.teacher, questions, trigger(given.task, settings), read, step=STEP)
    for row in rows:
        if isinstance(row, Example):
            row = explained(row, list(islice(replies, len(names))))
            if settings.filter == "agrees" and isinstance(row, Example) and not agrees(row, given.task):
                detail = f"the answer is {row.target!r}, the rationale ends: {(row.rationale or '')[-200:]!r}"
                row = Dropped(row, STEP, "rationale_disagrees", detail)
        yield from [row] if isinstance(row, Dropped) else lessons(row, settings, given.seed)


def fit(example: Example, task: Task) -> Row:
    """The row, dropped if it cannot be written out with its answer."""
    if example.target is None:
        return Dropped(example, STEP, "no_target", "the row has no answer to explain")
    try:
        solved(example, task)
    except DataError as error:
        return Dropped(example, STEP, "not_solved", str(error))
    return example


def solved(example: Example, task: Task, answer: RankBy = "letter") -> str:
    """The row as a student reads it, with its answer; double and trailing blanks disturb the teacher."""
    return re.sub("  +", " ", prompt_of(example) + answer_of(example, task, answer)).rstrip(" ")


def question(example: Example, name: Explanation) -> Example:
    return example.child(STEP, name, fields={**example.fields, ASKED_FOR: name})


def trigger(task: Task, settings: TeacherLM) -> Renderer:
    """What a question is sent as."""
    prompt = load_prompt("teacherlm")
    row = partial(solved, task=task, answer=settings.answer)
    constants = {"instruction": task.instruction, "bare": settings.bare, "solved": row}
    renderers = {
        name: prompt.bind(explanation=name, trigger=TRIGGERS[name], **constants) for name in settings.explanations
    }
    return lambda question: renderers[question.fields[ASKED_FOR]](question)


def read(question: Example, reply: str) -> Example:
    """What the teacher wrote after the trigger, as the question's note."""
    name = question.fields[ASKED_FOR]
    text = reply.strip().removeprefix(TRIGGERS[name]).strip()
    if not text:
        raise ParseError("empty_reply", "the teacher wrote nothing after the trigger")
    return question.replace(notes={name: text})


def explained(example: Example, answered: Sequence[Row]) -> Row:
    """The row with all of its explanations as notes, or dropped for the first that failed."""
    held = [row.example if isinstance(row, Dropped) else row for row in answered]
    replies = tuple(dict.fromkeys((*example.replies, *(key for row in held for key in row.replies))))
    for row in answered:
        if isinstance(row, Dropped):
            name = row.example.fields[ASKED_FOR]
            return Dropped(example.replace(replies=replies), STEP, row.reason, f"{name}: {row.detail}".rstrip(": "))
    texts = {name: text for row in held for name, text in row.notes.items()}
    rationale = texts.get("rationale", example.rationale)
    notes = {name: text for name, text in texts.items() if name != "rationale"}
    return example.replace(rationale=rationale, notes={**example.notes, **notes}, replies=replies)


def lessons(example: Example, settings: TeacherLM, seed: int) -> Iterator[Example]:
    """What the student reads of a row with its explanations."""
    order = in_order(example, settings, seed)
    if not settings.mixed:
        yield example.child(STEP, notes=serialised(example, order, settings.triggers))
        return
    together = {"all": order} if len(order) > 1 else {}
    for part, names in {"answer": [], **together, **{name: [name] for name in settings.explanations}}.items():
        yield example.child(STEP, part, notes=serialised(example, names, settings.triggers))


def serialised(example: Example, names: Sequence[Explanation], triggers: bool) -> dict[str, str]:
    """The row's notes with ``explanations``: what an earlier link put there, then those of ``names``."""
    texts = {**example.notes, "rationale": example.rationale or ""}
    written = [f"{TRIGGERS[name]} {texts[name]}" if triggers else texts[name] for name in names]
    together = "\n\n".join(filter(None, (example.notes.get("explanations"), *written)))
    return {**example.notes, **({"explanations": together} if together else {})}


def in_order(example: Example, settings: TeacherLM, seed: int) -> list[Explanation]:
    order = list(settings.explanations)
    if settings.shuffle:
        random.Random(digest(str(seed), example.id)).shuffle(order)
    return order


def agrees(example: Example, task: Task) -> bool:
    """Whether the row's rationale ends in its answer; numbers are read as the metrics read them."""
    rationale, target = example.rationale or "", example.target or ()
    if task.kind == "numeric" and isinstance(target, str) and (wanted := last_number(target)):
        said = last_number(conclusion(rationale))
        return said is not None and same_number(said, wanted)
    return ends_in(rationale, target, example.choices or task.label_names, lettered=bool(example.choices))


RECIPE = Recipe(
    make=teacherlm,
    settings=TeacherLM,
    prompts=(STEP,),
    summary="why each row's answer is right: fundamentals, chain of thought and common mistakes, by the teacher",
    needs=lambda settings: frozenset({"target"}),
    gives=lambda settings: frozenset({*settings.explanations, "explanations"}),
)
