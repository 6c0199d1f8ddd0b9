"""Batches for masked language models: tokens hidden anew in every epoch, several texts a sequence, one head a gap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from understudy.students.packing import IGNORED, ROUND, TOLERANCE

HIDDEN, OTHER = 0.8, 0.1  # of the tokens to be found: behind the mask, and replaced by any other (BERT)


class Drawn(NamedTuple):
    """A sequence as it is learnt in one epoch: its pieces, and the seed of what is hidden in it."""

    pieces: Sequence[NDArray[Any]]
    draw: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Masking:
    """How sequences become a batch.

    Attributes:
        share: of the tokens that are no special ones, how many are to be found.
        offset: the position of a text's first token.
        is_apart: whether pieces of one sequence are kept from seeing one another.
        additive: whether that is said by numbers to add to attention, which eager attention wants, or by yes and no.
    """

    share: float
    mask_id: int
    pad_id: int
    vocabulary: int
    special: frozenset[int]
    offset: int
    is_apart: bool
    additive: bool = False

    def __call__(self, batch: Sequence[Drawn]) -> dict[str, Tensor]:
        """What the network takes.

        Returns:
            ``input_ids`` (sequences, longest); ``attention_mask``, of the same size or, where pieces are apart,
            (sequences, 1, longest, longest), with ``position_ids`` that begin anew with each piece; ``places`` (gaps,)
            of the flattened batch, and ``labels`` (1, gaps), ``IGNORED`` where they only fill up a round number.
        """
        width = max(sum(map(len, one.pieces)) for one in batch)
        ids = np.full((len(batch), width), self.pad_id, dtype=np.int64)
        piece = np.zeros((len(batch), width), dtype=np.int64)  # 0 is padding
        positions = np.full((len(batch), width), self.offset, dtype=np.int64)
        places: list[NDArray[Any]] = []
        labels: list[NDArray[Any]] = []
        for row, one in enumerate(batch):
            whole = np.concatenate(one.pieces).astype(np.int64)
            sizes = [len(part) for part in one.pieces]
            ids[row, : len(whole)], gaps = self._hide(whole, np.random.default_rng(one.draw))
            piece[row, : len(whole)] = np.repeat(np.arange(1, len(sizes) + 1), sizes)
            positions[row, : len(whole)] += np.concatenate([np.arange(size) for size in sizes])
            places.append(row * width + gaps)
            labels.append(whole[gaps])
        given = {"input_ids": torch.from_numpy(ids)} | _gaps(np.concatenate(places), np.concatenate(labels))
        pieces = torch.from_numpy(piece)
        if not self.is_apart:
            return given | {"attention_mask": (pieces > 0).long()}
        apart = pieces[:, None, :, None] == pieces[:, None, None, :]
        if self.additive:
            apart = torch.zeros(apart.shape).masked_fill(~apart, torch.finfo(torch.float32).min)
        return given | {"attention_mask": apart, "position_ids": torch.from_numpy(positions)}

    def _hide(self, ids: NDArray[Any], draw: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
        """The sequence as it is read, and the places of its gaps, ascending: at least one, where it has words."""
        plain = np.flatnonzero(~np.isin(ids, list(self.special)))
        count = max(1, int(self.share * len(plain) + draw.random()))
        gaps = np.sort(draw.permutation(plain)[:count])
        way, read = draw.random(len(gaps)), ids.copy()
        read[gaps[way < HIDDEN]] = self.mask_id
        other = gaps[(way >= HIDDEN) & (way < HIDDEN + OTHER)]
        read[other] = draw.integers(self.vocabulary, size=len(other))
        return read, gaps


def _gaps(places: NDArray[Any], labels: NDArray[Any]) -> dict[str, Tensor]:
    """Filled up to a round number: a processor prepares its arithmetic anew for every size."""
    more = -len(places) % ROUND
    filled = np.concatenate([labels, np.full(more, IGNORED)])
    return {
        "places": torch.from_numpy(np.concatenate([places, np.zeros(more, dtype=np.int64)])),
        "labels": torch.from_numpy(filled)[None],
    }


@contextmanager
def at_places(network: Any) -> Iterator[None]:
    """Let the head of ``network`` work at the ``places`` of a batch alone; without them it is as it was."""
    given: list[Tensor] = []

    def before(_module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        given[:] = [kwargs.pop("places")] if "places" in kwargs else []
        return args, kwargs

    def behind(_module: nn.Module, _given: Any, output: Any) -> Any:
        if given:
            output.last_hidden_state = output.last_hidden_state.flatten(0, 1).index_select(0, given[0])[None]
        return output

    hooks = [
        network.register_forward_pre_hook(before, with_kwargs=True),
        network.base_model.register_forward_hook(behind),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def keeps_apart(network: Any, masking: Masking, longest: int) -> bool:
    """Whether ``network`` gives two short pieces of one sequence the logits that each has alone.

    One that sees fewer than ``longest`` tokens to either side fails: the mask that keeps pieces apart would lift that.
    """
    if (getattr(network.config, "sliding_window", None) or longest) < longest - 1:
        return False
    usable = [i for i in range(network.config.vocab_size) if i not in masking.special][:8]
    pieces = [np.array(usable[:n]) for n in (5, 3)]
    training = network.training
    network.eval()

    def logits(*parts: NDArray[Any]) -> Tensor:
        batch = masking([Drawn(parts, (0,))])
        names = ("attention_mask", "position_ids")
        ids = torch.from_numpy(np.concatenate(parts).astype(np.int64))[None]
        on_device = {name: batch[name].to(network.device) for name in names}
        return network(input_ids=ids.to(network.device), **on_device).logits[0]

    try:
        alone = torch.cat([logits(part) for part in pieces])
        return float((logits(*pieces) - alone).abs().max()) <= TOLERANCE * float(alone.std())
    except (RuntimeError, ValueError, TypeError):  # it takes no such mask, or no positions
        return False
    finally:
        network.train(training)
