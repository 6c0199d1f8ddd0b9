"""Students: the small models that learn. Settings by kind, training, and loading what was trained.

Only ``train`` and ``load_model`` load PyTorch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeAlias

from understudy.errors import DataError, MissingPackage, SettingsError
from understudy.pretrained import identity
from understudy.records import Example, Prediction
from understudy.settings import Settings, did_you_mean, validate
from understudy.students.settings import (
    CausalSettings,
    ClassifierSettings,
    LanguageSettings,
    MaskedSettings,
    Seq2SeqSettings,
    StudentSettings,
)
from understudy.task import Task

__all__ = ["Model", "Progress", "Trained", "identity", "load_model", "prepare", "settings_model", "train"]

Progress: TypeAlias = Callable[[str, int, int], None]

KINDS: Mapping[str, type[StudentSettings]] = {
    "classifier": ClassifierSettings,
    "causal": CausalSettings,
    "seq2seq": Seq2SeqSettings,
    "masked": MaskedSettings,
}
ANSWERED = ("classification", "multilabel", "choice", "extraction", "numeric", "generation")
CONTINUE = ("causal", "seq2seq", "masked")  # the kinds whose trained student can be a base
LEARNS: Mapping[str, tuple[str, ...]] = {
    "classifier": ("classification", "multilabel"),
    "causal": (*ANSWERED, "pretraining"),
    "seq2seq": ANSWERED,
    "masked": ("pretraining",),
}
NEEDS: Mapping[str, tuple[str, ...]] = {
    "classifier": ("torch", "transformers", "sklearn", "safetensors"),
    "causal": ("torch", "transformers", "accelerate", "safetensors"),
    "seq2seq": ("torch", "transformers", "accelerate", "safetensors"),
    "masked": ("torch", "transformers", "accelerate", "safetensors"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training took.

    ``steps`` and ``tokens`` count one training of the whole network, the same for every arm with the same settings
    but where ``held_back`` ends it early;
    ``details`` is the student's own account (which network was kept, on what evidence).
    """

    steps: int
    tokens: int
    seconds: float
    parameters: int
    details: Mapping[str, Any] = field(default_factory=dict)


class Model(Protocol):
    """A trained student.

    ``truncated`` counts the inputs of which it has not read all, as they were longer than it reads.
    """

    truncated: int

    def predict(self, inputs: Iterable[str | Example]) -> Iterator[Prediction]:
        """One prediction an input, in input order; memory does not grow with the inputs.

        An input is a text, or an example where more than its text counts: its choices. No target is looked at.
        """
        ...


def settings_model(kind: str) -> type[Settings]:
    """The settings of a kind of student.

    Raises:
        SettingsError: there is no such kind; the known ones are listed.
    """
    if not isinstance(kind, str) or kind not in KINDS:
        raise SettingsError(f"student.kind: there is no student {kind!r}. {did_you_mean(str(kind), list(KINDS))}")
    return KINDS[kind]


def train(
    settings: Settings | Mapping[str, Any],
    task: Task,
    examples: Iterable[Example],
    folder: str | Path,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    card: Mapping[str, str] | None = None,
    shots: Sequence[Example] = (),
    held_back: Iterable[Example] = (),
    probe: Callable[[Model], float] | None = None,
) -> Trained:
    """Train the student that ``settings`` describe and leave it in ``folder``, whole or not at all.

    Killed at any moment, the same call goes on from the last checkpoint (kept beside ``folder`` until the end)
    and ends with the weights of an unbroken run. Called again when ``folder`` is whole, it only reads what it took.

    Args:
        settings: those of a kind of student, or plain values with ``kind``, as in a study.
        examples: rows with a target; the target holds names of the task's labels.
        folder: the model's folder, e.g. ``arms/gold/seed-0/model``.
        progress: called with what is done, how much of it, and the total, a few times a second.
        card: lines for the model card, e.g. ``{"Arm": "gold", "Recipe": "..."}``.
        shots: solved rows for the prompt of a language model with ``prompt: instruction``.
        held_back: for kind: pretraining, texts on which the loss is measured on the way; read several times, as
            ``examples`` are then.
        probe: for kind: pretraining, what else the student is worth on the way, a share.

    Raises:
        DataError: there are no rows, or a row's target is none of the task's labels.
        SettingsError: the student does not go with the task's kind.
        MissingPackage: PyTorch, transformers or the packaged base is not installed.
    """
    if isinstance(settings, Mapping):
        settings = validate(settings_model(settings.get("kind", "")), dict(settings), "student")
    more: dict[str, Any] = {"shots": shots} if isinstance(settings, LanguageSettings) else {}
    if task.kind == "pretraining":
        more |= {"held_back": held_back, "probe": probe}
    _check_kind(settings, task.kind)
    for kind, model in KINDS.items():
        if isinstance(settings, model):
            return _student(kind).train(
                settings, task, examples, Path(folder), seed=seed, progress=progress, card=card or {}, **more
            )
    raise SettingsError(f"student: no student is described by {type(settings).__name__}; use one of {', '.join(KINDS)}")


def load_model(folder: str | Path) -> Model:
    """The trained student in ``folder``.

    Raises:
        DataError: the folder is no model; the message says what is missing.
    """
    return _student(_kind_of(Path(folder))).load(Path(folder))


def prepare(settings: Settings, task: Task) -> str:
    """See to it that a student can be trained, before anything is spent on its lessons.

    Returns:
        What the student starts from, by content: for the hash of the model.

    Raises:
        DataError: its base is no model.
        MissingPackage: PyTorch, transformers or the packaged base is not installed.
        SettingsError: the student does not go with the task's kind.
    """
    assert isinstance(settings, CausalSettings | Seq2SeqSettings | MaskedSettings | ClassifierSettings)
    if task.kind not in LEARNS[settings.kind]:
        fits = ", ".join(LEARNS[settings.kind])
        raise SettingsError(f"student.kind: a {settings.kind} cannot learn kind: {task.kind}; it fits {fits}")
    _check_kind(settings, task.kind)
    lora = ("peft",) if isinstance(settings, LanguageSettings) and settings.lora else ()
    for package in (*NEEDS[settings.kind], *lora):
        if find_spec(package) is None:
            raise MissingPackage(f"a student needs {package}: pip install 'understudy[train]'")
    if isinstance(settings, ClassifierSettings):
        _loads(settings.base, settings.revision, settings.layers)
        return identity(settings.base, settings.revision)
    return _student(settings.kind).check(settings)


NOT_FOR_RAW = (
    "lora",
    "held_back",
    "prompt",
    "shots",
    "rank_by",
    "max_new_tokens",
    "evaluate_every",
    "patience",
    "loss_on",
)
ONLY_FOR_RAW = ("lines", "measurements")


def _check_kind(settings: Settings, kind: str) -> None:
    """Refuse settings that would say nothing for this kind of task."""
    changed = settings.model_dump(exclude_defaults=True) if isinstance(settings, LanguageSettings) else {}
    for name in NOT_FOR_RAW if kind == "pretraining" else ONLY_FOR_RAW:
        if name in changed:
            raise SettingsError(f"student.{name}: it is not for kind: {kind}; take it out")


@lru_cache
def _loads(base: str, revision: str | None, layers: int | None) -> None:
    """Load the base once: its config and the names of its files do not show whether it is whole."""
    from understudy.students.network import from_base

    from_base(base, revision, ("a", "b"), True, 16, layers)


def _kind_of(folder: Path) -> str:
    """The kind of the student in ``folder``, as its student.json says; a classifier has none."""
    path = folder / "student.json"
    try:
        kind = json.loads(path.read_text("utf-8"))["kind"] if path.is_file() else "classifier"
    except (ValueError, KeyError, TypeError):
        kind = None
    if not isinstance(kind, str) or kind not in KINDS:
        raise DataError(f"model: {str(path)!r} is missing or broken; train the model again")
    return kind


def _student(kind: str) -> ModuleType:
    try:
        return import_module(f"understudy.students.{kind}")
    except ImportError as error:
        raise MissingPackage(f"a student needs {error.name or error}: pip install 'understudy[train]'") from error
