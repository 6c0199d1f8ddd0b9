"""How a student that learnt raw text answers: of the sentences of an example it chooses the likeliest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from understudy.errors import DataError
from understudy.evaluation.minimal_pairs import predictions
from understudy.records import Example, Prediction
from understudy.students.scorer import likelihoods_of
from understudy.students.written import About


@dataclass
class SentenceModel:
    """A trained student that says how likely a sentence is."""

    network: Any
    tokenizer: Any
    about: About
    truncated: int = field(default=0, init=False)

    def predict(self, inputs: Iterable[str | Example]) -> Iterator[Prediction]:
        """The likeliest of each example's ``choices``, or none where several are, in input order.

        Raises:
            DataError: an input is no example with choices, or a sentence is empty or too long.
        """
        return predictions(map(_with_choices, inputs), self.scores)

    def scores(self, sentences: Iterable[str]) -> Iterator[float]:
        """The log-likelihood of each sentence, in nats; of a masked student the pseudo-log-likelihood."""
        how = {"within_word": self.about.within_word, "precision": self.about.score_precision}
        return likelihoods_of(self.network, self.tokenizer, sentences, **how)


def _with_choices(one: str | Example) -> Example:
    if not isinstance(one, Example) or not one.choices:
        name = f"example {one.id!r}" if isinstance(one, Example) else f"input {one[:40]!r}"
        raise DataError(f"{name}: a student of raw text chooses between sentences, and there are none; give choices")
    return one
