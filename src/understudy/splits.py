"""A task with its splits, each read from one source or from a mixture of them."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Discriminator, Tag, model_validator

from understudy.sources import Source, cannot_be_read
from understudy.task import Fields, Task

Mixture: TypeAlias = Annotated[
    Annotated[Source, Tag("<one>")] | Annotated[tuple[Source, ...], Tag("<many>")],
    Discriminator(lambda values: "<many>" if isinstance(values, (list, tuple)) else "<one>"),
]
Split = Literal["train", "held_back", "unlabelled", "test"]
SPLITS: tuple[Split, ...] = ("train", "held_back", "unlabelled", "test")


class StudyTask(Task):
    """A task with its splits."""

    train: Mixture | None = None
    """The gold rows: what the chains start from and prompts take their shots from. A list is a mixture of sources,
    each with a limit and fields of its own."""
    held_back: Mixture | None = None
    """For kind: pretraining, text on which the loss is measured and from which nobody learns."""
    unlabelled: Mixture | None = None
    """Rows that the teacher may answer; an answer that stands in them is never looked at."""
    test: Source
    """The locked test split."""

    @model_validator(mode="after")
    def _can_be_told_apart(self) -> StudyTask:
        if self.held_back is not None and self.kind != "pretraining":
            raise ValueError(
                f"held_back is text for kind: pretraining, this task is of kind {self.kind!r}; take it out"
            )
        for split in SPLITS:
            if getattr(self, split) == ():
                raise ValueError(f"{split}: the list is empty; name at least one source, or take {split} out")
            if any(source.corpus for source in self.sources(split)) and (problem := cannot_be_read(self, split)):
                raise ValueError(f"{split}: {problem}")
            read: dict[str, tuple[int, Fields | None]] = {}
            for place, source in enumerate(self.sources(split)):
                first, fields = read.setdefault(source.dataset, (place, source.fields))
                if fields != source.fields:
                    raise ValueError(
                        f"{split}.{place}: its rows would be dropped as duplicates of {split}.{first}'s, which have "
                        f"their ids but other fields; give it a name of its own, e.g. name: {source.dataset}-{place}"
                    )
        return self

    def sources(self, split: Split) -> tuple[Source, ...]:
        """What the rows of a split are read from, in order; none where the task has no such split."""
        value: Source | tuple[Source, ...] | None = getattr(self, split)
        return (value,) if isinstance(value, Source) else value or ()
