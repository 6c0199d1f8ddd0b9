"""Pieces with their scores, and which of them are extractive (copied facts) or abstractive (new steps)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import fmean
from typing import Literal

Tag = Literal["es", "as"]
"""``es``: extractive, ``as``: abstractive."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a text with its tag."""

    text: str
    """As it stands in its text, with the white space around it."""
    score: float
    """How much of it is new, in the scorer's own unit."""
    ratio: float
    """The score over the mean score of its text's pieces; 0 where that mean is 0."""
    tag: Tag


def tagged(texts: Sequence[str], scores: Sequence[float], *, beta: float = 1.4, reverse: bool = False) -> list[Piece]:
    """The pieces of one text: abstractive where the score is over ``beta`` times their mean, else extractive.

    Where the mean is negative, as it can be with the cosine of embeddings, ``beta`` times it lies below it for
    ``beta`` over 1, so that most pieces are abstractive, and a ratio over ``beta`` says nothing.

    Args:
        scores: finite, one a text.
        reverse: the tags the other way round, for scores that are high where a piece is copied.

    Raises:
        ValueError: there are not as many scores as texts.
    """
    mean = fmean(scores) if scores else 0.0
    over: Tag = "es" if reverse else "as"
    under: Tag = "as" if reverse else "es"
    return [
        Piece(text, score, score / mean if mean else 0.0, over if score > beta * mean else under)
        for text, score in zip(texts, scores, strict=True)
    ]


def shuffled(pieces: Sequence[Piece], seed: str) -> list[Piece]:
    """The pieces in their order with the same tags dealt out at random: a control. One seed, one outcome."""
    tags = [piece.tag for piece in pieces]
    random.Random(seed).shuffle(tags)
    return [replace(piece, tag=tag) for piece, tag in zip(pieces, tags, strict=True)]


def runs(pieces: Iterable[Piece], *, merge: bool = True) -> list[list[Piece]]:
    """The segments: neighbours of one tag together, as in the paper; without ``merge`` each piece, as in its code."""
    if not merge:
        return [[piece] for piece in pieces]
    return [list(run) for _, run in groupby(pieces, key=lambda piece: piece.tag)]


def location(count: int) -> list[float]:
    """Scores by place alone: 0, 1, 0, 1 ... so that, for any ``beta`` under 2, pieces alternate from extractive on."""
    return [float(place % 2) for place in range(count)]
