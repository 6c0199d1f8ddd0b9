"""Building a datastore: each dataset apart, whole or not there at all, so that a kill loses none that was built."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from understudy.errors import DataError, MissingPackage, SettingsError, WorkspaceError
from understudy.progress import Silent, Watch
from understudy.records import digest
from understudy.retrieve.dataset_source import STORE
from understudy.retrieve.datastore import DATASET, FORMAT, Datastore, StoreHead, Summary, folder_of, read_head
from understudy.retrieve.store_files import summary_in, write_texts, write_vectors
from understudy.retrieve.tables import ROWS_PER_DATASET, DatasetSource, Table
from understudy.settings import did_you_mean
from understudy.sources import content_hash
from understudy.workspace.files import disk_errors, sync, write_atomically

if TYPE_CHECKING:
    from understudy.retrieve.encoder import Encoder


@dataclass(frozen=True, slots=True)
class Skipped:
    """A source that is not in the store."""

    source: str  # as it was named
    reason: str


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What became of each source."""

    built: tuple[Summary, ...]
    unchanged: tuple[str, ...]  # the names of datasets that were there already
    skipped: tuple[Skipped, ...]


def build(
    path: str | Path,
    sources: Sequence[DatasetSource],
    *,
    encoder: str | Encoder,
    rows_per_dataset: int | None = ROWS_PER_DATASET,
    watch: Watch | None = None,
) -> BuildReport:
    """Make a datastore of ``sources``, or add them to the one that is there; nothing else of it is touched.

    All sources are read before any is embedded, so that what is wrong with one is known early. A dataset that is there
    and was made of the same content and settings is left alone; one whose source has changed is replaced. The same
    call goes on where a stopped one left off.

    Args:
        encoder: a name, folder or hub id, or an open one.
        rows_per_dataset: at most that many rows of each, every k-th; ``None`` takes all.

    Raises:
        DataError: the store was built by another encoder, or ``path`` is no place for one.
        MissingPackage: the encoder needs a package.
        OutOfSpace: the disk is full; what was built is whole.
        WorkspaceError: another process builds this store, or it cannot be written.
    """
    path, watch = Path(path).expanduser(), watch or Silent()
    encoder = _opened(encoder) if isinstance(encoder, str) else encoder
    with _locked(path):
        _refuse_another(path, encoder)
        _tidy(path)
        pending, unchanged, skipped = _read(path, sources, rows_per_dataset, watch)
        if pending and not (path / STORE).exists():
            head = StoreHead(format=FORMAT, encoder=encoder.name, identity=encoder.identity, width=encoder.width)
            write_atomically(path / STORE, head.canonical().encode())
        _embed(path, pending, encoder, watch)
    return BuildReport(tuple(pending), tuple(unchanged), tuple(skipped))


def _opened(encoder: str) -> Encoder:
    from understudy.retrieve.encoder import open_encoder

    return open_encoder(encoder)


def remove(path: str | Path, *names: str) -> None:
    """Take datasets out of a store.

    Raises:
        DataError: there is no store.
        SettingsError: it does not hold one of them; then none is taken out.
        WorkspaceError: another process builds the store.
    """
    path = Path(path).expanduser()
    known = [dataset.name for dataset in Datastore.open(path).datasets]
    for name in names:
        if name not in known:
            raise SettingsError(f"{path} holds no dataset {name!r}. {did_you_mean(name, known)}")
    with _locked(path):
        for folder in {folder_of(path, name) for name in names}:
            (folder / DATASET).unlink(missing_ok=True)  # without it the dataset is gone for every reader
            shutil.rmtree(folder)
            shutil.rmtree(_partial(folder), ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with disk_errors(path):
        if path.is_file():
            raise DataError(f"{path}: this is a file; name a folder for the datastore")
        path.mkdir(parents=True, exist_ok=True)
        others = sorted(entry.name for entry in path.iterdir() if entry.name != "datasets" and entry.name[0] != ".")
        if others and STORE not in others:
            raise DataError(f"{path}: no datastore, and it holds {others[0]!r}; name a new folder")
        lock = FileLock(path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise WorkspaceError(f"{path}: another process is at work on this datastore; wait until it ends") from None
        try:
            yield
        finally:
            lock.release()


def _refuse_another(path: Path, encoder: Encoder) -> None:
    if (path / STORE).exists() and (head := read_head(path)).identity != encoder.identity:
        raise DataError(
            f"{path} was built by the encoder {head.encoder!r} ({head.identity[:8]}), this one is {encoder.name!r} "
            f"({encoder.identity[:8]}): vectors of two encoders cannot be compared; use the first, or build a new store"
        )


def _read(
    path: Path, sources: Sequence[DatasetSource], rows_per_dataset: int | None, watch: Watch
) -> tuple[list[Summary], list[str], list[Skipped]]:
    """Write the rows of every source that is not there yet; what cannot be read is skipped."""
    pending: list[Summary] = []
    unchanged: list[str] = []
    skipped: list[Skipped] = []
    for done, source in enumerate(sources):
        watch.step("reading sources", done, len(sources))
        try:
            name = source.dataset
            if name in unchanged or any(name == summary.name for summary in pending):
                raise DataError(f"{source.place}: another source is called {name!r} too; give it another `name:`")
            made_of = digest(str(FORMAT), content_hash(source), source.canonical_choice(), str(rows_per_dataset))
            folder = folder_of(path, name)
            if (whole := summary_in(folder)) and whole.made_of == made_of:
                unchanged.append(name)
                continue
            begun = summary_in(_partial(folder))
            if begun is None or begun.made_of != made_of:
                begun = write_texts(_partial(folder), Table(source, rows_per_dataset), made_of)
            pending.append(begun)
        except (DataError, MissingPackage) as error:
            skipped.append(Skipped(source.place, str(error)))
            watch.note(f"skipped: {error}")
    watch.step("reading sources", len(sources), len(sources))
    return pending, unchanged, skipped


def _embed(path: Path, pending: Sequence[Summary], encoder: Encoder, watch: Watch) -> None:
    total, before = sum(summary.rows for summary in pending), 0
    for summary in pending:
        folder = folder_of(path, summary.name)

        def progress(rows: int, before: int = before) -> None:
            watch.step("embedding rows", before + rows, total)

        write_vectors(_partial(folder), summary, encoder, progress)
        _put(_partial(folder), folder)
        before += summary.rows


def _partial(folder: Path) -> Path:
    return folder.with_name(f".partial-{folder.name}")


def _put(partial: Path, folder: Path) -> None:
    """Move a whole dataset to its place, over the one that was there."""
    old = folder.with_name(f".old-{folder.name}")
    if folder.exists():
        os.replace(folder, old)
    os.replace(partial, folder)
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _tidy(path: Path) -> None:
    """Put right what a kill within ``_put`` left."""
    for old in path.glob("datasets/.old-*"):
        folder = old.with_name(old.name.removeprefix(".old-"))
        if folder.exists():
            shutil.rmtree(old)
        else:
            os.replace(old, folder)
