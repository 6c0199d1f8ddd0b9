"""The commands for the ledger and for cassettes, thin like the others."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from understudy.errors import SettingsError
from understudy.settings import did_you_mean

ledger_app = typer.Typer(help="The ledger: every reply that was ever paid for.", no_args_is_help=True)
cassette_app = typer.Typer(help="Cassettes: a study's replies as a file.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Changes = Annotated[list[str], typer.Option("--set", help="As the study was run with. May be repeated.")]
Limit = Annotated[int | None, typer.Option(min=1, help="As the study was run with.")]


@ledger_app.command()
def info(json: Json = False) -> None:
    """Say where the ledger is, how much it holds, and of whom."""
    from understudy.teachers import Ledger

    with Ledger.open() as ledger:
        found = ledger.info()
    if json:
        _json(asdict(found))
        return
    typer.echo(f"{found.path}: {found.bytes:,} bytes, {found.replies:,} replies, {found.usd:,.4f} usd")
    for teacher, count in found.teachers.items():
        typer.echo(f"  {teacher}: {count:,}")
    if found.recorded:
        typer.echo(f"{found.recorded:,} of them are recorded: answers to prompts that were not ours")
    if found.failures:
        typer.echo(f"{found.failures:,} attempts brought nothing and cost at most {found.failures_usd:,.4f} usd")
    if found.refusals:
        typer.echo(f"{found.refusals:,} requests were refused for good")


@ledger_app.command()
def prune(
    before: Annotated[
        str | None, typer.Option(help="Older than a date (2026-11-30, UTC) or a time (30d).", show_default=False)
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="Of this teacher only.", show_default=False)] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget replies: what asks for them again pays for them again."""
    from understudy.teachers import Ledger

    if before is None and teacher is None:
        raise SettingsError("say what to forget: --before 2026-11-30, --before 30d, --teacher NAME, or two of them")
    until = _moment(before) if before else None
    with Ledger.open() as ledger:
        known = ledger.info().teachers
        if teacher is not None and teacher not in known:
            raise SettingsError(f"--teacher: the ledger knows no {teacher!r}. {did_you_mean(teacher, [*known])}")
        going = ledger.info(before=until, teacher=teacher)
        if not going.replies + going.failures + going.refusals:
            typer.echo("nothing to forget")
            return
        what = f"{going.replies:,} replies, which cost {going.usd:,.4f} usd"
        if not yes:
            if not sys.stdin.isatty():
                raise SettingsError(f"this would forget {what}; add --yes to do it")
            typer.confirm(f"Forget {what}?", abort=True, err=True)
        ledger.prune(before=until, teacher=teacher)
    typer.echo(f"forgot {what}")


@cassette_app.command("export")
def export_(
    study: Annotated[Path, typer.Argument(help="The study file, or a run folder.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="The file to write: .jsonl or .jsonl.gz.", show_default=False)],
    requests: Annotated[
        bool, typer.Option("--requests", help="Write what the study still has to ask instead, as a batch file.")
    ] = False,
    licence: Annotated[str | None, typer.Option(help="Under which the file is passed on.", show_default=False)] = None,
    changes: Changes = [],  # noqa: B006  typer wants a list
    limit: Limit = None,
) -> None:
    """Write the replies that a finished run used into a file."""
    from understudy.cassettes import export_cassette, export_requests

    if requests:
        if study.is_dir():
            raise SettingsError("--requests renders the study's prompts anew: name the study file, not a run folder")
        asked = export_requests(study, file, changes=changes, limit=limit)
        typer.echo(f"{asked.requests:,} requests: {asked.path}")
        if asked.waiting:
            typer.echo(
                f"{', '.join(asked.waiting)}: may ask about rows that these replies make; import them and export again",
                err=True,
            )
        return
    written = export_cassette(study, file, changes=changes, limit=limit, licence=licence)
    typer.echo(f"{written.replies:,} replies{_and_refused(written.refused)}: {written.path}")
    if written.redacted:
        typer.echo(
            f"a key or password was taken out of {written.redacted:,} replies; what is made of them may differ",
            err=True,
        )


@cassette_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A cassette, or answers to exported requests.", show_default=False)],
    requests: Annotated[
        Path | None, typer.Option(help="The exported requests that the file answers.", show_default=False)
    ] = None,
    written_by: Annotated[
        str | None,
        typer.Option(help='"NAME, YYYY-MM-DD": who wrote the answers outside any endpoint.', show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Take replies into the ledger; what it holds already stays as it is."""
    from understudy.cassettes import import_cassette

    found = import_cassette(file, requests=requests, written_by=written_by)
    if json:
        _json(asdict(found) | {"path": str(found.path)})
    else:
        typer.echo(f"{found.replies:,} replies, {found.new:,} of them new{_and_refused(found.refused)}: {found.path}")
    if found.is_cut:
        typer.echo("the file ends within a line: it is not whole", err=True)
    if found.doubles:
        typer.echo(f"{found.doubles:,} lines stood there before and were left out", err=True)
    if found.failed:
        typer.echo(f"{found.failed:,} lines hold no answer", err=True)
    if found.promised is not None and found.promised > found.replies:
        typer.echo(f"{found.promised - found.replies:,} of {found.promised:,} replies are not in the file", err=True)


def _and_refused(requests: int) -> str:
    return f", {requests:,} refused requests" if requests else ""


def _moment(text: str) -> float:
    """Seconds since 1970 of a date or of so many days ago."""
    if days := re.fullmatch(r"(\d+)d", text):
        return time.time() - int(days[1]) * 86_400
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"--before: {text!r} is no time; write a date such as 2026-11-30, or 30d") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _json(value: dict[str, Any]) -> None:
    import orjson

    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
