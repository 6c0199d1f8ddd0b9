"""How a text says that it is over: a phrase before its answer, a pattern, or a tag that a student learns to write."""

from __future__ import annotations

import re
from dataclasses import dataclass

from understudy.segment.joining import joined
from understudy.segment.pieces import split

END_TAG = "[END]"
_WRITTEN_TAG = re.compile(r"\[\s*end\s*\]", re.IGNORECASE)  # some tokenizers have no capitals, or put spaces in
_ENDED = re.compile(r"[.!?…。！？؟۔।][\"'”’»)\]]*$")


@dataclass(frozen=True)
class Ending:
    """What texts end with.

    Attributes:
        phrase: what stands before the answer, whatever its case.
        pattern: a regular expression to know the end by in place of the phrase.
        is_tagged: whether ``END_TAG`` is added to every text, and is the end.
    """

    phrase: str
    pattern: str | None = None
    is_tagged: bool = False

    @property
    def marker(self) -> re.Pattern[str]:
        """What the last sentence of reasoning holds."""
        return re.compile(self.pattern) if self.pattern else re.compile(re.escape(self.phrase), re.IGNORECASE)

    def is_over(self, text: str) -> bool:
        """Whether nothing is written after ``text``."""
        return bool((_WRITTEN_TAG if self.is_tagged else self.marker).search(text))

    def concludes(self, text: str) -> bool:
        """Whether the last sentence of ``text`` says the answer."""
        pieces = split(text, short="keep", whole=self.marker)
        return bool(pieces and self.marker.search(pieces[-1]))

    def conclude(self, text: str, answer: str) -> str:
        """``text``, ended, with the phrase and the answer."""
        text = text.rstrip()
        text += "" if _ENDED.search(text) else "."
        return joined(text, f"{self.phrase} {answer.strip().removesuffix('.')}.")

    def tag(self, text: str) -> str:
        """``text`` as students learn it."""
        return joined(text, END_TAG) if self.is_tagged else text

    def untag(self, text: str) -> str:
        """What a student wrote, as it is read."""
        return _WRITTEN_TAG.split(text)[0].rstrip() if self.is_tagged else text

    def said(self, text: str) -> str | None:
        """What follows the last phrase; ``None`` where there is none."""
        found = list(re.finditer(re.escape(self.phrase), text, re.IGNORECASE))
        return text[found[-1].end() :].strip() if found else None
