"""Understudy trains a small model to do a big model's job.

Everything a command does is a function here; nothing heavy is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from understudy.cassettes import export_cassette, export_requests, import_cassette
    from understudy.errors import ParseError, UnderstudyError
    from understudy.evaluation import evaluate
    from understudy.finetuning import finetune
    from understudy.prompts import Prompt
    from understudy.provenance import explain
    from understudy.recipes import Given, Recipe
    from understudy.records import Dropped, Example, Origin, Prediction
    from understudy.rehearsal import estimate, rehearse
    from understudy.settings import Settings
    from understudy.sources import Source, load
    from understudy.spine import run
    from understudy.students import load_model, train
    from understudy.study import Study
    from understudy.study_file import load_study
    from understudy.sweeps import sweep
    from understudy.task import Fields, Task
    from understudy.teachers import Ledger, Teacher, TeacherSettings, ask, open_teacher

_HOMES = {
    "Dropped": "records",
    "Example": "records",
    "Fields": "task",
    "Given": "recipes",
    "Ledger": "teachers",
    "Origin": "records",
    "ParseError": "errors",
    "Prediction": "records",
    "Prompt": "prompts",
    "Recipe": "recipes",
    "Settings": "settings",
    "Source": "sources",
    "Study": "study",
    "Task": "task",
    "Teacher": "teachers",
    "TeacherSettings": "teachers",
    "UnderstudyError": "errors",
    "ask": "teachers",
    "estimate": "rehearsal",
    "evaluate": "evaluation",
    "explain": "provenance",
    "export_cassette": "cassettes",
    "export_requests": "cassettes",
    "finetune": "finetuning",
    "import_cassette": "cassettes",
    "load": "sources",
    "load_model": "students",
    "load_study": "study_file",
    "open_teacher": "teachers",
    "rehearse": "rehearsal",
    "run": "spine",
    "sweep": "sweeps",
    "train": "students",
}

__all__ = [
    "Dropped",
    "Example",
    "Fields",
    "Given",
    "Ledger",
    "Origin",
    "ParseError",
    "Prediction",
    "Prompt",
    "Recipe",
    "Settings",
    "Source",
    "Study",
    "Task",
    "Teacher",
    "TeacherSettings",
    "UnderstudyError",
    "ask",
    "estimate",
    "evaluate",
    "explain",
    "export_cassette",
    "export_requests",
    "finetune",
    "import_cassette",
    "load",
    "load_model",
    "load_study",
    "open_teacher",
    "rehearse",
    "run",
    "sweep",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'understudy' has no attribute {name!r}")
    value = getattr(import_module(f"understudy.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
