"""The masked student: a language model that learns to fill gaps in raw text, RoBERTa's way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from understudy.errors import DataError, SettingsError
from understudy.records import Example
from understudy.students import Progress, Trained, pretraining
from understudy.students.language import frame_of, origin_of, positions_of, read_base
from understudy.students.masking import Masking, at_places, keeps_apart
from understudy.students.packing import attention
from understudy.students.pretraining import Laying, Probe, Way
from understudy.students.scratch import masked_from_scratch, masked_tokenizer_of
from understudy.students.sentences import SentenceModel
from understudy.students.settings import MaskedSettings
from understudy.students.trainer import arguments
from understudy.students.tune import in_bf16
from understudy.students.written import opened
from understudy.task import Task

SHORT = 256  # tokens: beyond, what eager attention holds in memory grows too large


def open_base(settings: MaskedSettings) -> tuple[Any, Any]:
    """The network, float32, and its tokenizer. Raises: DataError: as ``read_base``, or there is no mask token."""
    assert isinstance(settings.base, str)
    network, tokenizer = read_base(settings.base, settings.revision, "masked")
    for name in ("mask_token", "pad_token"):
        if getattr(tokenizer, f"{name}_id") is None:
            raise DataError(f"student.base: the tokenizer of {settings.base!r} has no {name}; use another base")
    return network, tokenizer


def lay(settings: MaskedSettings, network: Any, tokenizer: Any, device: torch.device) -> Laying:
    """How texts become batches: packed where that is asked for and the network keeps them apart."""
    eager = "eager" if _is_eager_faster(settings, network, device) else None
    masking = partial(
        Masking,
        share=settings.mask,
        mask_id=tokenizer.mask_token_id,
        pad_id=tokenizer.pad_token_id,
        vocabulary=len(tokenizer),
        special=frozenset(tokenizer.all_special_ids),
        offset=positions_of(network)[1],
        additive=bool(eager),
    )

    @contextmanager
    def around() -> Iterator[None]:
        with attention(network, eager), at_places(network):
            yield

    with attention(network, eager):
        is_apart = settings.packing and keeps_apart(network, masking(is_apart=True), settings.max_length)
    why = "" if not settings.packing or is_apart else ": the base does not keep packed texts apart"
    network.accepts_loss_kwargs = False  # its loss is a mean, which Trainer divides where gradients are accumulated
    start, end = frame_of(tokenizer)
    layout = "packed" if is_apart else f"grouped by length{why}"
    return Laying(start, end, masking(is_apart=is_apart), is_apart, layout, around)


def _is_eager_faster(settings: MaskedSettings, network: Any, device: torch.device) -> bool:
    """A processor's fused attention is the slower one in bf16: 30 ms a layer for 32 sequences of 128, eager 12."""
    is_short = settings.max_length <= SHORT and network.config._attn_implementation == "sdpa"
    return device.type == "cpu" and in_bf16(device, settings.precision) and is_short


WAY = Way(
    tokenizer=lambda scratch, texts: masked_tokenizer_of(texts, scratch.vocab_size),
    network=masked_from_scratch,
    base=open_base,
    lay=lay,
)


def train(
    settings: MaskedSettings,
    task: Task,
    examples: Iterable[Example],
    folder: Path,
    *,
    seed: int,
    progress: Progress | None,
    card: Mapping[str, str],
    held_back: Iterable[Example] = (),
    probe: Probe | None = None,
) -> Trained:
    """See ``understudy.students.train``."""
    if task.kind != "pretraining":
        raise SettingsError(f"student.kind: a masked student learns raw text, kind: pretraining, not {task.kind!r}")
    return pretraining.train(
        settings, task, examples, folder, seed=seed, progress=progress, card=card, held_back=held_back, probe=probe,
        way=WAY,
    )  # fmt: skip


def check(settings: MaskedSettings) -> str:
    """See ``understudy.students.prepare``."""
    arguments(settings, Path("checkpoint"), seed=0)
    if isinstance(settings.base, str):
        pretraining.opened_base(settings, WAY)
    return origin_of(settings)


def load(folder: Path) -> SentenceModel:
    """See ``understudy.students.load_model``."""
    return SentenceModel(*opened(folder))
