"""How a student that learnt raw text answers: of the sentences of an example it chooses the likeliest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from understudy.errors import DataError
from understudy.records import Example, Prediction
from understudy.students.log_likelihood import log_likelihoods
from understudy.students.pseudo_likelihood import pseudo_log_likelihoods
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
        """The likeliest of each example's ``choices``, or none where two are equally likely; in input order.

        ``notes["log_likelihoods"]`` has that of each choice, in nats.

        Raises:
            DataError: an input is no example with choices, or a sentence is empty or too long.
        """
        stream = iter(inputs)
        while window := list(islice(stream, WINDOW)):
            options = [_options(one) for one in window]
            scores = self.scores(chain.from_iterable(options))
            for texts in options:
                found = list(islice(scores, len(texts)))
                best = max(found)
                output = texts[found.index(best)] if found.count(best) == 1 else None
                yield Prediction(output, notes={"log_likelihoods": found})

    def scores(self, sentences: Iterable[str]) -> Iterator[float]:
        """The log-likelihood of each sentence, in nats; of a masked student the pseudo-log-likelihood."""
        if self.about.kind == "causal":
            return log_likelihoods(self.network, self.tokenizer, sentences, precision=self.about.score_precision)
        return pseudo_log_likelihoods(
            self.network,
            self.tokenizer,
            sentences,
            within_word=self.about.within_word,
            precision=self.about.score_precision,
        )


def _options(one: str | Example) -> tuple[str, ...]:
    if not isinstance(one, Example) or not one.choices:
        name = f"example {one.id!r}" if isinstance(one, Example) else f"input {one[:40]!r}"
        raise DataError(f"{name}: a student of raw text chooses between sentences, and there are none; give choices")
    return one.choices
