"""How texts are cut into segments, as AS-ES does it (arXiv 2403.01969): the settings, and the pieces of a row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import tee
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from understudy.records import Example
from understudy.scoring import BY_STUDENT, Score, Sees, scores_of
from understudy.segment import Ending, Piece, shuffled, split, tagged
from understudy.settings import Settings
from understudy.students.serial import prompt_of


class Segmenting(Settings):
    """How a text is cut, scored and tagged, and what it ends with."""

    score: Score = "entropy"
    """What a piece is tagged by: entropy or loss of a student, its likeness to the question (bleu, rouge_l, embedding),
    or its location, by which every other piece is abstractive."""
    average: bool = False
    """Entropy or loss a token, in place of the sum over the piece."""
    sees: Sees = "question"
    """What the student has read before a piece: the question alone, as in the authors' code, or earlier pieces too."""
    beta: float = Field(default=1.4, ge=0, allow_inf_nan=False)
    """A piece is abstractive if its score is above so many times the mean of its question's pieces."""
    reverse: bool = False
    """The tags the other way round."""
    shuffled: bool = False
    """Control: the same tags, dealt out at random among each question's pieces."""
    merge: bool = True
    """Whether neighbours of one tag are one segment."""
    short: Literal["merge", "drop", "keep"] = "merge"
    """What becomes of pieces of few words: joined to a neighbour, dropped, or kept."""
    short_words: int = Field(default=3, ge=0)
    """How many words are few."""
    ends: Literal["phrase", "pattern", "tag"] = "phrase"
    """What a text is over with: the phrase before its answer, a pattern, or a tag that is learnt."""
    phrase: str = Field(default="The answer is", pattern=r"^\S(.*\S)?$")
    """What stands before the answer; it is added with the answer where the reasoning does not end so."""
    pattern: Annotated[str, Field(min_length=1)] | None = None
    """With ends: pattern, the regular expression."""

    @model_validator(mode="after")
    def _ends(self) -> Segmenting:
        if (self.ends == "pattern") != (self.pattern is not None):
            raise ValueError("pattern: it goes with ends: pattern; give both or neither")
        try:
            found = re.compile(self.pattern or (self.phrase and re.escape(self.phrase))).search
        except re.error as error:
            raise ValueError(f"pattern: {error}") from None
        if found("") or not any(found(f"{self.phrase} {answer}.") for answer in ("0", "(A)", "yes")):
            raise ValueError(
                f"pattern: {self.pattern!r} is in every text, or not in {self.phrase + ' 0.'!r}, which is added where "
                "reasoning does not end so; change pattern or phrase"
            )
        return self

    @property
    def by_student(self) -> bool:
        """Whether it takes a student to score the pieces."""
        return self.score in BY_STUDENT

    @property
    def ending(self) -> Ending:
        """What texts end with."""
        return Ending(self.phrase, self.pattern, is_tagged=self.ends == "tag")


def segmented(rows: Iterable[Example], settings: Segmenting, model: Any = None) -> Iterator[list[Piece]]:
    """The pieces of each row's ``rationale``, scored and tagged; memory does not grow with the rows.

    Args:
        model: the student that scores, as ``students.load_model`` gives it.

    Raises: as ``scoring.scores_of``.
    """
    how: Any = {"short": settings.short, "short_words": settings.short_words, "whole": settings.ending.marker}
    cut, asked = tee((row, split(row.rationale or "", **how)) for row in rows)
    texts = ((prompt_of(row), row.input, pieces) for row, pieces in asked)
    scored = scores_of(texts, settings.score, model=model, average=settings.average, sees=settings.sees)
    for (row, pieces), scores in zip(cut, scored, strict=True):
        found = tagged(pieces, scores, beta=settings.beta, reverse=settings.reverse)
        yield shuffled(found, row.id) if settings.shuffled else found
