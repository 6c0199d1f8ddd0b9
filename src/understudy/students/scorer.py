"""How likely sentences are under any language model, masked or causal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch

from understudy.errors import DataError
from understudy.pretrained import local_folder
from understudy.students.language import is_masked, read_scored
from understudy.students.log_likelihood import log_likelihoods
from understudy.students.pseudo_likelihood import pseudo_log_likelihoods

Scorer: TypeAlias = Callable[[Iterable[str]], Iterator[float]]

BATCH_TOKENS = {"cpu": 1024, "cuda": 16_384}


def open_scorer(
    model: str | Path,
    *,
    revision: str | None = None,
    within_word: bool = False,
    precision: str = "fp32",
    batch_tokens: int | None = None,
) -> Scorer:
    """A function that says how likely sentences are: their log-likelihoods, in nats, in order.

    Args:
        model: the folder of a trained student or of any transformers model, or a hub id.
        revision: branch, tag or commit of a hub id.
        within_word, precision, batch_tokens: as ``likelihoods_of``.

    Raises:
        DataError: it cannot be loaded, is no language model, or is a causal one and ``within_word`` is asked for.
    """
    folder = local_folder(str(model), "model")
    where = {"revision": revision} if folder is None and revision else {}
    network, tokenizer = read_scored(folder or str(model), f"model: {str(model)!r}", **where)
    if within_word and not is_masked(network):
        raise DataError(f"model: {str(model)!r} is causal, and hides no words; leave within_word out")
    network.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    return partial(
        likelihoods_of, network, tokenizer, within_word=within_word, precision=precision, batch_tokens=batch_tokens
    )


def likelihoods_of(
    network: Any,
    tokenizer: Any,
    sentences: Iterable[str],
    *,
    within_word: bool = False,
    precision: str = "auto",
    batch_tokens: int | None = None,
) -> Iterator[float]:
    """``pseudo_log_likelihoods`` of a masked network, ``log_likelihoods`` of a causal one; it is in eval mode.

    Args:
        within_word: of a masked network, also hide the later tokens of a hidden token's word.
        precision: ``bf16``, ``fp32``, or ``auto``, which takes bf16 where the processor has it.
        batch_tokens: tokens a forward pass; ``None`` takes what suits the device.

    Raises: as these.
    """
    how: dict[str, Any] = {
        "precision": precision,
        "batch_tokens": batch_tokens or BATCH_TOKENS.get(network.device.type, BATCH_TOKENS["cpu"]),
    }
    if is_masked(network):
        return pseudo_log_likelihoods(network, tokenizer, sentences, within_word=within_word, **how)
    return log_likelihoods(network, tokenizer, sentences, **how)
