"""The command ``evaluate``: a model on minimal pairs, or a trained student on a study's test split."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from json import loads
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy.errors import DataError, SettingsError
from understudy.pretrained import local_folder

if TYPE_CHECKING:
    from understudy.progress import Watch
    from understudy.records import Example, Prediction
    from understudy.report.tables import TextTable
    from understudy.task import Task

STUDIES = (".yaml", ".yml")
PRECISIONS = ("fp32", "bf16")
STUDENT = "student.json"  # what a trained language model says of itself, in its folder
SCORING = {"within_word": (False, "default"), "precision": ("fp32", "default")}
SECONDS_BETWEEN_WORDS = 0.3


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a model's sentences are scored."""

    within_word: bool
    precision: str
    said_by: Mapping[str, str]  # name of a value -> option, student.json or default

    @property
    def text(self) -> str:
        hides = f", {'' if self.within_word else 'not '}within_word ({self.said_by['within_word']})"
        is_told = self.within_word or self.said_by["within_word"] != "default"
        return f"{self.precision} ({self.said_by['precision']})" + (hides if is_told else "")


@dataclass(frozen=True, slots=True)
class Test:
    """What is judged."""

    task: Task
    rows: Sequence[Example]
    dropped: int = 0  # for their words

    @property
    def is_pairs(self) -> bool:
        return self.task.kind == "pretraining"


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="A trained student's folder; for minimal pairs any masked or causal language model, a folder or a hub "
            "id. Several are the seeds of one model.",
            show_default=False,
        ),
    ],
    data: Annotated[
        Path,
        typer.Argument(
            help="Minimal pairs as JSONL, CSV, TSV or Parquet, also with .gz; or a study file (.yaml), whose test "
            "split is taken.",
            show_default=False,
        ),
    ],
    good: Annotated[
        str | None, typer.Option(help="Column of the good sentences.  [default: sentence_good]", show_default=False)
    ] = None,
    bad: Annotated[
        str | None, typer.Option(help="Column of the bad sentences.  [default: sentence_bad]", show_default=False)
    ] = None,
    by: Annotated[
        list[str],
        typer.Option(
            help="Column whose values are groups; may be repeated.  [default: field, linguistics_term]",
            show_default=False,
        ),
    ] = [],  # noqa: B006  typer wants a list
    within_word: Annotated[
        bool | None,
        typer.Option(
            help="Hide the rest of a hidden token's word too; masked models only.  [default: as the student was "
            "trained to be scored, else no]",
            show_default=False,
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Arithmetic for minimal pairs: fp32 or bf16.  [default: the student's own, else fp32]",
            show_default=False,
        ),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(help="Judge again at this precision and say how many choices differ.", show_default=False),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Read at most this many rows of the test split.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Score a model on minimal pairs, such as BLiMP's, or a trained student on the test split of a study."""
    from understudy.console import watch
    from understudy.report import terminal_groups, terminal_of

    for option, value in (("--precision", precision), ("--compare", compare)):
        if value not in (None, *PRECISIONS):
            raise SettingsError(f"{option}: fp32 or bf16 is expected, got {value!r}")
    if data.suffix in STUDIES:
        if good or bad or by:
            raise SettingsError("--good, --bad and --by go with a file of pairs; a study says them in task.pairs")
        test = _of_study(data, limit)
    else:
        test = _of_pairs(data, limit, good, bad, by)
    if not test.is_pairs and (within_word is not None or compare or precision):
        raise SettingsError(
            f"--within-word, --precision and --compare go with minimal pairs, not kind {test.task.kind}"
        )
    scorings = {model: _scoring(model, within_word, precision) for model in models}  # before any is judged
    if compare in {one.precision for one in scorings.values()}:
        raise SettingsError(f"--compare {compare}: that is what they are judged at; name the other precision")
    with watch() as watching:
        runs = [_judged(model, test, watching, scorings[model]) for model in models]
        again = [(model, replace(scorings[model], precision=compare)) for model in models] if compare else []
        others = [_judged(model, test, watching, scoring) for model, scoring in again]
    told = _told(models, test, runs) | (_compared(compare, runs, others) if compare else {})
    told |= {"scored": [asdict(scorings[model]) for model in models]} if test.is_pairs else {}
    if json:
        import orjson

        typer.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
        return
    from rich.console import Console

    if test.is_pairs:
        table = terminal_groups({"study": told, "arms": {"accuracy": told}}, data.name, by)
    else:
        table = terminal_of(_metrics_table(told), data.name)
    Console().print(table)
    for note in _notes(told):
        typer.echo(f"- {note}")


def _of_pairs(file: Path, limit: int | None, good: str | None, bad: str | None, by: Sequence[str]) -> Test:
    """Raises: DataError: a row is no pair. SettingsError: no row has a column of ``by``."""
    from understudy.evaluation.minimal_pairs import group_of
    from understudy.settings import did_you_mean
    from understudy.sources import Source, load
    from understudy.task import PARADIGM, Pairs, Task

    columns = {"good": good, "bad": bad, "groups": tuple(dict.fromkeys([*by, PARADIGM])) if by else None}
    pairs = Pairs.model_validate({name: value for name, value in columns.items() if value})
    task = Task.model_validate({"kind": "pretraining", "pairs": pairs})
    rows = list(load(Source(path=str(file), limit=limit), task, "test"))
    for column in by:
        if not any(group_of(row, column) for row in rows):
            raise SettingsError(f"--by: {file} has no column {column!r}. {did_you_mean(column, list(rows[0].fields))}")
    return Test(task, rows)


def _of_study(file: Path, limit: int | None) -> Test:
    """The study's test split, as a run of it has it; ``limit`` leaves the text alone whose words are known."""
    from understudy.reading import load_test, with_labels
    from understudy.study_file import load_study
    from understudy.workspace import Workspace

    task = with_labels(load_study(file)[0]).task
    fewer = min(limit, task.test.limit or limit) if limit else task.test.limit
    task = task.model_copy(update={"test": task.test.model_copy(update={"limit": fewer})})
    with TemporaryDirectory(prefix="understudy-") as folder, Workspace(Path(folder)) as workspace:
        rows, _ = load_test(workspace, task)
        return Test(task, list(rows), dropped=sum(rows.taken.dropped.values()))


def _scoring(model: str, within_word: bool | None, precision: str | None) -> Scoring:
    """What the options say; else what the student's settings said, where it is one of ours.

    Raises:
        DataError: there is no such model, or its student.json is broken.
    """
    folder = local_folder(model, "model")
    about: dict[str, Any] = {}
    if folder and (told := folder / STUDENT).is_file():
        try:
            about = dict(loads(told.read_text("utf-8")))
        except (ValueError, TypeError):
            raise DataError(f"model: {str(told)!r} is broken; train the model again") from None
    own = {"within_word": about.get("within_word"), "precision": about.get("score_precision")}
    asked = {"within_word": within_word, "precision": precision}
    used = {**SCORING, **{name: (value, STUDENT) for name, value in own.items() if value is not None},
            **{name: (value, "option") for name, value in asked.items() if value is not None}}  # fmt: skip
    values = {name: value for name, (value, _) in used.items()}
    return Scoring(**values, said_by={name: who for name, (_, who) in used.items()})


def _judged(model: str, test: Test, watch: Watch, scoring: Scoring) -> list[Prediction]:
    """What a model answers to each row."""
    if test.is_pairs:
        from understudy.evaluation.minimal_pairs import predictions
        from understudy.students.scorer import open_scorer

        scorer = open_scorer(model, within_word=scoring.within_word, precision=scoring.precision)
        answers = predictions(test.rows, scorer)
    else:
        from understudy.students import load_model

        answers = load_model(model).predict(test.rows)
    name = f"{model}: {scoring.precision}" if test.is_pairs else model
    return list(_watched(answers, name, len(test.rows), watch))


def _watched(answers: Iterable[Prediction], name: str, total: int, watch: Watch) -> Iterator[Prediction]:
    told = time.monotonic()
    watch.step(name, 0, total)
    for done, answer in enumerate(answers, start=1):
        if time.monotonic() - told >= SECONDS_BETWEEN_WORDS or done == total:
            told = time.monotonic()
            watch.step(name, done, total)
        yield answer


def _told(models: Sequence[str], test: Test, runs: Sequence[Sequence[Prediction]]) -> dict[str, Any]:
    from understudy.report import metrics_of, scores_by_group

    told: dict[str, Any] = {"models": list(models), "test_rows": len(test.rows)}
    if test.dropped:
        told["dropped"] = {"unknown_word": test.dropped}
    told["metrics"] = metrics_of(test.task, test.rows, runs)
    return told | (scores_by_group(test.rows, runs, test.task.pairs.groups) if test.task.pairs else {})


def _compared(
    precision: str, runs: Sequence[Sequence[Prediction]], others: Sequence[Sequence[Prediction]]
) -> dict[str, Any]:
    """How many choices another precision changes, of all models together."""
    both = [
        (one.output, other.output) for pair in zip(runs, others, strict=True) for one, other in zip(*pair, strict=True)
    ]
    changed = sum(one != other for one, other in both)
    return {"compared": {"precision": precision, "choices": len(both), "changed": changed,
                         "share": round(changed / len(both), 6)}}  # fmt: skip


def _metrics_table(told: dict[str, Any]) -> TextTable:
    from understudy.report.tables import TextTable, metric_title, with_interval

    rows = [(metric_title(name), with_interval(found)) for name, found in told["metrics"].items()]
    return TextTable(("metric", "score"), rows, frozenset())


def _notes(told: dict[str, Any]) -> Iterator[str]:
    seeds = len(told["models"])
    yield f"{told['test_rows']:,} rows, " + (f"{seeds} seeds" if seeds > 1 else "one seed: the interval is over rows")
    for how in dict.fromkeys(Scoring(**one).text for one in told.get("scored", ())):
        yield f"scored at {how}"
    if "dropped" in told:
        yield f"{told['dropped']['unknown_word']:,} pairs are left out: a word is too rare in the training text"
    if told.get("ties"):
        yield f"{told['ties']:,} ties, which count wrong"
    if "compared" in told:
        found = told["compared"]
        yield f"{found['precision']} changes {found['changed']:,} of {found['choices']:,} choices: {found['share']:.2%}"
