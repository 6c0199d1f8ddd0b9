"""The command ``segment``: the pieces of each row's reasoning, as AS-ES tells them apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from unicodedata import category

import typer

from understudy.errors import DataError, SettingsError
from understudy.settings import did_you_mean

if TYPE_CHECKING:
    from understudy.records import Example
    from understudy.segment import Ending, Piece

STYLES = {"es": "cyan", "as": "bold yellow"}
SEES = "question"


@dataclass(frozen=True, slots=True)
class Seen:
    """One row: its question, and the segments that its reasoning is learnt in, each of pieces of one tag."""

    question: str
    threshold: float  # in the score's own unit
    segments: list[list[Piece]]

    @property
    def pieces(self) -> list[Piece]:
        return [piece for segment in self.segments for piece in segment]


@dataclass(slots=True)
class Counts:
    """What was seen."""

    rows: int = 0
    without_pieces: int = 0
    tags: dict[str, int] = field(default_factory=lambda: {"es": 0, "as": 0})

    def add(self, seen: Seen) -> None:
        self.rows += 1
        self.without_pieces += not seen.segments
        for piece in seen.pieces:
            self.tags[piece.tag] += 1

    def said(self) -> str:
        pieces = sum(self.tags.values())
        share = f", {self.tags['as'] / pieces:.0%} of them abstractive" if pieces else ""
        empty = f"; {self.without_pieces:,} without a piece" if self.without_pieces else ""
        return f"{self.rows:,} {'row' if self.rows == 1 else 'rows'}, {pieces:,} pieces{share}{empty}"


def segment(
    file: Annotated[Path, typer.Argument(help="JSONL, CSV, TSV or Parquet, also with .gz.", show_default=False)],
    question: Annotated[str, typer.Option(help="Column of the question, or a jinja2 template.")] = "question",
    text: Annotated[str, typer.Option(help="Column of the reasoning, or a jinja2 template.")] = "rationale",
    answer: Annotated[
        str | None,
        typer.Option(help="Column of the answer, or a template: added where the reasoning does not end in it."),
    ] = None,
    phrase: Annotated[str, typer.Option(help="What stands before the answer.")] = "The answer is",
    score: Annotated[
        str | None,
        typer.Option(
            help="entropy or loss (of a student), bleu, rouge_l or embedding (similarity to the question), or "
            "location.  [default: entropy with --scorer, else rouge_l]",
            show_default=False,
        ),
    ] = None,
    scorer: Annotated[
        Path | None, typer.Option(help="The folder of the student that scores by entropy or loss.", show_default=False)
    ] = None,
    average: Annotated[bool, typer.Option("--average", help="Entropy and loss as a mean over tokens.")] = False,
    sees: Annotated[
        str, typer.Option(help="What the student sees before a piece: the question, or earlier pieces too: earlier.")
    ] = SEES,
    beta: Annotated[float, typer.Option(min=0, help="Abstractive is a score above this many times the mean.")] = 1.4,
    reverse: Annotated[bool, typer.Option("--reverse", help="The tags the other way round.")] = False,
    short: Annotated[str, typer.Option(help="What becomes of short pieces: merge, drop or keep.")] = "merge",
    short_words: Annotated[int, typer.Option(min=0, help="A piece of at most this many words is short.")] = 3,
    no_merge: Annotated[bool, typer.Option("--no-merge", help="Every piece is a segment of its own.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="Read at most this many rows; 0 reads all.")] = 10,
    json: Annotated[bool, typer.Option("--json", help="Print a line of JSON a row on stdout.")] = False,
) -> None:
    """Show the pieces of each row's reasoning, with the scores and tags that the recipe as_es gives them.

    In a study the answer is added as --answer adds it; an option is named by its letter there.
    """
    from understudy.segment import runs
    from understudy.segmenting import Segmenting, segmented
    from understudy.settings import validate

    told = {"average": average, "sees": sees, "beta": beta, "reverse": reverse, "short": short, "phrase": phrase}
    told |= {"score": score or ("entropy" if scorer else "rouge_l"), "short_words": short_words}
    settings = validate(Segmenting, told)
    if settings.by_student and scorer is None:
        raise SettingsError(
            f"--score {settings.score} is that of a trained student: name its folder with --scorer "
            "runs/<study>/arms/<arm>/seed-0/model, or score by rouge_l, bleu, embedding or location"
        )
    if not settings.by_student and (scorer or average or sees != SEES):
        raise SettingsError(
            f"--scorer, --average and --sees go with --score entropy or loss, not with {settings.score}"
        )
    ending = settings.ending
    rows, same = tee(_concluded(row, ending) for row in rows_of(file, question, text, answer, limit))
    counts, show = Counts(), _json_printer() if json else _printer(beta)
    for row, pieces in zip(rows, segmented(same, settings, _student(scorer) if scorer else None), strict=True):
        threshold = beta * sum(piece.score for piece in pieces) / max(1, len(pieces))
        seen = Seen(row.input, threshold, runs(pieces, merge=not no_merge))
        counts.add(seen)
        show(seen)
    typer.echo(counts.said(), err=json)


def _concluded(row: Example, ending: Ending) -> Example:
    if row.rationale is None or not row.answers or ending.concludes(row.rationale):
        return row
    return row.replace(rationale=ending.conclude(row.rationale, row.answers[0]))


def rows_of(file: Path, question: str, text: str, answer: str | None, limit: int) -> Iterator[Example]:
    """The rows with the question as their input, and without a rationale where it is blank.

    Raises:
        DataError: the file cannot be read, or a later row lacks a column.
        SettingsError: the first row lacks a column.
    """
    from understudy.sources import Source, load, read
    from understudy.task import Fields, Task
    from understudy.templates import is_template, variables_of

    source = Source(path=str(file), limit=limit or None)
    for _, first in read(source):
        for option, where in (("--question", question), ("--text", text), ("--answer", answer)):
            columns = set() if where is None else variables_of(where) if is_template(where) else {where}
            for column in sorted(columns - first.keys()):
                known = did_you_mean(column, list(first))
                raise SettingsError(f"{option}: {file} has no column {column!r}. {known}; name one, or a template")
        break
    fields = Fields(input=question, target=answer, rationale=text)
    rows = load(source, Task(instruction="-", kind="generation", fields=fields))
    return (row.replace(rationale=None) if not (row.rationale or "").strip() else row for row in rows)


def _student(folder: Path) -> Any:
    """The model that scores.

    Raises:
        DataError: it is none that reads and writes plain texts.
    """
    from understudy.students import load_model

    model: Any = load_model(folder)
    if not getattr(getattr(model, "about", None), "bare", False):
        raise DataError(
            f"--scorer: {str(folder)!r} has not learnt to write reasoning; name the model of an arm with "
            "as_es: {path: plain}"
        )
    return model


def _json_printer() -> Callable[[Seen], None]:
    import orjson

    def show(seen: Seen) -> None:
        pieces = [asdict(piece) for piece in seen.pieces]
        numbers = (number for number, segment in enumerate(seen.segments, start=1) for _ in segment)
        told = [piece | {"segment": number} for piece, number in zip(pieces, numbers, strict=True)]
        typer.echo(orjson.dumps({"question": seen.question, "pieces": told}).decode())

    return show


def _printer(beta: float) -> Callable[[Seen], None]:
    """Prints for a person, in colours where stdout is a terminal; a line a piece, which a terminal may wrap."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, emoji=False)

    def show(seen: Seen) -> None:
        lines = Text.assemble((_line(seen.question), "bold"), "\n")
        width = max((len(f"{piece.score:.3f}") for piece in seen.pieces), default=0)
        for number, segment in enumerate(seen.segments, start=1):
            for place, piece in enumerate(segment):
                line = f"{piece.tag} {piece.score:{width}.3f} | {_line(piece.text)}\n"
                lines.append(f"{'' if place else number:>4} ").append(line, STYLES[piece.tag])
        over = f"threshold {seen.threshold:.3f}, {beta:g} x the mean" if seen.segments else "no pieces"
        lines.append(f"     {over}\n", "dim")
        console.print(lines, soft_wrap=True)

    return show


def _line(text: str) -> str:
    """On one line, without what a terminal would obey."""
    return "".join(c for c in " ".join(text.split()) if category(c) != "Cc")
