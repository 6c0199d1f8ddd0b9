"""AS-ES: a chain of thought is cut into extractive and abstractive segments, learnt and written one after another.

"AS-ES Learning: Towards Efficient CoT Learning in Small Models", Xi et al. 2024, arXiv 2403.01969, and its code.
The reasoning is split at punctuation into pieces. Each has a score, by default the summed predictive entropy of a
student that was trained on the plain texts and has read the question alone. A piece is abstractive (AS) if it scores
above beta times the mean of its question's pieces, else extractive (ES); neighbours of one tag are one segment. A
student learns ``question, all segments before -> segment``: on the dual path one student the ES and one the AS
segments, on the uni path one all of them. At the test they write in turns, ES first, until the answer comes, for at
most five rounds of two segments.

A row becomes one row a segment, whose ``fields`` hold its pieces with their scores; without reasoning it is dropped as
``no_rationale``. ``path: plain`` is the control, one student of the whole text; ``shuffled`` another: the same tags,
dealt out at random.

Departs from the paper: the code drops pieces of three words or fewer and merges no neighbours, as ``short: drop`` and
``merge: false`` do here. How one student writes on the uni path, and the formulas of location and likeness, are ours
(the paper's are not known), and so is an end other than a phrase.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import tee
from typing import Any, Literal

from pydantic import Field, model_validator

from understudy.errors import SettingsError
from understudy.plans import ALONE, Models, Plan
from understudy.recipes import Given, Recipe, prepared
from understudy.records import Dropped, Example, Prediction, Row
from understudy.segment import Piece, joined, runs, separator
from understudy.segmenting import Segmenting, segmented
from understudy.settings import Settings
from understudy.students.reasoning import answer_said, answer_text
from understudy.students.serial import prompt_of
from understudy.students.settings import CausalSettings, LanguageSettings, Seq2SeqSettings, WritingSettings
from understudy.task import Task

STEP = "as_es"
TURNS = {"dual": ("es", "as"), "uni": (ALONE,), "plain": (ALONE,)}  # who writes, in order


class AsEs(Segmenting):
    """How reasoning is cut into segments, who learns them, and how they are written."""

    path: Literal["dual", "uni", "plain"] = "dual"
    """One student of the extractive and one of the abstractive segments, one of both, or one of the whole text."""
    scorer: WritingSettings | None = None
    """The student that entropy and loss are of, trained on the plain texts; left out, one like the arm's."""
    of: Literal["rationale", "target"] = "rationale"
    """What is cut: the reasoning, or, where that is a text such as a report, the answer."""
    boundary: str | None = None
    """What parts the text so far from the next segment; left out, a line break for a causal student, which could not
    tell where a segment ends without, and nothing for seq2seq."""
    rounds: int = Field(default=5, ge=1)
    """The most rounds of two segments that are written to a question."""
    max_tokens: int = Field(default=100, ge=1)
    """The most tokens of a segment; on the plain path so many times the rounds."""
    seed: int = 0
    """The seed of the scorer's training."""

    @model_validator(mode="after")
    def _has_a_phrase(self) -> AsEs:
        if self.of == "target" and self.ends != "tag":
            raise ValueError("ends: no phrase stands before an answer that is cut itself; add ends: tag")
        return self

    @property
    def is_scored(self) -> bool:
        """Whether a student scores the pieces."""
        return self.path != "plain" and self.by_student


def as_es(examples: Iterable[Example], given: Given, settings: AsEs) -> Iterator[Row]:
    """Each row with reasoning as its lessons. The rows are read twice where a student scores their pieces."""
    rows = (written_out(row, given.task, settings) for row in examples)
    if settings.path == "plain":
        yield from (whole(row, settings) if isinstance(row, Example) else row for row in rows)
        return
    model = scorer(examples, given, settings) if settings.is_scored else None
    if settings.is_scored and model is None:  # a mere estimate
        settings = settings.model_copy(update={"score": "location"})
    texts, rows = tee(rows)
    pieces = segmented((row for row in texts if isinstance(row, Example)), settings, model)
    for row in rows:
        yield from lessons(row, next(pieces), settings) if isinstance(row, Example) else [row]


def written_out(row: Example, task: Task, settings: AsEs) -> Row:
    """The row with its text as students learn it, up to the answer."""
    ending = settings.ending
    text = row.rationale if settings.of == "rationale" else next(iter(row.answers), None)
    if not (text and text.strip()):
        return Dropped(row, STEP, "no_rationale", f"it has no {settings.of} to cut into pieces")
    if settings.of == "rationale" and not ending.concludes(text):
        if row.target is None:
            return Dropped(row, STEP, "no_target", f"it has no answer to write after {settings.phrase!r}")
        text = ending.conclude(text, answer_text(row, task))
    return row.replace(rationale=text)


def scorer(examples: Iterable[Example], given: Given, settings: AsEs) -> Any:
    """The student that scores the pieces, trained on the plain texts; none in a study that only estimates."""
    plain = settings.model_copy(update={"path": "plain"})
    rows = (written_out(row, given.task, plain) for row in examples)
    texts = [whole(row, plain) for row in rows if isinstance(row, Example)]
    if not texts:
        return None  # every row is dropped
    student = writing(plain, settings.scorer)
    return given.trained(student, texts_of(given.task), texts, seed=settings.seed, card={"Recipe": STEP})


def lessons(row: Example, pieces: Sequence[Piece], settings: AsEs) -> Iterator[Row]:
    """Each segment of a row after the question and all that goes before it."""
    before, segments = prompt_of(row), runs(pieces, merge=settings.merge)
    if not segments:
        yield Dropped(row, STEP, "no_pieces", f"its {settings.of} has no piece of over {settings.short_words} words")
    for number, run in enumerate(segments):
        text = "".join(piece.text for piece in run).strip()
        text = settings.ending.tag(text) if run is segments[-1] else text
        asked = {} if number else {"question": row.input}
        made = lesson(row, number, before, text, part=run[0].tag, pieces=[asdict(piece) for piece in run], **asked)
        yield made.replace(input=before + (settings.boundary or ""))
        before = joined(before, text)


def whole(row: Example, settings: AsEs) -> Example:
    """The whole text after the question."""
    return lesson(row, 0, prompt_of(row), settings.ending.tag((row.rationale or "").strip()))


def lesson(row: Example, number: int, before: str, text: str, **fields: Any) -> Example:
    target = separator(before, text) + text
    return row.child(STEP, number, input=before, target=target, choices=(), rationale=None, fields=fields)


def texts_of(task: Task) -> Task:
    """What students learn here: to go on with texts."""
    return Task(instruction=task.instruction, kind="generation")


def writing(settings: AsEs, student: Settings | None) -> LanguageSettings:
    """The student as one that goes on with texts. Raises SettingsError where it cannot write."""
    if not isinstance(student, LanguageSettings):
        raise SettingsError(f"student.kind: recipe {STEP!r} needs one that writes; use seq2seq or causal")
    room = settings.max_tokens * (settings.rounds if settings.path == "plain" else 1)
    longer = {"max_target_length": max(room, student.max_target_length)} if isinstance(student, Seq2SeqSettings) else {}
    return student.model_copy(update={"prompt": "bare", "shots": 0, "max_new_tokens": room, **longer})


def fitted(settings: AsEs, student: Settings) -> AsEs:
    """With the arm's student as the scorer, where one scores and none is named, and the boundary that it needs."""
    own = settings.scorer or (writing(settings, student) if settings.is_scored else None)
    usual = "\n" if isinstance(student, CausalSettings) else ""
    parts = usual if settings.boundary is None else settings.boundary
    return settings.model_copy(update={"scorer": own, "boundary": parts})


def plan(settings: AsEs, task: Task) -> Plan:
    """Who learns which segments, and how they answer: in turns, until a text is over."""
    from understudy.students.iterative import iterate

    turns = TURNS[settings.path]
    ending, is_plain = settings.ending, settings.path == "plain"

    def answer(models: Models, rows: Iterable[Example]) -> Iterator[Prediction]:
        rows, asked = tee(rows)
        how: Any = {"rounds": 1, "turns": 1} if is_plain else {"rounds": settings.rounds, "boundary": settings.boundary}
        writers, prompts = [models[part] for part in turns], map(prompt_of, asked)
        for row, one in zip(rows, iterate(writers, prompts, is_over=ending.is_over, **how), strict=True):
            text = ending.untag(one.text).strip()
            said = text if settings.of == "target" else ending.said(text)
            if said is None:  # of numbers the last one counts then, as in the authors' code
                said = text if task.kind in ("numeric", "generation") else ""
            pieces = [[turns[who], piece] for who, piece in one.pieces]
            stopped = "ended" if is_plain and one.stopped != "marker" else one.stopped
            notes = {"rounds": one.rounds, "stopped": stopped, "pieces": pieces}
            answer = said if settings.of == "target" else answer_said(said, row, task)
            yield Prediction(answer, rationale=text, notes=notes)

    parts = {part: (lambda row, part=part: part == ALONE or row.fields["part"] == part) for part in turns}
    return Plan(parts, texts_of(task), lambda student: writing(settings, student), answer)


RECIPE = Recipe(
    make=as_es,
    settings=AsEs,
    asks=False,
    summary="reasoning cut into extractive and abstractive segments, which students learn and write in turns",
    needs=lambda settings: frozenset({settings.of}),
    gives=lambda settings: frozenset({"target"}),
    reads=lambda settings, task: (
        prepared(settings.scorer, texts_of(task), "as_es.scorer") if settings.is_scored else ""
    ),
    students=("scorer",),
    fitted=fitted,
    plan=plan,
)
