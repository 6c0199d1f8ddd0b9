"""Files as documents, one at a time; what cannot be read is dropped with a reason."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from understudy.corpus.files import File, files
from understudy.corpus.settings import Corpus
from understudy.errors import DataError
from understudy.records import Dropped, Example
from understudy.sources.files import opened
from understudy.sources.lines import BOM
from understudy.sources.source import SUFFIXES

STEP = "corpus"
LONGEST_DOCUMENT = 1 << 24  # bytes; what is longer is never whole in memory
BATCH_ROWS = 64  # of a Parquet file
EXCERPT = 200  # characters of what was dropped; the rest can be read where it stands
READ = ("jsonl", "parquet", "text")


class Document(NamedTuple):
    """One text of a file."""

    file: str
    number: int
    """Counted from 0 in the file: the line of JSONL and text (on which a paragraph begins), the row of Parquet."""
    text: str


def documents(corpus: Corpus) -> Iterator[Document | Dropped]:
    """The texts of all files. Blank lines of a text file only stand between documents.

    Raises:
        DataError: a path is not there, or two of them hold files of the same name.
    """
    for file in files(corpus):
        known = SUFFIXES.get(Path(file.name.removesuffix(".gz")).suffix.lower())
        format = corpus.format or known
        if file.problem:
            yield dropped(file.name, "unreadable_file", file.problem)
        elif format not in READ:
            suffixes = ", ".join(suffix for suffix, known in SUFFIXES.items() if known in READ)
            yield dropped(file.name, "unknown_format", f"read are {suffixes}, each also with .gz; or give `format:`")
        else:
            yield from _documents(file, format, corpus)


def dropped(file: str, reason: str, detail: str = "", text: str = "", *place: int) -> Dropped:
    """A file, document or sentence that is out, with the beginning of its text.

    Args:
        place: the document's number, and the sentence's.
    """
    fields = {"file": file} | dict(zip(("document", "sentence"), place, strict=False))
    id = ":".join([file, ".".join(map(str, place))]) if place else file
    return Dropped(Example(id=id, input=_writable(text[:EXCERPT]), fields=fields), STEP, reason, _writable(detail))


def _writable(text: str) -> str:
    """JSON may hold half a surrogate pair, which UTF-8 has not."""
    return text.encode(errors="backslashreplace").decode()


def _documents(file: File, format: str, corpus: Corpus) -> Iterator[Document | Dropped]:
    is_empty = True
    try:
        for document in _read(file, format, corpus):
            yield document
            is_empty = False
    except DataError as error:
        yield dropped(file.name, "unreadable_file", str(error).replace(str(file.path), file.name))
        return
    if is_empty:
        yield dropped(file.name, "empty_file")


def _read(file: File, format: str, corpus: Corpus) -> Iterator[Document | Dropped]:
    if format == "parquet":
        yield from _parquet(file, corpus.column)
        return
    with opened(str(file.path)) as stream:
        if b"\0" in stream.peek(1 << 13):
            yield dropped(file.name, "binary_file", "it holds NUL bytes; if it is UTF-16, convert it with iconv")
        elif format == "jsonl":
            yield from _jsonl(file.name, stream, corpus.column)
        else:
            yield from _text(file.name, stream, corpus.wrapped)


def _text(name: str, stream: io.BufferedReader, wrapped: bool) -> Iterator[Document | Dropped]:
    """Each line, or each run of lines that are not blank."""
    block: list[bytes] = []
    size = begins = 0
    for number, line in _lines(stream):
        if not line.isspace():
            begins = begins if block else number
            size += len(line)
            if size <= LONGEST_DOCUMENT or not block:
                block.append(line)
        if block and (line.isspace() or not wrapped):
            yield _decoded(name, begins, block, size)
            block, size = [], 0
    if block:
        yield _decoded(name, begins, block, size)


def _jsonl(name: str, stream: io.BufferedReader, column: str) -> Iterator[Document | Dropped]:
    for number, line in _lines(stream):
        if line.isspace():
            continue
        content = _decoded(name, number, [line], len(line))
        if isinstance(content, Dropped):
            yield content
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            try:
                row = json.loads(content.text)  # takes NaN, which Python's writer makes
            except (ValueError, RecursionError):
                yield dropped(name, "broken_json", f"column {error.colno}: {error.msg}", content.text, number)
                continue
        yield _document(name, number, row, column)


def _parquet(file: File, column: str) -> Iterator[Document | Dropped]:
    from understudy.sources.tables import opened_parquet

    with opened_parquet(str(file.path)) as table:
        names = table.schema_arrow.names
        if column not in names:
            yield dropped(file.name, "no_text", f"there is no column {column!r}, but {', '.join(names)}")
            return
        number = 0
        for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=[column]):
            for value in batch[column]:
                try:
                    text = value.as_py()
                    text = text.decode() if isinstance(text, bytes) else text  # of writers without a text type
                    yield _document(file.name, number, {column: text}, column)
                except ValueError as error:
                    yield dropped(file.name, "not_utf8", str(error)[:EXCERPT], "", number)
                number += 1


def _document(name: str, number: int, row: Any, column: str) -> Document | Dropped:
    if not isinstance(row, dict):
        return dropped(name, "no_text", f"an object is expected, got {type(row).__name__}", "", number)
    if column not in row:
        return dropped(name, "no_text", f"there is no {column!r}, but {', '.join(row) or 'nothing'}"[:500], "", number)
    text = row[column]
    if not isinstance(text, str):
        return dropped(name, "no_text", f"{column!r} is no text but {type(text).__name__}", "", number)
    return Document(name, number, text)


def _decoded(name: str, number: int, block: list[bytes], size: int) -> Document | Dropped:
    """A document of ``size`` bytes, of which the block holds at least the beginning."""
    whole = b"".join(block)
    try:
        if size <= LONGEST_DOCUMENT:
            return Document(name, number, whole.decode())
        reason, detail = "long_document", f"over {LONGEST_DOCUMENT >> 20} MiB; cut it into several documents"
    except UnicodeDecodeError as error:
        reason, detail = "not_utf8", f"byte 0x{whole[error.start]:02x} at position {error.start + 1}"
    return dropped(name, reason, detail, whole[: 4 * EXCERPT].decode(errors="backslashreplace"), number)


def _lines(stream: io.BufferedReader) -> Iterator[tuple[int, bytes]]:
    """Each line with its number from 0; of one that is too long, one byte more than may be."""
    number = 0
    while line := stream.readline(LONGEST_DOCUMENT + 1):
        end = line
        while not end.endswith(b"\n") and (end := stream.readline(1 << 16)):
            pass
        yield number, line.removeprefix(BOM) if number == 0 else line
        number += 1
