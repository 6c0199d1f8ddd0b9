"""Rows on disk: a step's folder of Parquet parts, read and written as a stream."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson

from understudy.errors import RowsLost
from understudy.records import Dropped, Example, Origin, Row
from understudy.workspace.fates import Fates, fates_in
from understudy.workspace.files import sync, write_atomically

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_PART = 20_000
CHARACTERS_PER_PART = 1 << 23  # a part is in memory before it is written
MANIFEST = "done.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of a step's rows: ``rows_in + made = kept + joined + dropped``.

    ``made`` are rows that the step added, ``joined`` those that were replaced by what was made of them.
    """

    name: str
    rows_in: int
    made: int = 0
    kept: int
    joined: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """The examples that a finished step left, read anew at every iteration."""

    folder: Path

    def __iter__(self) -> Iterator[Example]:
        for part in sorted(self.folder.glob("part-*.parquet")):
            for row in _stream(part):
                yield _example(row)

    def __len__(self) -> int:
        return self.taken.kept

    @property
    def key(self) -> str:
        """The hash of what the step was made of, the folder's name; an unfinished step is another one every time."""
        unfinished = self.manifest.get("unfinished", "")
        return f"{self.folder.name}-{unfinished}" if unfinished else self.folder.name

    @property
    def is_unfinished(self) -> bool:
        """Whether rows were dropped for a reason that may pass, here or at an earlier step."""
        return "unfinished" in self.manifest

    @property
    def manifest(self) -> dict[str, Any]:
        return orjson.loads((self.folder / MANIFEST).read_bytes())

    @property
    def taken(self) -> Taken:
        return Taken(**self.manifest["rows"])

    def dropped(self) -> Iterator[Dropped]:
        """The rows that are out, with the reason."""
        for row in _stream(self.folder / "dropped.parquet"):
            yield Dropped(_example(row), row["step"], row["reason"], row["detail"])

    def find(self, id: str) -> Iterator[Row]:
        """The row with this id, kept or dropped, or nothing; other rows are not decoded."""
        for row in _stream(self.folder / "dropped.parquet", id=id):
            yield Dropped(_example(row), row["step"], row["reason"], row["detail"])
        for part in sorted(self.folder.glob("part-*.parquet")):
            yield from map(_example, _stream(part, id=id))

    def replies(self) -> Iterator[str]:
        """The ledger keys of the replies behind all rows, dropped ones too; many stand behind several rows."""
        for part in [*sorted(self.folder.glob("part-*.parquet")), self.folder / "dropped.parquet"]:
            for row in _stream(part, columns=["replies"]):
                yield from row["replies"]

    def ids(self) -> Iterator[str]:
        """The ids alone."""
        for part in sorted(self.folder.glob("part-*.parquet")):
            for row in _stream(part, columns=["id"]):
                yield row["id"]


def write_rows(
    folder: Path,
    name: str,
    incoming: Rows | None,
    rows: Iterable[Row],
    about: Callable[[], Mapping[str, Any]],
    passing: frozenset[str] = frozenset(),
) -> Rows:
    """Write what a step yields into ``folder``; it appears whole or not at all.

    A made row whose id was there before is dropped as ``duplicate``. Nothing of a row stays in memory.

    Args:
        passing: reasons that may pass: a step with rows dropped for one of them is unfinished, and made anew next time.
        incoming: the rows that the step works on; ``None`` for a step that reads a source.

    Raises:
        RowsLost: an incoming row was neither kept, nor dropped, nor named as the parent of a made one.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with (
        fates_in(partial) as fates,
        _Parts(partial, "part-{:05}.parquet", _schema()) as kept,
        _Parts(partial, "dropped.parquet", _schema(True)) as out,
    ):
        count = _Count(fates, incoming.ids() if incoming else None)
        for row in rows:
            row = count(row)
            if isinstance(row, Dropped):
                out.write(_columns(row.example) | {"step": row.step, "reason": row.reason, "detail": row.detail})
            else:
                kept.write(_columns(row))
        taken = count.taken(name)
    manifest = dict(about()) | {"name": name, "rows": asdict(taken)}
    if passing & taken.dropped.keys() or (incoming and incoming.is_unfinished):
        manifest["unfinished"] = uuid4().hex[:8]
    write_atomically(partial / MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
    shutil.rmtree(folder, ignore_errors=True)  # one without a manifest is no step
    partial.rename(folder)
    sync(folder.parent)
    return Rows(folder)


class _Count:
    """Follows every id through one step. Without incoming rows the step reads a source: what it reads comes in."""

    def __init__(self, fates: Fates, incoming: Iterable[str] | None) -> None:
        self.fates, self.is_source = fates, incoming is None
        self.rows_in = fates.expect(incoming or ())
        self.kept = 0
        self.dropped: Counter[str] = Counter()

    def __call__(self, row: Row) -> Row:
        example = row.example if isinstance(row, Dropped) else row
        if not self.fates.is_first(example.id, example.parents):
            again = example.replace(id=f"{example.id}~{sum(self.dropped.values())}")
            detail = f"a row {example.id!r} was there before"
            row = row if isinstance(row, Dropped) else Dropped(again, "duplicate", "duplicate", detail)
        if isinstance(row, Dropped):
            self.dropped[row.reason] += 1
        else:
            self.kept += 1
        return row

    def taken(self, name: str) -> Taken:
        joined = self.fates.joined
        if lost := self.fates.lost:
            raise RowsLost(
                f"step {name!r} lost {lost} of {self.rows_in} rows: a recipe must yield each row it takes in, "
                "drop it with a reason, or name it as the parent of a row it makes"
            )
        passed_on = self.rows_in - joined
        new = self.kept + sum(self.dropped.values()) - passed_on
        return Taken(
            name=name,
            rows_in=new if self.is_source else self.rows_in,
            made=0 if self.is_source else new,
            kept=self.kept,
            joined=joined,
            dropped=dict(sorted(self.dropped.items())),
        )


class _Parts:
    """Parquet files written row by row: numbered parts, or one file of several row groups."""

    def __init__(self, folder: Path, pattern: str, schema: pa.Schema) -> None:
        self.folder, self.pattern, self.schema = folder, pattern, schema
        self.buffer: list[dict[str, Any]] = []
        self.characters = 0
        self.part = 0
        self.writer: Any = None

    def __enter__(self) -> _Parts:
        return self

    def write(self, row: dict[str, Any]) -> None:
        self.buffer.append(row)
        self.characters += len(row["input"]) + len(row["fields"])
        if len(self.buffer) == ROWS_PER_PART or self.characters >= CHARACTERS_PER_PART:
            self.flush()

    def flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.writer is None:
            self.writer = pq.ParquetWriter(
                self.folder / self.pattern.format(self.part), self.schema, compression="zstd"
            )
        self.writer.write_table(pa.Table.from_pylist(self.buffer, schema=self.schema))
        self.buffer.clear()
        self.characters = 0
        if "{" in self.pattern:
            self.close()

    def close(self) -> None:
        self.writer.close()
        sync(self.folder / self.pattern.format(self.part))
        self.writer, self.part = None, self.part + 1

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and (self.buffer or (self.part == 0 and self.writer is None)):
            self.flush()
        if self.writer is not None:
            self.close()


def _schema(dropped: bool = False) -> pa.Schema:
    import pyarrow as pa

    origin = pa.struct({"dataset": pa.string(), "split": pa.string(), "row": pa.int64(), "licence": pa.string()})
    strings = pa.list_(pa.string())
    columns = {
        "id": pa.string(),
        "input": pa.string(),
        "target": pa.string(),  # one answer
        "targets": strings,  # several labels or references; one of the two is null
        "choices": strings,
        "rationale": pa.string(),
        "notes": pa.string(),  # JSON
        "fields": pa.string(),  # JSON
        "origin": origin,
        "parents": strings,
        "replies": strings,
    }
    if dropped:
        columns |= {"step": pa.string(), "reason": pa.string(), "detail": pa.string()}
    return pa.schema(columns)


def _columns(example: Example) -> dict[str, Any]:
    several = isinstance(example.target, tuple)
    origin = example.origin
    return {
        "id": example.id,
        "input": example.input,
        "target": None if several else example.target,
        "targets": list(example.target) if several and example.target is not None else None,
        "choices": list(example.choices),
        "rationale": example.rationale,
        "notes": _json(example.notes),
        "fields": _json(example.fields),
        "origin": origin and {name: getattr(origin, name) for name in ("dataset", "split", "row", "licence")},
        "parents": list(example.parents),
        "replies": list(example.replies),
    }


def _json(values: Mapping[str, Any]) -> str:
    return orjson.dumps(dict(values), default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _example(row: Mapping[str, Any]) -> Example:
    return Example(
        id=row["id"],
        input=row["input"],
        target=row["target"] if row["targets"] is None else tuple(row["targets"]),
        choices=tuple(row["choices"]),
        rationale=row["rationale"],
        notes=orjson.loads(row["notes"]),
        fields=orjson.loads(row["fields"]),
        origin=Origin(**row["origin"]) if row["origin"] else None,
        parents=tuple(row["parents"]),
        replies=tuple(row["replies"]),
    )


def _stream(path: Path, columns: list[str] | None = None, id: str | None = None) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1024, columns=columns):
            if id is None:
                yield from batch.to_pylist()
            elif id in (ids := batch["id"].to_pylist()):
                yield from batch.slice(ids.index(id), 1).to_pylist()
