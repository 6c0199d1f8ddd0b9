"""The causal student: a language model that learns question, answer and explanations, and answers questions."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from understudy.errors import DataError, SettingsError
from understudy.records import Example, digest
from understudy.students import Progress, Trained, serial
from understudy.students.delivery import deliver, finished, seldom, space, threads
from understudy.students.language import longest_of, open_base, origin_of, rows_of, stop_of, with_lora
from understudy.students.packing import isolates, packed, padded_rows
from understudy.students.settings import CausalSettings, Lora, Scratch
from understudy.students.trainer import arguments, fit
from understudy.students.written import About, card_facts, load, save
from understudy.task import Task

__all__ = ["check", "load", "train"]


def train(
    settings: CausalSettings,
    task: Task,
    examples: Iterable[Example],
    folder: Path,
    *,
    seed: int,
    progress: Progress | None,
    card: Mapping[str, str],
) -> Trained:
    """See ``understudy.students.train``."""
    lessons = list(examples)
    if not lessons:
        raise DataError("student: there are no rows to train on; look at the dropped rows of this arm's steps")
    if task.kind == "pretraining":
        raise SettingsError("student.kind: a causal student learns tasks with answers, not 'pretraining'")
    texts = ["".join(serial.text_of(example, task)) for example in lessons]
    labels = task.label_names or _labels(task, lessons)
    fingerprint = digest(settings.canonical(), origin_of(settings), str(seed), task.kind, *labels, *texts)
    done = finished(folder, fingerprint)
    if done is None:
        with space(folder), threads(settings.threads), torch.random.fork_rng():
            torch.manual_seed(seed)  # of what starts random: a network from scratch, adapters
            done = _train(settings, task, lessons, texts, labels, folder, fingerprint, seed, seldom(progress), card)
    return done


@lru_cache
def _opens(base: str, revision: str | None, targets: tuple[str, ...] | None) -> None:
    """Load the base once: its config and the names of its files do not show whether it is whole."""
    network, _ = open_base(CausalSettings(base=base, revision=revision), ())
    if targets:
        with_lora(network, Lora(targets=targets))


def check(settings: CausalSettings) -> str:
    """See ``understudy.students.prepare``."""
    arguments(settings, Path("checkpoint"), seed=0)
    if isinstance(settings.base, str):
        _opens(settings.base, settings.revision, settings.lora.targets if settings.lora else None)
    return origin_of(settings)


def _train(
    settings: CausalSettings,
    task: Task,
    lessons: list[Example],
    texts: list[str],
    labels: tuple[str, ...],
    folder: Path,
    fingerprint: str,
    seed: int,
    report: Progress,
    card: Mapping[str, str],
) -> Trained:
    network, tokenizer = open_base(settings, texts)
    stop, limit = stop_of(network, tokenizer), longest_of(network, settings.max_length)
    assert stop is not None  # open_base refuses a base without one
    rows, cut = rows_of(lessons, task, tokenizer, stop, settings, limit)
    packs = settings.packing and isolates(network)
    collate = partial(packed, pad_id=stop, limit=limit) if packs else partial(padded_rows, pad_id=stop)
    details: dict[str, Any] = {"rows": len(rows), "truncated": cut, "layout": _layout(settings, packs)}
    size = network.num_parameters()
    if settings.lora:
        network = with_lora(network, settings.lora)
        details["trained_parameters"] = network.num_parameters(only_trainable=True)
    checkpoints = folder.with_name("checkpoint")
    run = fit(
        network, rows, collate, settings, folder=checkpoints, fingerprint=fingerprint, seed=seed,
        by_length=not packs, report=report,
    )  # fmt: skip
    if settings.lora:
        network = network.merge_and_unload()
    network.config.use_cache = True  # Trainer turns it off
    trained = Trained(
        steps=run.steps, tokens=run.tokens, seconds=round(run.seconds, 3), parameters=size, details=details
    )
    about = About("causal", task.kind, labels, settings.rank_by, limit, settings.max_new_tokens)
    hub, name = _names(settings)
    if is_first_process():
        keep = partial(save, network=network, tokenizer=tokenizer, about=about, base=hub)
        deliver(folder, fingerprint, trained, partial(keep, facts=card_facts(trained, name, card)))
        shutil.rmtree(checkpoints, ignore_errors=True)
    return trained


def is_first_process() -> bool:
    """Whether this process writes: under torchrun one of several does."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _labels(task: Task, lessons: list[Example]) -> tuple[str, ...]:
    """The answers there are, where the task does not list them."""
    if task.kind not in ("classification", "multilabel"):
        return ()
    targets = [(row.target,) if isinstance(row.target, str) else row.target or () for row in lessons]
    return tuple(sorted({label for target in targets for label in target}))


def _layout(settings: CausalSettings, packs: bool) -> str:
    if packs:
        return "packed"
    why = "the base takes no block mask" if settings.packing else "packing is off"
    return f"grouped by length: {why}"


def _names(settings: CausalSettings) -> tuple[str | None, str]:
    """The hub id of the base, if it has one, and the base's name for a person; never a path of one machine."""
    if isinstance(settings.base, Scratch):
        return None, f"random weights, {settings.base.architecture}"
    folder = Path(settings.base).expanduser()
    return (None, folder.name) if folder.is_dir() else (settings.base, settings.base)
