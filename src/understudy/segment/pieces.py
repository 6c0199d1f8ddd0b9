"""A text cut into pieces at sentence and clause punctuation."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from understudy.segment import signs
from understudy.segment.ends import End, ends

_TOKEN = re.compile(
    rf"[{signs.EAST_ASIAN}{signs.SOUTH_EAST_ASIAN}]"
    rf"|[^\s{signs.EAST_ASIAN}{signs.SOUTH_EAST_ASIAN}{signs.STOPS}{signs.PAUSES}]+"
)
_COUNTED = re.compile(r"[^\W_]|[=<>≈≤≥≠]")


def split(
    text: str,
    *,
    short_words: int = 3,
    short: Literal["merge", "drop", "keep"] = "merge",
    whole: re.Pattern[str] | None = None,
) -> list[str]:
    """The pieces of a text, in order, each with the sign and the white space that end it.

    A sentence ends at a full stop, question or exclamation mark or line break, a clause at a comma, semicolon or
    colon too (so a list is parted from what announces it). Where a script has no space after its signs, as Chinese,
    none is needed; elsewhere a sign ends a piece only before white space. None does within numbers, times,
    abbreviations and initials, brackets that close on the same line, and ``<<48/2=24>>``; nor a full stop after a
    number that labels a line or sentence (``1. ``), nor an ellipsis unless a capital follows it. Quotes and brackets
    that close right after a sign stay with it. What holds no letter or digit is never a piece of its own.

    Args:
        short_words: a piece of so many words or fewer is short; see ``count_words``.
        short: ``merge`` puts a short piece to the following one of its sentence, else to the one before in it. A
            short sentence goes to short ones beside it; where that is still short, to the piece before, else to
            the one after. ``drop`` leaves short pieces out, ``keep`` leaves them alone.
        whole: a sentence in which this is found is one piece, which is never merged or dropped; where one match
            touches several sentences, they are one piece together. It is sought in the whole text.

    Returns:
        Pieces that joined by "" give the text, except with ``drop``; none for the empty text.
    """
    found = ends(text)
    parts = _parts(text, found, _whole_spans(text, found, whole), short_words)
    if short == "drop":
        parts = [part for part in parts if part.is_whole or not part.is_short]
    elif short == "merge":
        for belong in _MERGES:
            parts = _merged(parts, belong)
    return [text[part.start : part.end] for part in parts]


def count_words(text: str) -> int:
    """How many tokens between white space hold a letter, digit or sign of comparison: ``8 / 2 = 4`` has four.

    In scripts without spaces between words (Chinese, Japanese, Thai, Lao, Tibetan, Burmese, Khmer) each letter counts.
    """
    return sum(_COUNTED.search(token) is not None for token in _TOKEN.findall(text))


class _Part(NamedTuple):
    start: int
    end: int
    words: int
    short_words: int
    opens: bool  # whether it begins a sentence
    is_whole: bool

    @property
    def is_short(self) -> bool:
        return self.words <= self.short_words


# Whether two neighbours become one, applied one after the other, each from left to right.
_MERGES: tuple[Callable[[_Part, _Part], bool], ...] = (
    lambda part, following: part.is_short and not following.opens,
    lambda part, following: following.is_short and not following.opens,
    lambda part, following: part.is_short and following.is_short,  # from here on only sentences are short
    lambda part, following: part.is_short or following.is_short,
)


def _merged(parts: Iterable[_Part], belong: Callable[[_Part, _Part], bool]) -> list[_Part]:
    merged: list[_Part] = []
    for part in parts:
        last = merged[-1] if merged else None
        if last and not last.is_whole and not part.is_whole and belong(last, part):
            merged[-1] = last._replace(end=part.end, words=last.words + part.words)
        else:
            merged.append(part)
    return merged


def _whole_spans(text: str, found: list[End], whole: re.Pattern[str] | None) -> list[tuple[int, int]]:
    """From where to where the sentences reach that a match of ``whole`` touches; those of one match are one span."""
    bounds = [0, *(end.at for end in found if end.level == "sentence")]
    spans: list[tuple[int, int]] = []
    for match in whole.finditer(text) if whole and text else ():
        said = match[0].strip()  # white space around it may belong to the sentence before
        start = min(match.start() + match[0].find(said), len(text) - 1)
        first = bounds[bisect_right(bounds, start) - 1]
        last = bounds[bisect_left(bounds, start + max(len(said), 1))]
        if spans and first < spans[-1][1]:
            before = spans.pop()
            first, last = before[0], max(before[1], last)
        spans.append((first, last))
    return spans


def _parts(text: str, found: list[End], spans: list[tuple[int, int]], short_words: int) -> list[_Part]:
    parts: list[_Part] = []
    start, opens, remaining = 0, True, deque(spans)
    for end in found:
        while remaining and remaining[0][1] <= start:
            remaining.popleft()
        is_whole = bool(remaining) and remaining[0][0] <= start
        if is_whole and end.at < remaining[0][1]:
            continue
        words = count_words(text[start : end.at])
        parts.append(_Part(start, end.at, words, short_words, opens, is_whole))
        start, opens = end.at, end.level == "sentence"
    return parts
