"""The parts of one training: frozen embeddings, the head on them, the network tuned from it, and their comparison."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from understudy.students import Progress
from understudy.students import head as heads
from understudy.students.batches import by_length, padded
from understudy.students.head import Array, Head
from understudy.students.network import UnderstudyClassifier
from understudy.students.settings import ClassifierSettings
from understudy.students.tune import Checkpoint, Run, tune

HEAD, NETWORK = "head", "whole network"
START_C = 10.0  # a head fitted with a larger C is so sure of its rows that the network learns little more from them
REMEMBERED_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Rows:
    """What is learnt from: texts, and 0/1 of every label, (rows, labels) float64."""

    texts: list[str]
    y: Array
    labels: tuple[str, ...]
    exclusive: bool

    def targets(self) -> torch.Tensor:
        """As the network's loss takes them: label numbers, or 0/1 of every label."""
        return torch.from_numpy(self.y.argmax(1) if self.exclusive else self.y.astype(np.float32))


@dataclass(frozen=True, slots=True)
class Lesson:
    """All that the parts of one training share."""

    settings: ClassifierSettings
    rows: Rows
    network: UnderstudyClassifier
    ids: list[list[int]]
    pad: int
    x: Array  # frozen embeddings, (rows, width) float64
    c: float
    seed: int
    checkpoint: Checkpoint
    report: Progress
    encoder: dict[str, torch.Tensor]  # the untouched encoder

    def split(self) -> tuple[Array, Array]:
        """The rows to learn from in the trial and the rows that are held back, stratified."""
        y = self.rows.y
        part = heads.stratify(heads.first_label(y), round(1 / self.settings.held_back), self.seed)
        learn = np.flatnonzero(part)
        return learn, heads.learnable(y, learn, np.flatnonzero(part == 0))

    def fit(self, which: Array, c: float | None = None) -> Head:
        """The head on the frozen embeddings of some rows."""
        return heads.fit(self.x[which], self.rows.y[which], c or self.c, exclusive=self.rows.exclusive)

    def set(self, head: Head) -> None:
        """Make the network the untouched encoder with ``head``."""
        self.network.encoder.load_state_dict(self.encoder)
        with torch.no_grad():
            self.network.head.weight.copy_(torch.from_numpy(head.weight))
            self.network.head.bias.copy_(torch.from_numpy(head.bias))

    def logits(self, which: Array) -> Array:
        """What the network says to some rows, (rows, labels)."""
        x = torch.from_numpy(_embed(self.network, [self.ids[i] for i in which], self.pad, lambda done: None))
        with torch.inference_mode():
            return self.network.head(x.float().to(self.network.device)).double().cpu().numpy()

    def tune(self, which: Array, stage: str, facts: dict[str, str]) -> Run:
        """Train the whole network on some rows, from a head that was fitted on them."""
        self.set(self.fit(which, min(self.c, START_C)))
        return tune(
            self.network,
            [self.ids[i] for i in which],
            self.rows.targets()[torch.from_numpy(which)],
            self.settings,
            seed=self.seed,
            pad=self.pad,
            checkpoint=self.checkpoint,
            facts={"stage": stage, **facts},
            report=lambda run: self.report(stage, *_done(run, self.settings)),
        )


def _done(run: Run, settings: ClassifierSettings) -> tuple[int, int]:
    """How much is done, and the total."""
    return (run.tokens, settings.tokens or 0) if settings.steps is None else (run.steps, settings.steps)


@dataclass(frozen=True, slots=True)
class Trial:
    """The whole network against the head alone on rows that neither has seen."""

    run: Run
    rows: int
    accuracy: dict[str, float]  # of a multilabel row: all labels right at the probability 0.5
    log_loss: dict[str, float]  # each at its best scale, so that the surer of the two has no handicap
    standard_error: float  # of the difference in log loss
    scale: float  # by what the network's logits are multiplied
    threshold: float

    @property
    def better(self) -> bool:
        """The network's log loss is lower by more than the standard error."""
        return self.log_loss[HEAD] - self.log_loss[NETWORK] > self.standard_error

    def evidence(self) -> dict[str, Any]:
        """What the choice rests on, for a person."""
        return {name: getattr(self, name) for name in ("rows", "accuracy", "log_loss", "standard_error")}

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Trial:
        told = json.loads(text)
        return cls(**told | {"run": Run(**told["run"])})


def hold_trial(lesson: Lesson) -> Trial | None:
    """Train on a part of the rows and compare on the rest; ``None`` where there is nothing to train or compare.

    The checkpoint says so once the trial is over, so that a resume does not repeat it.
    """
    settings, rows = lesson.settings, lesson.rows
    learn, held = lesson.split()
    if settings.steps == 0 or settings.tokens == 0 or len(held) < 2:
        return None
    _, facts = lesson.checkpoint.read()
    if "trial" in facts:
        return Trial.from_json(facts["trial"])
    run = lesson.tune(learn, "trial", {})
    head = lesson.fit(learn).logits(lesson.x[held])
    trial = _compare(run, head, lesson.logits(held), rows.y[held], rows.exclusive)
    lesson.checkpoint.write({}, {"trial": trial.as_json()})
    return trial


def tune_on_all(lesson: Lesson, trial: Trial) -> tuple[Run, bool]:
    """Train the whole network on all rows; and whether that went well.

    It did not, as now and then happens with few rows, if the network is worse on the rows that were held back, which
    it has seen by now, than the head was that had not.
    """
    run = lesson.tune(np.arange(len(lesson.x)), "training", {"trial": trial.as_json()})
    with torch.no_grad():
        for parameter in lesson.network.head.parameters():
            parameter.mul_(trial.scale)
    _, held = lesson.split()
    loss = heads.losses(lesson.logits(held), lesson.rows.y[held], lesson.rows.exclusive).mean()
    return run, bool(loss < trial.log_loss[HEAD])


def _compare(run: Run, head: Array, tuned: Array, y: Array, exclusive: bool) -> Trial:
    scale = {name: heads.best_scale(z, y, exclusive) for name, z in ((HEAD, head), (NETWORK, tuned))}
    logits = {HEAD: scale[HEAD] * head, NETWORK: scale[NETWORK] * tuned}
    loss = {name: heads.losses(z, y, exclusive) for name, z in logits.items()}
    right = {name: z.argmax(1) == y.argmax(1) if exclusive else ((z > 0) == y).all(1) for name, z in logits.items()}
    return Trial(
        run=run,
        rows=len(y),
        accuracy={name: float(hits.mean()) for name, hits in right.items()},
        log_loss={name: float(losses.mean()) for name, losses in loss.items()},
        standard_error=float((loss[HEAD] - loss[NETWORK]).std(ddof=1) / len(y) ** 0.5),
        scale=scale[NETWORK],
        threshold=0.5 if exclusive else heads.best_threshold(logits[NETWORK], y),
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


def frozen_embeddings(
    network: UnderstudyClassifier, ids: list[list[int]], pad: int, key: str, report: Progress
) -> Array:
    """The rows' embeddings by the untouched encoder, remembered by ``key`` up to a bound of memory."""
    x = _REMEMBERED.get(key)
    if x is None:
        x = _embed(network, ids, pad, lambda done: report("embeddings", done, len(ids)))
        _REMEMBERED[key] = x
        while sum(kept.nbytes for kept in _REMEMBERED.values()) > REMEMBERED_BYTES:
            del _REMEMBERED[next(iter(_REMEMBERED))]
    return x
