"""What a recipe works with beside the examples that flow through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from understudy.errors import SettingsError
from understudy.records import Example
from understudy.settings import Settings
from understudy.task import Task

if TYPE_CHECKING:
    from understudy.students import Model
    from understudy.teachers import Teacher


class Tune(Protocol):
    """Trains a model on rows and opens it as a teacher: once for all that ask for the same."""

    def __call__(
        self,
        settings: Settings,
        task: Task,
        rows: Sequence[Example],
        *,
        seed: int,
        batch_size: int,
        card: Mapping[str, str],
    ) -> Teacher:
        """The teacher; in a study that only estimates, one that renders and counts.

        Args:
            settings: those of a kind of student.
            task: what the model learns, which need not be the study's.
            batch_size: the most requests that it answers at once.
            card: lines for its model card.

        Raises: as ``students.prepare`` and ``students.train``.
        """
        ...


class Train(Protocol):
    """Trains a student on rows: once for all that ask for the same."""

    def __call__(
        self, settings: Settings, task: Task, rows: Sequence[Example], *, seed: int, card: Mapping[str, str]
    ) -> Model | None:
        """The trained student; nothing in a study that only estimates.

        Args and Raises: as ``Tune``.
        """
        ...


def _only_in_a_study(*_: Any, **__: Any) -> Any:
    raise SettingsError("this recipe trains a model of its own, which only a study does: use run")


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
    """Of what a recipe draws. A study leaves it at 0: its ``seeds`` are the students'."""
    leaks: Callable[[str], bool] = lambda text: False
    """Whether a text equals a test row's input, or nearly: such texts from elsewhere must not reach a prompt."""
    tuned: Tune = _only_in_a_study
    """For a recipe that trains a teacher of its own."""
    trained: Train = _only_in_a_study
    """For a recipe that reads its rows with a student of its own."""
    judge: Teacher | None = None
    """Who judges what the teacher wrote, for a recipe that has that done; outside a study the teacher may do it."""
    folder: Path = field(default_factory=lambda: Path(gettempdir(), f"understudy-{uuid4().hex}"))
    """A folder of this run's own for what does not fit into memory. It need not be there, and a study takes it away."""
