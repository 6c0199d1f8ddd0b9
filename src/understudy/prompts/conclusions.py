"""Whether a text ends in a given answer: an option by its letter or words, labels, or free text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from understudy.choices import LETTERS
from understudy.errors import ParseError
from understudy.prompts.loose_json import short
from understudy.records import normalise

_ANSWER_IS = re.compile(r"\banswer\b[*_ ]*(?:(?:choice|option)[*_ ]*)?(?:\bis\b|[:=])[*_:\s]*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_LETTER = re.compile(r"""[\s"'*_]*(?:option )?(?:\(([A-Za-z])\)|([A-Za-z])(?:\)|\W*$)|([A-Z])[*_]*[.,:;]\s)""")
_IN_BRACKETS = re.compile(r"\(([A-Za-z])\)")
_ARTICLE = re.compile(r"^(?:the|an?) ")


def conclusion(text: str) -> str:
    """The sentence in which a text says its answer: what follows the last "answer is" or "answer:", else the last."""
    return _SENTENCE_END.split(_said(text).strip())[0]


def option_in(text: str, options: Sequence[str]) -> str:
    """The one option that a reply names, by its letter, its words or both.

    Raises:
        ParseError: ``not_a_choice`` where it names none, ``ambiguous_choice`` where it names several.
    """
    named = _named(text, options, lettered=True)
    found = [option for option in options if _plain(option) in named]
    if len(found) != 1 or len(named) > 1:
        reason = "ambiguous_choice" if named and found else "not_a_choice"
        raise ParseError(reason, f"{short(text)} names {len(named) or 'none'} of the {len(options)} options")
    return found[0]


def ends_in(text: str, answer: str | Sequence[str], options: Sequence[str] = (), *, lettered: bool = False) -> bool:
    """Whether ``text`` concludes that ``answer`` is right, whatever case and punctuation.

    With ``options`` (choices or labels) its conclusion must name the answer's and no other: the one that it begins
    with; ``lettered`` ones also by letter, ``(B)``, and each letter counts; else every one that stands in it. The
    several labels of a row must all stand in it, and no other.

    Without, the text must end with the answer, or what follows "answer is" begin with it; of several answers
    (references) one is enough.
    """
    answers = (answer,) if isinstance(answer, str) else tuple(answer)
    if not options:
        return any(_is_text(text, one) for one in answers)
    named = _named(text, options, lettered) if isinstance(answer, str) else _within(conclusion(text), options)
    return named == {_plain(one) for one in answers}


def _named(text: str, options: Sequence[str], lettered: bool) -> set[str]:
    said = _said(text)
    letter = _LETTER.match(said) if lettered and _plain(said) not in map(_plain, options) else None
    if letter is None:
        return _first(said, options) or _within(conclusion(text), options)
    letters = {letter[letter.lastindex or 0].upper(), *map(str.upper, _IN_BRACKETS.findall(conclusion(text)))}
    places = map(LETTERS.index, letters)
    named = {_plain(options[place]) if place < len(options) else "" for place in places}
    return named | _first(said[letter.end() :], options)


def _first(text: str, options: Sequence[str]) -> set[str]:
    """The longest option that ``text`` begins with, in a set; articles do not count."""
    words = _ARTICLE.sub("", _plain(text)) + " "
    begun = [plain for plain in map(_plain, options) if words.startswith(_ARTICLE.sub("", plain) + " ")]
    return {max(begun, key=len)} if begun else set()


def _within(text: str, options: Sequence[str]) -> set[str]:
    """The options that stand in ``text``; of options within one another the longest."""
    plain = sorted({_plain(option) for option in options}, key=len, reverse=True)
    return set(re.findall(rf"(?<!\w)(?:{'|'.join(map(re.escape, plain))})(?!\w)", _plain(text))) - {""}


def _is_text(text: str, answer: str) -> bool:
    is_said = _ANSWER_IS.search(text) is not None and bool(_first(_said(text), [answer]))
    return is_said or f" {_plain(text)}".endswith(f" {_plain(answer)}")


def _said(text: str) -> str:
    matches = list(_ANSWER_IS.finditer(text))
    return text[matches[-1].end() :] if matches else _SENTENCE_END.split(text.strip())[-1]


def _plain(text: str) -> str:
    return normalise(text.replace("_", " "))
