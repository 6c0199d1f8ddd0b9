"""Students that write one text in turns: how AS-ES (arXiv 2403.01969) answers.

In every step one model goes on with all texts that are not over, so that a step is as few batches as can be, and a text
that is over is in none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, TypeAlias

from understudy.segment import joined
from understudy.students import Model

WINDOW = 512  # prompts that are answered together; no more are held in memory

Stopped: TypeAlias = Literal["marker", "cap", "stalled"]


@dataclass(frozen=True, slots=True)
class Iterated:
    """What was written to one prompt.

    ``pieces`` are the number of the model that wrote each, and its text; ``rounds`` is how many were begun. ``marker``:
    the text was over; ``cap``: there were no more rounds; ``stalled``: no model had anything more to write.
    """

    text: str
    pieces: tuple[tuple[int, str], ...]
    rounds: int
    stopped: Stopped


def iterate(
    models: Sequence[Model],
    prompts: Iterable[str],
    *,
    is_over: Callable[[str], bool],
    rounds: int = 5,
    turns: int = 2,
    boundary: str | None = None,
) -> Iterator[Iterated]:
    """What the models write to each prompt in turns, in input order; memory does not grow with the prompts.

    A step is ``predict`` of the prompt and the text so far, joined as ``segment.joined`` does; how long it may be is
    the model's own ``max_new_tokens``.

    Args:
        models: they take turns; one alone takes all.
        is_over: whether nothing should follow the text so far, in which the prompt is not.
        rounds: the most rounds of a text.
        turns: steps a round.
        boundary: stands between the text so far and what a model writes, where it learnt so.

    Raises: as ``Model.predict``.
    """
    stream = iter(prompts)
    while window := [_Row(prompt) for prompt in islice(stream, WINDOW)]:
        for step in range(rounds * turns):
            going = [row for row in window if row.stopped is None]
            if not going:
                break
            number = step % len(models)
            answers = models[number].predict([joined(row.prompt, row.text) + (boundary or "") for row in going])
            for row, answer in zip(going, answers, strict=True):
                row.rounds = step // turns + 1
                row.take(number, str(answer.output).strip(), len(models), is_over)
        for row in window:
            yield Iterated(row.text, tuple(row.pieces), row.rounds, row.stopped or "cap")


@dataclass(slots=True)
class _Row:
    """A text that is being written."""

    prompt: str
    text: str = ""
    pieces: list[tuple[int, str]] = field(default_factory=list)
    rounds: int = 0
    silent: int = 0  # so many steps on end wrote nothing
    stopped: Stopped | None = None

    def take(self, number: int, piece: str, models: int, is_over: Callable[[str], bool]) -> None:
        """Go on with a piece."""
        if piece:
            self.silent = 0
            self.pieces.append((number, piece))
            self.text = joined(self.text, piece)
            self.stopped = "marker" if is_over(self.text) else None
            return
        self.silent += 1
        if self.silent == models:  # greedy decoding of the same text: they would write nothing for ever
            self.stopped = "stalled"
