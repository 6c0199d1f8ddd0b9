"""CoThought: sentences of a raw corpus become school texts, each a paragraph with a task and its labels.

"Baby's CoThought: Leveraging Large Language Models for Enhanced Reasoning in Compact Models", Zhang et al. 2023, arXiv
2308.01684. The corpus is cut into sentences, and five at a time, from all over the corpus, make a group. One request
asks the teacher to plan, write and determine: a paragraph made of the sentences for a task of its own choice, in four
blocks (plan, paragraph, task, labels), in two samples. Each sample is scored for its coherency by five more replies,
from 1 to 10, without its plan; every sample with a mean of 7 or more is kept. What is kept is written out a block a
line, ordered by task, the most frequent first, for a masked language model to learn from scratch.

A sample becomes a row with the documents of its sentences as parents, or is dropped: for the block that it lacks
(``no_blocks``, ``no_plan``, ...), as ``near_test_split``, ``no_score``, ``low_score`` or ``not_best``. A reply that
gives no score is dropped by itself, as ``no_closing`` or ``score_out_of_range``, and counts for nothing. A group with a
sentence near a test row is never sent; documents of which no sentence was drawn are dropped as ``not_drawn``.

Departs from the paper: sentences are split and shuffled here, where its code joins the lines of a file that was
shuffled before. A block's lines are joined into one, there is no rule between samples, and one that lacks a block is
dropped. A sample without a score is dropped as such; there its score is 0. Task names are compared whatever their case
and punctuation. Temperature and length are the teachers' (the paper's: 1.0 and at most 1,000 tokens to write; 0.7 to
score, which ``judge: {sampling: {temperature: 0.7}}`` beside the recipe sets).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Literal

from pydantic import Field, model_validator

from understudy.corpus import grouped
from understudy.curate import best, scored
from understudy.errors import ParseError
from understudy.prompts import load_prompt
from understudy.prompts.blocks import read_blocks
from understudy.prompts.loose_json import short
from understudy.prompts.replies import read_score
from understudy.recipes import Given, Recipe
from understudy.records import Dropped, Example, Row, normalise
from understudy.settings import Settings
from understudy.teachers import ask
from understudy.workspace import most_frequent_first, twice

STEP = "cothought"
BLOCKS = ("plan", "paragraph", "task", "labels")
UNREAD = "texts are not read for this: sentences stand in their place, and all scores count as still to be asked for"
MARKS = " \t*_#`\"'.:-"  # around a name


class CoThought(Settings):
    """Which groups are sent, how samples are chosen, and what is written of them."""

    group: int | None = Field(default=5, gt=0)
    """How many sentences a group has; null where each row is a group already."""
    groups: int | None = Field(default=None, gt=0)
    """How many groups to send; null sends all."""
    language: str = "en"
    """The language that the sentences are split by, as a code of Wikipedia's."""
    wrapped: bool = False
    """Whether lines are cut at a width, so that only an empty line ends a paragraph."""
    min_words: int = Field(default=2, ge=0)
    """Sentences of fewer words are dropped; 1 for a language that is written without spaces."""
    samples: int = Field(default=2, gt=0)
    """How many texts are written of a group, all asked for together."""
    scores: int = Field(default=5, ge=0)
    """How many times each text is scored; 0 keeps all."""
    min_score: float = Field(default=7.0, ge=1, le=10)
    """The least mean score of a text that is kept."""
    keep: Literal["every", "best"] = "every"
    """Of a group's texts with such a score: every one, or the first of those with the best."""
    plan: bool = True
    """Whether the student reads the plan."""
    order: Literal["task", "input"] = "task"
    """task: texts of the most frequent task first, of equal ones by name; input: as their groups were drawn."""
    raw: bool = False
    """Pass the documents on too, before the texts."""

    @model_validator(mode="after")
    def _best_by_score(self) -> CoThought:
        if self.keep == "best" and not self.scores:
            raise ValueError("keep: best goes by the scores; set scores to at least 1, or keep to every")
        return self


def cothought(examples: Iterable[Example], given: Given, settings: CoThought) -> Iterator[Row]:
    """The documents with ``raw``, then the texts that the teacher wrote. Reads ``examples`` several times."""
    if settings.raw:
        yield from examples
    gone = set[int]()
    rows = samples(groups(examples, given, settings, gone), given, settings)
    if settings.scores:
        prompt, n = load_prompt("cothought_judge").bind(), settings.scores
        judge = partial(ask, given.judge or given.teacher, prompt=prompt, parse=score_in, n=n, step="score")
        rows = scored(rows, to_score, judge, n, settings.min_score, STEP, given.folder)
    if settings.keep == "best" and settings.samples > 1:
        rows = best(rows, STEP)
    yield from most_frequent_first(rows, task_of, given.folder) if settings.order == "task" else rows
    if settings.groups and not settings.raw:
        detail = "no sentence of it is in a group that was sent"
        yield from (Dropped(row, STEP, "not_drawn", detail) for row in examples if hash(row.id) not in gone)


def groups(examples: Iterable[Example], given: Given, settings: CoThought, gone: set[int]) -> Iterator[Row]:
    """Sentences by fives, in an order that the seed decides; ``gone`` gets the hashes of their documents' ids."""
    rows, sent = (row.child("group") for row in examples), 0
    if settings.group:
        rules = settings.model_dump(include={"language", "wrapped", "min_words"})
        rows = grouped(examples, size=settings.group, seed=given.seed, folder=given.folder, **rules)
    for row in rows:
        if isinstance(row, Example):
            gone.update(map(hash, row.parents if settings.groups else ()))
            near = next((text for text in (row.input, *sentences(row)) if given.leaks(text)), None)
            yield row if near is None else Dropped(row, STEP, "near_test_split", f"{short(near)} is near a test row")
            sent += near is None
            if sent == settings.groups:
                break
        elif row.reason != "empty_document":
            yield row
        elif not settings.raw:
            gone.add(hash(row.example.id))
            yield row


def sentences(group: Example) -> list[str]:
    """The sentences of a group, where its fields tell them."""
    listed = found if isinstance(found := group.fields.get("sentences"), list) else []
    return [str(one.get("text", "") if isinstance(one, dict) else one) for one in listed]


def samples(groups: Iterator[Row], given: Given, settings: CoThought) -> Iterator[Row]:
    """The texts of each group: planned, written, and their labels determined, in one reply each."""
    asked, groups = twice(groups, given.folder)
    questions = (group for group in asked if isinstance(group, Example))
    read = partial(text_in, given=given, settings=settings)
    texts = ask(given.teacher, questions, load_prompt(STEP).bind(), read, settings.samples, step=STEP)
    for group in groups:
        if isinstance(group, Dropped):
            yield group
        else:
            yield from (of_documents(row, group) for row in islice(texts, settings.samples))


def of_documents(row: Row, group: Example) -> Row:
    """The row as a child of the documents: a group is no row of the study."""
    if isinstance(row, Dropped):
        return replace(row, example=row.example.replace(parents=group.parents))
    return row.replace(parents=group.parents)


def text_in(group: Example, reply: str, given: Given, settings: CoThought) -> Row:
    """What the student reads of a reply, a block a line; the blocks as they were written are its notes."""
    blocks = read_blocks(reply, BLOCKS)
    blocks["task"] = name_in(blocks["task"])
    text = on_lines(blocks, BLOCKS if settings.plan else BLOCKS[1:])
    row = group.replace(input=text, notes={**group.notes, **blocks})
    return Dropped(row, STEP, "near_test_split", "the text is near a test row") if given.leaks(text) else row


def name_in(block: str) -> str:
    """The task's name: the first line, without marks around it and without a heading of its own."""
    name = block.splitlines()[0].strip(MARKS)
    name = name[len("task:") :].strip(MARKS) if name.casefold().startswith("task:") else name
    if not name:
        raise ParseError("no_task", f"no name of a task in {short(block)}")
    return name


def on_lines(blocks: Mapping[str, str], names: Sequence[str]) -> str:
    return "\n".join(f"{name.capitalize()}: {' '.join(blocks[name].split())}" for name in names)


def score_in(text: Example, reply: str) -> Example:
    return text.replace(target=str(read_score(reply)))


def to_score(row: Row) -> Example:
    """A text as it is scored, without its plan. A rehearsal, which has none, has the sentences scored."""
    if isinstance(row, Dropped):
        return row.example
    return row.replace(input=on_lines(row.notes, BLOCKS[1:]))


def task_of(text: Example) -> str:
    return normalise(text.notes["task"])


RECIPE = Recipe(
    make=cothought,
    settings=CoThought,
    prompts=(STEP, "cothought_judge"),
    summary="groups of sentences of a raw corpus as school texts: a paragraph, a task and its labels, planned first",
    needs=lambda settings: frozenset({"input"}),
    gives=lambda settings: frozenset(BLOCKS if settings.plan else BLOCKS[1:]),
    judges=lambda settings: settings.scores > 0,
    kinds=("pretraining",),
    unforeseen=lambda settings: (
        f"of {settings.scores + 1} replies {settings.scores} are scores; {UNREAD}" if settings.scores else ""
    ),
)
