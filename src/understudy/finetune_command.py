"""The command ``finetune``: models on a folder of classification tasks, and one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from understudy.errors import SettingsError


def finetune(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            help="The folder of an encoder or of a student, or a hub id; NAME=FOLDER names its column. Of several, the "
            "others are compared with the first.",
            show_default=False,
        ),
    ],
    suite: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder of the tasks' files.", show_default=False)
    ],
    tasks: Annotated[
        list[str], typer.Option("--task", help="Only this task. May be repeated.", show_default=False)
    ] = [],  # noqa: B006  typer wants a list
    seeds: Annotated[str, typer.Option(help="A student is trained for each.")] = "0,1,2",
    epochs: Annotated[float, typer.Option(min=0, help="How often the training rows are seen.")] = 10,
    changes: Annotated[
        list[str], typer.Option("--set", help="Change a key of every task's study: --set student.batch_size=16.")
    ] = [],  # noqa: B006
    limit: Annotated[int | None, typer.Option(min=1, help="Read at most this many rows of every split.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="The folder of the runs.  [default: runs/finetune-<models>]", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Fine-tune models on a folder of classification tasks (GLUE, SuperGLUE, MSGS): one table.

    The same command goes on where a stopped one left off.
    """
    from understudy.console import watch
    from understudy.finetuning import finetune, named, suite_folder

    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise SettingsError(f"--seeds {seeds!r}: whole numbers with commas between them, e.g. 0,1,2") from None
    with watch() as watching:
        told = finetune(
            models,
            suite,
            tasks=tasks,
            seeds=numbers,
            epochs=epochs,
            folder=folder,
            changes=changes,
            limit=limit,
            watch=watching,
        )
    if json:
        import orjson

        typer.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
        return
    from rich.console import Console

    from understudy.report import terminal_suite

    for table in terminal_suite(told):
        Console().print(table)
    for note in told["notes"]:
        typer.echo(f"- {note}")
    typer.echo(f"The whole table: {(folder or suite_folder(named(models), limit)) / 'table.md'}")
