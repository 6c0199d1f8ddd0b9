"""Batches of rows as tensors: several rows in one sequence, none of which sees another, or one row a sequence.

Packing is a matter of layout only: the same rows give the same loss. A packed sequence has the positions of each row
start at 0, and a block mask through which a token sees the earlier tokens of its own row.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor, nn

IGNORED = -100  # a label that is not learnt
TOLERANCE = 1e-3  # of the logits' spread: far above float32's noise, far below what a row makes of a neighbour
WIDTHS = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0)  # of the longest row: how long a packed sequence may get


class Row(TypedDict):
    """Token ids and, for each, the same id where it is learnt and ``IGNORED`` where not. The first is never learnt."""

    input_ids: list[int]
    labels: list[int]


def packed(rows: Sequence[Row], *, pad_id: int, limit: int) -> dict[str, Tensor]:
    """The rows in sequences of at most ``limit`` tokens.

    Returns:
        ``input_ids``, ``labels`` and ``position_ids``, (sequences, width), and ``attention_mask``, bool
        (sequences, 1, width, width), where true is what the query, the last dimension but one, sees.
    """
    lengths = [len(row["input_ids"]) for row in rows]
    sequences = layout(lengths, limit)
    width = max(sum(lengths[i] for i in sequence) for sequence in sequences)
    size = (len(sequences), width)
    ids, labels = torch.full(size, pad_id), torch.full(size, IGNORED)
    positions, owner = torch.zeros(size, dtype=torch.long), torch.full(size, -1)
    for s, sequence in enumerate(sequences):
        at = 0
        for i in sequence:
            span = slice(at, at + lengths[i])
            ids[s, span] = torch.tensor(rows[i]["input_ids"])
            labels[s, span] = torch.tensor(rows[i]["labels"])
            positions[s, span] = torch.arange(lengths[i])
            owner[s, span] = i
            at += lengths[i]
        positions[s, at:] = torch.arange(width - at)  # padding is a row of its own: every token sees something
    mask = (owner[:, None, :, None] == owner[:, None, None, :]).tril()
    return {"input_ids": ids, "labels": labels, "position_ids": positions, "attention_mask": mask}


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


def layout(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Row numbers by sequence, so that few places are left empty; no sequence is longer than ``limit``.

    Attention costs the square of a sequence's length, so among layouts with as many places the shortest is taken.
    """
    longest = max(lengths)
    widths = sorted({min(limit, round(longest * factor)) for factor in WIDTHS})
    layouts = [_first_fit(lengths, max(width, longest)) for width in widths]
    return min(layouts, key=lambda one: len(one) * max(sum(lengths[i] for i in sequence) for sequence in one))


def _first_fit(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Longest first, each into the first sequence that has room."""
    sequences: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        place = next((s for s, free in enumerate(room) if free >= lengths[i]), None)
        if place is None:
            sequences.append([])
            room.append(width)
            place = -1
        sequences[place].append(i)
        room[place] -= lengths[i]
    return sequences


@torch.no_grad()
def isolates(network: nn.Module) -> bool:
    """Whether ``network`` gives rows the same logits packed and alone; it is tried out on two short rows.

    A model that has no positions to reset (BLOOM's ALiBi) or takes no block mask does not.
    """
    if "position_ids" not in inspect.signature(network.forward).parameters:
        return False
    device, size = next(network.parameters()).device, network.get_input_embeddings().num_embeddings  # type: ignore[operator]
    rows = [[(7 * i + n) % size for i in range(n)] for n in (5, 3)]
    both = packed([{"input_ids": row, "labels": row} for row in rows], pad_id=0, limit=8)
    del both["labels"]
    training = network.training
    network.eval()
    try:
        alone = [network(input_ids=torch.tensor([row], device=device), use_cache=False).logits[0] for row in rows]
        together = network(**{name: value.to(device) for name, value in both.items()}, use_cache=False).logits
    except (RuntimeError, ValueError, TypeError):  # it takes no block mask
        return False
    finally:
        network.train(training)
    parts = together.flatten(0, 1).split([len(row) for row in rows])
    spread = float(torch.cat(alone).std())
    return all(float((a - b).abs().max()) <= TOLERANCE * spread for a, b in zip(alone, parts, strict=True))
