"""From a study to what its students learn from: the splits, then each arm's chain, step by step."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, cast

from understudy.curate import TestSplit, screen
from understudy.errors import DataError, SettingsError, UnderstudyError
from understudy.evaluation import RATIONALE
from understudy.evaluation.minimal_pairs import with_known_words
from understudy.progress import Asking, Watch
from understudy.prompts import load_prompt
from understudy.recipes import Given, open_recipe
from understudy.records import Dropped, Example, Row, digest
from understudy.sources import Source, content_hash, labels_in, load, load_corpus, read_as, selection
from understudy.splits import SPLITS, Split, StudyTask
from understudy.students import Model
from understudy.study import Arm, Link, Study
from understudy.task import Task
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


def with_labels(study: Study) -> Study:
    """The study with the labels that it left out: the distinct answers of its train file."""
    task = study.task
    if task.labels or task.kind not in ("classification", "multilabel"):
        return study
    if task.train is None:
        raise SettingsError(f"task.labels: required for kind: {task.kind} where there is no task.train; list them")
    labels = sorted({label for source in task.sources("train") for label in labels_in(source, task)})
    if len(labels) < 2:
        raise SettingsError(f"task.labels: the train file holds {len(labels)} different answers; list all labels")
    return study.model_copy(update={"task": task.model_copy(update={"labels": {name: name for name in labels}})})


def limited(task: StudyTask, limit: int | None) -> StudyTask:
    """The task with at most ``limit`` rows of every split."""
    if limit is None:
        return task
    if limit < 1:
        raise SettingsError(f"limit must be at least 1, got {limit!r}")

    def fewer(sources: Sequence[Source]) -> list[Source]:
        return [source.model_copy(update={"limit": min(limit, source.limit or limit)}) for source in sources]

    splits = {split: fewer(task.sources(split)) for split in SPLITS if task.sources(split)}
    return task.model_copy(
        update={split: sources[0] if len(sources) == 1 else tuple(sources) for split, sources in splits.items()}
    )


def plans_of(study: Study, limit: int | None) -> list[Arm]:
    """The study's arms, each with at most ``limit`` rows of every split."""
    return [replace(arm, task=limited(arm.task, limit)) for arm in study.plans()]


def load_test(workspace: Workspace, task: StudyTask) -> tuple[Rows, str]:
    """The locked test split, as the workspace keeps it, and the digest of its content.

    Raises:
        DataError: a metric compares reasoning, and a row has none.
        WorkspaceError: the folder's results were measured on another test split.
    """
    rows = workspace.step(_test_key(task), "test", lambda: _test_rows(task))
    if not len(rows):
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in rows.taken.dropped.items())
        raise DataError(f"task.test: every row is dropped ({reasons}); lower task.pairs.known_words, or give more text")
    compared = [metric for metric in task.metric_names if metric.startswith(RATIONALE)]
    for row in rows if compared else ():
        if not (row.rationale or "").strip():
            raise DataError(
                f"task.test: row {row.id!r} has no reasoning, which {compared[0]} compares with; take it out"
            )
    return rows, workspace.fix_test_split(rows)


def _test_rows(task: StudyTask) -> Iterator[Row]:
    """The test rows; of pairs of sentences those whose words the training text has, where that is asked for."""
    rows = load(task.test, task, "test")
    if not (task.pairs and task.pairs.known_words):
        return rows
    texts = (row.input for source in task.sources("train") for row in _readable(source, task, "train")
             if isinstance(row, Example))  # fmt: skip
    return with_known_words(rows, texts, task.pairs.known_words)


def _test_key(task: StudyTask) -> str:
    key = _source_key(task.test, task, "test")
    if task.pairs is None:
        return key
    read = task.sources("train") if task.pairs.known_words else ()
    return digest(key, task.pairs.canonical(), *(_source_key(source, task, "train") for source in read))


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
        self.budget = Budget(**limits, spent=spent, note=self._spending.write)
        card = {"Study": study.name}
        self._stop = threading.Event()
        self._contents: dict[str, list[str]] = {}  # of what the recipes read beside the rows
        self.tuning = Tuning(
            models or workspace.folder / "teachers", self._open, watch, card, self._go_on, is_real=rehearse is None
        )

    def __enter__(self) -> Classroom:
        return self

    def __exit__(self, *_: object) -> None:
        close_all(self.teachers.values())
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
            except BaseException:  # the first failure, or Ctrl-C, ends the other arms too
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                close_all(self.teachers.values())
                raise
        ends = zip(arms, (future.exception() for future in futures), strict=True)
        if lacking := [(arm.name, error) for arm, error in ends if error]:
            raise all_missing(lacking)
        self.tuning.let_go()
        return [future.result() for future in futures]

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
        sources = task.sources(split)
        if not sources:
            return self.workspace.step(digest("none", split), f"no {split} rows", lambda: iter(()))
        key = digest(*(_source_key(source, task, split) for source in sources), self.test_digest)
        read = chain.from_iterable(_readable(source, task, split) for source in sources)
        screened = screen(read, self.test, split)
        if task.kind == "pretraining" and split == "train":
            screened = _not_near(screened, self.test, split)
        rows = self._watched(screened, f"read {split}")
        kept = self.workspace.step(key, split, lambda: rows)
        if not len(kept):
            places = ", ".join(source.place for source in sources)
            dropped = ", ".join(f"{count:,} {reason}" for reason, count in kept.taken.dropped.items())
            raise DataError(f"task.{split}: every row of {places} is dropped: {dropped}")
        return kept

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


def _readable(source: Source, task: Task, split: Split) -> Iterator[Row]:
    """The rows of a source; without an answer, or with one that is no option, dropped where they should have one."""
    has_answers = read_as(source, task, split).fields.target is not None
    for row in load_corpus(source, task, split) if source.corpus else load(source, task, split):
        if isinstance(row, Dropped):
            yield row
        elif has_answers and row.target is None:
            yield Dropped(row, split, "no_target", "the row has no answer")
        elif has_answers and row.choices and task.kind == "choice" and row.target not in row.choices:
            yield Dropped(row, split, "not_a_choice", f"{row.target!r} is none of {', '.join(map(repr, row.choices))}")
        else:
            yield row


def _not_near(rows: Iterable[Row], test: TestSplit, split: Split) -> Iterator[Row]:
    """Drop each text that holds one of the test split: of raw text no arm may learn what another may not."""
    for row in rows:
        if isinstance(row, Example) and test.near(row.input):
            yield Dropped(row, split, "near_test_split", "it holds a text of the test split, or nearly")
        else:
            yield row


def _source_key(source: Source, task: Task, split: str) -> str:
    labels, fields = repr(sorted(task.label_of.items())), read_as(source, task, split).fields.canonical()
    return digest(split, content_hash(source), selection(source), task.kind, fields, labels)
