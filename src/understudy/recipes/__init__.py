"""Recipes: generators that turn examples into better lessons. One file each; none imports another."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from understudy.errors import SettingsError
from understudy.prompts import Prompt
from understudy.records import Example, Row
from understudy.settings import Settings, did_you_mean, validate
from understudy.task import Task

if TYPE_CHECKING:
    from understudy.teachers import Teacher

RECIPES = {
    "gold": "understudy.recipes.gold",
    "answers": "understudy.recipes.answers",
    "direct": "understudy.recipes.direct",
    "teacherlm": "understudy.recipes.teacherlm",
    "rebase": "understudy.recipes.rebase",
}


@dataclass(frozen=True)
class Given:
    """What a recipe works with beside the examples that flow through it."""

    task: Task
    teacher: Teacher
    """Absent for a recipe that does not ask."""
    train: Iterable[Example]
    """The gold rows; may be read several times."""
    unlabelled: Iterable[Example]
    """Rows without an answer; may be read several times."""
    seed: int = 0
    leaks: Callable[[str], bool] = lambda text: False
    """Whether a text equals a test row's input, or nearly: such texts from elsewhere must not reach a prompt."""


@dataclass(frozen=True)
class Recipe:
    """A recipe as the chain sees it.

    ``make(examples, given, settings)`` yields the examples it passes on, those it made, and Dropped ones. ``needs``
    and what ``gives(settings)`` returns are words out of input, target, rationale, choices, unlabelled, train, and the
    papers' names of notes; a chain in which a need is not met is refused before anything is spent.
    """

    make: Callable[[Iterable[Example], Given, Any], Iterator[Row]]
    settings: type[Settings]
    summary: str
    needs: frozenset[str] = frozenset()
    gives: Callable[[Any], frozenset[str]] = lambda settings: frozenset()
    prompts: tuple[Prompt | str, ...] = ()
    """The prompts it renders, a string being the name of a prompt file; a change of one makes its steps anew."""
    asks: bool = True
    """Whether it needs a teacher."""
    unforeseen: Callable[[Any], str] = lambda settings: ""
    """What an estimate of it cannot know, for a person; nothing where it counts what a run would ask."""
    reads: Callable[[Any], str] = lambda settings: ""
    """A digest of what it reads beside the rows, such as a datastore, without its place: steps are made anew where it
    changes. Raises an UnderstudyError where there is nothing to read; called before anyone is asked."""
    paths: tuple[str, ...] = ()
    """Which of its settings are places: in a study file relative to the file."""


def open_recipe(name: str, where: str = "recipe") -> Recipe:
    """The recipe of that name.

    Raises:
        SettingsError: there is none; the message lists the known ones.
    """
    if name in RECIPES:
        return import_module(RECIPES[name]).RECIPE
    installed = _installed()
    if name not in installed:
        known = sorted({*RECIPES, *installed})
        raise SettingsError(f"{where}: unknown recipe {name!r}. {did_you_mean(name, known)}")
    try:
        return installed[name].load()
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            f"{where}: the installed recipe {name!r} ({installed[name].value}) cannot be loaded: {error}"
        ) from None


def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group="understudy.recipes")}


def recipe_settings(name: str, values: Any, where: str) -> Settings:
    """The recipe's settings built from plain values."""
    return validate(open_recipe(name, where).settings, values, f"{where}.{name}")


def shots_by_label(
    train: Iterable[Example], task: Task, count: int, seed: int, leaks: Callable[[str], bool]
) -> dict[str | None, list[Example]]:
    """At most ``count`` solved examples of each label, drawn in one pass; under ``None`` for a task without labels.

    Args:
        leaks: whether a text is that of a test row, or near it: it stands in no prompt.
    """
    rng = random.Random(seed)
    drawn: dict[str | None, list[tuple[float, Example]]] = {}
    for example in train:
        if example.target is None:
            continue
        answers = (example.target,) if isinstance(example.target, str) else example.target
        for label in answers if task.label_names else (None,):
            group, rank = drawn.setdefault(label, []), rng.random()
            is_enough = len(group) >= count and (not group or rank > group[-1][0])
            if is_enough or leaks(example.input):
                continue
            group.append((rank, example))
            group.sort(key=lambda pair: pair[0])
            del group[count:]
    return {label: [example for _, example in group] for label, group in drawn.items()}


def draw_shots(
    train: Iterable[Example], task: Task, count: int, seed: int, leaks: Callable[[str], bool]
) -> list[Example]:
    """``count`` solved examples, taken from the labels in turn, in an order that is drawn too."""
    groups = list(shots_by_label(train, task, count, seed, leaks).values())
    random.Random(seed).shuffle(groups)
    turns = (group[turn] for turn in range(count) for group in groups if turn < len(group))
    return list({example.id: example for example in turns}.values())[:count]


def describe() -> list[dict[str, Any]]:
    """Every recipe with what it does, needs and gives, and how it is set."""
    described = []
    for name in [*RECIPES, *sorted(_installed().keys() - RECIPES.keys())]:
        recipe = open_recipe(name)
        settings = [
            {"name": key, "default": "required" if field.is_required() else field.default, "help": field.description}
            for key, field in recipe.settings.model_fields.items()
        ]
        gives = recipe.gives(recipe.settings.model_construct())
        described.append(
            {"name": name, "summary": recipe.summary, "needs": sorted(recipe.needs), "gives": sorted(gives)}
            | {"asks": recipe.asks, "settings": settings}
        )
    return described
