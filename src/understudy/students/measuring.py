"""What a student is worth on its way: measured a few times, evenly spaced, while it is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from heapq import nsmallest
from typing import Any

import torch
from transformers import TrainerCallback

from understudy.records import Example, digest
from understudy.students.masking import Drawn
from understudy.students.packing import IGNORED
from understudy.students.sentences import SentenceModel
from understudy.students.sequences import Opened
from understudy.students.tune import autocast

ENTRY = "understudy"
BATCH = 16  # sequences
DRAWN, MEASURED_WORDS = 256, 20_000  # rows, and words of them
SCORED = 128  # excerpts of which the perplexity is measured


class Measuring(TrainerCallback):
    """Calls ``measure`` before the first step, ``times`` on the way, and so after the last.

    What was found stands in the state that Trainer writes into each checkpoint, so that a training that goes on has
    what was measured before.
    """

    def __init__(self, network: Any, measure: Callable[[], dict[str, float]], times: int) -> None:
        self.network, self.measure, self.times = network, measure, times
        self.entries: list[dict[str, Any]] = []  # of a training that is over

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self._note(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        points = {round(state.max_steps * (i + 1) / self.times) for i in range(self.times)}
        if state.global_step in points:
            self._note(state)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.entries = [{"step": log["step"], **log[ENTRY]} for log in state.log_history if ENTRY in log]

    def _note(self, state: Any) -> None:
        self.network.eval()
        with torch.random.fork_rng():
            found = self.measure()
        self.network.train()
        state.log_history.append({"step": state.global_step, ENTRY: found})


@contextmanager
def as_delivered(network: Any) -> Iterator[None]:
    """The network without what accelerate lays around it for a training, which computes in bf16 whatever is asked."""
    around = vars(network).pop("forward", None)
    try:
        yield
    finally:
        if around is not None:
            network.forward = around


def excerpts_of(rows: Iterable[Example], words: int) -> list[str]:
    """What every student of a study is measured on: rows drawn by a hash of their ids, in parts of so many words."""
    found, count = [], 0
    for row in nsmallest(DRAWN, rows, key=lambda row: digest(row.id)):
        of_row = row.input.split()
        for start in range(0, len(of_row), words):
            part = of_row[start : start + words]
            found.append(" ".join(part))
            count += len(part)
            if count >= MEASURED_WORDS:
                return found
    return found


@torch.no_grad()
def loss_a_word(
    network: Any,
    laid: Opened,
    excerpts: Sequence[str],
    collate: Callable[[Any], dict[str, Any]],
    settings: Any,
    *,
    around: int,
) -> float:
    """The mean loss of the tokens that are learnt, always with the same gaps, times the tokens a word: nats.

    So students can be compared whose tokenizers are their own.

    Args:
        around: how many tokens stand around each piece; they do not count.
    """
    total, learnt = 0.0, 0
    rows = [Drawn(laid.at(i), (0, i)) for i in range(len(laid.sizes()))]
    for start in range(0, len(rows), BATCH):
        batch = collate(rows[start : start + BATCH])
        count = int((batch["labels"] != IGNORED).sum())
        given = {name: one.to(network.device) if torch.is_tensor(one) else one for name, one in batch.items()}
        with autocast(network.device, settings.precision):
            total += float(network(**given).loss) * count
        learnt += count
    tokens = len(laid.tokens) - around * (len(laid.pieces) - 1)
    return total / learnt * tokens / sum(len(excerpt.split()) for excerpt in excerpts)


def perplexity(model: SentenceModel, excerpts: Sequence[str]) -> dict[str, float]:
    """exp of the mean negative log-likelihood a word of some of the excerpts; a masked student's is pseudo-perplexity.

    Nothing where there are none.
    """
    limit, special = model.about.max_length, model.tokenizer.num_special_tokens_to_add()
    sizes = (
        map(len, model.tokenizer(list(excerpts[:SCORED]), add_special_tokens=False)["input_ids"]) if excerpts else ()
    )
    fitting = [one for one, size in zip(excerpts, sizes, strict=False) if 0 < size <= limit - max(1, special)]
    if not fitting:
        return {}
    surprise = -sum(model.scores(fitting)) / sum(len(excerpt.split()) for excerpt in fitting)
    return {"perplexity_a_word": math.exp(min(700.0, surprise))}  # of a student that learnt nonsense it has no end
