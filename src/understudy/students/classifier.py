"""The classifier: logistic regression on a frozen encoder first, then the whole network, and the better is kept.

The head alone is hard to beat on few rows, and fine-tuning from a random head falls far below it. So the network
starts from the fitted head. A first training leaves out a stratified part of the rows; only where it is clearly
better on them than the head alone, the network is trained again, on all rows, and delivered. Otherwise the head on
the untouched encoder is, fitted on all rows.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from threadpoolctl import threadpool_limits

from understudy.errors import DataError, OutOfSpace, SettingsError
from understudy.records import Example, digest
from understudy.settings import did_you_mean
from understudy.students import Progress, Trained
from understudy.students import head as heads
from understudy.students.base import identity
from understudy.students.batches import by_length, padded
from understudy.students.head import Array, Head
from understudy.students.network import UnderstudyClassifier, from_base
from understudy.students.saved import load, save, token_ids
from understudy.students.settings import ClassifierSettings
from understudy.students.tune import Checkpoint, Run, tune
from understudy.task import Task

__all__ = ["load", "train"]

HEAD, NETWORK = "head", "whole network"
REPORT_EVERY_S = 0.3
REMEMBERED_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class _Rows:
    """What is learnt from: texts, and 0/1 of every label, (rows, labels) float64."""

    texts: list[str]
    y: Array
    labels: tuple[str, ...]
    exclusive: bool

    def targets(self) -> torch.Tensor:
        """As the network's loss takes them: label numbers, or 0/1 of every label."""
        return torch.from_numpy(self.y.argmax(1) if self.exclusive else self.y.astype(np.float32))


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
    fingerprint = digest(
        settings.canonical(),
        origin,
        str(seed),
        json.dumps(rows.labels),
        str(rows.exclusive),
        *rows.texts,
        rows.y.tobytes(),
    )
    checkpoint = Checkpoint(folder.with_name("checkpoint"), fingerprint)
    done = _finished(folder, fingerprint)
    if done is None:
        with _space(folder), _threads(settings.threads), torch.random.fork_rng():
            done = _train(settings, rows, origin, folder, checkpoint, seed, _seldom(progress), card)
    shutil.rmtree(checkpoint.folder, ignore_errors=True)
    return done


@dataclass(frozen=True, slots=True)
class _Lesson:
    """All that the parts of one training share."""

    settings: ClassifierSettings
    rows: _Rows
    network: UnderstudyClassifier
    ids: list[list[int]]
    pad: int
    x: Array  # frozen embeddings, (rows, width) float64
    c: float
    seed: int
    checkpoint: Checkpoint
    report: Progress

    def fit(self, which: Array) -> Head:
        """The head on the frozen embeddings of some rows."""
        return heads.fit(self.x[which], self.rows.y[which], self.c, exclusive=self.rows.exclusive)

    def tune(self, which: Array, stage: str, facts: dict[str, str]) -> Run:
        """Train the whole network on some rows, from the head that was fitted on them."""
        _set_head(self.network, self.fit(which))
        return tune(
            self.network,
            [self.ids[i] for i in which],
            self.rows.targets()[torch.from_numpy(which)],
            self.settings,
            seed=self.seed,
            pad=self.pad,
            checkpoint=self.checkpoint,
            facts={"stage": stage, **facts},
            report=lambda step: self.report(stage, step, self.settings.steps or 0),
        )


def _train(
    settings: ClassifierSettings,
    rows: _Rows,
    origin: str,
    folder: Path,
    checkpoint: Checkpoint,
    seed: int,
    report: Progress,
    card: Mapping[str, str],
) -> Trained:
    began = time.monotonic()
    network, tokenizer = from_base(settings.base, settings.revision, rows.labels, rows.exclusive, settings.max_length)
    ids, pad = token_ids(tokenizer, rows.texts), tokenizer.pad_token_id
    x = _frozen(network, ids, pad, digest(origin, str(settings.max_length), *rows.texts), report)
    c = heads.choose_c(x, rows.y, exclusive=rows.exclusive, seed=seed)
    lesson = _Lesson(settings, rows, network, ids, pad, x, c, seed, checkpoint, report)
    everything = np.arange(len(x))
    seconds = time.monotonic() - began
    details: dict[str, Any] = {"kept": HEAD, "C": c, "rows": len(x)}
    trial, run = _trial(lesson), Run()
    if trial is not None:
        run, seconds = trial.run, seconds + trial.run.seconds
        details["held_back"] = {"rows": trial.rows, "accuracy": trial.accuracy, "log_loss": trial.log_loss}
        details["held_back"]["standard_error"] = trial.standard_error
    if trial is not None and trial.better:
        details["kept"] = NETWORK
        network.config.threshold = trial.threshold
        run = lesson.tune(everything, "training", {"trial": trial.as_json()})
        seconds += run.seconds
    else:
        _set_head(network, lesson.fit(everything))
        if not rows.exclusive:
            network.config.threshold = heads.choose_threshold(x, rows.y, c, seed=seed)
    parameters = sum(p.numel() for p in network.parameters())
    trained = Trained(
        steps=run.steps, tokens=run.tokens, seconds=round(seconds, 3), parameters=parameters, details=details
    )
    _deliver(folder, network, tokenizer, settings, checkpoint.fingerprint, trained, card)
    return trained


@dataclass(frozen=True, slots=True)
class _Trial:
    """The whole network against the head alone on rows that neither has seen."""

    run: Run
    rows: int
    accuracy: dict[str, float]  # of a multilabel row: all labels right at the probability 0.5
    log_loss: dict[str, float]
    standard_error: float  # of the difference in log loss
    threshold: float

    @property
    def better(self) -> bool:
        """The network's log loss is lower by more than the standard error."""
        return self.log_loss[HEAD] - self.log_loss[NETWORK] > self.standard_error

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> _Trial:
        told = json.loads(text)
        return cls(**told | {"run": Run(**told["run"])})


def _trial(lesson: _Lesson) -> _Trial | None:
    """Train on a part of the rows and compare on the rest; ``None`` where there is nothing to train or compare.

    Leaves the encoder as it was. The checkpoint says so once the trial is over, so that a resume does not repeat it.
    """
    settings, rows = lesson.settings, lesson.rows
    part = heads.stratify(heads.first_label(rows.y), round(1 / settings.held_back), lesson.seed)
    learn, held = np.flatnonzero(part), np.flatnonzero(part == 0)
    if settings.steps == 0 or settings.tokens == 0 or len(held) < 2 or not len(learn):
        return None
    _, facts = lesson.checkpoint.read()
    if "trial" in facts:
        return _Trial.from_json(facts["trial"])
    encoder = lesson.network.encoder
    untouched = {name: value.clone() for name, value in encoder.state_dict().items()}
    run = lesson.tune(learn, "trial", {})
    embedded = _embed(lesson.network, [lesson.ids[i] for i in held], lesson.pad, lambda done: None)
    tuned = _head_of(lesson.network).logits(embedded)
    trial = _compare(run, lesson.fit(learn).logits(lesson.x[held]), tuned, rows.y[held], rows.exclusive)
    encoder.load_state_dict(untouched)
    lesson.checkpoint.write({}, {"trial": trial.as_json()})
    return trial


def _compare(run: Run, head: Array, tuned: Array, y: Array, exclusive: bool) -> _Trial:
    logits = {HEAD: head, NETWORK: tuned}
    loss = {name: heads.losses(z, y, exclusive) for name, z in logits.items()}
    right = {name: z.argmax(1) == y.argmax(1) if exclusive else ((z > 0) == y).all(1) for name, z in logits.items()}
    return _Trial(
        run=run,
        rows=len(y),
        accuracy={name: float(hits.mean()) for name, hits in right.items()},
        log_loss={name: float(losses.mean()) for name, losses in loss.items()},
        standard_error=float((loss[HEAD] - loss[NETWORK]).std(ddof=1) / len(y) ** 0.5),
        threshold=0.5 if exclusive else heads.best_threshold(tuned, y),
    )


def _embed(network: UnderstudyClassifier, ids: list[list[int]], pad: int, report: Callable[[int], None]) -> Array:
    """Embeddings, (rows, width) float64, computed in float32."""
    x = np.zeros((len(ids), network.head.in_features))
    done = 0
    with torch.inference_mode():
        for batch in by_length([len(row) for row in ids]):
            x[batch] = network.embed(*padded([ids[i] for i in batch], pad, network.device)).cpu().numpy()
            report(done := done + len(batch))
    return x


_REMEMBERED: dict[str, Array] = {}  # embeddings of the last sets of rows: the seeds of an arm often share them


def _frozen(network: UnderstudyClassifier, ids: list[list[int]], pad: int, key: str, report: Progress) -> Array:
    """The rows' embeddings by the untouched encoder, remembered by ``key`` up to a bound of memory."""
    x = _REMEMBERED.get(key)
    if x is None:
        x = _embed(network, ids, pad, lambda done: report("embeddings", done, len(ids)))
        _REMEMBERED[key] = x
        while sum(kept.nbytes for kept in _REMEMBERED.values()) > REMEMBERED_BYTES:
            del _REMEMBERED[next(iter(_REMEMBERED))]
    return x


def _set_head(network: UnderstudyClassifier, head: Head) -> None:
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(head.weight))
        network.head.bias.copy_(torch.from_numpy(head.bias))


def _head_of(network: UnderstudyClassifier) -> Head:
    return Head(network.head.weight.detach().double().cpu().numpy(), network.head.bias.detach().double().cpu().numpy())


def _read(task: Task, examples: Iterable[Example]) -> _Rows:
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
    return _Rows([row.input for row in rows], y, labels, task.kind == "classification")


def _finished(folder: Path, fingerprint: str) -> Trained | None:
    """What this very training took, where it is over; the file is the last one written before the folder appears."""
    try:
        told = json.loads((folder / "training.json").read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Trained(**told["trained"]) if told["fingerprint"] == fingerprint else None


def _deliver(
    folder: Path,
    network: UnderstudyClassifier,
    tokenizer: Any,
    settings: ClassifierSettings,
    fingerprint: str,
    trained: Trained,
    card: Mapping[str, str],
) -> None:
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    save(partial, network, tokenizer, settings, trained, card)
    told = {"fingerprint": fingerprint, "settings": settings.model_dump(mode="json"), "trained": asdict(trained)}
    (partial / "training.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", "utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(partial, folder)


def _seldom(progress: Progress | None) -> Progress:
    """``progress`` at most a few times a second."""
    last = 0.0

    def report(what: str, done: int, total: int) -> None:
        nonlocal last
        if progress is not None and (time.monotonic() - last >= REPORT_EVERY_S or done == total):
            last = time.monotonic()
            progress(what, done, total)

    return report


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    """PyTorch's threads as asked; numpy's and scipy's one, as more of them cost time at the head's sizes."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _space(folder: Path) -> Iterator[None]:
    """A full disk as one clear line."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if full or "os error 28" in str(error) or "No space left" in str(error):
            raise OutOfSpace(
                f"the disk is full at {str(folder)!r}; free some space and run the same command again"
            ) from error
        raise
