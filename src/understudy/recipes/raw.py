"""Raw: the student learns from the untouched corpus. The control for every recipe that rewrites raw text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from understudy.recipes import Given, Recipe
from understudy.records import Example, Row
from understudy.settings import Settings


class Raw(Settings):
    """Raw has no settings."""


def raw(examples: Iterable[Example], given: Given, settings: Raw) -> Iterator[Row]:
    yield from examples


RECIPE = Recipe(
    make=raw,
    settings=Raw,
    summary="the untouched corpus",
    needs=lambda settings: frozenset({"input"}),
    asks=False,
    kinds=("pretraining",),
)
