"""A task: what is asked, which answers there are, and how a row of any file becomes an example."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from understudy.choices import TargetIs, as_text, option_named, options_in
from understudy.errors import DataError
from understudy.records import Example, Origin, Target
from understudy.settings import Settings, did_you_mean
from understudy.templates import compile_template, is_template, variables_of

Kind = Literal["classification", "multilabel", "choice", "extraction", "numeric", "generation", "pretraining"]
CLOSED_KINDS: tuple[Kind, ...] = ("classification", "multilabel", "choice")  # answers out of a given set, never blank
CHOOSING_KINDS: tuple[Kind, ...] = ("choice", "pretraining")  # an answer is one of the row's own choices
COMMAS = "[,;\n]"  # what stands between the labels of one text

METRICS: Mapping[Kind, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1"),
    "multilabel": ("macro_f1", "micro_f1"),
    "choice": ("accuracy",),
    "extraction": ("exact_match", "token_f1"),
    "numeric": ("numeric_accuracy",),
    "generation": ("rouge_l", "chrf"),
    "pretraining": ("accuracy",),
}
PARADIGM = "UID"
"""The column of minimal pairs that says which pairs are made alike, by the name that BLiMP gave it."""
PRETRAINING = "Learn the language of these texts."
TEXTS: Mapping[str, str | None] = {"input": "text", "target": None}


class Fields(Settings):
    """Where an example's parts stand in a row: each a column's name or a jinja2 template over the columns."""

    input: str = "input"
    """Column or template of what goes in."""
    target: str | tuple[str, ...] | None = "target"
    """Column or template of the answer; a list of columns gives several references; null where rows have none.
    A null, or a blank text where answers are labels, is no answer. For kind: multilabel a text is split at commas,
    semicolons and line breaks, and an empty list is the answer that no label applies; a CSV cell cannot say that."""
    choices: str | None = None
    """Column or template of the options, for kind: choice: a list of texts or of {label, text}, a map of labels to
    texts, or a text that holds such JSON or an option a line. An example has their texts."""
    target_is: TargetIs | None = None
    """For kind: choice, how the answer names its option: by its text, its letter (or the label that the data give it)
    or its index from 0; null tries all three and refuses a row where they differ. An example has the text."""
    rationale: str | None = None
    """Column or template of the reasoning that comes with the answer."""
    subject: str | None = None
    """Column or template of the question's subject, for students that are language models: they read it first."""

    @field_validator("*")
    @classmethod
    def _compiles(cls, where: Any) -> Any:
        for part in (where,) if isinstance(where, str) else where or ():
            if is_template(part):
                compile_template(part)
        return where

    def columns(self) -> set[str]:
        """The columns that must be there."""
        parts = [self.input, self.choices, self.rationale, self.subject]
        parts += [self.target] if isinstance(self.target, str) else list(self.target or ())
        return {name for part in parts if part for name in (variables_of(part) if is_template(part) else {part})}


class Pairs(Settings):
    """Where a minimal pair stands in a row of the test split, for kind: pretraining."""

    good: str = "sentence_good"
    """Column of the acceptable sentence."""
    bad: str = "sentence_bad"
    """Column of the sentence that is not acceptable."""
    groups: tuple[str, ...] = ("field", "linguistics_term", PARADIGM)
    """Columns by whose values accuracies are reported too; a row may lack one. UID is the paradigm, which the file's
    name stands for in rows without it."""
    known_words: int | None = Field(default=None, ge=1)
    """Leave out pairs with a word that stands fewer than so many times in the training text; null keeps all."""


class Task(Settings):
    """One task. The same in YAML, in Python and on the command line."""

    instruction: str = Field(min_length=1)
    """What is asked, as it stands in every prompt. For kind: pretraining it may be left out."""
    kind: Kind
    """What kind of answer there is; it decides the metrics and which students fit."""
    labels: Mapping[str, str] | Sequence[str] | None = None
    """The answers: a list, or a map from the value in the file to the label's name.
    Left out: the distinct answers of the train file."""
    fields: Fields = Fields()
    """Where an example's parts stand in a row; for kind: pretraining the column text, without a target."""
    pairs: Pairs | None = None
    """Where minimal pairs stand in the rows of the test split, for kind: pretraining."""
    metrics: tuple[str, ...] = ()
    """Which metrics to report; left out: the usual ones of the kind."""

    @model_validator(mode="before")
    @classmethod
    def _of_pretraining(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("kind") != "pretraining":
            return values
        fields = values.get("fields") or {}
        given = fields.model_dump(exclude_unset=True) if isinstance(fields, Fields) else fields
        own = {"fields": {**TEXTS, **given} if isinstance(given, Mapping) else given}
        return {"instruction": PRETRAINING, **values, **own, "pairs": values.get("pairs") or Pairs()}

    @field_validator("instruction")
    @classmethod
    def _stripped(cls, instruction: str) -> str:
        return instruction.strip()  # a YAML block ends in a line break

    @field_validator("labels", mode="before")
    @classmethod
    def _as_map(cls, labels: Any) -> Any:
        if isinstance(labels, Mapping):
            return {str(value): str(name) for value, name in labels.items()}
        if isinstance(labels, (list, tuple)):
            names = [str(name) for name in labels]
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise ValueError(f"labels stand twice in the list: {', '.join(map(repr, repeated))}")
            return {name: name for name in names}
        return labels

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        if self.labels is not None and len(self.label_names) < 2:
            raise ValueError("labels: at least two different labels are needed")
        if self.kind == "multilabel" and (odd := [label for label in self.label_names if re.search(COMMAS, label)]):
            raise ValueError(f"labels: {odd[0]!r} holds a comma or semicolon, which parts the labels of a reply")
        if self.kind == "choice" and self.fields.choices is None:
            raise ValueError("fields.choices is required for kind: choice; name the column that holds the options")
        if self.kind == "choice" and isinstance(self.fields.target, tuple):
            raise ValueError("fields.target: kind: choice takes one answer; name one column or template")
        if self.kind != "choice" and self.fields.target_is:
            raise ValueError("fields.target_is belongs to kind: choice; take it out")
        if self.kind != "pretraining" and self.pairs:
            raise ValueError("pairs belongs to kind: pretraining; take it out")
        return self

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels' names in the order given."""
        return tuple(dict.fromkeys(self.label_of.values()))

    @property
    def label_of(self) -> Mapping[str, str]:
        """The value in the file -> the label's name; empty where the task has no labels."""
        assert self.labels is None or isinstance(self.labels, Mapping)  # a list became a map
        return self.labels or {}

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics to report."""
        return self.metrics or METRICS.get(self.kind, ())

    def example(self, row: Mapping[str, Any], *, id: str, origin: Origin | None = None) -> Example:
        """The example in a row. An answer that is none of the row's options stays as it is.

        Raises:
            DataError: a column is missing, the label is none of the task's, or an answer could be several options.
        """
        target = self.target_of(row)
        if target is not None and self.labels is not None:
            target = self.label(target)
        options = options_in(_value(row, self.fields.choices, "choices")) if self.fields.choices else None
        if options and self.kind == "choice" and isinstance(target, str) and isinstance(self.fields.target, str):
            named = option_named(_value(row, self.fields.target, "target"), options, self.fields.target_is)
            is_lost = named is None and target in options.texts  # a number beyond the last option, that reads like one
            target = f"{target} (no option's number)" if is_lost else named or target
        rationale = _value(row, self.fields.rationale, "rationale") if self.fields.rationale else None
        subject = as_text(_value(row, self.fields.subject, "subject")).strip() if self.fields.subject else ""
        return Example(
            id=id,
            input=as_text(_value(row, self.fields.input, "input")),
            target=target,
            choices=options.texts if options else (),
            rationale=None if rationale is None else as_text(rationale),
            notes={"subject": subject} if subject else {},
            fields=dict(row),
            origin=origin,
        )

    def pair(self, row: Mapping[str, Any], *, id: str, origin: Origin | None = None) -> Example:
        """The minimal pair in a test row of kind: pretraining: two choices, of which the good one is the answer.

        BLiMP has some whose sentences are equal; they can only be ties.

        Raises:
            DataError: a column is missing, blank or no text.
        """
        pairs = self.pairs or Pairs()
        good, bad = (_sentence(row, getattr(pairs, side), f"pairs.{side}") for side in ("good", "bad"))
        return Example(id=id, input=good, target=good, choices=(good, bad), fields=dict(row), origin=origin)

    def read_by(self, changes: Fields | None) -> Self:
        """The task for rows in which ``changes`` says where some of an example's parts stand."""
        if changes is None:
            return self
        fields = self.fields.model_copy(update=changes.model_dump(exclude_unset=True))
        return self.model_copy(update={"fields": fields})

    def without_answers(self) -> Self:
        """The task for rows whose answer, if they have one, must not be seen."""
        return self.model_copy(update={"fields": self.fields.model_copy(update={"target": None, "rationale": None})})

    def target_of(self, row: Mapping[str, Any]) -> Target:
        """The answer as it stands in the row; ``None`` where the row has none.

        Raises:
            DataError: a column is missing, or a row that has one answer holds a list of them.
        """
        where = self.fields.target
        if not where:
            return None
        single = isinstance(where, str)
        value = _value(row, where, "target") if single else [_value(row, column, "target") for column in where]
        if value is None:
            return None
        if self.kind == "multilabel" and not isinstance(value, (list, tuple)):
            value = [label.strip() for label in re.split(COMMAS, as_text(value))]
        if not isinstance(value, (list, tuple)):
            text = as_text(value)
            return None if self.kind in CLOSED_KINDS and not text.strip() else text
        if self.kind in ("classification", "choice"):
            way = "kind: multilabel, or " if self.kind == "classification" else ""
            raise DataError(
                f"field 'target': kind: {self.kind} takes one {'label' if way else 'answer'}, got the list {value!r}; "
                f"give {way}a column or template with one"
            )
        none_applies = self.kind == "multilabel" and not value
        return tuple(text for one in value if (text := as_text(one)).strip()) or (() if none_applies else None)

    def label(self, target: str | tuple[str, ...]) -> Target:
        """The label's name, given the value in the file or the name itself.

        Raises:
            DataError: the value is none of the task's labels.
        """
        if isinstance(target, tuple):
            return tuple(sorted({str(self.label(one)) for one in target}, key=self.label_names.index))
        if target in self.label_of:
            return self.label_of[target]
        if target in self.label_names:
            return target
        raise DataError(f"field 'target': {target!r} is none of the task's labels. "
                        + did_you_mean(target, list(self.label_names)))  # fmt: skip


def _value(row: Mapping[str, Any], where: str, field: str) -> Any:
    if is_template(where):
        missing = sorted(variables_of(where) - row.keys())
        if missing:
            raise DataError(_missing(field, missing[0], row))
        try:
            return compile_template(where).render(row)
        except Exception as error:  # filters and methods raise whatever the row's values make them raise
            told = f"{type(error).__name__}: {error}"
            raise DataError(f"field {field!r}: template {where!r} fails on this row: {told}") from None
    if where not in row:
        raise DataError(_missing(field, where, row))
    return row[where]


def _sentence(row: Mapping[str, Any], column: str, field: str) -> str:
    if column not in row:
        raise DataError(_missing(field, column, row))
    if not isinstance(row[column], str) or not row[column].strip():
        raise DataError(f"field {field!r}: {row[column]!r} is no sentence; take the row out")
    return row[column]


def _missing(field: str, column: str, row: Mapping[str, Any]) -> str:
    return f"field {field!r}: there is no column {column!r}. {did_you_mean(column, list(row))}"
