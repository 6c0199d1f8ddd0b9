"""Fine-tune models on a folder of classification tasks: a run for each task, an arm for each model, then one table."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from understudy.errors import SettingsError, UnderstudyError
from understudy.pretrained import local_folder
from understudy.progress import Silent, Watch
from understudy.reading import limited
from understudy.records import digest
from understudy.report import build_suite, write_suite
from understudy.settings import without_passwords
from understudy.sources import Source, load, read
from understudy.spine import command_of, run, run_folder
from understudy.study_file import load_study
from understudy.suites import FEATURES, SuiteTask, tasks_in
from understudy.workspace.files import disk_errors, write_atomically

STUDENT = {"kind": "classifier", "learning_rate": 5e-5, "batch_size": 64, "max_length": 128}
"""As the BabyLM pipeline fine-tunes; what is not named is as the student's own settings have it."""
EPOCHS = 10
SEEDS = (0, 1, 2)
_LONGEST_NAME = 80


@dataclass(frozen=True)
class _Planned:
    """A task as the study that is run."""

    task: SuiteTask
    study: dict[str, Any]
    steps: int | None
    folder: Path


def finetune(
    models: Sequence[str | Path] | Mapping[str, str | Path],
    suite: str | Path,
    *,
    tasks: Sequence[str] = (),
    seeds: Sequence[int] = SEEDS,
    epochs: float = EPOCHS,
    folder: str | Path | None = None,
    changes: Sequence[str] = (),
    limit: int | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Fine-tune each model on each task of a folder, or go on where that was stopped, and tell all in one table.

    Every task has a run folder of its own inside the suite's. A run that fails does not stop the others.

    Args:
        models: folders or hub ids of encoders, ``name=folder`` where a column is to be called so, or a mapping of names
            to them. The first is what the others are compared with.
        suite: the folder of the tasks, as ``understudy.suites`` reads it.
        tasks: only these, by name.
        seeds: a student is trained for each.
        epochs: how often the training rows are seen; ``student.steps`` among the changes wins over it.
        folder: the folder of all runs; ``runs/finetune-<models>`` by default.
        changes: ``"student.batch_size=16"`` and the like, on top of every task's study.
        limit: read at most this many rows of every split.

    Returns:
        What stands in ``table.json``.

    Raises:
        SettingsError, DataError: a model, a task or a setting cannot be used; nothing was trained.
        UnderstudyError: a run failed; the table of the others is written, and the same command goes on.
    """
    watch = watch or Silent()
    bases, suite = named(models), Path(suite)
    for base in bases.values():
        local_folder(base, "model")
    given = [f"{name}={base}" if _name(base) != name else base for name, base in bases.items()]
    place = Path(folder or suite_folder(bases, limit))
    found = tasks_in(suite, tasks)
    planned = [_plan(task, bases, place, seeds, epochs, changes, limit) for task in found]
    reports: dict[str, dict[str, Any]] = {}
    failures: dict[str, UnderstudyError] = {}
    for number, one in enumerate(planned, start=1):
        watch.note(f"task {number} of {len(planned)}: {one.task.name}")
        try:
            reports[one.task.name] = _run(one, bases, seeds, changes, limit, watch)
        except UnderstudyError as error:
            failures[one.task.name] = error
            watch.note(f"{one.task.name} failed: {without_passwords(str(error))}")
    if not reports:
        raise _failed(failures, len(planned))
    more = [word for name in tasks for word in ("--task", name)]
    more += ["--seeds", ",".join(map(str, seeds))] if tuple(seeds) != SEEDS else []
    more += ["--epochs", f"{epochs:g}"] if epochs != EPOCHS else []
    command = command_of(
        "finetune", given[0], *given[1:], str(suite), *more, changes=changes, limit=limit, folder=folder, offline=False
    )
    failed = {name: without_passwords(str(error)) for name, error in failures.items()}
    told = build_suite(suite.resolve().name, list(bases), reports, failed, command)
    with disk_errors(place):
        write_suite(place, told)
    if failures:
        raise _failed(failures, len(planned))
    return told


def named(models: Sequence[str | Path] | Mapping[str, str | Path]) -> dict[str, str]:
    """Column -> the model in it.

    Raises:
        SettingsError: there is no model, or two would be called alike.
    """
    if isinstance(models, Mapping):
        return {name: str(base) for name, base in models.items()}
    bases: dict[str, str] = {}
    for model in map(str, models):
        name, sign, base = model.partition("=")
        if not sign or not name or "/" in name or Path(model).exists():
            name, base = _name(model), model
        if name in bases:
            raise SettingsError(
                f"two models are called {name!r}: {bases[name]!r} and {base!r}; name them, e.g. first={base}"
            )
        bases[name] = base
    if not bases:
        raise SettingsError("a model is needed: a folder, or a hub id")
    return bases


def suite_folder(models: Iterable[str], limit: int | None = None) -> Path:
    """Where models of these names are fine-tuned by default."""
    return run_folder(_slug("-".join(["finetune", *models])), limit)


def _name(model: str) -> str:
    """``raw seed-0`` for ``runs/cothought/arms/raw/seed-0/model``, else the folder's or the hub id's last part."""
    parts = [part for part in Path(model).parts if part not in ("..", "/")]
    while len(parts) > 1 and parts[-1] == "model":
        parts.pop()
    if len(parts) > 2 and parts[-3] == "arms":
        return " ".join(parts[-2:])
    return parts[-1] if parts else "model"


def _slug(name: str) -> str:
    """As a name of a folder and of a study."""
    plain = re.sub(r"[^\w.-]+", "-", name).strip(".-") or "task"
    return plain if len(plain) <= _LONGEST_NAME else f"{plain[:_LONGEST_NAME]}-{digest(name)[:8]}"


def _plan(
    task: SuiteTask,
    bases: Mapping[str, str],
    place: Path,
    seeds: Sequence[int],
    epochs: float,
    changes: Sequence[str],
    limit: int | None,
) -> _Planned:
    """The study of one task, checked.

    Raises:
        SettingsError: a change does not fit.
        DataError: with the changes there is no row to train on.
    """
    folder = place / _slug(task.name)
    test = folder / "told-apart.jsonl" if task.is_mixed else task.test.resolve()
    study: dict[str, Any] = {
        "name": _slug(task.name),
        "task": {
            "instruction": f"Which label does a text of {task.name} have?",
            "kind": "classification",
            "labels": dict(task.labels),
            "fields": task.fields.model_dump(exclude_unset=True),
            "metrics": list(task.metrics),
            "train": {"path": str(task.train.resolve())},
            "test": {"path": str(test)},
        },
        "student": dict(STUDENT),
        "arms": {name: {"chain": ["gold"], "student": {"base": _anchored(base)}} for name, base in bases.items()},
        "seeds": list(seeds),
    }
    changed = load_study(study, changes)[0].plans()[0]
    read = limited(changed.task, limit)  # a change may say which of the rows are read, or others
    rows = sum(1 for source in read.sources("train") for _ in load(source, read))
    study["student"]["steps"] = math.ceil(rows * epochs / changed.student.model_dump()["batch_size"])
    steps = load_study(study, changes)[0].plans()[0].student.model_dump()["steps"]
    return _Planned(task, study, steps, folder)


def _anchored(base: str) -> str:
    """A folder as it is found from anywhere; names of packages and of the hub as they are."""
    place = Path(base).expanduser()
    return str(place.resolve()) if place.is_dir() else base


def _run(
    planned: _Planned,
    bases: Mapping[str, str],
    seeds: Sequence[int],
    changes: Sequence[str],
    limit: int | None,
    watch: Watch,
) -> dict[str, Any]:
    """One task's run: its report, and beside it what the students themselves tell."""
    task, notes = planned.task, list(planned.task.notes)
    if task.is_mixed:
        kept, rows = _tell_apart(task.test, planned.folder / "told-apart.jsonl")
        notes.append(f"scored on the {kept:,} of {rows:,} {task.split} rows whose two features differ, as in MSGS.")
    report = run(planned.study, folder=planned.folder, changes=changes, limit=limit, watch=watch)
    students = {
        name: [orjson.loads((planned.folder / f"arms/{name}/seed-{seed}/scores.json").read_bytes()) for seed in seeds]
        for name in bases
    }
    return {
        "report": report,
        "split": task.split,
        "steps": planned.steps,
        "folder": planned.folder.name,
        "notes": notes,
        "truncated": {name: max(one["truncated"] for one in told) for name, told in students.items()},
        "heads": {
            name: sum(one["students"][""]["details"].get("kept") == "head" for one in told)
            for name, told in students.items()
        },
    }


def _tell_apart(test: Path, to: Path) -> tuple[int, int]:
    """Write the test rows whose linguistic and surface feature have different labels; how many they are, and all."""
    rows = [fields for _, fields in read(Source(path=str(test)))]
    kept = [row for row in rows if row[FEATURES[0]] != row[FEATURES[1]]]
    with disk_errors(to.parent):
        write_atomically(to, b"".join(orjson.dumps(row) + b"\n" for row in kept))
    return len(kept), len(rows)


def _failed(failures: Mapping[str, UnderstudyError], planned: int) -> UnderstudyError:
    name, first = next(iter(failures.items()))
    others = "; the table has the others" if len(failures) < planned else ""
    told = UnderstudyError(
        f"{len(failures)} of {planned} tasks failed{others}. The first of them, {name}: "
        f"{without_passwords(str(first))}\nWhat is finished is kept: the same command goes on"
    )
    told.exit_code = first.exit_code
    return told
