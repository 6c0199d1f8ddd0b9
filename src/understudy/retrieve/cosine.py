"""Cosines of a store's vectors with a query.

The mean over examples is linear, so that every text of the store meets one averaged input and one averaged output:
first all of them in float32, then in float64 those of rows that may be among the best. Sums in float64 run in one
order, which a product of matrices does not promise, so that equal vectors have equal cosines wherever they lie.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from understudy.retrieve.datastore import Dataset
    from understudy.retrieve.encoder import Encoder
    from understudy.retrieve.search import Query

BLOCK = 4096  # texts a product: as float32 they stay in the processor's cache


@dataclass(frozen=True)
class Cosines:
    """A ``Scorer`` for stores with vectors."""

    vectors: np.ndarray
    """float64 (3, width): the mean of the inputs, the mean of the outputs, the instruction."""
    queries: Tensor
    """float32 (width, 2): the first two of them."""
    block: Tensor
    """float32 (``BLOCK``, width): where vectors become float32; one for all, as new memory costs more than the work."""

    def texts(self, dataset: Dataset) -> np.ndarray:
        """See ``Scorer``."""
        import torch

        with warnings.catch_warnings(action="ignore"):  # that the map is read-only, and so are we
            vectors = torch.from_numpy(dataset.vectors())
        cosines = torch.empty(len(vectors), 2)
        for some, out in zip(vectors.split(len(self.block)), cosines.split(len(self.block)), strict=True):
            torch.mm(self.block[: len(some)].copy_(some), self.queries, out=out)
        return cosines.numpy()

    def exactly(self, dataset: Dataset, texts: np.ndarray) -> np.ndarray:
        """See ``Scorer``."""
        vectors = dataset.vectors()
        blocks = (vectors[texts[i : i + BLOCK], None] for i in range(0, len(texts), BLOCK))
        return np.concatenate([_dots(block, self.vectors[:2]) for block in blocks])

    def description(self, dataset: Dataset) -> float:
        """See ``Scorer``."""
        return float(_dots(dataset.description_vector(), self.vectors[2]))


def cosines_of(encoder: Encoder, query: Query) -> Cosines:
    """The query as vectors."""
    import torch

    inputs, outputs = zip(*query.examples, strict=True)
    vectors = encoder.encode([query.instruction, *inputs, *outputs]).astype(np.float64)
    means = vectors[1 : 1 + len(inputs)].mean(axis=0), vectors[1 + len(inputs) :].mean(axis=0)
    wanted = np.stack([*means, vectors[0]])
    queries = torch.from_numpy(wanted[:2].T.astype(np.float32))
    return Cosines(wanted, queries, torch.empty(BLOCK, len(queries)))


def _dots(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    return (vectors.astype(np.float64) * queries).sum(axis=-1)
