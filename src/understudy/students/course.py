"""One training of a language model, from rows to a folder; the kinds of students say how rows become batches."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from understudy.errors import DataError, SettingsError
from understudy.pretrained import loading
from understudy.records import Example, digest
from understudy.students import Progress, Trained, serial
from understudy.students.delivery import deliver, finished, seldom, space, threads
from understudy.students.early_stop import EarlyStop, split
from understudy.students.language import names_of, origin_of
from understudy.students.lora import with_lora
from understudy.students.settings import AnyLanguageSettings, Lora
from understudy.students.trainer import Lessons, arguments, fit, order_of
from understudy.students.written import About, card_facts, save
from understudy.task import Task


@dataclass(frozen=True, slots=True)
class Laid:
    """Rows as a network takes them."""

    rows: Sequence[Any]  # in the form that ``collate`` takes
    tokens: Sequence[int]  # of each row
    collate: Callable[[list[Any]], dict[str, Tensor]]
    by_length: bool  # whether a batch is of rows of like length
    details: Mapping[str, Any]  # what was cut, and the layout


OpenBase: TypeAlias = Callable[[Any, Iterable[str]], tuple[Any, Any]]  # settings, texts -> network and tokenizer
Lay: TypeAlias = Callable[[Any, Any, list[Example], Task, Any, str], Laid]
"""Network, tokenizer, rows, task, settings, and what stands before each question."""


def train(
    settings: AnyLanguageSettings,
    task: Task,
    examples: Iterable[Example],
    folder: Path,
    *,
    seed: int,
    progress: Progress | None,
    card: Mapping[str, str],
    shots: Sequence[Example],
    open_base: OpenBase,
    lay: Lay,
) -> Trained:
    """See ``understudy.students.train``."""
    lessons = list(examples)
    if not lessons:
        raise DataError("student: there are no rows to train on; look at the dropped rows of this arm's steps")
    if task.kind == "pretraining":
        raise SettingsError(f"student.kind: a {settings.kind} student learns tasks with answers, not 'pretraining'")
    preface = serial.preface_of(task, shots, settings.rank_by) if settings.prompt == "instruction" else ""
    texts = [preface] if preface else []
    bare = settings.prompt == "bare"
    texts += ["".join(serial.text_of(example, task, settings.rank_by, bare=bare)) for example in lessons]
    labels = task.label_names or _labels(task, lessons)
    fingerprint = digest(settings.canonical(), origin_of(settings), str(seed), task.kind, *labels, *texts)
    done = finished(folder, fingerprint)
    if done is not None:
        return done
    with space(folder), threads(settings.threads), torch.random.fork_rng():
        torch.manual_seed(seed)  # of what starts random: a network from scratch, adapters
        with loading():
            network, tokenizer = open_base(settings, texts)
        laid = lay(network, tokenizer, lessons, task, settings, preface)
        checkpoints = folder.with_name("checkpoint")
        ids = [lesson.id for lesson in lessons]
        trained, network = _fit(settings, network, laid, ids, checkpoints, fingerprint, seed, seldom(progress))
        if is_first_process():
            limits = settings.max_length, settings.max_new_tokens
            about = About(settings.kind, task.kind, labels, settings.rank_by, *limits, preface, bare)
            hub, name = names_of(settings)
            keep = partial(save, network=network, tokenizer=tokenizer, about=about, base=hub)
            deliver(folder, fingerprint, trained, partial(keep, facts=card_facts(trained, name, card)))
            shutil.rmtree(checkpoints, ignore_errors=True)
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # every process finds the model when this returns
    return trained


def check(settings: AnyLanguageSettings, open_base: OpenBase) -> str:
    """See ``understudy.students.prepare``."""
    arguments(settings, Path("checkpoint"), seed=0)
    if isinstance(settings.base, str):
        targets = settings.lora.targets if settings.lora else None
        _opens(open_base, type(settings), settings.base, settings.revision, targets)
    return origin_of(settings)


def is_first_process() -> bool:
    """Whether this process writes: under torchrun one of several does."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


@lru_cache
def _opens(
    open_base: OpenBase,
    kind: Callable[..., AnyLanguageSettings],
    base: str,
    revision: str | None,
    targets: tuple[str, ...] | None,
) -> None:
    """Load the base once: its config and the names of its files do not show whether it is whole."""
    network, _ = open_base(kind(base=base, revision=revision), ())
    if targets:
        with_lora(network, Lora(targets=targets))


def _fit(
    settings: AnyLanguageSettings,
    network: Any,
    laid: Laid,
    ids: Sequence[str],
    checkpoints: Path,
    fingerprint: str,
    seed: int,
    report: Progress,
) -> tuple[Trained, Any]:
    """What the training took, and the trained network, whole again."""
    learnt, held = split(ids, settings.held_back, seed)
    size, details = network.num_parameters(), {"rows": len(learnt), **laid.details}
    if settings.lora:
        with loading():
            network = with_lora(network, settings.lora)
        details["trained_parameters"] = network.num_parameters(only_trainable=True)
    rows, tokens = [laid.rows[i] for i in learnt], [laid.tokens[i] for i in learnt]
    early = None
    if held:
        held.sort(key=laid.tokens.__getitem__)
        early = EarlyStop(
            network, [laid.rows[i] for i in held], laid.collate, checkpoints, every=settings.evaluate_every,
            patience=settings.patience,
        )  # fmt: skip
    lessons = Lessons(rows, order_of(tokens, settings.batch_size, seed, laid.by_length))
    run = fit(
        network, lessons, tokens, laid.collate, settings, folder=checkpoints, fingerprint=fingerprint, seed=seed,
        report=report, early=early,
    )  # fmt: skip
    if early and early.kept:
        details["held_back"] = asdict(early.kept)
    if settings.lora:
        network = network.merge_and_unload()
    network.config.use_cache = True  # Trainer turns it off
    return Trained(
        steps=run.steps, tokens=run.tokens, seconds=round(run.seconds, 3), parameters=size, details=details
    ), network


def _labels(task: Task, lessons: list[Example]) -> tuple[str, ...]:
    """The answers there are, where the task does not list them."""
    if task.kind not in ("classification", "multilabel"):
        return ()
    return tuple(sorted({label for row in lessons for label in row.answers}))
