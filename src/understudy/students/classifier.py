"""The classifier: logistic regression on a frozen encoder first, then the whole network, and the better is kept.

The head alone is hard to beat on few rows, and fine-tuning from a random head falls far below it. So the network
starts from the fitted head. A first training leaves out a stratified part of the rows; only where it is clearly
better on them than the head alone, the network is trained again, on all rows, and delivered. Otherwise the head on
the untouched encoder is, fitted on all rows.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from understudy.errors import DataError, SettingsError
from understudy.pretrained import identity
from understudy.records import Example, digest
from understudy.settings import did_you_mean
from understudy.students import Progress, Trained
from understudy.students import head as heads
from understudy.students.delivery import deliver, finished, seldom, space, threads
from understudy.students.lesson import HEAD, NETWORK, Lesson, Rows, frozen_embeddings, hold_trial, tune_on_all
from understudy.students.network import from_base
from understudy.students.saved import load, save, token_ids
from understudy.students.settings import ClassifierSettings
from understudy.students.tune import Checkpoint, Run
from understudy.task import Task

__all__ = ["load", "train"]


def train(
    settings: ClassifierSettings,
    task: Task,
    examples: Iterable[Example],
    folder: Path,
    *,
    seed: int,
    progress: Progress | None,
    card: Mapping[str, str],
) -> Trained:
    """See ``understudy.students.train``."""
    folder = Path(folder)
    rows = _read(task, examples)
    origin = identity(settings.base, settings.revision)
    what = (settings.canonical(), origin, str(seed), task.kind, *rows.labels)
    fingerprint = digest(*what, *rows.texts, rows.y.tobytes())
    checkpoint = Checkpoint(folder.with_name("checkpoint"), fingerprint)
    done = finished(folder, fingerprint)
    if done is None:
        with space(folder), threads(settings.threads), torch.random.fork_rng():
            done = _train(settings, rows, origin, folder, checkpoint, seed, seldom(progress), card)
    shutil.rmtree(checkpoint.folder, ignore_errors=True)
    return done


def _train(
    settings: ClassifierSettings,
    rows: Rows,
    origin: str,
    folder: Path,
    checkpoint: Checkpoint,
    seed: int,
    report: Progress,
    card: Mapping[str, str],
) -> Trained:
    began = time.monotonic()
    network, tokenizer = from_base(
        settings.base, settings.revision, rows.labels, rows.exclusive, settings.max_length, settings.layers
    )
    ids, pad = token_ids(tokenizer, rows.texts), tokenizer.pad_token_id
    encoder = origin, str(settings.layers), str(settings.max_length)
    x = frozen_embeddings(network, ids, pad, digest(*encoder, *rows.texts), report)
    c = heads.choose_c(x, rows.y, exclusive=rows.exclusive, seed=seed, report=partial(report, "head"))
    untouched = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    lesson = Lesson(settings, rows, network, ids, pad, x, c, seed, checkpoint, report, untouched)
    seconds = time.monotonic() - began
    details: dict[str, Any] = {"kept": HEAD, "C": c, "rows": len(x)}
    trial, run = hold_trial(lesson), Run()
    if trial is not None:
        run, seconds = trial.run, seconds + trial.run.seconds
        details["held_back"] = trial.evidence()
    if trial is not None and trial.better:
        run, well = tune_on_all(lesson, trial)
        seconds += run.seconds
        details["kept"] = NETWORK if well else HEAD
        network.config.threshold = trial.threshold
    if details["kept"] == HEAD:
        lesson.set(heads.fit(x, rows.y, c, exclusive=rows.exclusive))
        if not rows.exclusive:
            network.config.threshold = heads.choose_threshold(x, rows.y, c, seed=seed)
    size = sum(p.numel() for p in network.parameters())
    trained = Trained(steps=run.steps, tokens=run.tokens, seconds=round(seconds, 3), parameters=size, details=details)
    deliver(folder, checkpoint.fingerprint, trained, lambda to: save(to, network, tokenizer, settings, trained, card))
    return trained


def _read(task: Task, examples: Iterable[Example]) -> Rows:
    if task.kind not in ("classification", "multilabel"):
        raise SettingsError(f"student.kind: a classifier learns classification or multilabel tasks, not {task.kind!r}")
    rows = list(examples)
    if not rows:
        raise DataError("student: there are no rows to train on; look at the dropped rows of this arm's steps")
    targets = [(row.target,) if isinstance(row.target, str) else row.target for row in rows]
    labels = task.label_names or tuple(sorted({label for target in targets for label in target or ()}))
    number = {label: i for i, label in enumerate(labels)}
    y = np.zeros((len(rows), len(labels)))
    for i, (row, target) in enumerate(zip(rows, targets, strict=True)):
        if target is None or (task.kind == "classification" and len(target) != 1):
            raise DataError(f"example {row.id!r}: a target with one label is expected, got {row.target!r}")
        for label in target:
            if label not in number:
                known = did_you_mean(label, list(labels))
                raise DataError(f"example {row.id!r}: {label!r} is none of the task's labels. {known}")
            y[i, number[label]] = 1
    return Rows([row.input for row in rows], y, labels, task.kind == "classification")
