"""A file of raw text as its records, one at a time; one that cannot be read is a fault, and the next one is read."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from understudy.errors import DataError
from understudy.sources.corpus_files import File
from understudy.sources.files import opened
from understudy.sources.lines import BOM, csv_rows, misfit, object_in, refuse_array
from understudy.sources.source import Format, Record

LONGEST_DOCUMENT = 1 << 24  # bytes; what is longer is never whole in memory
ROW_CHARACTERS = 2_000  # of running text
LONGEST_ROW = 8 * ROW_CHARACTERS  # of which no line ends a sentence
BATCH_ROWS = 64  # of a Parquet file
EXCERPT = 200  # characters of what is out; the rest can be read where it stands
ENDS = re.compile(r"(^|[.!?:…。！？][\"'”’»」』)\]]*)\s*$")  # of a line that ends a sentence


class Fault(NamedTuple):
    """A record that cannot be read."""

    row: int | None
    """As ``Record.row``; None: the whole file."""
    reason: str
    detail: str
    begins: str = ""
    """The beginning of its text."""


def documents(file: File, format: Format, columns: Collection[str]) -> Iterator[Record | Fault]:
    """The records of a file.

    Args:
        columns: what to read of a Parquet file.

    Raises:
        DataError: it cannot be read on.
    """
    if format == "parquet":
        yield from _parquet(file, sorted(columns))
        return
    with opened(str(file.path)) as stream:
        if b"\0" in stream.peek(1 << 13):
            yield Fault(None, "binary_file", "it holds NUL bytes; if it is UTF-16, convert it with iconv")
        elif format == "jsonl":
            refuse_array(file.name, stream)
            yield from _jsonl(file.name, stream)
        elif format == "text":
            yield from _text(stream)
        else:
            yield from _separated(file.name, stream, "\t" if format == "tsv" else ",")


def _text(stream: io.BufferedReader) -> Iterator[Record | Fault]:
    """Whole lines up to ``ROW_CHARACTERS``, in the second half of which an empty line ends a row too.

    A row goes on to a line that ends a sentence, as lines that are cut at a width do not, or to ``LONGEST_ROW``.
    """
    held: list[str] = []
    size = begins = 0
    for number, line in _lines(stream):
        text = _decoded(number, line)
        if held and (isinstance(text, Fault) or _is_over(held[-1], text, size)):
            yield _running(begins, held)
            held, size = [], 0
        if isinstance(text, Fault):
            yield text
        elif text or (held and held[-1]):
            begins = begins if held else number
            held.append(text)
            size += len(text) + 1
    if held:
        yield _running(begins, held)


def _is_over(last: str, text: str, size: int) -> bool:
    """Whether a row of so many characters, whose last line is given, ends before the line ``text``."""
    if not text:
        return size > ROW_CHARACTERS // 2
    longest = ROW_CHARACTERS if len(last) > ROW_CHARACTERS or ENDS.search(last) else LONGEST_ROW
    return size + len(text) > longest


def _running(begins: int, held: list[str]) -> Record:
    return Record(begins, begins + 1, {"text": "\n".join(held).rstrip("\n")})


def _jsonl(name: str, stream: io.BufferedReader) -> Iterator[Record | Fault]:
    for number, line in _lines(stream):
        if line.isspace():
            continue
        try:
            if len(line) <= LONGEST_DOCUMENT:
                yield Record(number, number + 1, object_in(name, number + 1, line))
                continue
            broken = ""
        except DataError as error:
            broken = str(error).removeprefix(f"{name}:{number + 1}: ")
        text = _decoded(number, line)
        yield text if isinstance(text, Fault) else Fault(number, "broken_json", broken, text[:EXCERPT])


def _separated(name: str, stream: io.BufferedReader, delimiter: str) -> Iterator[Record | Fault]:
    """A quote that never closes takes in the rest of the file, and a line that is too long may hold one."""

    def lines() -> Iterator[str]:
        for number, line in _lines(stream):
            if len(line) > LONGEST_DOCUMENT:
                raise DataError(f"{name}:{number + 1}: this line is over {LONGEST_DOCUMENT >> 20} MiB; cut it")
            yield line.decode(errors="surrogateescape")

    for row, (line, header, values) in enumerate(csv_rows(name, lines(), delimiter)):
        if problem := misfit(header, values, delimiter):
            yield Fault(row, "broken_row", problem, _excerpt(values))
        elif not _is_text("".join(header + values)):
            yield Fault(row, "not_utf8", "", _excerpt(values))
        else:
            yield Record(row, line, dict(zip(header, values, strict=True)))


def _parquet(file: File, columns: list[str]) -> Iterator[Record | Fault]:
    from understudy.sources.tables import opened_parquet, plain

    with opened_parquet(str(file.path)) as table:
        names = table.schema_arrow.names
        if missing := [column for column in columns if column not in names]:
            yield Fault(None, "no_text", f"there is no column {missing[0]!r}, but {', '.join(names)}")
            return
        row = 0
        for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=columns):
            for place in range(len(batch)):
                try:
                    yield Record(row, None, {name: plain(batch[name][place].as_py()) for name in columns})
                except UnicodeDecodeError as error:
                    yield Fault(row, "not_utf8", str(error)[:EXCERPT])
                except ValueError as error:
                    yield Fault(row, "no_text", str(error))
                row += 1


def _is_text(value: str) -> bool:
    """Whether it was UTF-8 before it was decoded."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _excerpt(values: list[str]) -> str:
    return " ".join(values)[:EXCERPT].encode(errors="surrogateescape").decode(errors="backslashreplace")


def _decoded(number: int, line: bytes) -> str | Fault:
    """A line without its end; a blank one is empty."""
    try:
        if len(line) <= LONGEST_DOCUMENT:
            text = line.decode().rstrip("\r\n")
            return text if text.strip() else ""
        reason, detail = "long_document", f"over {LONGEST_DOCUMENT >> 20} MiB; cut it into several documents"
    except UnicodeDecodeError as error:
        reason, detail = "not_utf8", f"byte 0x{line[error.start]:02x} at position {error.start + 1}"
    return Fault(number, reason, detail, line[: 4 * EXCERPT].decode(errors="backslashreplace")[:EXCERPT])


def _lines(stream: io.BufferedReader) -> Iterator[tuple[int, bytes]]:
    """Each line with its number from 0; of one that is too long, one byte more than may be."""
    number = 0
    while line := stream.readline(LONGEST_DOCUMENT + 1):
        end = line
        while not end.endswith(b"\n") and (end := stream.readline(1 << 16)):
            pass
        yield number, line.removeprefix(BOM) if number == 0 else line
        number += 1
