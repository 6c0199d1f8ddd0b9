"""Learning from raw text: one training of a masked or causal student, from texts to a folder.

Token ids lie on disk, so that memory does not grow with the texts; what is hidden in an epoch is a function of the
seed, the epoch and the sequence, so that a training that was broken off goes on to the same weights.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from transformers import AutoTokenizer

from understudy.errors import DataError, SettingsError
from understudy.pretrained import loading
from understudy.records import Example, digest
from understudy.students import Progress, Trained
from understudy.students.batches import BATCHES_A_BUCKET
from understudy.students.course import is_first_process
from understudy.students.delivery import deliver, finished, seldom, space, threads
from understudy.students.language import names_of, origin_of, positions_of
from understudy.students.masking import Drawn
from understudy.students.measuring import Measuring, as_delivered, excerpts_of, loss_a_word, perplexity
from understudy.students.sentences import SentenceModel
from understudy.students.sequences import Opened, Sequences, write_sequences
from understudy.students.settings import SCORING, CausalSettings, MaskedSettings, Scratch
from understudy.students.trainer import arguments, fit, tokens_at
from understudy.students.written import About, card_facts, save, tell
from understudy.task import Task

PretrainingSettings: TypeAlias = MaskedSettings | CausalSettings
Probe: TypeAlias = Callable[[SentenceModel], float]


@dataclass(frozen=True, slots=True)
class Laying:
    """How texts become batches for a network."""

    start: list[int]  # what stands before each piece, and behind it
    end: list[int]
    collate: Callable[[Sequence[Drawn]], dict[str, Any]]
    packing: bool
    layout: str  # for a person
    around: Callable[[], AbstractContextManager[None]] = nullcontext
    """What the network needs while it is trained."""
    aside: Callable[[], AbstractContextManager[None]] = nullcontext
    """What it needs meanwhile to read sentences as others do."""


@dataclass(frozen=True, slots=True)
class Way:
    """How one kind of student is opened and learns raw text."""

    tokenizer: Callable[[Any, Iterable[str]], Any]
    """Scratch settings and texts -> a tokenizer."""
    network: Callable[[Any, Any, int], Any]
    """Scratch settings, tokenizer, positions -> a network with random weights."""
    base: Callable[[Any], tuple[Any, Any]]
    """Settings with a base -> network and tokenizer. Raises DataError."""
    lay: Callable[[Any, Any, Any, torch.device], Laying]
    """Settings, network, tokenizer, where it will be trained -> how it learns."""


def train(
    settings: PretrainingSettings,
    task: Task,
    examples: Iterable[Example],
    folder: Path,
    *,
    seed: int,
    progress: Progress | None,
    card: Mapping[str, str],
    held_back: Iterable[Example],
    probe: Probe | None,
    way: Way,
) -> Trained:
    """See ``understudy.students.train``; ``examples`` and ``held_back`` are read several times."""
    examples, held_back = _again(examples), _again(held_back)
    report, about = seldom(progress), _about(settings, task)
    values, content = settings.canonical({"checkpoint_every_s", *SCORING}), _hash(examples)
    fingerprint = digest(values, origin_of(settings), str(seed), task.kind, content, _hash(held_back))
    done = finished(folder, fingerprint)
    if done is not None:
        tell(folder, about)
        return done
    checkpoints, laid = (folder.with_name(f"{folder.name}.{name}") for name in ("checkpoint", "sequences"))
    with space(folder), threads(settings.threads), torch.random.fork_rng():
        args = arguments(settings, checkpoints, seed)
        torch.manual_seed(seed)  # of a network that starts random
        report("tokens", 0, 1)
        with args.main_process_first(local=False):  # it writes what the others read
            network, tokenizer = _opened(settings, way, _texts(examples), laid / digest(fingerprint, "tokenizer"))
            laying = way.lay(settings, network, tokenizer, args.device)
            lay = partial(_laid, tokenizer=tokenizer, laying=laying, max_length=settings.max_length)
            learnt = lay(laid / digest(fingerprint), _texts(examples), lines=settings.lines)
            model = SentenceModel(network, tokenizer, about)
            excerpts = excerpts_of(held_back, settings.max_length // 4)
            heard = lay(laid / digest(fingerprint, "held back"), excerpts, lines=False) if excerpts else None
        report("tokens", 1, 1)

        def measure() -> dict[str, float]:
            found = {}
            if heard:
                around = len(laying.start) + len(laying.end)
                found["loss"] = loss_a_word(network, heard.opened(), excerpts, laying.collate, settings, around=around)
            if probe:
                with laying.aside(), as_delivered(network), suppress(DataError):  # it has diverged: its test says so
                    found["accuracy"] = probe(model)
            return found

        measuring = Measuring(network, measure, settings.measurements)
        content_of = learnt.opened()
        sizes = content_of.sizes()
        batch = args.per_device_train_batch_size
        dataset = Drawing(content_of, sizes, batch, seed, by_length=not laying.packing)
        with laying.around():
            run = fit(
                network, dataset, sizes, laying.collate, settings, folder=checkpoints, fingerprint=fingerprint,
                seed=seed, report=report, measuring=measuring,
            )  # fmt: skip
        network.eval()
        at = tokens_at(dataset, sizes, settings, [entry["step"] for entry in measuring.entries])
        details = {
            "rows": learnt.about["rows"],
            "sequences": len(sizes),
            "tokens": learnt.about["tokens"],
            "truncated": learnt.about["cut"],
            "layout": laying.layout,
            "curve": [entry | {"tokens": seen} for entry, seen in zip(measuring.entries, at, strict=True)],
        }
        with laying.aside(), as_delivered(network):
            details |= perplexity(model, excerpts)
        network.config.use_cache = True  # Trainer turns it off
        seconds = round(run.seconds, 3)
        trained = Trained(
            steps=run.steps, tokens=run.tokens, seconds=seconds, parameters=network.num_parameters(), details=details
        )
        if is_first_process():
            hub, name = names_of(settings)
            keep = partial(save, network=network, tokenizer=tokenizer, about=about, base=hub)
            deliver(folder, fingerprint, trained, partial(keep, facts=card_facts(trained, name, card)))
            shutil.rmtree(checkpoints, ignore_errors=True)
            shutil.rmtree(laid, ignore_errors=True)
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # every process finds the model when this returns
    return trained


def _about(settings: PretrainingSettings, task: Task) -> About:
    scoring = {name: getattr(settings, name) for name in SCORING if hasattr(settings, name)}
    return About(settings.kind, task.kind, (), "text", settings.max_length, 0, bare=True, **scoring)


class Drawing(Dataset[Drawn]):
    """Sequences in an order of the seed and the epoch, each with the draw of what is hidden in it."""

    def __init__(self, opened: Opened, sizes: NDArray[Any], batch: int, seed: int, *, by_length: bool) -> None:
        self.opened, self.sizes, self.batch, self.seed, self.by_length = opened, sizes, batch, seed, by_length
        self.set_epoch(0)

    def order_of(self, epoch: int) -> NDArray[Any]:
        """The numbers of the sequences; with ``by_length`` those of a batch are of like length."""
        draw = np.random.default_rng((self.seed, epoch))
        order = draw.permutation(len(self.sizes))
        if not self.by_length:
            return order
        whole = len(order) - len(order) % self.batch
        for start in range(0, whole, self.batch * BATCHES_A_BUCKET):
            bucket = order[start : min(whole, start + self.batch * BATCHES_A_BUCKET)]
            bucket[:] = bucket[np.argsort(self.sizes[bucket], kind="stable")]
        order[:whole] = draw.permutation(order[:whole].reshape(-1, self.batch)).ravel()
        return order

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate's data loader before each pass."""
        self.epoch, self.order = epoch, self.order_of(epoch)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, i: int) -> Drawn:
        sequence = int(self.order[i])
        return Drawn(self.opened.at(sequence), (self.seed, self.epoch, sequence))


def opened_base(settings: PretrainingSettings, way: Way) -> tuple[Any, Any]:
    """The network that a student goes on from, and its tokenizer.

    Raises:
        DataError: the base is no model of the kind.
        SettingsError: a sequence would have more tokens than it reads.
    """
    network, tokenizer = way.base(settings)
    limit, _ = positions_of(network)
    if limit is not None and settings.max_length > limit:
        raise SettingsError(
            f"student.max_length: {settings.max_length} tokens are more than {settings.base!r} reads; "
            f"set it to {limit} or less"
        )
    return network, tokenizer


def _opened(settings: PretrainingSettings, way: Way, texts: Iterable[str], folder: Path) -> tuple[Any, Any]:
    """The network and its tokenizer; one that was trained stays in ``folder`` for a training that goes on."""
    if not isinstance(settings.base, Scratch):
        return opened_base(settings, way)
    with loading():
        if not folder.is_dir():
            unfinished = folder.with_name(folder.name + ".partial")
            way.tokenizer(settings.base, texts).save_pretrained(unfinished)
            os.replace(unfinished, folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return way.network(settings.base, tokenizer, settings.max_length), tokenizer


def _laid(folder: Path, texts: Iterable[str], *, tokenizer: Any, laying: Laying, **size: Any) -> Sequences:
    sequences = Sequences(folder)
    if not sequences.is_whole:
        how = {"start": laying.start, "end": laying.end, "packing": laying.packing}
        return write_sequences(folder, texts, tokenizer, **how, **size)
    return sequences


def _texts(examples: Iterable[Example]) -> Iterator[str]:
    return (example.input for example in examples)


def _again(examples: Iterable[Example]) -> Iterable[Example]:
    """What can be read several times."""
    return list(examples) if iter(examples) is examples else examples


def _hash(examples: Iterable[Example]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for example in examples:
        found.update(digest(example.input).encode())
    return found.hexdigest()
