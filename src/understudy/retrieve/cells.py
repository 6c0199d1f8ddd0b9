"""A row's values as cells of text: nested ones flattened, label ids as names, what is no text left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import date, time, timedelta
from typing import Any, NamedTuple

import orjson

# what the datasets package calls columns that hold no text
MEDIA = {"Image": "image", "Audio": "audio", "Video": "video", "Pdf": "document", "Nifti": "image", "Mesh": "mesh"}
DATE = "date or time"
BYTES = "bytes"


class Cell(NamedTuple):
    """One value of a row, as text."""

    column: str  # a.b is b within a
    text: str
    is_number: bool  # it was one, or reads as one


def cells(
    column: str,
    value: Any,
    feature: Any,
    labels: Mapping[str, Mapping[str, str]],
    skip: Callable[[str, str], None],
) -> Iterator[Cell]:
    """The cells of one value; none where it is blank.

    Maps are flattened to ``a.b``, a list of plain values is one cell with a line each, other lists are JSON.

    Args:
        feature: what the datasets package says of the column, as in ``Features.to_dict()``; None where it says nothing.
        labels: names for the texts of a column.
        skip: told the column and what it holds where that is no text.
    """
    kind = MEDIA.get(_type(feature)) or _no_text(value)
    if kind:
        skip(column, kind)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from cells(f"{column}.{key}", inner, _within(feature, key), labels, skip)
    elif isinstance(value, (list, tuple)) and any(isinstance(item, (Mapping, list, tuple)) for item in value):
        if held := _jsonable(column, value, feature, labels):
            yield Cell(column, orjson.dumps(held).decode(), False)
    elif isinstance(value, (list, tuple)):
        item_feature = _item(feature)
        texts = [text for item in value if (text := _text(column, item, item_feature, labels)).strip()]
        if texts:
            yield Cell(column, "\n".join(texts), all(map(_reads_as_number, texts)))
    elif (text := _text(column, value, feature, labels)).strip():
        yield Cell(column, text, _reads_as_number(text))


def _no_text(value: Any) -> str | None:
    """What a value holds that is no text; for a list, what its first item holds."""
    if isinstance(value, (list, tuple)) and value:
        return _no_text(next((item for item in value if item is not None), None))
    if isinstance(value, Mapping) and value.keys() == {"bytes", "path"}:
        return BYTES  # a picture or a sound, as datasets writes it
    if isinstance(value, (bytes, bytearray, memoryview)):
        return BYTES
    return DATE if isinstance(value, (date, time, timedelta)) else None


def _text(column: str, value: Any, feature: Any, labels: Mapping[str, Mapping[str, str]]) -> str:
    """A plain value as text: nothing for what is not there, a label by its name, 43.0 as 43."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if _type(feature) == "ClassLabel" and isinstance(value, int):
        names = feature["names"]
        return names[value] if 0 <= value < len(names) else ""  # -1 stands for a row without a label
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
    text = str(int(value) if whole else value)
    return labels.get(column, {}).get(text, text)


def _jsonable(column: str, value: Any, feature: Any, labels: Mapping[str, Mapping[str, str]]) -> Any:
    """A list or map with the same structure, without what is no text or not there."""
    if isinstance(value, Mapping):
        inner = {
            str(key): _jsonable(f"{column}.{key}", item, _within(feature, key), labels) for key, item in value.items()
        }
        return {key: item for key, item in inner.items() if item not in (None, "", [], {})}
    if isinstance(value, (list, tuple)):
        items = [_jsonable(column, item, _item(feature), labels) for item in value]
        return [item for item in items if item not in (None, "", [], {})]
    if MEDIA.get(_type(feature)) or _no_text(value):
        return None
    named = _text(column, value, feature, labels)
    is_itself = isinstance(value, (bool, int, float)) and named == _text(column, value, None, {})
    return value if named and is_itself else named


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _type(feature: Any) -> str:
    return feature.get("_type", "") if isinstance(feature, Mapping) and isinstance(feature.get("_type"), str) else ""


def _item(feature: Any) -> Any:
    """What is said of a list's items; older files say it of the list's parts."""
    if isinstance(feature, list):
        return feature[0] if feature else None
    return feature["feature"] if _type(feature) in ("List", "LargeList", "Sequence") else feature


def _within(feature: Any, key: Any) -> Any:
    inner = _item(feature)
    return inner.get(key) if isinstance(inner, Mapping) and not _type(inner) else None
