"""The commands for datastores, thin like the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from understudy.errors import SettingsError

if TYPE_CHECKING:
    from rich.table import Table

    from understudy.retrieve.building import BuildReport
    from understudy.retrieve.datastore import Datastore
    from understudy.retrieve.search import Found, Query

datastore_app = typer.Typer(help="Datastores: the rows of many datasets, to retrieve from.", no_args_is_help=True)

DEFAULT_ENCODER = "all-MiniLM-L6-v2"
EXAMPLES_OF_A_STUDY = 3  # as in the paper
CELLS_SHOWN = 4  # of a row that was found
LONGEST_SHOWN = 160  # characters of a cell


class WithExamples(TyperCommand):
    """Lets --example take two values and be repeated, which typer has no word for."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for option in self.params:
            if option.name == "examples":
                option.nargs, option.metavar = 2, "INPUT OUTPUT"


def _as_given(value: Any) -> Any:
    return value


Store = Annotated[Path, typer.Argument(help="The datastore's folder.", show_default=False)]
Sources = Annotated[
    list[str],
    typer.Argument(help="Files, folders, hub:NAME, or a .yaml list of sources.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
EncoderName = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        help="bm25, or a model's name, folder or hub id, where the store does not say it.",
        show_default=False,
    ),
]
RowsPerDataset = Annotated[
    int, typer.Option("--rows", min=0, help="At most this many rows of each dataset, every k-th; 0 takes all.")
]


@datastore_app.command()
def build(
    store: Store,
    sources: Sources,
    encoder: EncoderName = None,
    rows_per_dataset: RowsPerDataset = 1_000,
    json: Json = False,
) -> None:
    """Build a datastore, or go on where a stopped build left off; what is there and unchanged is left alone."""
    _build(store, sources, encoder or _encoder_of(store), rows_per_dataset, json)


@datastore_app.command()
def add(
    store: Store,
    sources: Sources,
    encoder: EncoderName = None,
    rows_per_dataset: RowsPerDataset = 1_000,
    json: Json = False,
) -> None:
    """Add datasets to a datastore that is there; nothing else of it is touched."""
    from understudy.retrieve.datastore import read_head

    _build(store, sources, encoder or read_head(store).encoder, rows_per_dataset, json)


@datastore_app.command()
def remove(
    store: Store,
    names: Annotated[list[str], typer.Argument(help="Datasets, as `info` lists them.", show_default=False)],
    json: Json = False,
) -> None:
    """Take datasets out of a datastore."""
    from understudy.retrieve.building import remove

    remove(store, *names)
    _out(_dumps({"removed": names}) if json else f"removed {', '.join(names)}")


@datastore_app.command()
def info(store: Store, json: Json = False) -> None:
    """Say what a datastore holds: its encoder, and each dataset with its rows and licence."""
    from understudy.retrieve.datastore import Datastore

    opened = Datastore.open(store)
    if json:
        datasets = [one.summary.model_dump() for one in opened.datasets]
        _out(_dumps(opened.head.model_dump() | {"digest": opened.digest, "datasets": datasets}))
        return
    rows, cells = sum(one.rows for one in opened.datasets), sum(one.cells for one in opened.datasets)
    _out(f"{store}: {len(opened.datasets):,} datasets, {rows:,} rows, {cells:,} cells")
    _out(f"encoder {opened.encoder_name} ({opened.encoder_identity[:8]}), {opened.width} wide; digest {opened.digest}")
    _print(_table_of_datasets(opened))
    for one in opened.datasets:
        for column, holds in one.summary.skipped_columns.items():
            _out(f"{one.name}: the column {column!r} holds no text ({holds}) and is left out")


@datastore_app.command(cls=WithExamples)
def search(
    store: Store,
    instruction: Annotated[
        str | None, typer.Argument(help="What the task is; left out where --task says it.", show_default=False)
    ] = None,
    examples: Annotated[
        list[str], typer.Option("--example", parser=_as_given, help="An input and its output. May be repeated.")
    ] = [],  # noqa: B006  typer wants a list
    task: Annotated[
        Path | None, typer.Option(help="A study file: its instruction, and three of its gold rows.", show_default=False)
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many rows.")] = 10,
    per_dataset: Annotated[
        int | None, typer.Option(min=1, help="At most this many rows of one dataset.", show_default=False)
    ] = None,
    exclude: Annotated[list[str], typer.Option(help="Leave a dataset out. May be repeated.")] = [],  # noqa: B006
    encoder: EncoderName = None,
    json: Json = False,
) -> None:
    """Show the rows that lie nearest to a task."""
    from understudy.retrieve.datastore import Datastore
    from understudy.retrieve.encoder import open_encoder
    from understudy.retrieve.search import search

    query, leaks = _query(instruction, [(given, answer) for given, answer in examples], task)
    opened = Datastore.open(store)
    opened_encoder = open_encoder(encoder or opened.encoder_name)
    found = search(opened, opened_encoder, query, k, per_dataset=per_dataset, exclude=exclude, leaks=leaks)
    if json:
        from dataclasses import asdict

        _out(_dumps([asdict(one) | {"cells": [list(cell) for cell in one.cells]} for one in found]))
    else:
        _print(_table_of_rows(found))


def _build(store: Path, places: list[str], encoder: str, rows_per_dataset: int, json: bool) -> None:
    from understudy.console import watch
    from understudy.retrieve.building import build
    from understudy.retrieve.tables import read_sources

    with watch() as watching:
        report = build(
            store, read_sources(places), encoder=encoder, rows_per_dataset=rows_per_dataset or None, watch=watching
        )
    if json:
        _out(_dumps(_plain(report)))
    else:
        for one in report.built:
            without = [f"{column} ({holds})" for column, holds in one.skipped_columns.items()]
            _out(f"{one.name}: {one.rows:,} rows, {one.cells:,} cells{_and('without', without)}")
        parts = [f"{len(report.built):,} built"]
        parts += [f"{len(report.unchanged):,} there already"] if report.unchanged else []
        parts += [f"{len(report.skipped):,} skipped"] if report.skipped else []
        _out(f"{store}: {', '.join(parts)}")
    if not report.built and not report.unchanged:
        typer.echo("error: every source was skipped, so there is nothing to build", err=True)
        raise typer.Exit(2)


def _plain(report: BuildReport) -> dict[str, Any]:
    return {
        "built": [one.model_dump() for one in report.built],
        "unchanged": list(report.unchanged),
        "skipped": [{"source": one.source, "reason": one.reason} for one in report.skipped],
    }


def _and(word: str, things: list[str]) -> str:
    return f", {word} {', '.join(things)}" if things else ""


def _encoder_of(store: Path) -> str:
    """The encoder that a store names, else the default one."""
    from understudy.retrieve.dataset_source import STORE
    from understudy.retrieve.datastore import read_head

    return read_head(store).encoder if (store / STORE).exists() else DEFAULT_ENCODER


def _query(
    instruction: str | None, examples: list[tuple[str, str]], study: Path | None
) -> tuple[Query, Callable[[str], bool] | None]:
    """What to look for, and what may not be found."""
    from understudy.retrieve.search import Query

    if study is not None:
        if instruction or examples:
            raise SettingsError("--task says instruction and examples; take out the others, or --task")
        return _query_of(study)
    if not instruction or not examples:
        raise SettingsError(
            'say what the task is: an instruction and an example, e.g. "Which intent?" --example "Where is my card?" '
            "card_arrival; or name a study with --task"
        )
    return Query(instruction, tuple(examples)), None


def _query_of(study: Path) -> tuple[Query, Callable[[str], bool]]:
    """The query that the recipe `rebase` would make, and whether a text is, or is nearly, a test row."""
    from itertools import chain

    from understudy.curate import TestSplit, draw_shots
    from understudy.reading import with_labels
    from understudy.retrieve.search import Query
    from understudy.sources import load
    from understudy.study_file import load_study

    task = with_labels(load_study(study)[0]).task
    near = TestSplit(load(task.test, task, "test")).near
    rows = chain.from_iterable(load(source, task) for source in task.sources("train"))
    shots = draw_shots(rows, task, EXAMPLES_OF_A_STUDY, 0, near)
    if not shots:
        raise SettingsError(f"{study}: task.train holds no row with an answer, far from every test row, for --task")
    return Query.of(task, shots), near


def _table_of_datasets(store: Datastore) -> Table:
    table = _table("dataset", "rows", "cells", "texts", "licence")
    for one in store.datasets:
        numbers = (f"{count:,}" for count in (one.rows, one.cells, one.summary.texts))
        table.add_row(one.name, *numbers, one.licence or "")
    return table


def _table_of_rows(found: list[Found]) -> Table:
    table = _table("score", "dataset", "row", "cells, those nearest to the inputs and to the outputs first")
    for one in found:
        nearest = (one.input_column, one.output_column)
        cells = sorted(one.cells, key=lambda cell, nearest=nearest: cell[0] not in nearest)[:CELLS_SHOWN]
        shown = "\n".join(f"{column}: {_short(text)}" for column, text in cells)
        table.add_row(f"{one.score:.3f}", one.dataset, f"{one.row:,}", shown)
    return table


def _table(*headings: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="right" if heading in ("rows", "cells", "texts", "row") else "left")
    return table


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_SHOWN else f"{line[: LONGEST_SHOWN - 1]}…"


def _print(table: Table) -> None:
    from rich.console import Console

    Console(markup=False, emoji=False, highlight=False).print(table)


def _dumps(value: Any) -> str:
    import orjson

    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def _out(text: str) -> None:
    typer.echo(text)
