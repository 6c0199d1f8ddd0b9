"""Where a text may be split: the ends of its sentences and clauses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from understudy.segment import signs

_LOOK_BACK = 16  # characters before a full stop that are looked at, so that the work is linear in the text
_IDEOGRAPH = re.compile(f"[{signs.EAST_ASIAN}]")
_LETTER = re.compile(r"[^\W_]")

Level = Literal["sentence", "clause"]


class End(NamedTuple):
    """A piece ends before the character ``at``; the white space after the sign is its own."""

    at: int
    level: Level


def ends(text: str) -> list[End]:
    """The ends of all sentences and clauses in order; the last is the text's end.

    What holds no letter or digit is no sentence or clause: it goes to the one before, else to the one after.
    """
    found: list[End] = []
    start = 0
    for end in _all_ends(text):
        if _LETTER.search(text, start, end.at):
            found.append(end)
        elif found and (found[-1].level == "clause" or end.level == "sentence"):
            found[-1] = end  # nothing but signs: they go to what stands before
        start = end.at  # else to what follows
    return found or ([End(len(text), "sentence")] if text else [])


def _all_ends(text: str) -> Iterator[End]:
    brackets = iter(_brackets(text))
    opened, closed = next(brackets, (len(text), len(text)))
    sentence = 0
    for mark in signs.MARK.finditer(text):
        place = mark.start("space")
        while closed <= place < len(text):
            opened, closed = next(brackets, (len(text), len(text)))
        level = _level(text, mark, sentence, inside=opened < place < closed)
        if level and mark.end() < len(text):
            yield End(mark.end(), level)
        if level == "sentence":
            sentence = mark.end()
    yield End(len(text), "sentence")


def _brackets(text: str) -> list[tuple[int, int]]:
    """The outermost pairs of brackets that open and close on one line, in order; others are mere signs."""
    pairs: list[tuple[int, int]] = []
    opened: dict[str, list[int]] = {closing: [] for closing in signs.CLOSING.values()}
    for found in signs.BRACKET.finditer(text):
        bracket = found[0]
        if bracket in signs.CLOSING:
            opened[signs.CLOSING[bracket]].append(found.start())
        elif bracket not in opened:
            for places in opened.values():
                places.clear()
        elif opened[bracket]:
            start = opened[bracket].pop()
            while pairs and pairs[-1][0] > start:
                pairs.pop()
            pairs.append((start, found.end()))
    return pairs


def _level(text: str, mark: re.Match[str], sentence: int, *, inside: bool) -> Level | None:
    """What ends at a sign; ``sentence`` is where the sentence that it stands in begins."""
    if signs.LINE_BREAK.search(mark[0]):
        return "sentence"
    if inside:
        return None
    if mark["unspaced"]:
        return _level_unspaced(text, mark)
    if not mark["space"] and not _IDEOGRAPH.match(text, mark.end()):
        return None  # within a number, a time, a name of a file, an address
    sign, place = mark["ascii"], mark.start()
    before = text[max(sentence, place - _LOOK_BACK) : place]
    following = signs.NEXT_WORD.match(text, mark.end())
    after = following[1] if following else ""
    if sign[-1] in ",;:":
        is_ratio = sign == ":" and before[-1:].isspace() and before.rstrip()[-1:].isdigit() and after[:1].isdigit()
        is_instance = sign == ".," and signs.FOR_INSTANCE.search(before)
        return None if is_ratio or is_instance else "clause"
    if sign != "." and not sign.strip(".… \u00a0"):
        return "sentence" if after[:1].isupper() else None
    if sign == "." and (_is_abbreviation(before, after) or _is_label(text, sentence, place)):
        return None
    is_quoted = mark.end("ascii") < mark.start("space")
    return None if is_quoted and after[:1].islower() else "sentence"


def _level_unspaced(text: str, mark: re.Match[str]) -> Level | None:
    sign = mark["unspaced"][-1]
    around = text[mark.start() - 1 : mark.start()], text[mark.end() : mark.end() + 1]
    if (sign in signs.PAUSES or sign == "．") and not mark["space"] and all(map(str.isdigit, around)):
        return None
    return "clause" if sign in signs.PAUSES else "sentence"


def _is_abbreviation(before: str, after: str) -> bool:
    """Whether a full stop between ``before`` and the word ``after`` belongs to an abbreviation alone."""
    if signs.TITLES.search(before):
        return True
    if signs.BEFORE_NUMBERS.search(before) and after[:1].isdigit():
        return True
    if signs.BEFORE_MORE.search(before):
        return not after[:1].isupper()
    dotted = signs.DOTTED.search(before)
    if dotted is None:
        return False
    if dotted[0][0].isupper():  # initials and the like: J. K. Rowling, E. coli, the U.S. Army
        goes_on = after[:1].isalpha() or "." in dotted[0]
        return goes_on and not signs.STARTERS.match(after) and not _IDEOGRAPH.match(after)
    return "." in dotted[0] and not after[:1].isupper()


def _is_label(text: str, sentence: int, place: int) -> bool:
    """Whether all that stands between the sentence's begin and ``place`` numbers it: ``1.``"""
    return place - sentence <= _LOOK_BACK and signs.LABEL.fullmatch(text, sentence, place) is not None
