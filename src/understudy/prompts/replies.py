"""Reading what a teacher wrote: labels, final answers, JSON lists. Each raises ParseError with a counted reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from understudy.errors import ParseError
from understudy.prompts.loose_json import json_values, short
from understudy.records import normalise

# Linear in the text: what stands before the word stays on its line, and nothing is matched lazily.
_ANSWER = re.compile(r"^(?:_|[^\w\n])*answer[\W_]*:[*_\s]*(\S.*)$", re.IGNORECASE | re.MULTILINE)
_SCORE = re.compile(
    r"\bscore\s+is[\s:*_\"'(]*+"
    r"(?:(?!(?:above|at|below|between|from|not|of|out|over|under)\b)[a-z]+,?[\s:*_\"'(]++){0,2}+"  # "therefore", "an"
    r"(-?\d+(?:[.,]\d+)?)",
    re.IGNORECASE,
)
_GOES_ON = re.compile(r"(?:[.!?][\"')*_]*\s|\n)\s*+\w")
_FENCE = re.compile(r"```[\w-]*\n(.*?)```", re.DOTALL)


def read_label(text: str, labels: Sequence[str]) -> str:
    """The one label that ``text`` is: as it stands, or whatever its case, quotes, hyphens or underscores.

    Raises:
        ParseError: ``not_a_label``, or ``ambiguous_label`` where labels differ only by such signs.
    """
    if text.strip() in labels:
        return text.strip()
    found = [label for label in labels if _loose(label) == _loose(text)]
    if not found:
        raise ParseError("not_a_label", f"{short(text)} is none of the {len(labels)} labels")
    if len(found) > 1:
        raise ParseError("ambiguous_label", f"{short(text)} could be any of {', '.join(found)}")
    return found[0]


def read_labels(text: str, labels: Sequence[str]) -> tuple[str, ...]:
    """The labels in a list parted by commas, semicolons or lines, in the task's order.

    Raises:
        ParseError: ``not_a_label`` if one of them is none, or there is none; ``ambiguous_label``.
    """
    found = {read_label(part, labels) for part in re.split(r"[,;\n]", text) if part.strip()}
    if not found:
        raise ParseError("not_a_label", "the reply names no label")
    return tuple(label for label in labels if label in found)


def _loose(text: str) -> str:
    return normalise(text.replace("_", " ")) or text.strip()


def split_answer(text: str) -> tuple[str, str]:
    """Reasoning and answer of a reply that ends in a line ``Answer: ...``.

    Raises:
        ParseError: ``no_answer`` where there is no such line.
    """
    matches = list(_ANSWER.finditer(text))
    if not matches:
        raise ParseError("no_answer", f"no line starts with 'Answer:' in {short(text)}")
    last = matches[-1]
    return text[: last.start()].strip(), last[1].strip().strip(" *_")


def read_score(text: str, most: int = 10) -> int:
    """The whole number from 1 to ``most`` in the last sentence, ``... score is 8``, a word or two before it or none.

    Raises:
        ParseError: ``no_closing`` where there is no such sentence, ``score_out_of_range`` for any other number.
    """
    *_, said = [None, *_SCORE.finditer(text)]
    if said is None or _GOES_ON.search(text, said.end()):
        raise ParseError("no_closing", f"no sentence ends it with a score: {short(text)}")
    if said[1] not in map(str, range(1, most + 1)):
        raise ParseError("score_out_of_range", f"{said[1][:20]} is no whole number from 1 to {most}")
    return int(said[1])


def read_json_list(text: str) -> list[Any]:
    """The JSON list in a reply, with or without a code fence and prose around it, read as ``json_values`` reads.

    Raises:
        ParseError: ``not_json``, also where numbers, nesting or broken characters are beyond use, where the list breaks
            off, or where there are several; ``not_a_list``.
    """
    fenced = _FENCE.search(text)
    body = fenced[1] if fenced else text
    start, end = body.find("["), body.rfind("]")
    if start < 0 or end < start:
        raise ParseError("not_a_list", f"no JSON list in {short(text)}")
    try:
        found = json_values(body, "[")
    except ParseError as error:
        raise ParseError("not_json", error.detail) from None
    if len(found) != 1 or not isinstance(found[0], list):
        raise ParseError("not_json", f"{len(found)} JSON lists where one is expected in {short(text)}")
    return found[0]
