"""What a run hands to the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from understudy.records import Example, Prediction
from understudy.task import Task
from understudy.workspace import Taken


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherUse:
    """All replies that an arm's rows rest on, and what they cost when they were asked for.

    ``requests`` counts them all, ``from_ledger`` those that were known already when the arm's steps were made. Tokens
    are ``None`` where nobody counted them, ``usd`` where the teacher has no price. ``written`` counts those that a
    language model wrote outside any endpoint, by who it was and when.
    """

    requests: int = 0
    from_ledger: int = 0
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    usd: float | None = 0.0
    written: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentUse:
    """What the training of one seed's students took, all of them together; most arms have one.

    Of a student of kind pretraining ``curve`` has what was measured as it learnt, ``{step, tokens, loss, accuracy}``
    without what was not; the loss is in nats a word, as tokens of different tokenizers cannot be compared.
    ``perplexity_a_word`` is that of held-back text at the end.
    """

    students: int = 1
    steps: int
    tokens: int
    seconds: float
    parameters: int
    curve: Sequence[Mapping[str, float]] = ()
    perplexity_a_word: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResult:
    """One arm: how its training rows came about, what it cost, and what its students predict.

    Attributes:
        chain: the recipes' names.
        unlabelled: what became of the rows without an answer that the chain read.
        steps: in the order of the chain; each takes in what the one before kept.
        students, predictions: by seed; predictions are aligned with the test rows.
        gold_rows: rows with a human's answer that the arm was given.
        training_rows: rows that a student learned from.
        diversity: how diverse these are: what ``curate.diversity`` returns.
        overrides: what the arm sets for itself: ``"task"``, ``"teacher"``, ``"student"``.
        continues: the arm whose students this one's started as, if any.
        equal: the entry of the study's ``equal`` that this arm was trained under, where there are several.
        segments: of students that learn segments: what ``report.segments.summarise`` returns.
        inference: of students that write in turns: how they did, as ``build`` says.
        notes: for the reader; the report puts the arm's name before each.
    """

    name: str
    chain: Sequence[str]
    steps: Sequence[Taken]
    unlabelled: Taken | None = None
    teacher: TeacherUse = TeacherUse()
    students: Mapping[int, StudentUse]
    predictions: Mapping[int, Sequence[Prediction]]
    gold_rows: int
    training_rows: int
    diversity: Mapping[str, Any] | None = None
    overrides: Sequence[str] = ()
    continues: str = ""
    equal: str = ""
    segments: Mapping[str, Any] | None = None
    inference: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResults:
    """All of a finished study that the report tells.

    Attributes:
        study: the study's name.
        test: the test rows, in the order of the predictions.
        arms: in the study's order; the first is the one that the others are measured against.
        versions: package or model -> version.
        fair: what was equal for all arms, in a sentence.
        command: the command that makes this again.
        teachers, students: who taught and who learnt, in words.
        notes: for the reader: where data or replies come from, what to keep in mind.
    """

    study: str
    task: Task
    test: Sequence[Example]
    arms: Sequence[ArmResult]
    versions: Mapping[str, str] = field(default_factory=dict)
    fair: str = ""
    command: str = ""
    teachers: Sequence[str] = ()
    students: Sequence[str] = ()
    notes: Sequence[str] = ()
