"""What a chain's rows are for: one student that answers by itself, or several that answer together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from understudy.records import Example, Prediction
from understudy.settings import Settings
from understudy.students import Model
from understudy.task import Task

Models: TypeAlias = Mapping[str, Model]
ALONE = ""
"""The part of a student that has no others beside it; its model stands where an arm's model does."""


@dataclass(frozen=True)
class Plan:
    """How the students of an arm learn from its rows, and how they answer."""

    parts: Mapping[str, Callable[[Example], bool]]
    """Name -> which of the rows a student learns from: one student a part."""
    task: Task
    """What each of them learns."""
    settings: Callable[[Settings], Settings]
    """The arm's student -> the settings of each of them. Raises SettingsError where it cannot learn this."""
    answer: Callable[[Models, Iterable[Example]], Iterator[Prediction]]
    """One prediction a test row, in order, by the trained students; no target is looked at."""


def by_itself(task: Task) -> Plan:
    """The plan of most chains: one student that learns from all rows and answers."""
    everything = {ALONE: lambda row: True}
    return Plan(everything, task, lambda student: student, lambda models, rows: models[ALONE].predict(rows))
