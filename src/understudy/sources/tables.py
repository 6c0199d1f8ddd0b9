"""Arrow tables as plain rows: Parquet files and datasets of the hub."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.errors import DataError, MissingPackage
from understudy.sources.files import local_file
from understudy.sources.source import Record, Source, local_folder

if TYPE_CHECKING:
    from datasets import Dataset
    from pyarrow.parquet import ParquetFile

BATCH_ROWS = 1024


def parquet(path: str) -> Iterator[Record]:
    """The rows of a Parquet file, a batch at a time."""
    with opened_parquet(path) as table:
        yield from _records(path, table.iter_batches(batch_size=BATCH_ROWS))


@contextmanager
def opened_parquet(path: str) -> Iterator[ParquetFile]:
    """A Parquet file; what goes wrong inside the block while reading is a DataError.

    Raises:
        DataError: it cannot be read, or a column stands twice.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = local_file(path)
    try:
        with pq.ParquetFile(file) as table:
            names = table.schema_arrow.names
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise DataError(f"{path}: the column {twice[0]!r} stands twice; rename one of them")
            yield table
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: no readable Parquet file ({_first_line(error)}); fetch it again, unpacked, or give its `format:`"
        ) from None


def hub(source: Source) -> Iterator[Record]:
    """The rows of a hub dataset or of a local folder, as they are stored: a class label is its number."""
    batches = open_dataset(source).with_format("arrow").iter(batch_size=BATCH_ROWS)
    yield from _records(source.place, batches)


def open_dataset(source: Source) -> Dataset:
    """The split that ``source`` names, memory-mapped.

    Raises:
        MissingPackage: the datasets package is not installed.
        DataError: there is no such dataset, configuration or split, or it cannot be fetched.
    """
    try:
        import datasets
    except ImportError:
        raise MissingPackage(
            f'{source.place}: the package datasets is missing; pip install "understudy[hub]"'
        ) from None
    assert source.hub is not None
    folder = local_folder(source)
    if folder is None and source.hub.startswith(("/", ".", "~")):
        local_file(source.hub)
        raise DataError(f"{source.place}: this is a file; give it as `path:`")
    if folder is not None and source.revision:
        raise DataError(f"{source.place}: a local folder has no revisions; take out `revision: {source.revision}`")
    try:
        if folder is not None and _saved(folder):
            return _from_disk(source, folder)
        name = str(folder or source.hub)
        return datasets.load_dataset(name, source.config, split=source.hub_split, revision=source.revision)
    except DataError:
        raise
    except Exception as error:  # datasets raises what the network, the hub, Arrow and pandas raise
        raise DataError(
            f"{source.place}, split {source.hub_split!r}: cannot be loaded: {_first_line(error.__cause__ or error)}; "
            "check hub, config, split and revision, log in if it is private; offline, give a file as `path:`"
        ) from None


def _saved(folder: Path) -> bool:
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def _from_disk(source: Source, folder: Path) -> Dataset:
    """A folder that ``save_to_disk`` wrote: one split, or several by name."""
    from datasets import Dataset, load_from_disk

    if source.config:
        raise DataError(f"{source.place}: a saved dataset has no configurations; take out `config: {source.config}`")
    saved = load_from_disk(str(folder))
    if isinstance(saved, Dataset):
        if source.split not in (None, str(saved.split)):
            raise DataError(f"{source.place}: it holds one split; take out `split: {source.split}`")
        return saved
    if source.hub_split not in saved:
        raise DataError(f"{source.place}: there is no split {source.hub_split!r}. Known: {', '.join(map(str, saved))}")
    return saved[source.hub_split]


def _records(place: str, batches: Any) -> Iterator[Record]:
    row = 0
    for batch in batches:
        for values in batch.to_pylist():
            try:
                fields = {name: plain(value) for name, value in values.items()}
            except ValueError as error:
                raise DataError(f"{place}: row {row}: {error}") from None
            yield Record(row, None, fields)
            row += 1


def plain(value: Any) -> Any:
    """A value as JSON would hold it: NaN and infinities None, times ISO 8601, decimals and durations text.

    Raises:
        ValueError: there is no such form of it.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, bytes):
        try:
            return value.decode()  # writers without a text type store UTF-8 as bytes
        except UnicodeDecodeError:
            raise ValueError("a column holds bytes that are no text; save the dataset without it") from None
    if isinstance(value, (Decimal, timedelta)):
        return str(value)
    raise ValueError(f"a value of type {type(value).__name__} cannot be used; save the dataset without its column")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
