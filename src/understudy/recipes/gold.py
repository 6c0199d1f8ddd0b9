"""Gold: the student learns from the untouched rows. The control that every recipe has to beat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from understudy.recipes import Given, Recipe
from understudy.records import Example, Row
from understudy.settings import Settings


class Gold(Settings):
    """Gold has no settings."""


def gold(examples: Iterable[Example], given: Given, settings: Gold) -> Iterator[Row]:
    yield from examples


RECIPE = Recipe(
    make=gold,
    settings=Gold,
    summary="the untouched rows",
    needs=lambda settings: frozenset({"target"}),
    asks=False,
)
