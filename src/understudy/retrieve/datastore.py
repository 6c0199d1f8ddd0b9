"""A datastore, read: rows of many datasets as text, with a vector for each distinct text of a dataset.

On disk a folder: ``store.json`` names the encoder, and ``datasets/`` holds a folder for each dataset:

    dataset.json      what it is: Summary; written last
    rows.parquet      row (its number in the source), columns, texts; in groups of 1,000 rows
    offsets.npy       int64 (rows + 1): where the cells of each row begin
    cells.npy         int32 (cells): which text stands in each cell, the rows in order
    vectors.f16       float16, little-endian, (texts, width): a unit vector for each text, in order of first appearance
    description.npy   float32 (width)

Without the last two where the encoder makes no vectors (width 0).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np
import orjson

from understudy.errors import DataError, SettingsError
from understudy.records import digest
from understudy.retrieve.dataset_source import STORE
from understudy.settings import Settings, validate

FORMAT = 1
DATASET = "dataset.json"
LONGEST_NAME = 150  # characters of a folder's name

S = TypeVar("S", bound=Settings)


class StoreHead(Settings):
    """What store.json says."""

    format: int
    """Of the files of the store."""
    encoder: str
    """The encoder, as it was named."""
    identity: str
    """The hash of its weights and tokenizer."""
    width: int
    """Of its vectors."""


class Summary(Settings):
    """What dataset.json says."""

    name: str
    """The dataset's name, the only one in the store."""
    description: str
    """What it holds, in a sentence."""
    licence: str | None
    """Of its rows."""
    rows: int
    """That were taken."""
    cells: int
    """Of all rows."""
    texts: int
    """Distinct ones among the cells."""
    skipped_columns: dict[str, str]
    """Columns that hold no text, with what they hold."""
    digest: str
    """Of name, description, licence and every row."""
    made_of: str
    """Of the source's bytes and all settings: with the same the dataset is the same."""


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row as it was read."""

    row: int  # its number in the source, from 0
    cells: tuple[tuple[str, str], ...]  # column and text


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # Arrow's are ValueErrors too
        raise DataError(
            f"{folder}: a file of this dataset is missing or damaged ({str(error).strip().splitlines()[0]}); remove "
            "the dataset with `understudy datastore remove` and add it again"
        ) from None


@dataclass(frozen=True)
class Dataset:
    """One dataset of a store; its arrays are read from the disk as they are used."""

    folder: Path
    summary: Summary
    width: int

    @property
    def name(self) -> str:
        return self.summary.name

    @property
    def description(self) -> str:
        return self.summary.description

    @property
    def licence(self) -> str | None:
        return self.summary.licence

    @property
    def rows(self) -> int:
        return self.summary.rows

    @property
    def cells(self) -> int:
        return self.summary.cells

    def vectors(self) -> np.memmap:
        """float16 (texts, width), each of unit length."""
        with _readable(self.folder):
            return np.memmap(self.folder / "vectors.f16", dtype="<f2", mode="r", shape=(self.summary.texts, self.width))

    def cell_texts(self) -> np.ndarray:
        """int32 (cells): which text stands in each cell, the rows in order."""
        return self._array("cells.npy")

    def offsets(self) -> np.ndarray:
        """int64 (rows + 1): row i has the cells from ``offsets[i]`` to ``offsets[i + 1]``."""
        return self._array("offsets.npy")

    def description_vector(self) -> np.ndarray:
        """float32 (width)."""
        return self._array("description.npy")

    def _array(self, name: str) -> np.ndarray:
        with _readable(self.folder):
            return np.load(self.folder / name, mmap_mode="r", allow_pickle=False)

    def fetch(self, rows: Sequence[int]) -> list[StoredRow]:
        """The rows at these places, from 0 in the store, in the order asked."""
        import pyarrow.parquet as pq

        found: dict[int, StoredRow] = {}
        with _readable(self.folder), pq.ParquetFile(self.folder / "rows.parquet") as file:
            first = 0
            for group in range(file.num_row_groups):
                after = first + file.metadata.row_group(group).num_rows
                if wanted := sorted({place for place in rows if first <= place < after}):
                    taken = file.read_row_group(group).take([place - first for place in wanted])
                    found |= zip(wanted, map(_stored, taken.to_pylist()), strict=True)
                first = after
        return [found[place] for place in rows]


@dataclass(frozen=True)
class Datastore:
    """A store that was opened for reading; what is added later is not seen."""

    path: Path
    head: StoreHead
    datasets: tuple[Dataset, ...]
    """Sorted by name."""

    @classmethod
    def open(cls, path: str | Path) -> Datastore:
        """Open a store.

        Raises:
            DataError: there is none, or it is of another format or not whole.
        """
        path = Path(path).expanduser()
        head = read_head(path)
        folders = [file.parent for file in path.glob(f"datasets/*/{DATASET}") if not file.parent.name.startswith(".")]
        datasets = [Dataset(folder, read_summary(folder), head.width) for folder in folders]
        return cls(path, head, tuple(sorted(datasets, key=lambda dataset: dataset.name)))

    @property
    def encoder_name(self) -> str:
        return self.head.encoder

    @property
    def encoder_identity(self) -> str:
        return self.head.identity

    @property
    def width(self) -> int:
        return self.head.width

    @property
    def digest(self) -> str:
        """Of the encoder and of all that the datasets hold, never of where the store lies."""
        return digest(self.encoder_identity, *(dataset.summary.digest for dataset in self.datasets))


def read_head(path: Path) -> StoreHead:
    """What the store at ``path`` says of itself.

    Raises:
        DataError: there is no store, or it is of another format.
    """
    file = path / STORE
    if not file.is_file():
        what = "this is a file" if path.is_file() else "this folder holds none" if path.is_dir() else "nothing is there"
        raise DataError(f"{path}: no datastore: {what}; make one with: understudy datastore build {path} SOURCES")
    values = _loaded(file)
    if values.get("format") != FORMAT:
        raise DataError(
            f"{path}: a datastore of format {values.get('format')!r}, this version reads {FORMAT}; build it again"
        )
    return _checked(StoreHead, values, file)


def read_summary(folder: Path, file: str = DATASET) -> Summary:
    """What a whole dataset's folder says of it.

    Raises:
        DataError: it cannot be read.
    """
    return _checked(Summary, _loaded(folder / file), folder / file)


def folder_of(path: Path, name: str) -> Path:
    """Where the dataset called ``name`` lies in the store at ``path``."""
    safe = quote(name, safe=" ()+,=@")
    safe = f"%2E{safe[1:]}" if safe.startswith(".") else safe
    return path / "datasets" / (safe if len(safe) <= LONGEST_NAME else f"{safe[:LONGEST_NAME]}-{digest(name, size=8)}")


def _stored(fields: dict[str, Any]) -> StoredRow:
    return StoredRow(fields["row"], tuple(zip(fields["columns"], fields["texts"], strict=True)))


def _loaded(file: Path) -> dict[str, Any]:
    try:
        values = orjson.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise DataError(f"{file}: broken JSON ({error}); build the datastore again") from None
    if not isinstance(values, dict):
        raise DataError(f"{file}: not what a datastore holds; build it again")
    return values


def _checked(model: type[S], values: dict[str, Any], file: Path) -> S:
    try:
        return validate(model, values)
    except SettingsError as error:
        raise DataError(f"{file}: not what a datastore holds ({error}); build it again") from None
