"""What is installed, reachable and missing: looked at before it hurts."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from understudy.errors import UnderstudyError
from understudy.students import identity, prepare
from understudy.teachers import Ledger, check, ledger_path

EXTRAS = {
    "train": ("torch", "transformers", "accelerate", "peft", "scikit-learn", "safetensors"),
    "hub": ("datasets",),
    "retrieve": ("bm25s", "sentence-transformers"),
    "evaluate": ("rouge-score", "sacrebleu"),
    "pictures": ("matplotlib",),
    "text": ("sentencex",),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. ``needed`` ones make ``doctor`` fail."""

    what: str
    ok: bool
    found: str
    needed: bool = False


def examine(study: str | Path | None = None, *, probe: bool = False) -> list[Check]:
    """Look at the installation, the ledger, and, for a study, its data and its teacher.

    Args:
        probe: ask the study's teachers up to four tiny questions each, to see what their endpoints can do.
    """
    checks = [Check("python", sys.version_info >= (3, 11), sys.version.split()[0], needed=True)]
    for extra, packages in EXTRAS.items():
        checks += [_package(name, extra) for name in packages]
    checks += [_base_model(), _ledger()]
    return checks + (_study(study, probe) if study else [])


def _package(name: str, extra: str) -> Check:
    try:
        return Check(name, True, version(name))
    except PackageNotFoundError:
        return Check(name, False, f'pip install "understudy[{extra}]"')


def _base_model() -> Check:
    from understudy.students.settings import ClassifierSettings

    try:
        identity(ClassifierSettings().base)
        return Check("all-MiniLM-L6-v2", True, "in the installed package, checksum right")
    except UnderstudyError as error:
        return Check("all-MiniLM-L6-v2", False, str(error))


def _ledger() -> Check:
    path = ledger_path()
    try:
        if not path.exists():
            parent = next(folder for folder in path.parents if folder.exists())
            return Check("ledger", os.access(parent, os.W_OK), f"{path} (made at the first run)", needed=True)
        with Ledger.open(path) as ledger:
            info = ledger.info()
        return Check("ledger", True, f"{path}, {info.replies:,} replies, {info.usd:.2f} usd", needed=True)
    except UnderstudyError as error:
        return Check("ledger", False, str(error), needed=True)


def _study(study: str | Path, probe: bool) -> list[Check]:
    from understudy.sources import validate_source
    from understudy.splits import SPLITS
    from understudy.study_file import load_study

    try:
        checked, _ = load_study(study)
        checks = [Check("study", True, f"{checked.name}: arms {', '.join(checked.arms)}", needed=True)]
        for split in SPLITS:
            for source in checked.task.sources(split):
                validate_source(source, checked.task, split)
                checks.append(Check(f"task.{split}", True, source.place, needed=True))
    except UnderstudyError as error:
        return [Check("study", False, str(error), needed=True)]
    plans = checked.plans()
    for teacher in {teacher.canonical(): teacher for plan in plans for teacher in plan.teachers}.values():
        checks += [Check(what, ok, found, needed=True) for what, ok, found in check(teacher, ask=probe)]
    for plan in plans:
        try:
            prepare(plan.student, plan.task)
        except UnderstudyError as error:
            checks.append(Check(f"student of arm {plan.name}", False, str(error), needed=True))
    return checks
