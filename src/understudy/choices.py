"""The options of a multiple-choice row, in the forms that data sets have, and which of them an answer names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from understudy.errors import DataError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

TargetIs = Literal["text", "letter", "index"]


@dataclass(frozen=True, slots=True)
class Options:
    """What there is to choose from. ``labels`` is what the data call the options, e.g. A to E, where they do."""

    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()
    are_numbers: bool = False
    """Whether every option stands in the data as a number, not as a text."""


def options_in(value: Any) -> Options:
    """The options in a column's value or a template's text.

    They are a list of texts; a list of ``{label, text}``; ``{label: [...], text: [...]}``, as the hub has
    CommonsenseQA; ``{A: text, B: text}``; or a text that is such JSON, or holds an option a line.

    Raises:
        DataError: it is none of these.
    """
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, Mapping):
        if not isinstance(value.get("text"), (list, tuple)):
            return Options(_texts(value.values()), _texts(value.keys()))
        value = [{"text": text, "label": label} for text, label in _paired(value["text"], value.get("label"))]
    if not isinstance(value, (list, tuple)):
        raise DataError(f"field 'choices': a list of options is expected, got {value!r}")
    if not (value and all(isinstance(one, Mapping) and "text" in one for one in value)):
        are_numbers = bool(value) and all(isinstance(one, (int, float)) for one in value)
        return Options(_texts(value), are_numbers=are_numbers)
    labels = [one.get("label") for one in value]
    return Options(_texts(one["text"] for one in value), () if None in labels else _texts(labels))


def option_named(answer: Any, options: Options, target_is: TargetIs | None = None) -> str | None:
    """The text of the option that ``answer`` names by its text, letter or number from 0; ``None`` where it names none.

    Labels of the data take the place of letters and numbers. Without ``target_is`` every reading is tried; a number
    is no text, unless the options are numbers too.

    Raises:
        DataError: the readings name different options.
    """
    said = as_text(answer).strip()
    is_number = isinstance(answer, (int, float)) and not isinstance(answer, bool)
    readings: dict[TargetIs, Sequence[str]] = {
        "text": () if is_number and not options.are_numbers and target_is is None else options.texts,
        "letter": options.labels or LETTERS[: len(options.texts)],
        "index": [str(place) for place in range(len(options.texts))] if target_is or not options.labels else (),
    }
    found: dict[str, TargetIs] = {}
    for reading, names in readings.items():
        if target_is in (None, reading):
            place = next((place for place, name in enumerate(names) if name.strip() == said), None)
            if place is not None:
                found.setdefault(options.texts[place], reading)
    if len(found) > 1:
        read = ", ".join(f"by {reading} {text!r}" for text, reading in found.items())
        raise DataError(
            f"field 'target': {said!r} can be read {read}; say which with fields.target_is: text, letter or index"
        )
    return next(iter(found), None)


def as_text(value: Any) -> str:
    """A value of a row as text: nothing for null, and 1 for 1.0, which CSV and pandas make of 1."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def _parsed(text: str) -> Any:
    if text.lstrip().startswith(("[", "{")):
        try:
            return json.loads(text)
        except ValueError:
            pass  # then a bracket is part of the first option
    return [line.strip() for line in text.splitlines() if line.strip()]


def _paired(texts: Sequence[Any], labels: Any) -> list[tuple[Any, Any]]:
    labels = [None] * len(texts) if labels is None else labels
    if not isinstance(labels, (list, tuple)) or len(labels) != len(texts):
        raise DataError(f"field 'choices': {len(texts)} texts and other labels: {labels!r}; there must be one each")
    return list(zip(texts, labels, strict=True))


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(as_text(value) for value in values)
