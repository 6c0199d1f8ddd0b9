"""How a trained language model answers: by ranking options, or by writing."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

from understudy.errors import DataError
from understudy.records import Example, Prediction
from understudy.students import serial
from understudy.students.choices import Ranked
from understudy.students.language import stop_of
from understudy.students.written import About
from understudy.task import COMMAS

WINDOW = 512  # inputs that are sorted by length together; no more are held in memory
BATCH_TOKENS = 4096
SMALL = 20_000_000  # parameters: what such a network remembers of a token takes little memory
ROWS, SMALL_BATCH_TOKENS = 128, 32_768  # a small network writes so many texts at once almost as fast as a few


@dataclass
class LanguageModel(ABC):
    """A trained student that reads a question and answers it."""

    network: Any
    tokenizer: Any
    about: About
    truncated: int = field(default=0, init=False)

    def predict(self, inputs: Iterable[str | Example]) -> Iterator[Prediction]:
        """One prediction an input, in input order.

        The options of an example, or the labels of a classification task, are ranked by likelihood, and ``scores``
        holds their shares. For anything else, and with ``prompt: bare``, the answer is what the model writes.

        Raises:
            DataError: an example has more options than letters, an option without a token, or no text to go on from.
        """
        stream = iter(inputs)
        while window := list(islice(stream, WINDOW)):
            options = [self._options(one) for one in window]
            ranked = self._rank([(one, texts) for one, texts in zip(window, options, strict=True) if texts])
            written = self._write([one for one, texts in zip(window, options, strict=True) if not texts])
            for texts in options:
                yield next(ranked) if texts else next(written)

    @abstractmethod
    def _scores(self, parts: Sequence[tuple[str, ...]], name_of: Callable[[int], str]) -> Iterator[list[Ranked]]:
        """The likelihood of each option, of rows that are the prompt, what leads from it to the options, and these.

        An error calls a row by ``name_of`` its number.
        """

    @abstractmethod
    def read(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of each prompt that an answer is to be written to."""

    @abstractmethod
    def _answers(self, prompts: Sequence[list[int]]) -> list[str]:
        """What the model writes to each prompt."""

    def _prompt(self, one: str | Example) -> str:
        if self.about.bare:
            return one if isinstance(one, str) else one.input
        return serial.prompt_of(one, self.about.preface)

    def _options(self, one: str | Example) -> tuple[str, ...]:
        if self.about.bare:  # it was not taught what an option looks like
            return ()
        if isinstance(one, Example) and one.choices:
            return one.choices
        return self.about.labels if self.about.task == "classification" else ()

    def _rank(self, rows: Sequence[tuple[str | Example, tuple[str, ...]]]) -> Iterator[Prediction]:
        name_of = lambda i: _name(rows[i][0])  # noqa: E731
        scored = self._scores([self._parts(one, names) for one, names in rows], name_of)
        for (one, names), scores in zip(rows, scored, strict=True):
            by_mean = isinstance(one, Example) and bool(one.choices) and self.about.rank_by == "text"
            yield _best(names, scores, by_mean)

    def _parts(self, one: str | Example, names: tuple[str, ...]) -> tuple[str, ...]:
        if not (isinstance(one, Example) and one.choices):
            return self._prompt(one), serial.LEAD, *map(serial.label_part, names)
        if self.about.rank_by == "letter":
            return self._prompt(one), f"{serial.LEAD} (", *serial.letters_of(one)
        return self._prompt(one), serial.LEAD, *(f" {name}" for name in names)

    def _write(self, rows: Sequence[str | Example]) -> Iterator[Prediction]:
        prompts = self.read([self._prompt(one) for one in rows])
        for one, prompt in zip(rows, prompts, strict=True):
            if not prompt:
                raise DataError(f"{_name(one)}: there are no tokens to go on from; give it an input")
        yield from map(self._prediction, self._answers(prompts))

    def _prediction(self, text: str) -> Prediction:
        if self.about.task != "multilabel":
            return Prediction(text)
        named = text.removeprefix(serial.LEAD.strip()).strip().removesuffix(".")
        told = {label.strip() for label in re.split(COMMAS, named)}
        return Prediction(tuple(label for label in self.about.labels if label in told))

    def _last(self, ids: list[int], room: int) -> list[int]:
        """The last tokens that there is room for; a text that loses some is counted."""
        self.truncated += len(ids) > room
        return ids[-max(1, room) :]

    @cached_property
    def _room(self) -> dict[str, int]:
        """How much is written at once."""
        is_small = self.network.num_parameters() < SMALL
        return {"rows": ROWS, "batch_tokens": SMALL_BATCH_TOKENS} if is_small else {"batch_tokens": BATCH_TOKENS}

    @cached_property
    def _stop(self) -> int:
        return stop_of(self.network, self.tokenizer)


def _name(one: str | Example) -> str:
    return f"example {one.id!r}" if isinstance(one, Example) else f"input {one[:40]!r}"


def _best(names: Sequence[str], scores: Sequence[Ranked], by_mean: bool) -> Prediction:
    values = [one.mean if by_mean else one.total for one in scores]
    top = max(values)
    weights = [math.exp(value - top) for value in values]
    shares = dict.fromkeys(names, 0.0)
    for name, weight in zip(names, weights, strict=True):  # equal options are one answer
        shares[name] += weight / sum(weights)
    return Prediction(names[values.index(top)], shares)
