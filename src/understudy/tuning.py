"""A model that a study trains for its recipes: once for all arms that ask for the same, kept in the run folder."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy.pretrained import identity
from understudy.progress import Watch
from understudy.records import Example, Prediction, digest
from understudy.settings import Settings
from understudy.students import Model, Progress, Trained, load_model, prepare, train
from understudy.students.settings import ClassifierSettings
from understudy.task import Task
from understudy.teachers import Backend, Predicting, Teacher, TeacherSettings, backend_of, close_all

AT_ONCE = 1024  # texts that a classifier is given together: it sorts them by length
OpenTeacher = Callable[[TeacherSettings, Backend], Teacher]


class Tuning:
    """Trains models into a folder, one at a time; ``open_teacher`` opens those that teach, and closes them.

    Args:
        folder: each is in a folder below it, named by what its training depends on.
        card: lines for their model cards.
        go_on: called a few times a second while one is trained; what it raises ends the training.
        is_real: otherwise nothing is trained, and the teachers can only render and count.
    """

    def __init__(
        self,
        folder: Path,
        open_teacher: OpenTeacher,
        watch: Watch,
        card: Mapping[str, str],
        go_on: Callable[[], None],
        *,
        is_real: bool,
    ) -> None:
        self.folder, self.open_teacher, self.watch, self.card = folder, open_teacher, watch, card
        self.go_on, self.is_real = go_on, is_real
        self._one_at_a_time = threading.RLock()
        self._teachers: dict[str, Teacher] = {}
        self._students: dict[str, Model] = {}
        self._trained: dict[str, dict[str, Any]] = {}

    def __call__(
        self,
        settings: Settings,
        task: Task,
        rows: Sequence[Example],
        *,
        seed: int,
        batch_size: int,
        card: Mapping[str, str],
    ) -> tuple[Teacher, dict[str, Any]]:
        """The model as a teacher, and what its training took."""
        with self._one_at_a_time:
            folder, account = self._train(settings, task, rows, "tuned teacher", seed, card)
            key = folder.parent.name
            if key not in self._teachers:
                name = f"tuned teacher on {_count(rows):,} rows, {self._place(key)}"
                self._teachers[key] = self._opened(settings, folder, name, batch_size)
            return self._teachers[key], account

    def student(
        self, settings: Settings, task: Task, rows: Sequence[Example], *, role: str, seed: int, card: Mapping[str, str]
    ) -> tuple[Model | None, dict[str, Any]]:
        """The model as it answers, and what its training took; no model where nothing is real."""
        with self._one_at_a_time:  # to read models side by side breaks them: transformers has one state a process
            folder, account = self._train(settings, task, rows, role, seed, card)
            key = folder.parent.name
            if self.is_real and key not in self._students:
                self._students[key] = load_model(folder)
            return self._students.get(key), account

    def let_go(self) -> None:
        """Let go of all of them, so that no model stays in memory while students are trained."""
        close_all(self._teachers.values())
        self._teachers.clear()
        self._students.clear()

    def _train(
        self, settings: Settings, task: Task, rows: Sequence[Example], role: str, seed: int, card: Mapping[str, str]
    ) -> tuple[Path, dict[str, Any]]:
        """The model's folder, and what its training took; nothing of it where nothing is real."""
        origin = prepare(settings, task)  # not while another one trains: accelerate has one state a process
        learnt = digest(*(part for row in rows for part in (row.input, repr(row.target))))
        values = settings.canonical({"base", "checkpoint_every_s"})  # the base is there by content
        key = digest(values, origin, str(seed), task.kind, *task.label_names, learnt)
        folder = self.folder / key / "model"
        if self.is_real and key not in self._trained:
            self.go_on()
            count = _count(rows)
            progress = self._progress(f"{role} on {count:,} rows")
            card = {**self.card, "Role": f"the study's {role}", "Rows": f"{count:,}", **card}
            took = train(settings, task, rows, folder, seed=seed, progress=progress, card=card)
            account = _account(settings, count, took, self._place(key))
            self._trained[key] = account | {"origin": origin, "role": role}
        return folder, self._trained.get(key, {})

    def _place(self, key: str) -> str:
        return f"{self.folder.name}/{key}/model"

    def _progress(self, who: str) -> Progress:
        def progress(what: str, done: int, total: int) -> None:
            self.go_on()
            self.watch.step(f"{who}: {what}", done, total)

        return progress

    def _opened(self, settings: Settings, folder: Path, name: str, batch_size: int) -> Teacher:
        if not self.is_real:
            untrained = Predicting(_never, f"untrained:{folder.parent.name}", "tuned teacher")
            return self.open_teacher(TeacherSettings(backend="predicting"), untrained)
        if isinstance(settings, ClassifierSettings):
            content = f"student:{identity(str(folder), what='tuned teacher')}"
            backend: Backend = Predicting(_predict(load_model(folder)), content, name)
            return self.open_teacher(TeacherSettings(backend="predicting", concurrency=AT_ONCE), backend)
        waiting = max(64, 4 * batch_size)  # enough to choose rows of like length from
        chosen = TeacherSettings(
            backend="transformers", model=str(folder), name=name, batch_size=batch_size, concurrency=waiting
        )
        return self.open_teacher(chosen, backend_of(chosen))


def _count(rows: Sequence[Example]) -> int:
    """Of one row several texts may be learnt."""
    return len({row.id for row in rows})


def _account(settings: Settings, rows: int, trained: Trained, model: str) -> dict[str, Any]:
    told = settings.model_dump(mode="json")
    return {
        "model": model,
        "kind": told["kind"],
        "base": told["base"],
        "layers": told.get("layers"),
        "rows": rows,
        "steps": trained.steps,
        "tokens": trained.tokens,
        "seconds": trained.seconds,
        "parameters": trained.parameters,
        "details": dict(trained.details),
    }


def _predict(model: Any) -> Callable[[Sequence[str]], list[tuple[str, float]]]:
    """A student's answers as a teacher gives them: the text, and the logarithm of how likely it holds it for.

    Of several labels it is the mean over all the task's labels of how likely each is there, or not there.
    """

    def predict(texts: Sequence[str]) -> list[tuple[str, float]]:
        return [_told(answer) for answer in model.predict(texts)]

    return predict


def _told(answer: Prediction) -> tuple[str, float]:
    if isinstance(answer.output, str):
        return answer.output, _log(answer.scores[answer.output])
    named = set(answer.output or ())
    parts = [_log(p if label in named else 1 - p) for label, p in answer.scores.items()]
    return ", ".join(answer.output or ()), sum(parts) / len(parts)


def _log(p: float) -> float:
    return math.log(max(p, 1e-12))


def _never(texts: Sequence[str]) -> list[tuple[str, float]]:
    raise AssertionError("a teacher that only counts is never asked")
