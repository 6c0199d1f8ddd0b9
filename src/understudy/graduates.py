"""From lessons to graduates: every arm's students trained, examined on the test split, and kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from heapq import nsmallest
from pathlib import Path
from typing import Any

import orjson

from understudy.answer_files import read_answers, write_answers
from understudy.curate import TestSplit, draw_shots
from understudy.equal import trim
from understudy.errors import DataError
from understudy.evaluation import score, scored
from understudy.lessons import Lessons
from understudy.progress import Watch
from understudy.records import Example, Prediction, digest
from understudy.settings import Settings
from understudy.students import Model, Trained, identity, load_model, prepare, train
from understudy.students.settings import SCORING, LanguageSettings
from understudy.study import Arm, Study
from understudy.teachers import Ledger
from understudy.workspace import Rows, Workspace
from understudy.workspace.files import write_atomically

SECONDS_BETWEEN_WORDS = 0.3
PROBED = 400  # test rows


@dataclass(frozen=True)
class Pupil:
    """The students of one seed to be: where they go, what they are called to a person, and what they depend on."""

    folder: Path
    name: str
    settings: Settings
    lessons: Lessons
    seed: int


@dataclass(frozen=True)
class Graduate:
    """An arm after training: its students of each seed, with their answers to the test."""

    name: str
    entry: str
    lessons: Lessons
    trained: Mapping[int, Mapping[str, Trained]]
    """Seed -> part of the arm's plan -> what its training took."""
    answers: Mapping[int, Sequence[Prediction]]
    truncated: int
    """The test inputs of which a student has not read all, as they are longer than it reads; the most of any seed."""
    continues: str = ""
    """The graduate that this one's students started as."""


@dataclass(frozen=True)
class _Examined:
    """What is known of the students of one seed after the test."""

    trained: Mapping[str, Trained]
    answers: Sequence[Prediction]
    truncated: int


def train_all(
    workspace: Workspace,
    study: Study,
    lessons: Sequence[Lessons],
    bases: Mapping[str, str],
    test: tuple[Rows, str],
    ledger: Ledger,
    watch: Watch,
) -> Iterator[Graduate]:
    """Train every arm with every seed, under each entry of ``equal``; what was trained before is read back.

    Args:
        bases: arm -> what its student starts from, by content.
        test: the test rows and the digest of their content.
    """
    for entry in study.equal:
        fair = lessons if entry in ("steps", "tokens") else trim(workspace, lessons, entry, ledger)
        for one in fair:
            _check_rows(one)
        tokens: int | None = None  # under equal tokens, all get those that the first arm's steps come to
        for one in fair:
            name = _name(study, one.arm.name, entry)
            folder = workspace.folder / "arms" / name
            chain = [{"step": step.taken.name, "key": step.folder.name} for step in one.steps]
            write_atomically(folder / "chain.json", orjson.dumps(chain, option=orjson.OPT_INDENT_2))
            settings, base = one.arm.student, bases[one.arm.name]
            if entry == "tokens" and tokens is not None:
                settings = settings.model_copy(update={"steps": None, "tokens": tokens})
            results, continues = {}, _name(study, one.arm.continues, entry) if one.arm.continues else ""
            for seed in study.seeds:
                if continues:
                    stage = folder.with_name(continues) / f"seed-{seed}" / "model"
                    settings = settings.model_copy(update={"base": str(stage), "revision": None})
                    base = identity(str(stage))
                pupil = Pupil(folder / f"seed-{seed}", f"{name}: seed {seed}", settings, one, seed)
                results[seed] = _train(pupil, base, test, watch)
            tokens = tokens or max(one.tokens for one in results[study.seeds[0]].trained.values())
            trained = {seed: examined.trained for seed, examined in results.items()}
            answers = {seed: examined.answers for seed, examined in results.items()}
            truncated = max(examined.truncated for examined in results.values())
            yield Graduate(name, entry, one, trained, answers, truncated, continues)


def _check_rows(lessons: Lessons) -> None:
    """Say whose rows are all dropped, and why, before any student is trained."""
    arm = lessons.arm
    where = f"see {str(lessons.rows.folder / 'dropped.parquet')!r}"
    if not len(lessons.rows):
        dropped = [f"{step.taken.name}: {n:,} {why}" for step in lessons.steps for why, n in step.taken.dropped.items()]
        raise DataError(f"arm {arm.name!r}: no row is left to learn from (dropped at {', '.join(dropped)}); {where}")
    for part, belongs in arm.plan.parts.items():
        if not any(map(belongs, lessons.rows)):
            raise DataError(f"arm {arm.name!r}: none of its {len(lessons.rows):,} rows is for the student {part!r}")


def _name(study: Study, arm: str, entry: str) -> str:
    """What an arm is called under an entry of ``equal``."""
    return f"{arm}@{entry}" if len(study.equal) > 1 else arm


def origin_of(arm: Arm) -> str:
    """What the arm's students start from, by content. Raises: as ``students.prepare``."""
    return prepare(arm.plan.settings(arm.student), arm.plan.task)


def _train(pupil: Pupil, base: str, test: tuple[Rows, str], watch: Watch) -> _Examined:
    """The students of one seed: trained, examined on the test split, and kept. Read back where that was done before."""
    lessons, folder, (rows, test_digest) = pupil.lessons, pupil.folder, test
    task = lessons.arm.task
    unseen = {"base", "checkpoint_every_s", *SCORING}  # base is there by content
    settings = pupil.settings.model_dump_json(exclude=unseen)
    key = digest(
        "student", settings, base, str(pupil.seed), task.kind, *task.label_names, lessons.rows.key, test_digest,
        *([lessons.held_back.key] if lessons.held_back else []),
    )  # fmt: skip
    examined = digest(key, pupil.settings.model_dump_json(include={*SCORING}))
    scores, predictions = folder / "scores.json", folder / "predictions.parquet"
    done = _done(scores) if predictions.exists() else {}
    if done.get("key") == examined:
        trained = {part: Trained(**took) for part, took in done["students"].items()}
        answers, truncated = read_answers(predictions), done["truncated"]
    else:
        _begin(folder, key)
        trained = {part: _train_part(pupil, part, rows, watch) for part in lessons.arm.plan.parts}
        models = {part: load_model(folder / part / "model") for part in trained}
        answers = list(_answered(pupil, models, rows, watch))
        truncated = max(model.truncated for model in models.values())
        write_answers(predictions, rows, answers)
    if done.get("key") != examined or set(done["metrics"]) != set(task.metric_names):
        metrics = {metric: score(metric, task, *scored(metric, rows, answers)) for metric in task.metric_names}
        students = {part: asdict(took) for part, took in trained.items()}
        content = {"key": examined, "metrics": metrics, "students": students, "truncated": truncated}
        write_atomically(scores, orjson.dumps(content, option=orjson.OPT_INDENT_2))
    return _Examined(trained, answers, truncated)


def _train_part(pupil: Pupil, part: str, test: Rows, watch: Watch) -> Trained:
    plan, name = pupil.lessons.arm.plan, f"{pupil.name}, {part}" if part else pupil.name
    settings = plan.settings(pupil.settings)
    return train(
        settings, plan.task, _Part(pupil.lessons.rows, plan.parts[part]),
        pupil.folder / part / "model", seed=pupil.seed,
        progress=lambda what, step, total: watch.step(f"{name}: {what}", step, total),
        card=_card(pupil, name), shots=_shots(pupil, settings, test),
        held_back=pupil.lessons.held_back or (), probe=_probe(test),
    )  # fmt: skip


@dataclass(frozen=True)
class _Part:
    """Those of the rows that one student learns from, read anew at every iteration."""

    rows: Rows
    belongs: Callable[[Example], bool]

    def __iter__(self) -> Iterator[Example]:
        return filter(self.belongs, self.rows)


def _probe(test: Rows) -> Callable[[Model], float]:
    """How many of some test rows a student has right on its way; the same rows always, and no choice is made by it."""

    @cache
    def some() -> list[Example]:
        return nsmallest(PROBED, test, key=lambda row: digest(row.id))

    def probe(model: Model) -> float:
        right = [answer.output == row.target for answer, row in zip(model.predict(some()), some(), strict=True)]
        return sum(right) / len(right)

    return probe


def _answered(pupil: Pupil, models: Mapping[str, Model], test: Rows, watch: Watch) -> Iterator[Prediction]:
    told = time.monotonic()
    for done, answer in enumerate(pupil.lessons.arm.plan.answer(models, test), start=1):
        if time.monotonic() - told >= SECONDS_BETWEEN_WORDS or done == len(test):
            told = time.monotonic()
            watch.step(f"{pupil.name}: test", done, len(test))
        yield answer


def _card(pupil: Pupil, name: str) -> dict[str, str]:
    arm = pupil.lessons.arm
    base = {"Base": f"the student of arm {arm.continues}"} if arm.continues else {}
    return {"Arm": name, "Chain": " > ".join(arm.recipes)} | base


def _shots(pupil: Pupil, settings: Settings, test: Rows) -> Sequence[Example]:
    """Gold rows for the student's prompt: the same ones that a recipe of the arm would draw."""
    if not (isinstance(settings, LanguageSettings) and settings.shots):
        return ()
    task, gold = pupil.lessons.arm.task, pupil.lessons.steps[0]
    return draw_shots(gold, task, settings.shots, seed=0, leaks=TestSplit(test).near)


def _done(scores: Path) -> dict[str, Any]:
    try:
        done = orjson.loads(scores.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):  # broken is as good as absent
        return {}
    return done if isinstance(done, dict) and done.keys() >= {"key", "students", "metrics", "truncated"} else {}


def _begin(folder: Path, key: str) -> None:
    """Clear what another study left in a seed's folder; what this one left is gone on with."""
    mark = folder / "key"
    if folder.exists() and not (mark.exists() and mark.read_text() == key):
        (folder / "scores.json").unlink(missing_ok=True)  # first what says that the rest is whole
        mark.unlink(missing_ok=True)
        shutil.rmtree(folder)
    write_atomically(mark, key.encode())
