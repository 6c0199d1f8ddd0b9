"""A task with its splits, each read from one source or from a mixture of them."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from understudy.sources import Source
from understudy.task import Task

Mixture: TypeAlias = Annotated[
    Annotated[Source, Tag("<one>")] | Annotated[tuple[Source, ...], Field(min_length=1), Tag("<many>")],
    Discriminator(lambda values: "<many>" if isinstance(values, (list, tuple)) else "<one>"),
]
Split = Literal["train", "unlabelled", "test"]
SPLITS: tuple[Split, ...] = ("train", "unlabelled", "test")


class StudyTask(Task):
    """A task with its splits."""

    train: Mixture | None = None
    """The gold rows: what the chains start from and prompts take their shots from. A list is a mixture of sources,
    each with a limit and fields of its own."""
    unlabelled: Mixture | None = None
    """Rows that the teacher may answer; an answer that stands in them is never looked at."""
    test: Source
    """The locked test split."""

    def sources(self, split: Split) -> tuple[Source, ...]:
        """What the rows of a split are read from, in order; none where the task has no such split."""
        value: Source | tuple[Source, ...] | None = getattr(self, split)
        return (value,) if isinstance(value, Source) else value or ()
