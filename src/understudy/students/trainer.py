"""Training by transformers' Trainer: rows in an order of the seed, checkpoints by the clock, none of it hidden."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, count, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback, get_reporting_integration_callbacks
from transformers.trainer_utils import get_last_checkpoint

from understudy.errors import SettingsError
from understudy.pretrained import quiet
from understudy.settings import did_you_mean
from understudy.students import Progress
from understudy.students.batches import shuffled
from understudy.students.early_stop import EarlyStop
from understudy.students.packing import shares_out
from understudy.students.settings import MaskedSettings, TrainerSettings
from understudy.students.tune import Run, in_bf16
from understudy.workspace.files import write_atomically

OURS = {
    "output_dir": "checkpoints stand beside the model",
    "resume_from_checkpoint": "a training always goes on",
    "eval_strategy": "a training sees no rows but its own; held_back measures the loss on some of them",
    "train_sampling_strategy": "rows come shuffled by the seed and the epoch, which the count of tokens goes by; "
    "packing: false has rows of like length together",
    "dataloader_persistent_workers": "its workers would keep the first epoch's order of the rows",
}


class Lessons(Dataset[Any]):
    """Rows in an order that is a function of the seed and the epoch alone."""

    def __init__(self, rows: Sequence[Any], order: Callable[[int], list[int]]) -> None:
        self.rows = rows
        self.order_of = order
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate's data loader before each pass."""
        self.order = self.order_of(epoch)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Any:
        return self.rows[self.order[i]]


def arguments(settings: TrainerSettings, folder: Path, seed: int) -> TrainingArguments:
    """The settings as transformers' own; ``settings.trainer`` wins.

    Raises:
        SettingsError: there is no such argument, or transformers refuses its value.
    """
    known = {one.name: type(one.default) for one in dataclasses.fields(TrainingArguments) if one.init}
    for name in settings.trainer:
        if name in OURS:
            raise SettingsError(f"student.trainer.{name}: {OURS[name]}; take this key out")
        if name not in known:
            raise SettingsError(f"student.trainer.{name}: unknown key. {did_you_mean(name, list(known))}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ours: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": settings.warmup,  # below 1 it is a part of all steps
        "weight_decay": settings.weight_decay,
        "bf16": in_bf16(device, settings.precision),
        "seed": seed,
        "report_to": list(settings.report_to) if isinstance(settings.report_to, tuple) else settings.report_to,
        "logging_steps": 10,
        "save_strategy": "no",  # by the clock instead
        "save_total_limit": 1,
        "use_cpu": not (
            torch.cuda.is_available() or torch.backends.mps.is_available()
        ),  # else torchrun sees one process
        "train_sampling_strategy": "sequential",  # the rows come shuffled
        "remove_unused_columns": False,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "disable_tqdm": True,
    }
    try:
        for name, value in settings.trainer.items():  # YAML reads 1e-4 as a text
            ours[name] = known[name](value) if isinstance(value, str) and known[name] in (int, float) else value
        args = TrainingArguments(**ours)
        if isinstance(settings, MaskedSettings) and shares_out():
            args._n_gpu = 1  # gaps are places in a whole batch, which would be cut up; torchrun takes all of them
        for report in get_reporting_integration_callbacks(args.report_to):
            report()  # which is an error where its package is not installed
        return args
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise SettingsError(f"student.trainer: {str(error).strip().splitlines()[0]}") from error


class Ordered(Protocol):
    """Rows that Trainer reads one after another: in an order that is a function of the epoch alone."""

    @property
    def order_of(self) -> Callable[[int], Sequence[int] | NDArray[Any]]:
        """Epoch -> row numbers."""
        ...


def fit(
    network: Any,
    lessons: Ordered,
    tokens: Sequence[int] | NDArray[Any],
    collate: Callable[[list[Any]], dict[str, Tensor]],
    settings: TrainerSettings,
    *,
    folder: Path,
    fingerprint: str,
    seed: int,
    report: Progress,
    early: EarlyStop | None = None,
    measuring: TrainerCallback | None = None,
) -> Run:
    """Train ``network`` in place, from the last whole checkpoint in ``folder`` that has this ``fingerprint``.

    Args:
        lessons: a dataset of PyTorch, as ``Lessons``.
        tokens: how many of each row.
        collate: rows -> what the network takes, with ``labels``.
        early: what may end the training before, and then has the best weights kept.
        measuring: called as the training goes on.
    """
    args = arguments(settings, folder, seed)
    costs = _tokens_by_step(tokens, lessons.order_of, args)
    if not settings.trainer.keys() & {"max_steps", "num_train_epochs"}:
        args.max_steps = _steps(settings, costs)
        if args.max_steps == 0:
            return Run()
    before = _prepare(folder, fingerprint, args.should_save)
    watch = _Watch(folder, fingerprint, settings.checkpoint_every_s, before, report)
    callbacks = [one for one in (early, measuring, watch) if one]  # watch last: it saves what the others noted
    with _own_draws(), quiet():
        trainer = Trainer(network, args, data_collator=collate, train_dataset=lessons, callbacks=callbacks)  # pyright: ignore[reportArgumentType]
        trainer.remove_callback(PrinterCallback)  # what it prints would stand among the results
        for one in trainer.callback_handler.callbacks:
            if isinstance(one, TensorBoardCallback) and one.logging_dir is None:
                one.logging_dir = str(folder.with_name("runs"))  # the checkpoints' folder goes in the end
        trainer.train(resume_from_checkpoint=get_last_checkpoint(str(folder)))
        trainer.accelerator.wait_for_everyone()
        if early:
            early.keep_best(trainer.state)
            trainer.accelerator.wait_for_everyone()  # the first clears the folder away
    steps = trainer.state.global_step
    report("training", steps, steps)  # which an early stop has not said yet
    return Run(steps, sum(islice(costs(), steps)), watch.seconds())


def tokens_at(
    lessons: Ordered, tokens: Sequence[int] | NDArray[Any], settings: TrainerSettings, steps: Sequence[int]
) -> list[int]:
    """How many tokens a training has seen after each of these numbers of steps."""
    costs = _tokens_by_step(tokens, lessons.order_of, arguments(settings, Path("checkpoint"), seed=0))
    ends = [0, *accumulate(islice(costs(), max(steps, default=0)))]
    return [ends[step] for step in steps]


class _Watch(TrainerCallback):
    """Tells how far the training is, and has it saved by the clock."""

    def __init__(self, folder: Path, fingerprint: str, every_s: float, before_s: float, report: Progress) -> None:
        self.folder, self.fingerprint, self.every_s, self.report = folder, fingerprint, every_s, report
        self.started = time.monotonic() - before_s
        self.saved = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.report("training", state.global_step, state.max_steps)
        due = time.monotonic() - self.saved >= self.every_s and not control.should_training_stop
        if args.world_size > 1:  # the first process's clock counts
            from accelerate.utils import broadcast_object_list

            due = broadcast_object_list([due])[0]
        if due:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.saved = time.monotonic()
        if args.should_save:
            _write_took(self.folder, self.fingerprint, self.seconds())


def _write_took(folder: Path, fingerprint: str, seconds: float) -> None:
    """Whose checkpoints these are, and the seconds spent on them."""
    write_atomically(folder / "took.json", json.dumps({"fingerprint": fingerprint, "seconds": seconds}).encode())


def _prepare(folder: Path, fingerprint: str, is_first: bool) -> float:
    """Clear away what belongs to another training or was broken off while it was written; the seconds spent before."""
    try:
        took = json.loads((folder / "took.json").read_text("utf-8"))
    except FileNotFoundError:
        took = {}
    is_ours = took.get("fingerprint") == fingerprint
    if is_first and not is_ours:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _write_took(folder, fingerprint, 0.0)
    if is_first:
        for checkpoint in folder.glob("checkpoint-*"):
            if not _is_whole(checkpoint):
                shutil.rmtree(checkpoint)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
    return took["seconds"] if is_ours else 0.0


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))  # the last file that is written
    except (FileNotFoundError, ValueError):
        return False
    return True


def order_of(lengths: Sequence[int], size: int, seed: int, by_length: bool) -> Callable[[int], list[int]]:
    """Epoch -> row numbers; with ``by_length`` a batch is of rows of like length."""

    def random_order(epoch: int) -> list[int]:
        order = list(range(len(lengths)))
        random.Random(f"{seed}/{epoch}").shuffle(order)
        return order

    def grouped(epoch: int) -> list[int]:
        batches = shuffled(lengths, size, seed * 1_000_003 + epoch)
        one = [next(batches) for _ in range(-(-len(lengths) // size))]
        one.sort(key=lambda batch: len(batch) < size)  # the one that is not full ends the pass
        return [row for batch in one for row in batch]

    return grouped if by_length else random_order


def _tokens_by_step(
    tokens: Sequence[int] | NDArray[Any],
    order_of: Callable[[int], Sequence[int] | NDArray[Any]],
    args: TrainingArguments,
) -> Callable[[], Iterator[int]]:
    counts = np.asarray(tokens)
    batch = args.per_device_train_batch_size * max(1, args.n_gpu) * args.world_size
    size = batch * args.gradient_accumulation_steps

    def costs() -> Iterator[int]:
        for epoch in count():
            order = order_of(epoch)
            order = order[: len(order) - len(order) % batch] if args.dataloader_drop_last else order
            for start in range(0, len(order), size):
                yield int(counts[order[start : start + size]].sum())

    return costs


def _steps(settings: TrainerSettings, costs: Callable[[], Iterator[int]]) -> int:
    """How many steps ``settings.steps`` and ``settings.tokens`` come to."""
    if settings.tokens is None:
        return settings.steps or 0
    done = 0
    for step, cost in enumerate(costs()):
        if done >= settings.tokens or step == settings.steps:
            return step
        done += cost
    raise AssertionError("costs are without end")


@contextmanager
def _own_draws() -> Iterator[None]:
    """Trainer sets the seeds of the whole process; afterwards they are as before."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
