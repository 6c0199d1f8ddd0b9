"""Writing one dataset of a datastore: first its rows, then the vectors of its texts in chunks that outlive a kill."""

from __future__ import annotations

import os
import shutil
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson

from understudy.errors import DataError, MissingPackage
from understudy.records import digest
from understudy.retrieve.datastore import DATASET, Summary, read_summary
from understudy.retrieve.tables import Table, TableRow
from understudy.workspace.files import sync, write_atomically

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetWriter

    from understudy.retrieve.encoder import Encoder

ROWS_PER_GROUP = 1_000
TEXTS_PER_CHUNK = 2_048  # what a kill may cost; enough for texts of like length to meet
CHARACTERS_READ = 1_000  # about what an encoder reads of a text
READ = "read.json"  # says that a dataset's rows are whole, in a folder whose vectors may not be


def write_texts(folder: Path, table: Table, made_of: str) -> Summary:
    """Write the rows of ``table`` into an empty ``folder``.

    Of each distinct text some 120 bytes stay in memory, of each cell 4.

    Raises:
        DataError, MissingPackage: as ``Table``.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        summary = _write_texts(folder, table, made_of)
    except (DataError, MissingPackage):
        shutil.rmtree(folder)
        raise
    write_atomically(folder / READ, summary.canonical().encode())
    return summary


def _write_texts(folder: Path, table: Table, made_of: str) -> Summary:
    number_of: dict[bytes, int] = {}
    cells, offsets = array("i"), array("q", [0])
    running = blake2b(digest_size=16)
    with _parquet(folder / "rows.parquet") as writer:
        rows = iter(table)
        while group := list(islice(rows, ROWS_PER_GROUP)):
            for row in group:
                running.update(orjson.dumps((row.row, row.cells)) + b"\n")
                for _, text in row.cells:
                    key = blake2b(text.encode(), digest_size=16).digest()
                    cells.append(number_of.setdefault(key, len(number_of)))
                offsets.append(len(cells))
            _write_group(writer, group)
    np.save(folder / "cells.npy", np.frombuffer(cells, dtype="<i4"), allow_pickle=False)
    np.save(folder / "offsets.npy", np.frombuffer(offsets, dtype="<i8"), allow_pickle=False)
    _flush(folder)
    return Summary(
        name=table.name,
        description=table.description,
        licence=table.licence,
        rows=len(offsets) - 1,
        cells=len(cells),
        texts=len(number_of),
        skipped_columns=table.skipped,
        digest=digest(table.name, table.description, table.licence or "", running.digest()),
        made_of=made_of,
    )


def summary_in(folder: Path) -> Summary | None:
    """What a folder holds whose rows are whole; nothing where another version of this program wrote it otherwise."""
    for file in (READ, DATASET):
        if (folder / file).exists():
            with suppress(DataError):
                return read_summary(folder, file)
    return None


def write_vectors(folder: Path, summary: Summary, encoder: Encoder, progress: Callable[[int], None]) -> None:
    """Embed the texts in ``folder`` that have no vector yet, and close the dataset.

    A chunk always holds the same texts, so that it does not matter where an earlier run ended. Where the encoder makes
    no vectors, none are written.

    Args:
        progress: told how many rows of the dataset are done.
    """
    if encoder.width:
        _write_vectors(folder, summary, encoder, progress)
    progress(summary.rows)
    _flush(folder)
    if (folder / READ).exists():  # else an earlier run was killed right after this
        os.replace(folder / READ, folder / DATASET)
        sync(folder)


def _write_vectors(folder: Path, summary: Summary, encoder: Encoder, progress: Callable[[int], None]) -> None:
    chunk_bytes = TEXTS_PER_CHUNK * encoder.width * 2
    with (folder / "vectors.f16").open("ab") as file:
        whole_bytes = summary.texts * encoder.width * 2
        if file.tell() != whole_bytes:
            file.truncate(file.tell() // chunk_bytes * chunk_bytes)
        texts = islice(distinct_texts(folder), os.fstat(file.fileno()).st_size // (encoder.width * 2), None)
        while chunk := list(islice(texts, TEXTS_PER_CHUNK)):
            progress(chunk[0][0])
            row_at = _row_at(chunk)
            vectors = encoder.encode([text for _, text in chunk], lambda done, row_at=row_at: progress(row_at(done)))
            file.write(vectors.astype("<f2").tobytes())
            file.flush()
            os.fsync(file.fileno())
    (description,) = encoder.encode([summary.description])
    np.save(folder / "description.npy", description.astype("<f4"), allow_pickle=False)


def _row_at(chunk: Sequence[tuple[int, str]]) -> Callable[[int], int]:
    """How many rows stand for so many texts of a chunk: encoders take the longest first, which take longest."""
    work = np.cumsum(sorted((min(len(text), CHARACTERS_READ) for _, text in chunk), reverse=True))
    return lambda done: chunk[int(work[done - 1] / work[-1] * (len(chunk) - 1))][0] if done else chunk[0][0]


def distinct_texts(folder: Path) -> Iterator[tuple[int, str]]:
    """Each distinct text with the place of the first row that holds it, in order of first appearance."""
    import pyarrow.parquet as pq

    cells = np.load(folder / "cells.npy", mmap_mode="r", allow_pickle=False)
    offsets = np.load(folder / "offsets.npy", mmap_mode="r", allow_pickle=False)
    number = 0
    with pq.ParquetFile(folder / "rows.parquet") as file:
        batches = file.iter_batches(batch_size=ROWS_PER_GROUP, columns=["texts"])
        rows = (texts for batch in batches for texts in batch.column(0).to_pylist())
        for row, (texts, (start, end)) in enumerate(zip(rows, pairwise(offsets), strict=True)):
            for text, stands_for in zip(texts, cells[start:end], strict=True):
                if stands_for == number:
                    yield row, text
                    number += 1


def _parquet(path: Path) -> ParquetWriter:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.list_(pa.string())
    schema = pa.schema([("row", pa.int64()), ("columns", texts), ("texts", texts)])
    return pq.ParquetWriter(path, schema, compression="zstd")


def _write_group(writer: ParquetWriter, rows: Sequence[TableRow]) -> None:
    import pyarrow as pa

    columns = {
        "row": [row.row for row in rows],
        "columns": [[column for column, _ in row.cells] for row in rows],
        "texts": [[text for _, text in row.cells] for row in rows],
    }
    writer.write_table(pa.table(columns, schema=writer.schema))


def _flush(folder: Path) -> None:
    for file in folder.iterdir():
        sync(file)
