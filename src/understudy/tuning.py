"""A model that a study trains to be a teacher: once for all arms that ask for the same, kept in the run folder."""

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
from understudy.students import Trained, load_model, prepare, train
from understudy.students.settings import ClassifierSettings
from understudy.task import Task
from understudy.teachers import Backend, Predicting, Teacher, TeacherSettings, backend_of, close_all

AT_ONCE = 1024  # texts that a classifier is given together: it sorts them by length
OpenTeacher = Callable[[TeacherSettings, Backend], Teacher]


class Tuning:
    """Trains teachers into a folder, one at a time; they are opened by ``open_teacher``, which also closes them.

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
        self._one_at_a_time = threading.Lock()
        self._tuned: dict[str, tuple[Teacher, dict[str, Any]]] = {}

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
        """The teacher, and what its training took."""
        values = settings.canonical({"base", "checkpoint_every_s"})  # the base is there by content
        learnt = digest(*(part for row in rows for part in (row.input, repr(row.target))))
        with self._one_at_a_time:
            origin = prepare(settings, task)  # not while another one trains: accelerate has one state a process
            key = digest(values, origin, str(seed), task.kind, *task.label_names, learnt)
            if key not in self._tuned:
                opened, account = self._open(settings, task, rows, key, seed, batch_size, card)
                self._tuned[key] = opened, account | {"origin": origin}
            return self._tuned[key]

    def let_go(self) -> None:
        """Close the teachers, so that no model stays in memory while students are trained."""
        close_all(teacher for teacher, _ in self._tuned.values())
        self._tuned.clear()

    def _open(
        self,
        settings: Settings,
        task: Task,
        rows: Sequence[Example],
        key: str,
        seed: int,
        batch_size: int,
        card: Mapping[str, str],
    ) -> tuple[Teacher, dict[str, Any]]:
        if not self.is_real:
            untrained = Predicting(_never, f"untrained:{key}", "tuned teacher")
            return self.open_teacher(TeacherSettings(backend="predicting"), untrained), {}
        folder = self.folder / key / "model"
        gold = len({row.id for row in rows})  # of one row several texts may be learnt
        who = f"tuned teacher on {gold:,} rows"
        place = f"{self.folder.name}/{key}/model"
        name = f"{who}, {place}"

        def progress(what: str, done: int, total: int) -> None:
            self.go_on()
            self.watch.step(f"{who}: {what}", done, total)

        self.go_on()
        card = {**self.card, "Gold rows": f"{gold:,}", **card}
        trained = train(settings, task, rows, folder, seed=seed, progress=progress, card=card)
        waiting = max(64, 4 * batch_size)  # enough to choose rows of like length from
        if isinstance(settings, ClassifierSettings):
            content = f"student:{identity(str(folder), what='tuned teacher')}"
            backend: Backend = Predicting(_predict(load_model(folder)), content, name)
            chosen = TeacherSettings(backend="predicting", concurrency=AT_ONCE)
        else:
            chosen = TeacherSettings(
                backend="transformers", model=str(folder), name=name, batch_size=batch_size, concurrency=waiting
            )
            backend = backend_of(chosen)
        return self.open_teacher(chosen, backend), _account(settings, gold, trained, place)


def _account(settings: Settings, gold: int, trained: Trained, model: str) -> dict[str, Any]:
    told = settings.model_dump(mode="json")
    return {
        "model": model,
        "kind": told["kind"],
        "base": told["base"],
        "layers": told.get("layers"),
        "rows": gold,
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
