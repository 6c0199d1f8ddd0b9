"""Token ids in batches of like length."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import repeat

import torch
from torch import Tensor

BATCHES_A_BUCKET = 16  # rows are sorted by length within buckets of so many batches: near full batches, still shuffled


def shuffled(lengths: Sequence[int], size: int, seed: int) -> Iterator[list[int]]:
    """Row numbers in batches without end: each pass over the rows is shuffled by ``seed`` and its number.

    The n-th batch is a function of the arguments alone, so that a resumed training takes up the same batches.
    """
    epoch = 0
    while True:
        draw = random.Random(f"{seed}/{epoch}")
        order = list(range(len(lengths)))
        draw.shuffle(order)
        batches: list[list[int]] = []
        for start in range(0, len(order), size * BATCHES_A_BUCKET):
            bucket = sorted(order[start : start + size * BATCHES_A_BUCKET], key=lengths.__getitem__)
            batches += [bucket[i : i + size] for i in range(0, len(bucket), size)]
        draw.shuffle(batches)
        yield from batches
        epoch += 1


def by_length(lengths: Sequence[int], tokens: int = 4096) -> Iterator[list[int]]:
    """Row numbers in batches, shortest first, none over ``tokens`` with padding unless it is a single row."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[row] * (len(batch) + 1) > tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and mask, (rows, longest)."""
    width = max(1, max(map(len, rows)))
    ids = torch.tensor([[*row, *repeat(pad, width - len(row))] for row in rows], dtype=torch.long, device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return ids, (torch.arange(width, device=device) < lengths[:, None]).long()
