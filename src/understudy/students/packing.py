"""Batches of rows as tensors: all rows in one sequence, none of which sees another, or one row a sequence.

Packing is a matter of layout only: the same rows give the same loss. No row is padded: each row's positions start at 0,
attention goes row by row, and logits are made only where a token is learnt. What fills a sequence up to a round number
of tokens are rows of their own, of which nothing is learnt.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

IGNORED = -100  # a label that is not learnt
TOLERANCE = 1e-3  # of the logits' spread: far above float32's noise, far below what a row makes of a neighbour
ROUND = 16  # sizes of a batch are rounded up to multiples: a processor prepares bf16 arithmetic anew for each size
ROW_BY_ROW = "understudy_row_by_row"


class Row(TypedDict):
    """Token ids and, for each, the same id where it is learnt and ``IGNORED`` where not. The first is never learnt."""

    input_ids: list[int]
    labels: list[int]


def packed(rows: Sequence[Row]) -> dict[str, Any]:
    """The rows one after another, for a network that ``isolates``.

    Returns:
        ``input_ids`` and ``position_ids``, (1, tokens); ``logits_to_keep``, (learnt + 1 or more,), the tokens before
        one that is learnt, and then the last; ``labels``, of the same length, ``IGNORED`` and then the learnt tokens,
        so that a loss which shifts labels by one meets the right logits, and ``IGNORED`` again; and for attention
        ``lengths``, a number a row, and ``places``, (tokens,), where each token stands once the rows are padded and
        flattened.
    """
    widest = max(len(row["input_ids"]) for row in rows)
    rows = [*rows, *_filling(-sum(len(row["input_ids"]) for row in rows) % ROUND, widest)]
    lengths = tuple(len(row["input_ids"]) for row in rows)
    positions = torch.cat([torch.arange(length) for length in lengths])
    starts = torch.repeat_interleave(torch.arange(len(rows)) * widest, torch.tensor(lengths))
    labels = torch.tensor([*chain.from_iterable(row["labels"] for row in rows)])
    before = (labels[1:] != IGNORED).nonzero()[:, 0]
    rest = 1 + -(len(before) + 1) % ROUND
    return {
        "input_ids": torch.tensor([[*chain.from_iterable(row["input_ids"] for row in rows)]]),
        "position_ids": positions[None],
        "labels": torch.cat([torch.tensor([IGNORED]), labels[before + 1], torch.full((rest - 1,), IGNORED)])[None],
        "logits_to_keep": torch.cat([before, torch.full((rest,), len(labels) - 1)]),
        "lengths": lengths,
        "places": starts + positions,
    }


def _filling(count: int, widest: int) -> list[Row]:
    """``count`` tokens in rows none of which is longer than ``widest``, so that the network has positions for them."""
    sizes = [min(widest, count - at) for at in range(0, count, widest)]
    return [Row(input_ids=[0] * size, labels=[IGNORED] * size) for size in sizes]


def padded_rows(rows: Sequence[Row], *, pad_id: int) -> dict[str, Tensor]:
    """One row a sequence: ``input_ids``, ``labels`` and ``attention_mask``, (rows, longest), padded on the right."""
    size = (len(rows), max(len(row["input_ids"]) for row in rows))
    ids, labels, mask = torch.full(size, pad_id), torch.full(size, IGNORED), torch.zeros(size, dtype=torch.long)
    for i, row in enumerate(rows):
        length = len(row["input_ids"])
        ids[i, :length] = torch.tensor(row["input_ids"])
        labels[i, :length] = torch.tensor(row["labels"])
        mask[i, :length] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


@torch.no_grad()
def isolates(network: Any, limit: int) -> bool:
    """Have ``network`` attend row by row, if it then gives rows of up to ``limit`` tokens the same logits as alone.

    It is tried out on two short rows, and left as it was if they differ: a model that has no positions to reset
    (BLOOM's ALiBi) fails, and so does one whose attention is not transformers' own or sees only the last few tokens.
    """
    window = min(getattr(network.config, name, None) or limit for name in ("sliding_window", "attention_chunk_size"))
    takes = inspect.signature(network.forward).parameters
    usual = network.config._attn_implementation
    if not {"position_ids", "logits_to_keep"} <= takes.keys() or usual != "sdpa" or window < limit:
        return False
    device, size = next(network.parameters()).device, network.get_input_embeddings().num_embeddings
    ids = [[(7 * i + n) % size for i in range(n)] for n in (5, 3)]
    both = packed([Row(input_ids=row, labels=[IGNORED, *row[1:]]) for row in ids])
    del both["labels"]
    training = network.training
    network.eval()
    try:
        alone = [network(input_ids=torch.tensor([row], device=device), use_cache=False).logits[0] for row in ids]
        AttentionInterface.register(ROW_BY_ROW, attend)
        network.set_attn_implementation(ROW_BY_ROW)
        on_device = {name: value.to(device) if torch.is_tensor(value) else value for name, value in both.items()}
        together = network(**on_device, use_cache=False).logits[0]
        expected = torch.cat([logits[:-1] for logits in alone])
        same = float((together[: len(expected)] - expected).abs().max()) <= TOLERANCE * float(expected.std())
    except (RuntimeError, ValueError, TypeError):  # it hands no lengths to its attention
        same = False
    finally:
        network.train(training)
    if not same:
        network.set_attn_implementation(usual)
    return same


@contextmanager
def attention(network: Any, name: str | None) -> Iterator[None]:
    """Let ``network`` attend by another implementation meanwhile; ``None`` leaves it as it is."""
    now = network.config._attn_implementation
    if name:
        network.set_attn_implementation(name)
    try:
        yield
    finally:
        if name:
            network.set_attn_implementation(now)


@torch.compiler.disable  # it goes by the rows' lengths, and would be compiled anew for each batch
def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None = None,
    *,
    lengths: Sequence[int],
    places: Tensor,
    **more: Any,
) -> tuple[Tensor, None]:
    """Each token attends to the earlier ones of its own row.

    Args:
        query, key, value: (1, heads, tokens, size of a head).
        lengths, places: as ``packed`` has them.

    Returns:
        (1, tokens, heads, size of a head), and no weights, as transformers has it.
    """
    way = row_by_row if query.device.type == "cpu" else side_by_side
    return way(module, query, key, value, lengths=lengths, places=places, **more), None


def row_by_row(module: nn.Module, *states: Tensor, lengths: Sequence[int], places: Tensor, **more: Any) -> Tensor:
    """``attend`` without any padding: on a processor a call a row costs little.

    In float32: a processor's bf16 attention is the slower one on its way back.
    """
    queries, keys, values = (state.transpose(1, 2).float().split(list(lengths), dim=1) for state in states)
    with torch.autocast(states[0].device.type, enabled=False):
        out = [
            sdpa_attention_forward(module, q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), None, **more)[0]
            for q, k, v in zip(queries, keys, values, strict=True)
        ]
    return torch.cat(out, dim=1).to(states[0].dtype)


def side_by_side(module: nn.Module, *states: Tensor, lengths: Sequence[int], places: Tensor, **more: Any) -> Tensor:
    """``attend`` in one call, for accelerators: rows are padded for it, and no token sees what stands after it."""
    size = (len(lengths), max(lengths))
    query, key, value = (_spread(state, places, size) for state in states)
    out, _ = sdpa_attention_forward(module, query, key, value, None, **more)
    return out.flatten(0, 1).index_select(0, places)[None]


def _spread(state: Tensor, places: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, heads, tokens, size of a head) -> (rows, heads, longest, size of a head), zeros after each row."""
    tokens = state[0].transpose(0, 1)
    empty = tokens.new_zeros((size[0] * size[1], *tokens.shape[1:]))
    return empty.index_copy(0, places, tokens).unflatten(0, size).transpose(1, 2)


def shares_out() -> bool:
    """Whether Trainer would cut each batch up for the accelerators of this one process, which a sequence is not for."""
    return torch.cuda.device_count() > 1 and "LOCAL_RANK" not in os.environ
