"""JSONL, CSV, TSV and plain text, one line at a time."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import orjson

from understudy.errors import DataError
from understudy.sources.files import opened
from understudy.sources.source import Record

BOM = b"\xef\xbb\xbf"
LONGEST_FIELD = 1 << 24  # characters of one CSV field; an unclosed quote would else take in the whole file
_MAYBE_HUGE = re.compile(rb"\d{19}")


def jsonl(path: str) -> Iterator[Record]:
    """One JSON object a line.

    NaN and infinities, which JSON does not have but Python's writer makes, are read as None.
    """
    with opened(path) as stream:
        refuse_array(path, stream)
        for number, line in _numbered(stream):
            if not line.isspace():
                yield Record(number - 1, number, object_in(path, number, line))


def refuse_array(path: str, stream: io.BufferedReader) -> None:
    """Look at the beginning of what should be JSONL.

    Raises:
        DataError: it is a JSON array.
    """
    if stream.peek(64).removeprefix(BOM).lstrip()[:1] == b"[":
        raise DataError(
            f"{path}:1: the file holds a JSON array, JSONL holds one object a line. Turn it round with: python -c "
            "'import json, sys; [print(json.dumps(row)) for row in json.load(sys.stdin)]' < in.json > out.jsonl"
        )


def text(path: str) -> Iterator[Record]:
    """Each line that is not blank as ``{"text": line}``."""
    with opened(path) as stream:
        for number, line in _numbered(stream):
            content = _decoded(path, number, line).rstrip("\r\n")
            if content.strip():
                yield Record(number - 1, number, {"text": content})


def separated(path: str, delimiter: str, quoted: bool) -> Iterator[Record]:
    """CSV or TSV: the first row names the columns, every value is a string."""
    with opened(path) as stream:
        lines = (_decoded(path, number, line) for number, line in _numbered(stream))
        for row, (line, header, values) in enumerate(csv_rows(path, lines, delimiter, quoted)):
            if problem := misfit(header, values, delimiter):
                raise DataError(f"{path}:{line}: {problem}")
            yield Record(row, line, dict(zip(header, values, strict=True)))


def csv_rows(
    path: str, lines: Iterator[str], delimiter: str, quoted: bool = True
) -> Iterator[tuple[int, list[str], list[str]]]:
    """Each row with the line that it begins on and the header, which may have more or fewer fields.

    Raises:
        DataError: a quote is not closed or stands where none may, or the header names a column twice.
    """
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_FIELD))
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    header: list[str] | None = None
    for line, values in _records(path, csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)):
        if header is None:
            header = _header(path, line, values)
        else:
            yield line, header, values


def misfit(header: list[str], values: list[str], delimiter: str) -> str:
    """What is wrong with a row whose fields are not as many as the header's, or nothing."""
    if len(values) == len(header):
        return ""
    return (
        f"the header names {_count(header)}, this row has {_count(values)}; "
        f"put double quotes around a field that holds a {delimiter!r} or a line break"
    )


def _records(path: str, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Each record that is not blank, with the line that it begins on."""
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise DataError(
                f"{path}:{line}: broken CSV in the row that begins here: {error}; close every quote and double "
                "those within a quoted field, or give `quoted: false` where quotes are part of the text"
            ) from None
        if values is None:
            return
        if values:
            yield line, values


def _header(path: str, line: int, names: list[str]) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}:{line}: the header names the column {twice[0]!r} twice; rename one of them")
    return names


def _count(fields: list[str]) -> str:
    return "1 field" if len(fields) == 1 else f"{len(fields)} fields"


def _numbered(stream: io.BufferedReader) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(stream, 1):
        yield number, line.removeprefix(BOM) if number == 1 else line


def _decoded(path: str, number: int, line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}:{number}: not UTF-8: byte 0x{line[error.start]:02x} at position {error.start + 1} of the line; "
            "convert the file, for example with: iconv -f latin1 -t utf-8 IN > OUT"
        ) from None


def object_in(path: str, number: int, line: bytes) -> dict[str, Any]:
    """The JSON object that is the line with this number, counted from 1.

    Raises:
        DataError: it is no JSON object, or holds what cannot be written again.
    """
    try:
        value = orjson.loads(line)
        if _MAYBE_HUGE.search(line):  # orjson rounds integers beyond 64 bits to floats
            value = _careful(line.decode())
    except orjson.JSONDecodeError as error:
        content = _decoded(path, number, line)
        try:
            value = _careful(content)
        except (ValueError, TypeError, RecursionError):
            raise DataError(
                f"{path}:{number}: broken JSON at column {error.colno}: {error.msg}; each line must be one whole object"
            ) from None
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}:{number}: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}:{number}: a JSON object is expected on each line, got {_short(value)}")
    return value


def _careful(content: str) -> Any:
    value = json.loads(content, parse_int=_integer, parse_float=_float, parse_constant=lambda _: None)
    orjson.dumps(value)  # half a surrogate pair cannot be written again
    return value


def _integer(digits: str) -> int:
    value = int(digits)
    if not -(2**63) <= value < 2**64:
        raise ValueError(f"the integer {_short(digits)} is beyond 64 bits; write it as a string")
    return value


def _float(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) else None


def _short(value: Any, width: int = 60) -> str:
    shown = repr(value)
    return shown if len(shown) <= width else shown[: width - 1] + "…"
