"""From a study to what its students learn from: each arm's chain, step by step."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from understudy.curate import TestSplit, screen
from understudy.errors import UnderstudyError
from understudy.progress import Asking, Watch
from understudy.prompts import load_prompt
from understudy.reading import load_split
from understudy.recipes import Given, open_recipe
from understudy.records import Row, digest
from understudy.splits import Split, StudyTask
from understudy.students import Model
from understudy.study import Arm, Link, Study
from understudy.teachers import (
    PASSING,
    Backend,
    Budget,
    Ledger,
    Missing,
    RepliesMissing,
    SpentFile,
    Teacher,
    TeacherSettings,
    Usage,
    all_answered,
    all_missing,
    close_all,
    open_teacher,
)
from understudy.tuning import Tuning
from understudy.workspace import Rows, Workspace

SECONDS_BETWEEN_WORDS = 0.2


@dataclass(frozen=True)
class Lessons:
    """What one arm's student learns from, and the steps that led there, the source's first."""

    arm: Arm
    steps: tuple[Rows, ...]
    unlabelled: Rows | None = None
    """The rows without an answer that a recipe of the chain read."""

    held_back: Rows | None = None
    """The texts that a student's loss is measured on and nobody learns from, where the task has some."""

    is_trimmed: bool = False
    """Whether the last step cut the rows to what other arms cost."""

    @property
    def rows(self) -> Rows:
        return self.steps[-1]

    @property
    def questions(self) -> Rows:
        """The rows before a last recipe with a plan made lessons of their parts; of other chains those learnt from."""
        is_planned = open_recipe(self.arm.chain[-1].recipe).plan
        return self.steps[len(self.arm.chain) - 1] if is_planned else self.rows


class Classroom:
    """Makes the lessons of every arm; owns the teachers that the arms share. A context manager.

    Args:
        rehearse: teachers only render and count, and keep so many prompts of each step.
        offline: nothing is sent; a step that needs a reply which the ledger lacks is looked at to its end, and fails.
        missing: with ``offline``: told of each such request instead, and the step goes on without its row.
        spent_file: counts what was spent of the budget; the workspace's own by default.
        models: where models lie that recipes train; in the workspace by default.
    """

    def __init__(
        self,
        workspace: Workspace,
        study: Study,
        test: tuple[Rows, str],
        ledger: Ledger,
        watch: Watch,
        *,
        rehearse: int | None = None,
        offline: bool = False,
        missing: Missing | None = None,
        spent_file: Path | None = None,
        models: Path | None = None,
    ) -> None:
        self.workspace, self.study, self.ledger, self.watch = workspace, study, ledger, watch
        self.test, self.test_digest = TestSplit(test[0]), test[1]
        self.rehearse, self.offline, self.missing = rehearse, offline, missing
        self.teachers: dict[str, Teacher] = {}
        self._spending = SpentFile(spent_file or workspace.folder / "spent.json")
        limits, spent = study.budget.model_dump(), self._spending.read()
        self._spending.write(spent)
        self.budget = Budget(**limits, spent=spent, note=self._spending.write, payer=self._spending.payer)
        card = {"Study": study.name}
        self._stop = threading.Event()
        self._contents: dict[str, list[str]] = {}  # of what the recipes read beside the rows
        self.tuning = Tuning(
            models or workspace.folder / "teachers", self._open, watch, card, self._go_on, is_real=rehearse is None
        )

    def __enter__(self) -> Classroom:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        close_all(self.teachers.values(), hurry=kind is KeyboardInterrupt)
        self._spending.close()

    def prepare(self, arms: Sequence[Arm]) -> None:
        """Open every teacher and read every source, so that what is wrong is found before anyone is asked."""
        for arm in arms:
            self._contents[arm.name] = [open_recipe(link.recipe).reads(link.settings, arm.task) for link in arm.chain]
            for teacher in arm.teachers:
                self._open(teacher)
        for arm in arms:
            train, *_ = self._sources(arm)
            for recipe in arm.recipes:
                open_recipe(recipe).ready(arm.task, train, self.test.near)

    def lessons(self, arms: Sequence[Arm]) -> list[Lessons]:
        """Every arm's lessons: arms side by side, so that their requests overlap; a step that they share runs once."""
        self.prepare(arms)
        with ThreadPoolExecutor(max_workers=16, thread_name_prefix="arm") as pool:
            futures = [pool.submit(self._chain, arm) for arm in arms]
            try:
                for future in as_completed(futures):
                    with suppress(RepliesMissing):  # said together, when all arms were looked at
                        future.result()
            except BaseException as error:  # the first failure, or Ctrl-C, ends the other arms too
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                self._close(error)
                raise
        ends = zip(arms, (future.exception() for future in futures), strict=True)
        if lacking := [(arm.name, error) for arm, error in ends if error]:
            raise all_missing(lacking)
        self.tuning.let_go()
        return [future.result() for future in futures]

    def _close(self, error: BaseException) -> None:
        """End for a reason; who waits no longer for what is in flight is still told that."""
        hurry = isinstance(error, KeyboardInterrupt)
        if not hurry and any(teacher.asking().in_flight for teacher in self.teachers.values()):
            self.watch.note(f"stopping: {error}")
        try:
            close_all(self.teachers.values(), hurry=hurry)
        except KeyboardInterrupt:
            raise error from None

    def _sources(self, arm: Arm) -> tuple[Rows, Rows, Rows | None]:
        task = arm.task
        return (
            self._source(task, "train"),
            self._source(task, "unlabelled"),
            self._source(task, "held_back") if task.sources("held_back") else None,
        )

    def _chain(self, arm: Arm) -> Lessons:
        train, unlabelled, held_back = self._sources(arm)
        steps = [train]
        for link, content in zip(arm.chain, self._contents[arm.name], strict=True):
            steps.append(self._step(arm, link, content, steps[-1], train, unlabelled))
        reads = any("unlabelled" in open_recipe(link.recipe).needs(link.settings) for link in arm.chain)
        return Lessons(arm, tuple(steps), unlabelled if reads else None, held_back)

    def _source(self, task: StudyTask, split: Split) -> Rows:
        return load_split(
            self.workspace, task, split, self.test, self.test_digest, lambda rows: self._watched(rows, f"read {split}")
        )

    def _step(self, arm: Arm, link: Link, content: str, incoming: Rows, train: Rows, unlabelled: Rows) -> Rows:
        name, settings, recipe = link.recipe, link.settings, open_recipe(link.recipe)
        teacher, judge = (self._open(one).metered() if one else None for one in (link.teacher, link.judge))
        prompts = [(load_prompt(one) if isinstance(one, str) else one).text for one in recipe.prompts]
        task = arm.task
        placeless = {student: {"base", "checkpoint_every_s"} for student in recipe.students}  # content has the base
        key = digest(
            *(name, settings.canonical(placeless), teacher.identity if teacher else ""),
            *(task.instruction, task.kind, *task.label_names, *prompts),
            *(incoming.key, train.key, unlabelled.key, self.test_digest),
            *filter(None, [content]),
            *([judge.identity] if judge else []),
            *(["rehearsed"] if self.rehearse is not None else []),
        )
        asked = [one for one in (teacher, judge) if one]
        trained: list[Mapping[str, object]] = []

        def tuned(*args: Any, **kwargs: Any) -> Teacher:
            opened, account = self.tuning(*args, **kwargs)
            asked.append(opened.metered())
            trained.append(account)
            return asked[-1]

        def scorer(*args: Any, **kwargs: Any) -> Model | None:
            model, account = self.tuning.student(*args, role="scorer", **kwargs)
            trained.append(account)
            return model

        given = Given(
            task,
            cast(Teacher, teacher),
            train,
            unlabelled,
            leaks=self.test.near,
            tuned=tuned,
            trained=scorer,
            judge=judge,
            folder=self.workspace.scratch(key),
        )

        def rows() -> Iterator[Row]:
            made = screen(recipe.make(incoming, given, settings), self.test, name)
            offline = [one for one in (teacher, judge) if one and one.is_offline]
            if offline and not self.missing:
                made = all_answered(made, offline, name)
            return self._watched(made, f"{arm.name}: {name}", asked)

        def about() -> dict[str, object]:
            said: dict[str, object] = {"settings": settings.model_dump(mode="json")}
            said |= {"tuned": trained} if trained else {}
            if not asked:
                return said
            if asked[0].renders_only:
                counted = [asdict(one.estimate()) | {"rendered": one.rendered, "who": one.identity} for one in asked]
                return said | {"rehearsal": counted}
            return said | {"teacher": asdict(Usage.total(asdict(one.usage()) for one in asked))}

        try:
            return self.workspace.step(key, name, rows, incoming=incoming, about=about, passing=PASSING)
        finally:
            shutil.rmtree(given.folder, ignore_errors=True)

    def _open(self, settings: TeacherSettings, backend: Backend | None = None) -> Teacher:
        key = digest(settings.canonical(), backend.identity if backend else "")
        if key not in self.teachers:
            self.teachers[key] = open_teacher(
                settings,
                self.ledger,
                budget=self.budget,
                render_only=self.rehearse is not None,
                keep=self.rehearse or 0,
                offline=self.offline,
                missing=self.missing,
                say=self.watch.note,
                backend=backend,
            )
        return self.teachers[key]

    def _watched(self, rows: Iterable[Row], name: str, teachers: Sequence[Teacher] = ()) -> Iterator[Row]:
        done, told = 0, time.monotonic()
        asking = _asking(teachers)
        if asking:  # the first row may take long
            self.watch.step(name, done, None, asking)
        for done, row in enumerate(rows, start=1):
            self._go_on()
            if time.monotonic() - told >= SECONDS_BETWEEN_WORDS:
                told = time.monotonic()
                asking = _asking(teachers)  # one may have been trained by now
                self.watch.step(name, done, None, asking)
            yield row
        self.watch.step(name, done, done, asking)

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise UnderstudyError("stopped because another arm failed")


def _asking(teachers: Sequence[Teacher]) -> Callable[[], Asking] | None:
    if not teachers or teachers[-1].renders_only:
        return None
    return lambda: Asking.together([teacher.asking() for teacher in teachers])
