"""How a student that learnt raw text answers: of the sentences of an example it chooses the likeliest."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from understudy.errors import DataError
from understudy.evaluation.minimal_pairs import predictions
from understudy.pretrained import quiet
from understudy.records import Example, Prediction
from understudy.students.language import positions_of
from understudy.students.scorer import likelihoods_of
from understudy.students.written import About

WINDOW = 1024  # examples; no more are held in memory


@dataclass
class SentenceModel:
    """A trained student that says how likely a sentence is."""

    network: Any
    tokenizer: Any
    about: About
    truncated: int = field(default=0, init=False)

    def predict(self, inputs: Iterable[str | Example]) -> Iterator[Prediction]:
        """The likeliest of each example's ``choices``, or none where several are, in input order.

        Of one with a sentence that is longer than the student reads there is none either, and it is counted.

        Raises:
            DataError: an input is no example with choices, or a sentence is empty.
        """
        stream = map(_with_choices, inputs)
        while window := list(islice(stream, WINDOW)):
            fits = self._fits([row.choices for row in window])
            self.truncated += fits.count(False)
            answers = predictions((row for row, fit in zip(window, fits, strict=True) if fit), self.scores)
            yield from (next(answers) if fit else Prediction(None) for fit in fits)

    def _fits(self, sentences: list[tuple[str, ...]]) -> list[bool]:
        """Whether the network has positions for each of them."""
        limit, _ = positions_of(self.network)
        room = (limit or sys.maxsize) - max(1, self.tokenizer.num_special_tokens_to_add())
        with quiet():  # it warns of texts longer than the model
            ids = self.tokenizer([*chain.from_iterable(sentences)], add_special_tokens=False)["input_ids"]
        sizes = map(len, ids)
        return [max(islice(sizes, len(some))) <= room for some in sentences]

    def scores(self, sentences: Iterable[str]) -> Iterator[float]:
        """The log-likelihood of each sentence, in nats; of a masked student the pseudo-log-likelihood."""
        how = {"within_word": self.about.within_word, "precision": self.about.score_precision}
        return likelihoods_of(self.network, self.tokenizer, sentences, **how)


def _with_choices(one: str | Example) -> Example:
    if not isinstance(one, Example) or not one.choices:
        name = f"example {one.id!r}" if isinstance(one, Example) else f"input {one[:40]!r}"
        raise DataError(f"{name}: a student of raw text chooses between sentences, and there are none; give choices")
    return one
