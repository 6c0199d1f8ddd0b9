"""Early stop: the loss on rows that are held back says when a training ends, and which weights are kept."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import TrainerCallback

from understudy.errors import DataError
from understudy.students.packing import IGNORED


def split(ids: Sequence[str], share: float, seed: int) -> tuple[list[int], list[int]]:
    """The numbers of the texts that are trained on, and of those that are held back, each in order.

    Args:
        ids: of the row that each text is of; those of one row stay together.

    Raises:
        DataError: there are too few rows.
    """
    rows = list(dict.fromkeys(ids))
    held = max(1, round(share * len(rows))) if share else 0
    if held >= len(rows):
        raise DataError(
            f"student.held_back: {share!r} of {len(rows)} row leaves none to train on; give more rows or held_back: 0"
        )
    drawn = {rows[i] for i in random.Random(f"{seed}/held back").sample(range(len(rows)), held)}
    return [i for i, id in enumerate(ids) if id not in drawn], [i for i, id in enumerate(ids) if id in drawn]


@dataclass(frozen=True, slots=True)
class Kept:
    """Which weights were kept, and on what evidence."""

    rows: int  # held back
    step: int
    loss: float  # after that step, the mean of all tokens that are learnt; nan where no loss was a number


class EarlyStop(TrainerCallback):
    """Measures the loss on rows that are held back, keeps the weights with the lowest, and ends the training.

    What it must remember stands in the state that Trainer writes into each checkpoint, so that a resumed training
    knows at each step what an unbroken one knows. Weights are files beside the checkpoints, named by their step: those
    that the last checkpoint tells of stay until the next one is whole.

    Args:
        rows: those held back, in the form that ``collate`` takes.
        every, patience: as in the settings.
    """

    def __init__(
        self,
        network: Any,
        rows: Sequence[Any],
        collate: Callable[[list[Any]], dict[str, Tensor]],
        folder: Path,
        *,
        every: int,
        patience: int,
    ) -> None:
        self.network, self.rows, self.collate, self.folder = network, rows, collate, folder
        self.every, self.patience = every, patience
        self.kept: Kept | None = None  # until the training is over

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        step = state.global_step
        if step % self.every == 0 or step == state.max_steps:
            loss = self._loss(args)
            if loss < (math.inf if state.best_metric is None else state.best_metric):
                state.best_metric, state.best_global_step = loss, step
                if args.should_save:
                    self._write(step)
        if step // self.every - (state.best_global_step or 0) // self.every >= self.patience:
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if args.should_save:
            for path in self.folder.glob("best-*.safetensors"):
                if path != self._path(state.best_global_step):
                    path.unlink()

    def keep_best(self, state: Any) -> None:
        """Give the network the best weights of a training that is over; the last ones where no loss was a number."""
        if state.best_metric is None:
            self.kept = Kept(len(self.rows), state.global_step, math.nan)
            return
        best = load_file(self._path(state.best_global_step))
        with torch.no_grad():
            for name, parameter in self._trained().items():
                parameter.copy_(best[name])
        self.kept = Kept(len(self.rows), state.best_global_step, state.best_metric)

    def _trained(self) -> dict[str, Tensor]:
        return {name: one for name, one in self.network.named_parameters() if one.requires_grad}

    def _path(self, step: int | None) -> Path:
        return self.folder / f"best-{step}.safetensors"

    def _write(self, step: int) -> None:
        partial = self._path(step).with_suffix(".partial")
        save_file({name: one.detach().contiguous() for name, one in self._trained().items()}, partial)
        os.replace(partial, self._path(step))

    @torch.no_grad()
    def _loss(self, args: Any) -> float:
        total, learnt, device = 0.0, 0, self.network.device
        self.network.eval()
        with torch.autocast(device.type, torch.bfloat16, enabled=args.bf16):
            for start in range(0, len(self.rows), args.per_device_train_batch_size):
                batch = self.collate(list(self.rows[start : start + args.per_device_train_batch_size]))
                count = int((batch["labels"] != IGNORED).sum())
                given = {name: one.to(device) if torch.is_tensor(one) else one for name, one in batch.items()}
                total += float(self.network(**given).loss) * count
                learnt += count
        self.network.train()
        return _of_first(total / learnt, args.world_size)


def _of_first(loss: float, world_size: int) -> float:
    """What the first process found: all end at the same step."""
    if world_size == 1:
        return loss
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([loss])[0]
