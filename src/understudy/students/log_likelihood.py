"""Log-likelihood of sentences under a causal student, by which it says which of two is the better one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from understudy.errors import DataError
from understudy.students.choices import rank
from understudy.students.language import encode
from understudy.students.tune import autocast

WINDOW = 1024  # sentences that are sorted by length together; no more are held in memory


def log_likelihoods(
    network: Any, tokenizer: Any, sentences: Iterable[str], *, batch_tokens: int = 1024, precision: str = "fp32"
) -> Iterator[float]:
    """The summed log-probability, in nats, of each sentence's tokens, in input order; memory does not grow with them.

    The first token follows the tokenizer's bos or, where it has none, its eos, which parts the texts of a training and
    so begins one too. The end of a sentence is not scored. Equal sentences of a window of 1024 have equal scores, to
    the last bit.

    Args:
        network: a causal language model of transformers, in eval mode.
        batch_tokens: as ``rank``.
        precision: ``bf16``, ``fp32``, or ``auto``, which takes bf16 where the processor has it.

    Raises:
        DataError: the tokenizer has neither token, or a sentence has no tokens or more than the model has positions.
    """
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if start is None:
        raise DataError(
            "the tokenizer has neither bos nor eos, so that a sentence's first token follows nothing; set bos_token"
        )
    limit = getattr(network.config, "max_position_embeddings", None)
    stream = iter(sentences)
    while window := list(islice(stream, WINDOW)):
        ids = [tokens for (tokens,) in encode(tokenizer, [(sentence,) for sentence in window])]
        for sentence, tokens in zip(window, ids, strict=True):
            check_length(sentence, tokens, tokens, limit)
        with autocast(network.device, precision):
            (found,) = rank(network, [([start], ids)], pad_id=start, batch_tokens=batch_tokens)
        yield from (one.total for one in found)


def check_length(sentence: str, scored: Sequence[int], read: Sequence[int], limit: int | None) -> None:
    """Refuse a sentence that has nothing to score or does not fit; to cut it would be to score another one.

    Raises:
        DataError: names the sentence.
    """
    if not scored:
        raise DataError(f"sentence {sentence[:40]!r}: there are no tokens to score; leave it out")
    if limit is not None and len(read) > limit:
        raise DataError(
            f"sentence {sentence[:40]!r}...: its {len(read)} tokens are more than the model's {limit} positions; "
            "shorten it or leave it out"
        )
