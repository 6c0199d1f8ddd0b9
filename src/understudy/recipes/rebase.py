"""ReBase: rows of many other datasets, the nearest ones to the task, rewritten by the teacher into rows of the task.

"Training Task Experts through Retrieval Based Distillation", Ge et al. 2024, arXiv 2407.05463.
A datastore holds every cell of many datasets and the datasets' descriptions as vectors. A query is the task's
instruction with a few examples; a row's score is the mean of three parts: its best cell against the examples' inputs,
its best cell against their outputs, and its dataset's description against the instruction. Each of the best rows is
rewritten by one request, which shows the instruction, the examples and the row: form and kind of answer are those of
the examples, the content is inspired by the row. Optionally the teacher judges what it wrote with yes or no.

A retrieved row becomes a row with its id, its cells in ``fields`` and its dataset in ``origin``, or is dropped: as
``not_json`` or ``not_the_form``, for a reason of ``curate.validators``, or as ``judge_no`` or ``judge_unclear``.

Departs from the paper: reasoning is a field of its own before the output, with ``reasoning: true``; in the paper it
comes inside the output where the examples have it. A reply that cannot be read is asked for once more, and rows are
validated; the paper drops what it cannot read and checks nothing else. Rows near a test row are never retrieved; the
paper leaves out datasets by their name. Temperature and length are the teacher's settings (the paper's: 0.7, 1,000).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import tee
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import BaseModel, Field, create_model

from understudy.curate import checks_of, draw_shots, noted, validated
from understudy.errors import DataError, ParseError
from understudy.evaluation.numbers import last_number
from understudy.prompts import load_prompt
from understudy.prompts.conclusions import option_in
from understudy.prompts.loose_json import short
from understudy.prompts.rows import shortened, written
from understudy.recipes import Given, Recipe
from understudy.records import Dropped, Example, Origin, Row, Target
from understudy.settings import Settings
from understudy.students.reasoning import answer_in
from understudy.task import Task
from understudy.teachers import ask
from understudy.teachers.ask import Renderer

if TYPE_CHECKING:
    from understudy.retrieve.search import Found

STEP = "rebase"
Weight: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
YES_OR_NO = re.compile(r"\b(?:yes|no)\b", re.IGNORECASE)


class Rebase(Settings):
    """What is retrieved, and how it is rewritten."""

    datastore: str = Field(min_length=1, exclude=True)  # a place: its content is what a step depends on
    """The folder that `understudy datastore build` made."""
    rows: int = Field(default=3000, gt=0)
    """How many rows to retrieve, each for one rewritten row."""
    shots: int = Field(default=3, gt=0)
    """How many gold rows the query and each prompt hold, drawn in turn from every label."""
    reasoning: bool = False
    """Let the teacher reason before the output, and keep the reasoning as the rationale."""
    judge: bool = False
    """Ask the teacher about each rewritten row whether it belongs into the task, and drop those with a no."""
    weights: tuple[Weight, Weight, Weight] = (1.0, 1.0, 1.0)
    """What the parts of the score weigh: input, output, description."""
    per_dataset: int | None = Field(default=None, gt=0)
    """The most rows to take from one dataset."""
    exclude: tuple[str, ...] = ()
    """Datasets of the store to leave out, by name."""


def rebase(examples: Iterable[Example], given: Given, settings: Rebase) -> Iterator[Row]:
    """Pass on what came, then each retrieved row as the teacher rewrote it."""
    there = set[str]()
    yield from noted(examples, there)
    shots = draw_shots(given.train, given.task, settings.shots, given.seed, given.leaks)
    if not shots:
        raise DataError("recipe 'rebase': no row of task.train has an answer, and is not near a test row, to search by")
    rows = rewritten(retrieved(shots, given, settings), shots, given, settings)
    rows = validated(rows, checks_of(given.task, shots, given.leaks, last_number, there), STEP)
    yield from judged(rows, shots, given, settings) if settings.judge else rows


def retrieved(shots: Sequence[Example], given: Given, settings: Rebase) -> list[Example]:
    """The best rows of the datastore; their input and output are the cells that lie nearest to the shots'.

    Raises:
        DataError: the store is none, or another encoder's, or holds no row that may be taken.
    """
    from understudy.retrieve.encoder import open_encoder
    from understudy.retrieve.search import Query, checked, search

    store = checked(settings.datastore, settings.exclude, settings.weights)
    query = Query.of(given.task, shots)
    chosen = settings.model_dump(include={"per_dataset", "exclude", "weights"})
    found = search(store, open_encoder(store.encoder_name), query, settings.rows, leaks=given.leaks, **chosen)
    if not found:
        raise DataError(f"recipe 'rebase': every row of the datastore {settings.datastore!r} is excluded or near a "
                        "test row; add datasets with `understudy datastore add`")  # fmt: skip
    return [example_of(row) for row in found]


def example_of(found: Found) -> Example:
    cells = dict(found.cells)
    scores = [round(score, 4) for score in (found.score, *found.parts)]  # below that machines differ
    return Example(
        id=f"{STEP}/{found.dataset}:{found.row}",
        input=cells[found.input_column],
        target=cells[found.output_column],
        fields={**asdict(found), "cells": cells, "score": scores[0], "parts": scores[1:]},
        origin=Origin(found.dataset, "datastore", found.row, found.licence),
    )


def rewritten(rows: list[Example], shots: Sequence[Example], given: Given, settings: Rebase) -> Iterator[Row]:
    """Each row as the teacher rewrote it, or dropped."""
    task, parents = given.task, tuple(shot.id for shot in shots)
    kinds = {kind: task.kind == kind for kind in ("choice", "extraction", "numeric")}
    prompt = bound("rebase", shots, given, settings, reasoning=settings.reasoning, shortened=shortened, **kinds)

    def read(row: Example, reply: BaseModel) -> Example:
        said = reply.model_dump()
        options = tuple(map(str.strip, said.get("options", ())))
        return row.replace(
            input=said["input"].strip(),
            target=read_answer(said["output"], options, task),
            choices=options,
            rationale=said["rationale"].strip() if settings.reasoning else None,
            parents=parents,
        )

    return ask(given.teacher, rows, prompt, read, step=STEP, form=form_of_reply(task, settings))


def bound(name: str, shots: Sequence[Example], given: Given, settings: Rebase, **constants: Any) -> Renderer:
    """The prompt with what both of them read: the task, the shots, and how a row is written."""
    task, is_multilabel = given.task, given.task.kind == "multilabel"
    constants |= {"instruction": task.instruction, "labels": task.label_names, "multilabel": is_multilabel}
    write = partial(written, reasoning=settings.reasoning, multilabel=is_multilabel)
    return load_prompt(name).bind(shots=shots, written=write, **constants)


def form_of_reply(task: Task, settings: Rebase) -> type[BaseModel]:
    """``input``, ``options`` of a choice, ``rationale`` with ``reasoning``, ``output``: in the order of writing."""
    fields: dict[str, Any] = {"input": (str, ...)}
    if task.kind == "choice":
        fields["options"] = (list[str], ...)
    if settings.reasoning:
        fields["rationale"] = (str, ...)
    return create_model("Rewritten", **fields, output=(list[str] if task.kind == "multilabel" else str, ...))


def read_answer(output: Any, options: Sequence[str], task: Task) -> Target:
    if task.kind == "choice":
        return output.strip() if output.strip() in options else option_in(output, options)
    return answer_in("\n".join(output) if task.kind == "multilabel" else output, task)


def judged(rows: Iterator[Row], shots: Sequence[Example], given: Given, settings: Rebase) -> Iterator[Row]:
    """The rows that belong into the task, says the teacher. A rehearsal asks about the rows as they were retrieved."""
    asked, rows = tee(rows)
    questions = (row if isinstance(row, Example) else row.example for row in asked if not is_out(row))
    verdicts = ask(given.teacher, questions, bound("rebase_judge", shots, given, settings), verdict, step=STEP)
    yield from (row if is_out(row) else next(verdicts) for row in rows)


def is_out(row: Row) -> bool:
    return isinstance(row, Dropped) and row.reason != "not_sent"


def verdict(row: Example, reply: str) -> Row:
    said = {word.lower() for word in YES_OR_NO.findall(reply)}
    if len(said) != 1:
        raise ParseError("judge_unclear", f"{short(reply)} is neither yes nor no")
    return row if said == {"yes"} else Dropped(row, STEP, "judge_no", "the teacher does not take it for a row")


def content_of_store(settings: Rebase, task: Task) -> str:
    """Raises: DataError, SettingsError: there is no store, or it cannot be searched so."""
    from understudy.retrieve.search import checked

    return checked(settings.datastore, settings.exclude, settings.weights).digest


RECIPE = Recipe(
    make=rebase,
    settings=Rebase,
    prompts=(STEP, "rebase_judge"),
    summary="rows of many other datasets, the nearest ones to the task, rewritten by the teacher into rows of the task",
    needs=lambda settings: frozenset({"train"}),
    gives=lambda settings: frozenset({"target", "rationale"} if settings.reasoning else {"target"}),
    reads=content_of_store,
    paths=("datastore",),
)
