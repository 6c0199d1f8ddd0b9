"""Recipes: generators that turn examples into better lessons. One file each; none imports another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from understudy.errors import DataError, SettingsError
from understudy.given import Given
from understudy.plans import Plan
from understudy.prompts import Prompt
from understudy.records import Example, Row
from understudy.settings import Settings, did_you_mean, validate
from understudy.task import Kind, Task

__all__ = ["RECIPES", "Given", "Recipe", "describe", "open_recipe", "prepared", "recipe_settings"]

RECIPES = {
    "gold": "understudy.recipes.gold",
    "answers": "understudy.recipes.answers",
    "direct": "understudy.recipes.direct",
    "teacherlm": "understudy.recipes.teacherlm",
    "rebase": "understudy.recipes.rebase",
    "tuned_teacher": "understudy.recipes.tuned_teacher",
    "as_es": "understudy.recipes.as_es",
    "raw": "understudy.recipes.raw",
    "cothought": "understudy.recipes.cothought",
}


@dataclass(frozen=True)
class Recipe:
    """A recipe as the chain sees it.

    ``make(examples, given, settings)`` yields the examples it passes on, those it made, and Dropped ones. What
    ``needs(settings)`` and ``gives(settings)`` return are words out of input, target, rationale, choices, unlabelled,
    train, and the papers' names of notes; a chain in which a need is not met is refused before anything is spent.
    """

    make: Callable[[Iterable[Example], Given, Any], Iterator[Row]]
    settings: type[Settings]
    summary: str
    needs: Callable[[Any], frozenset[str]] = lambda settings: frozenset()
    gives: Callable[[Any], frozenset[str]] = lambda settings: frozenset()
    prompts: tuple[Prompt | str, ...] = ()
    """The prompts it renders, a string being the name of a prompt file; a change of one makes its steps anew."""
    asks: bool = True
    """Whether it needs a teacher."""
    judges: Callable[[Any], bool] = lambda settings: False
    """Whether what the teacher wrote is judged, so that a link may name another teacher for that: ``Given.judge``."""
    kinds: tuple[Kind, ...] = ()
    """The kinds of task that it is for; all where none is named."""
    unforeseen: Callable[[Any], str] = lambda settings: ""
    """What an estimate of it cannot know, for a person; nothing where it counts what a run would ask."""
    reads: Callable[[Any, Task], str] = lambda settings, task: ""
    """A digest of what it reads beside the rows, such as a datastore or a model, without its place: steps are made anew
    where it changes. Raises an UnderstudyError where there is nothing to read, or where it does not go with the task;
    called before anyone is asked."""
    ready: Callable[[Task, Iterable[Example], Callable[[str], bool]], object] = lambda task, train, leaks: None
    """Looks at the task, its gold rows and ``Given.leaks``, and raises an UnderstudyError where they do not do: called
    before anyone is asked."""
    paths: tuple[str, ...] = ()
    """Which of its settings are places: in a study file relative to the file."""
    students: tuple[str, ...] = ()
    """Which of its settings are those of a student that it trains."""
    fitted: Callable[[Any, Settings], Any] = lambda settings, student: settings
    """The settings, with what they leave to the arm's student filled in."""
    plan: Callable[[Any, Task], Plan] | None = None
    """From settings and task to what its rows are for, where that is not one student that answers by itself: such a
    recipe is the last of a chain."""


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


def prepared(model: Settings, task: Task, where: str) -> str:
    """What a student that a recipe trains starts from, by content.

    Args:
        where: what errors call its settings.

    Raises: as ``students.prepare``.
    """
    from understudy.students import prepare

    try:
        return prepare(model, task)
    except (DataError, SettingsError) as error:
        raise type(error)(str(error).replace("student.", f"{where}.")) from error


def describe() -> list[dict[str, Any]]:
    """Every recipe with what it does, needs and gives, and how it is set."""
    described = []
    for name in [*RECIPES, *sorted(_installed().keys() - RECIPES.keys())]:
        recipe = open_recipe(name)
        settings = [
            {"name": key, "default": "required" if field.is_required() else field.default, "help": field.description}
            for key, field in recipe.settings.model_fields.items()
        ]
        usual = recipe.settings.model_construct()
        described.append(
            {
                "name": name,
                "summary": recipe.summary,
                "needs": sorted(recipe.needs(usual)),
                "gives": sorted(recipe.gives(usual)),
            }
            | {"asks": recipe.asks, "settings": settings}
        )
    return described
