"""Options ranked by their log-likelihood after a prompt: how a student answers a choice row.

The prompt goes through the network once, in a batch with others; its key-value cache is then read by every option
of more than one token. That is exact in every family, also where attention is biased by distance (BLOOM) or reaches
back a window only, which a tree-shaped mask over prompt and options is not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor
from transformers import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from understudy.errors import DataError
from understudy.students.batches import by_length, padded

WINDOW = 1024  # rows that are sorted by length together; no more are held in memory
CACHED_A_TOKEN = 8  # a cached token takes memory, no arithmetic: so many count as one token of a batch

Row: TypeAlias = tuple[Sequence[int], Sequence[Sequence[int]]]
LedRow: TypeAlias = tuple[Sequence[int], Sequence[Sequence[int]], Sequence[int]]
R = TypeVar("R", Row, LedRow)
Option: TypeAlias = tuple[int, tuple[int, ...]]  # the row's place in its batch, and the option's token ids


@dataclass(frozen=True, slots=True)
class Ranked:
    """The log-likelihood of one option after its prompt, in nats, summed over its tokens."""

    total: float
    tokens: int

    @property
    def mean(self) -> float:
        """The log-likelihood a token, by which TeacherLM (arXiv 2310.19019) ranks options."""
        return self.total / self.tokens


def rank(
    network: Any,
    rows: Iterable[Row],
    *,
    pad_id: int,
    batch_tokens: int = 1024,
    name_of: Callable[[int], str] = "rows[{}]".format,
) -> Iterator[list[Ranked]]:
    """The log-likelihood of every option of every row, in input order; memory does not grow with the rows.

    Equal options of a row have equal scores, to the last bit.

    Args:
        network: a causal language model of transformers, in eval mode.
        rows: token ids of a prompt and of each option that may follow it, nothing between them.
        pad_id: any token id of the vocabulary; it fills up batches and is never attended to.
        batch_tokens: tokens a forward pass, padding included; a single longer row has a pass of its own. The default
            suits a processor's cache; an accelerator wants more.
        name_of: what an error calls a row of this number.

    Raises:
        DataError: a row has no prompt, no options or an option of no tokens, or is longer than the model's positions.
    """
    limit = getattr(network.config, "max_position_embeddings", None)
    longest = lambda row: len(row[0]) + max(map(len, row[1])) - 1  # noqa: E731
    return _ranked(rows, partial(_after_prompts, network, pad_id, batch_tokens), batch_tokens, limit, longest, name_of)


def rank_seq2seq(
    network: Any,
    rows: Iterable[LedRow],
    *,
    pad_id: int,
    batch_tokens: int = 1024,
    name_of: Callable[[int], str] = "rows[{}]".format,
) -> Iterator[list[Ranked]]:
    """As ``rank``, for an encoder-decoder: the prompt is what the encoder reads, an option what the decoder writes.

    Args:
        rows: token ids of a prompt, of each option, and of what the decoder is given before each of them, which does
            not count; it may be of no tokens.

    Raises: as ``rank``.
    """
    limit = getattr(network.config, "max_position_embeddings", None)
    longest = lambda row: max(len(row[0]), len(row[2]) + max(map(len, row[1])))  # noqa: E731
    return _ranked(rows, partial(_decoded, network, pad_id, batch_tokens), batch_tokens, limit, longest, name_of)


def _ranked(
    rows: Iterable[R],
    score: Callable[[list[R], list[Option]], Tensor],
    batch_tokens: int,
    limit: int | None,
    longest: Callable[[R], int],
    name_of: Callable[[int], str],
) -> Iterator[list[Ranked]]:
    stream = enumerate(rows)
    while window := [_checked(name_of(number), row, limit, longest) for number, row in islice(stream, WINDOW)]:
        ranked: list[list[Ranked]] = [[] for _ in window]
        for batch in by_length([len(row[0]) for row in window], batch_tokens):
            options = dict.fromkeys((place, tuple(o)) for place, i in enumerate(batch) for o in window[i][1])
            with torch.inference_mode():
                totals = score([window[i] for i in batch], list(options)).tolist()
            found = dict(zip(options, totals, strict=True))
            for place, i in enumerate(batch):
                ranked[i] = [Ranked(found[place, tuple(o)], len(o)) for o in window[i][1]]
        yield from ranked


def _checked(name: str, row: R, limit: int | None, longest: Callable[[R], int]) -> R:
    prompt, options = row[0], row[1]
    if not len(prompt):
        raise DataError(f"{name}: the prompt has no tokens; begin it with a token such as the tokenizer's bos")
    if not len(options):
        raise DataError(f"{name}: there are no options to rank; give one or more, or leave the row out")
    for place, option in enumerate(options):
        if not len(option):
            raise DataError(
                f"{name}: option {place} of {len(options)} has no tokens; change its text or leave the row out"
            )
    if limit is not None and (taken := longest(row)) > limit:
        raise DataError(
            f"{name}: a prompt of {len(prompt)} tokens and options of up to {max(map(len, options))} take "
            f"{taken} positions and the model has {limit}; cut {taken - limit} tokens off"
        )
    return row


def _after_prompts(network: Any, pad_id: int, batch_tokens: int, rows: list[Row], options: list[Option]) -> Tensor:
    """The log-likelihood of each option, (options,) float32."""
    ids, mask = (t.flip(1) for t in padded([prompt[::-1] for prompt, _ in rows], pad_id, network.device))
    longer = [i for i, (_, tokens) in enumerate(options) if len(tokens) > 1]
    # Padded on the left, so that every prompt ends in the last column.
    read = network(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions_of(mask),
        logits_to_keep=1,
        use_cache=bool(longer),
    )
    owners = torch.tensor([place for place, _ in options], device=ids.device)
    firsts = torch.tensor([tokens[0] for _, tokens in options], device=ids.device)
    totals = read.logits[:, -1].float().log_softmax(-1)[owners, firsts]
    cached = ids.shape[1] // CACHED_A_TOKEN
    for part in by_length([cached + len(options[i][1]) - 1 for i in longer], batch_tokens):
        chosen = [longer[i] for i in part]
        given, steps = padded([options[i][1][:-1] for i in chosen], pad_id, ids.device)
        wanted, _ = padded([options[i][1][1:] for i in chosen], pad_id, ids.device)
        seen = torch.cat([mask[owners[chosen]], steps], 1)
        logits = network(
            input_ids=given,
            attention_mask=seen,
            position_ids=positions_of(seen)[:, -given.shape[1] :],
            past_key_values=cache_of(read.past_key_values, owners[chosen]),
        ).logits
        totals[chosen] += (_log_probabilities(logits, wanted) * steps).sum(1)
    return totals


def _decoded(network: Any, pad_id: int, batch_tokens: int, rows: list[LedRow], options: list[Option]) -> Tensor:
    """The log-likelihood of each option, (options,) float32."""
    ids, mask = padded([prompt for prompt, _, _ in rows], pad_id, network.device)
    encoded = network.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
    start = network.config.decoder_start_token_id
    leads = [tuple(lead) for _, _, lead in rows]
    decodings: dict[Option, list[int]] = {}  # options that differ in the last token alone, as letters do, share one
    for i, (place, tokens) in enumerate(options):
        decodings.setdefault((place, leads[place] + tokens[:-1]), []).append(i)
    given = list(decodings)
    totals = torch.empty(len(options), device=ids.device)
    for part in by_length([ids.shape[1] + 1 + len(tokens) for _, tokens in given], batch_tokens):
        owners = torch.tensor([given[g][0] for g in part], device=ids.device)
        logits = network(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded[owners]),
            attention_mask=mask[owners],
            decoder_input_ids=padded([(start, *given[g][1]) for g in part], pad_id, ids.device)[0],
            use_cache=False,
        ).logits.float()
        chosen = [i for g in part for i in decodings[given[g]]]
        lines = torch.tensor([line for line, g in enumerate(part) for _ in decodings[given[g]]], device=ids.device)
        wanted, counted = padded([leads[options[i][0]] + options[i][1] for i in chosen], pad_id, ids.device)
        for line, i in enumerate(chosen):
            counted[line, : len(leads[options[i][0]])] = 0
        found = logits[lines[:, None], torch.arange(wanted.shape[1], device=ids.device), wanted]
        totals[chosen] = ((found - logits.logsumexp(-1)[lines]) * counted).sum(1)
    return totals


def positions_of(mask: Tensor) -> Tensor:
    """The position of each token, (rows, places), where padding stands on the left."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def _log_probabilities(logits: Tensor, wanted: Tensor) -> Tensor:
    """Of each wanted token, (rows, tokens) float32."""
    logits = logits.float()
    return logits.gather(-1, wanted.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)


def cache_of(cache: Any, owners: Tensor) -> Any:
    """A cache of one row an owner; ``cache`` stays as it is."""
    if isinstance(cache, EncoderDecoderCache):
        return EncoderDecoderCache(
            cache_of(cache.self_attention_cache, owners), cache_of(cache.cross_attention_cache, owners)
        )
    chosen = copy.copy(cache)
    chosen.layers = [copy.copy(layer) for layer in cache.layers]
    chosen.batch_select_indices(owners)
    return chosen
