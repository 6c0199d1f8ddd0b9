"""What a student is worth on its way: measured a few times, evenly spaced, while it is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import TrainerCallback

from understudy.students.packing import IGNORED
from understudy.students.tune import autocast

ENTRY = "understudy"
BATCH = 16  # sequences


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


@torch.no_grad()
def loss_of(network: Any, rows: Sequence[Any], collate: Callable[[Any], dict[str, Any]], settings: Any) -> float:
    """The mean loss of all tokens that are learnt, in nats."""
    total, learnt = 0.0, 0
    for start in range(0, len(rows), BATCH):
        batch = collate(rows[start : start + BATCH])
        count = int((batch["labels"] != IGNORED).sum())
        given = {name: one.to(network.device) if torch.is_tensor(one) else one for name, one in batch.items()}
        with autocast(network.device, settings.precision):
            total += float(network(**given).loss) * count
        learnt += count
    return total / learnt
