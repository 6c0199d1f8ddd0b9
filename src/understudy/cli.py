"""The commands. Each is a thin skin over a function of the package; results on stdout, everything else on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from understudy.datastore_commands import datastore_app
from understudy.errors import DataError, SettingsError, UnderstudyError
from understudy.evaluate_command import evaluate
from understudy.finetune_command import finetune
from understudy.ledger_commands import cassette_app, ledger_app
from understudy.segment_command import segment

app = typer.Typer(
    name="understudy",
    help="Train a small model to do a big model's job.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(datastore_app, name="datastore")
app.add_typer(ledger_app, name="ledger")
app.add_typer(cassette_app, name="cassette")

INTERRUPTED = 130

StudyFile = Annotated[Path, typer.Argument(help="The study file.", show_default=False)]
Changes = Annotated[list[str], typer.Option("--set", help="Change a key: --set student.steps=100. May be repeated.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Read at most this many rows of every source of every split.")]
Folder = Annotated[Path | None, typer.Option(help="The run folder.  [default: runs/<name>]", show_default=False)]
Offline = Annotated[bool, typer.Option("--offline", help="Ask no teacher: every reply must be in the ledger.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


@app.command()
def run(
    study: StudyFile,
    changes: Changes = [],  # noqa: B006  typer wants a list
    limit: Limit = None,
    folder: Folder = None,
    dry_run: Annotated[
        int | None, typer.Option(min=1, help="Print this many rendered prompts of each step and spend nothing.")
    ] = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Run a study; the same command goes on where a stopped one left off."""
    if dry_run is not None:
        from understudy.rehearsal import rehearse, tell_prompts

        with _watching() as watch:
            steps = rehearse(study, prompts=dry_run, changes=changes, limit=limit, watch=watch)
        _out(_dumps(steps) if json else tell_prompts(steps))
        return
    from understudy.spine import run, run_folder

    with _watching() as watch:
        report = run(study, folder=folder, changes=changes, limit=limit, offline=offline, watch=watch)
    _print_report(report, folder or run_folder(report["study"]["name"], limit), json)


@app.command()
def sweep(
    study: StudyFile,
    values: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=V1,V2,...",
            help="A key of the study and its values, read as YAML; all and null make it null. With several keys every "
            "combination is run, and the first key is the report's axis.",
            show_default=False,
        ),
    ],
    changes: Changes = [],  # noqa: B006
    limit: Limit = None,
    folder: Annotated[
        Path | None, typer.Option(help="The sweep's folder.  [default: runs/<name>-sweep]", show_default=False)
    ] = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Run a study once for each value of a key: one report, one picture; also goes on where it was stopped."""
    from understudy.spine import run_folder
    from understudy.sweeps import read_values, sweep

    with _watching() as watch:
        told = sweep(
            study, read_values(values), folder=folder, changes=changes, limit=limit, offline=offline, watch=watch
        )
    if json:
        _out(_dumps(told))
        return
    from rich.console import Console

    from understudy.report import terminal_sweep

    for table in terminal_sweep(told):
        Console().print(table)
    for note in told["notes"]:
        _out(f"- {note}")
    _out(f"The whole report: {(folder or run_folder(told['study']['name'] + '-sweep', limit)) / 'SWEEP.md'}")


@app.command()
def estimate(study: StudyFile, changes: Changes = [], limit: Limit = None, json: Json = False) -> None:  # noqa: B006
    """Say how many requests, tokens and how much money a study would take, before a cent is spent."""
    from understudy.rehearsal import estimate, tell_estimate

    with _watching() as watch:
        total = estimate(study, changes=changes, limit=limit, watch=watch)
    _out(_dumps(total) if json else tell_estimate(total))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="The run folder.", show_default=False)], json: Json = False
) -> None:
    """Print the report of a finished run."""
    from understudy.report import read_report

    _print_report(read_report(folder), folder, json)


@app.command()
def explain(
    folder: Annotated[Path, typer.Argument(help="The run folder.", show_default=False)],
    id: Annotated[str, typer.Argument(help="A row's id, as it stands in the steps' files.", show_default=False)],
    json: Json = False,
) -> None:
    """Tell how one training row came about: source, prompt, reply, steps, row."""
    from understudy.provenance import explain, tell

    history = explain(folder, id)
    _out(_dumps(history) if json else tell(history))


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="The model's folder.", show_default=False)],
    text: Annotated[list[str] | None, typer.Argument(help="Texts; without any, one a line is read from stdin.")] = None,
    json: Json = False,
) -> None:
    """Let a trained student answer: a line a text."""
    from understudy.students import load_model

    def lines() -> Iterator[str]:
        for number, line in enumerate(sys.stdin.buffer, start=1):
            try:
                yield line.decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(f"standard input, line {number}: not UTF-8 at byte {error.start}") from None

    for answer in load_model(model).predict(iter(text) if text else lines()):
        output = answer.output if isinstance(answer.output, str) else ", ".join(answer.output or ())
        _out(_dumps({"output": answer.output, "scores": dict(answer.scores)}, indent=False) if json else output)


app.command()(segment)
app.command()(finetune)
app.command()(evaluate)


@app.command()
def recipes(json: Json = False) -> None:
    """List the recipes: what each needs, gives and how it is set."""
    from understudy.recipes import describe

    described = describe()
    if json:
        _out(_dumps(described))
        return
    for one in described:
        _out(f"{one['name']}: {one['summary']}")
        _out(f"  needs {', '.join(one['needs']) or 'nothing'}; gives {', '.join(one['gives']) or 'nothing new'}")
        for setting in one["settings"]:
            _out(f"  {setting['name']} = {setting['default']}    {setting['help']}")


@app.command()
def doctor(
    study: Annotated[Path | None, typer.Argument(help="A study file, to check its teacher and data too.")] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Ask its teacher up to four tiny questions: what can the endpoint do?")
    ] = False,
    json: Json = False,
) -> None:
    """Check what is installed, reachable and missing."""
    from understudy.doctor import examine

    if probe and study is None:
        raise SettingsError("--probe asks the teacher of a study; name the study file")
    checks = examine(study, probe=probe)
    if json:
        _out(_dumps(checks))
    else:
        for check in checks:
            _out(f"{'ok     ' if check.ok else 'missing'}  {check.what}: {check.found}")
    if any(check.needed and not check.ok for check in checks):
        raise typer.Exit(2)


def main() -> None:
    """The entry point: errors of ours are one line on stderr, Ctrl-C says how to go on."""
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # typer turns Ctrl-C into an exit code
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except typer.exceptions.TyperException as error:  # a wrong option
        if len(sys.argv) == 1:  # no command at all: typer's message is the help
            _out(str(error))
            sys.exit(2)
        said = getattr(error, "format_message", error.__str__)()  # names the option where it can
        _err(f"error: {said.rstrip('.')}; see understudy --help")
        sys.exit(2)
    except UnderstudyError as error:
        _err(f"error: {error}")
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _err("stopped; everything finished is kept: run the same command to go on")
        sys.stdout.flush()
        os._exit(INTERRUPTED)  # everything is closed by now, and to take the loaded libraries down takes a second
    except BrokenPipeError:
        sys.exit(1)


def _watching() -> Any:
    from understudy.console import watch

    return watch()


def _print_report(report: dict[str, Any], folder: Path, json: bool) -> None:
    if json:
        _out(_dumps(report))
        return
    from rich.console import Console

    from understudy.report import terminal_tables

    for table in terminal_tables(report):
        Console().print(table)
    for note in report["notes"]:
        _out(f"- {note}")
    _out(f"The whole report: {folder / 'REPORT.md'}")


def _dumps(value: Any, indent: bool = True) -> str:
    import orjson

    return orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else 0, default=str).decode()


def _out(text: str) -> None:
    typer.echo(text)


def _err(text: str) -> None:
    from understudy.settings import without_passwords

    typer.echo(without_passwords(text), err=True)
