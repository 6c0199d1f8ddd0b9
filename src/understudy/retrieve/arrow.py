"""Parquet files and hub datasets: their columns by type, and every k-th row of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import orjson

from understudy.errors import DataError
from understudy.retrieve.cells import BYTES, DATE, MEDIA
from understudy.retrieve.dataset_source import DatasetSource
from understudy.sources.source import local_folder
from understudy.sources.tables import BATCH_ROWS, open_dataset, opened_parquet

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset
    from pyarrow.parquet import ParquetFile

Rows: TypeAlias = Iterator[tuple[int, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class ArrowTable:
    """An open Parquet file or hub dataset."""

    rows: int
    schema: pa.Schema
    features: Mapping[str, Any]  # what the datasets package says of the columns, as in Features.to_dict()
    read: Callable[[Sequence[str], int], Rows]  # some columns of every k-th row, with its number
    description: str | None = None
    licence: str | None = None

    def no_text(self) -> dict[str, str]:
        """The columns that hold no text by their type, with what they hold."""
        held = {name: self._held(name) for name in self.schema.names}
        return {name: what for name, what in held.items() if what}

    def _held(self, column: str) -> str | None:
        feature = self.features.get(column)
        kind = feature.get("_type") if isinstance(feature, Mapping) else None
        return (MEDIA.get(kind) if isinstance(kind, str) else None) or _holds(self.schema.field(column).type)


def is_arrow(source: DatasetSource) -> bool:
    """Whether a source is read through Arrow."""
    return source.path is None or source.file_format() == "parquet"


@contextmanager
def open_arrow(source: DatasetSource) -> Iterator[ArrowTable]:
    """A Parquet file or hub dataset; what goes wrong inside the block while reading is a DataError.

    Raises:
        DataError, MissingPackage: as ``understudy.sources.read``.
    """
    if source.path is not None:
        with opened_parquet(source.path) as file:
            yield _of_file(file)
        return
    dataset = open_dataset(source)
    try:
        yield _of_dataset(dataset, source)
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # Arrow's are among them
        if isinstance(error, DataError):
            raise
        raise DataError(f"{source.place}: cannot be read to its end: {' '.join(str(error).split())}") from None


def _of_file(file: ParquetFile) -> ArrowTable:
    import pyarrow as pa

    def read(columns: Sequence[str], every: int) -> Rows:
        first = 0
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(columns)):
            taken = range(-first % every, len(batch), every)
            chosen = batch if every == 1 else batch.take(pa.array(taken, pa.int64()))
            yield from zip((first + place for place in taken), chosen.to_pylist(), strict=True)
            first += len(batch)

    schema = file.schema_arrow
    return ArrowTable(file.metadata.num_rows, schema, _features(schema), read)


def _features(schema: pa.Schema) -> Mapping[str, Any]:
    """What the datasets package wrote into a Parquet file about its columns, if it did."""
    try:
        return orjson.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, orjson.JSONDecodeError):
        return {}


def _of_dataset(dataset: Dataset, source: DatasetSource) -> ArrowTable:
    def read(columns: Sequence[str], every: int) -> Rows:
        chosen = dataset.select_columns(list(columns))
        chosen = chosen if every == 1 else chosen.select(range(0, len(dataset), every))
        batches = chosen.with_format("arrow").iter(batch_size=BATCH_ROWS)
        for place, fields in enumerate(fields for batch in batches for fields in batch.to_pylist()):  # pyright: ignore
            yield place * every, fields

    description, licence = dataset.info.description, dataset.info.license
    if source.hub is not None and local_folder(source) is None and not (description and licence):
        on_hub = hub_card(source.hub, source.revision)
        description, licence = description or on_hub[0], licence or on_hub[1]
    return ArrowTable(
        len(dataset),
        dataset.features.arrow_schema,
        cast(Mapping[str, Any], dataset.features.to_dict()),
        read,
        " ".join((description or "").split()) or None,
        licence or None,
    )


def hub_card(name: str, revision: str | None = None) -> tuple[str | None, str | None]:
    """Description and licence of a dataset as the hub shows them; nothing where it cannot be asked."""
    from huggingface_hub import HfApi

    try:
        card = HfApi().dataset_info(name, revision=revision, timeout=10)
    except Exception:  # whatever the network and the hub raise: the rows may be in the cache
        return None, None
    licences = card.card_data.get("license") if card.card_data else None
    return card.description, ", ".join(licences) if isinstance(licences, list) else licences


def _holds(type_: pa.DataType) -> str | None:
    """What a column of this type holds that is no text."""
    import pyarrow.types as types

    if types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_):
        return _holds(type_.value_type)
    if types.is_temporal(type_):
        return DATE
    binary = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return BYTES if any(is_such(type_) for is_such in binary) else None
