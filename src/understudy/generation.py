"""Batched writing with causal and encoder-decoder models of transformers: prompts of any length, answers of any length.

``generate`` of transformers computes every row of a batch until the longest answer ends. Here a row that ends makes
room for the next prompt, so that the batch stays full while prompts wait and shrinks afterwards; prompts are taken by
length, the longest first, so that those that are read together are alike. A decoder that counts its positions from the
start of the batch (BART) or forgets (a sliding window) takes no prompt in before all rows have ended.

Loads torch and transformers: import it on use only.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache, EncoderDecoderCache
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import BaseModelOutput

from understudy.errors import DataError

ENDED = 4  # ended rows are taken out, and waiting ones in, when they are one in so many: each time keys are copied
READ_TOKENS = 4096  # of prompts that are read together: what attention makes of them stays near the processor

Choose: TypeAlias = Callable[[Tensor, Sequence[int]], Tensor]
"""Logits (rows, vocabulary) float32, and the number of each row's prompt, to token ids (rows)."""
IsOver: TypeAlias = Callable[[int, Sequence[int]], bool]
"""The number of a prompt and the tokens written to it, to whether nothing should follow."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote to one prompt."""

    tokens: list[int]  # the one that ended it is the last
    mean_logprob: float  # nats a token, of all of ``tokens``, as the model has it: at temperature 1, nothing left out
    finish: Literal["stop", "length"]


def generate(network: Any, prompts: Sequence[Sequence[int]], **how: Any) -> list[Written]:
    """What ``network`` writes to each prompt, in their order. Arguments and errors are those of ``written``."""
    found = dict(written(network, prompts, **how))
    return [found[i] for i in range(len(prompts))]


@torch.inference_mode()
def written(
    network: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    ends: Collection[int],
    pad_id: int,
    start: Sequence[int] = (),
    choose: Choose | None = None,
    is_over: IsOver | None = None,
    rows: int = 32,
    batch_tokens: int | None = None,
) -> Iterator[tuple[int, Written]]:
    """The number of each prompt and what ``network`` writes to it, as soon as it ends.

    Without ``choose`` the likeliest token is taken, and in float32 the tokens are those of transformers' ``generate``.
    Nothing else of the network's ``generation_config`` counts: no penalties, least lengths or beams.

    Args:
        network: a causal or encoder-decoder model in eval mode.
        prompts: token ids; an encoder-decoder's encoder reads them.
        max_new_tokens: an answer ends at the latest here, or where the network has no more positions.
        ends: tokens that end an answer.
        pad_id: any token id; it fills up batches and is never attended to.
        start: what the decoder of an encoder-decoder is given, such as its start token. It is not written.
        rows: most rows of a batch.
        batch_tokens: fewer rows, but one, where together with the longest answer they would be more tokens than this.

    Raises:
        DataError: a prompt has no tokens, or leaves no position for an answer.
    """
    waiting = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # the longest is the last, and taken first
    if not waiting:
        return
    if batch_tokens is not None:
        rows = max(1, min(rows, batch_tokens // (len(prompts[waiting[-1]]) + max_new_tokens)))
    reader = _Reader(network, pad_id, start)
    answers = [_Answer(min(max_new_tokens, reader.places_after(i, prompt))) for i, prompt in enumerate(prompts)]
    batch: _Batch | None = None

    def taken(at_work: _Batch, logits: Tensor) -> Iterator[tuple[int, Written]]:
        """Write one token to each row at work; what ends is yielded and marked."""
        live = [(place, number) for place, number in enumerate(at_work.rows) if number is not None]
        places, numbers = [place for place, _ in live], [number for _, number in live]
        logits = (logits if len(live) == len(logits) else logits[places]).float()
        tokens = logits.argmax(-1) if choose is None else choose(logits, numbers)
        logprobs = logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
        at_work.last[places, 0] = tokens
        for (place, number), token, logprob in zip(live, tokens.tolist(), logprobs.tolist(), strict=True):
            answer = answers[number]
            answer.tokens.append(token)
            answer.logprob += logprob
            has_stopped = token in ends or (is_over is not None and is_over(number, answer.tokens))
            if has_stopped or len(answer.tokens) == answer.limit:
                at_work.rows[place] = None
                yield number, answer.written(has_stopped)

    while waiting or batch:
        at_work = batch.count if batch else 0
        new = None
        if waiting and (not at_work or (reader.joins and (rows - at_work) * ENDED >= rows)):
            fit = max(1, READ_TOKENS // len(prompts[waiting[-1]])) if reader.joins else rows
            numbers = [waiting.pop() for _ in range(min(rows - at_work, len(waiting), fit))]
            new, logits = reader.read(numbers, [prompts[number] for number in numbers])
            yield from taken(new, logits)
        if batch is None or new or (len(batch.rows) - at_work) * ENDED >= len(batch.rows):
            batch = reader.joined(batch, new)
        if batch:
            yield from taken(batch, reader.step(batch))


@dataclass
class _Answer:
    """One that is being written."""

    limit: int
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0

    def written(self, has_stopped: bool) -> Written:
        return Written(self.tokens, self.logprob / len(self.tokens), "stop" if has_stopped else "length")


@dataclass
class _Batch:
    """Rows at work."""

    rows: list[int | None]  # the number of each row's prompt, None where its answer has ended
    last: Tensor  # (rows, 1): the tokens that the network has not read yet
    mask: Tensor  # (rows, places): which of the places in the cache hold the row's tokens
    cache: Any
    encoded: Tensor | None  # (rows, encoder places, width), of an encoder-decoder
    encoder_mask: Tensor | None  # (rows, encoder places)

    @property
    def count(self) -> int:
        """How many rows are at work."""
        return sum(number is not None for number in self.rows)

    @property
    def own_layers(self) -> list[Any]:
        """What the decoder remembers of its own tokens."""
        return (self.cache if self.encoded is None else self.cache.self_attention_cache).layers

    @property
    def cross_layers(self) -> list[Any]:
        """What it remembers of the encoder's."""
        return [] if self.encoded is None else self.cache.cross_attention_cache.layers

    def only(self, kept: list[int], is_plain: bool) -> _Batch:
        """These rows, where ``is_plain`` without the places that none of them uses."""
        if len(kept) == len(self.rows):
            return self
        rows = torch.tensor(kept, device=self.mask.device)
        self.cache.reorder_cache(rows)
        mask, encoded, encoder_mask = self.mask[rows], self.encoded, self.encoder_mask
        if is_plain:
            first = int(mask.any(0).int().argmax())
            mask = mask[:, first:]
            for layer in self.own_layers:
                layer.keys, layer.values = layer.keys[:, :, first:], layer.values[:, :, first:]
        if encoded is not None and encoder_mask is not None:
            encoder_mask = encoder_mask[rows]
            width = int(encoder_mask.any(0).sum())
            encoded, encoder_mask = encoded[rows, :width], encoder_mask[:, :width].contiguous()
            for layer in self.cross_layers:  # they are read at every step, which would copy mere views each time
                layer.keys, layer.values = (each[:, :, :width].contiguous() for each in (layer.keys, layer.values))
        return _Batch([self.rows[place] for place in kept], self.last[rows], mask, self.cache, encoded, encoder_mask)


class _Reader:
    """A network and what it takes."""

    def __init__(self, network: Any, pad_id: int, start: Sequence[int]) -> None:
        self._network, self._pad_id, self._start = network, pad_id, list(start)
        self._is_pair = bool(network.config.is_encoder_decoder)
        taken = inspect.signature(network.forward).parameters
        self._takes_positions = "position_ids" in taken
        self._always = {"use_cache": True} | ({"logits_to_keep": 1} if "logits_to_keep" in taken else {})
        # Other layers hold more than keys and values by place: theirs can be selected, not cut or joined.
        self._is_plain = all(type(layer) is DynamicLayer for layer in self._cache().layers)
        is_relative = hasattr(network.config, "relative_attention_num_buckets")  # T5 and its kin
        self.joins = self._is_plain and (not self._is_pair or is_relative)

    def places_after(self, number: int, prompt: Sequence[int]) -> int:
        """How long an answer may be.

        Raises:
            DataError: there is no prompt, or no place for an answer.
        """
        room = getattr(self._network.config, "max_position_embeddings", None) or sys.maxsize
        left = room - len(self._start if self._is_pair else prompt)
        if not len(prompt) or len(prompt) > room or left < 1:
            raise DataError(
                f"prompts[{number}]: {len(prompt)} tokens; it needs one or more, and with its answer no more than the "
                f"model's {room} positions: cut it"
            )
        return left

    def read(self, numbers: Sequence[int], prompts: Sequence[Sequence[int]]) -> tuple[_Batch, Tensor]:
        """A batch of these prompts, and the logits (rows, vocabulary) of what follows them."""
        given, mask = self._padded(prompts)
        encoded = encoder_mask = None
        cache: Any = self._cache()
        if self._is_pair:
            encoded = self._network.get_encoder()(input_ids=given, attention_mask=mask).last_hidden_state
            given = torch.tensor([self._start] * len(prompts), device=mask.device)
            mask, encoder_mask, cache = torch.ones_like(given), mask, EncoderDecoderCache(cache, DynamicCache())
        batch = _Batch([*numbers], torch.zeros_like(given[:, :1]), mask, cache, encoded, encoder_mask)
        return batch, self._logits(batch, given)

    def step(self, batch: _Batch) -> Tensor:
        """The logits (rows, vocabulary) of what follows the last tokens."""
        batch.mask = F.pad(batch.mask, (0, 1), value=1)
        return self._logits(batch, batch.last)

    def joined(self, *batches: _Batch | None) -> _Batch | None:
        """The rows at work of one or two batches as one, or None if there are none."""
        parts = [batch.only([place for place, number in enumerate(batch.rows) if number is not None], self._is_plain)
                 for batch in batches if batch and batch.count]  # fmt: skip
        return _both(*parts) if len(parts) == 2 else parts[0] if parts else None

    def _logits(self, batch: _Batch, given: Tensor) -> Tensor:
        how: dict[str, Any] = {**self._always, "past_key_values": batch.cache}
        if self._is_pair:
            how |= {"decoder_input_ids": given, "decoder_attention_mask": batch.mask}
            how |= {"encoder_outputs": BaseModelOutput(last_hidden_state=batch.encoded)}  # pyright: ignore[reportArgumentType]
            how |= {"attention_mask": batch.encoder_mask}
        else:
            how |= {"input_ids": given, "attention_mask": batch.mask}
        if self._takes_positions:
            how["position_ids"] = (batch.mask.cumsum(1) - 1).clamp(min=0)[:, -given.shape[1] :]
        return self._network(**how).logits[:, -1]

    def _padded(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Ids and mask, (rows, longest): a decoder goes on at the right end, so what it reads is padded at the left."""
        width = max(map(len, prompts))
        ids, mask = torch.full((len(prompts), width), self._pad_id), torch.zeros(len(prompts), width, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            where = slice(0, len(prompt)) if self._is_pair else slice(width - len(prompt), width)
            ids[row, where] = torch.tensor(prompt)
            mask[row, where] = 1
        return ids.to(self._network.device), mask.to(self._network.device)

    def _cache(self) -> DynamicCache:
        return DynamicCache(config=self._network.config)


def _both(one: _Batch, other: _Batch) -> _Batch:
    """The rows of both, with the cache of ``one``."""
    for mine, others in zip(one.own_layers, other.own_layers, strict=True):
        mine.keys = _stacked(mine.keys, others.keys, -2)
        mine.values = _stacked(mine.values, others.values, -2)
    for mine, others in zip(one.cross_layers, other.cross_layers, strict=True):
        mine.keys = _stacked(mine.keys, others.keys, -2, at_left=False)
        mine.values = _stacked(mine.values, others.values, -2, at_left=False)
    return _Batch(
        one.rows + other.rows,
        torch.cat([one.last, other.last]),
        _stacked(one.mask, other.mask, -1),
        one.cache,
        _stacked(one.encoded, other.encoded, -2, at_left=False),
        _stacked(one.encoder_mask, other.encoder_mask, -1, at_left=False),
    )


def _stacked(one: Any, other: Any, places: int, *, at_left: bool = True) -> Any:
    """Rows of both tensors; the one with fewer places, which lie in dimension ``places``, is filled up with zeros."""
    if one is None:
        return None
    width, after = max(one.shape[places], other.shape[places]), (0, 0) * (-1 - places)
    gaps = [width - each.shape[places] for each in (one, other)]
    gaps = [(*after, gap, 0) if at_left else (*after, 0, gap) for gap in gaps]
    return torch.cat([F.pad(each, gap) for each, gap in zip((one, other), gaps, strict=True)])
