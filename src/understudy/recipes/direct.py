"""Direct: the teacher writes new rows from the instruction and a few gold rows. The control for every synthesis recipe.

For a task with labels each request names one label, so that the rows come out balanced; otherwise the teacher writes
input and answer together. What it writes passes the same checks as the rows of every recipe that has rows written.

With ``rounds`` it goes about it as prompt2model does ("Prompt2Model: Generating Deployable Models from Natural Language
Instructions", Viswanathan et al. 2023, arXiv 2308.12261): later prompts show some of the rows that were written before,
and the temperature rises. Prompts of a round depend on the rounds before it only, in the order of their rows, so that a
run that was killed asks the same again. The rows that a prompt showed stand in it, and are no parents.

Departs from prompt2model: a round is whole before the next begins, where there the temperature follows the count of the
rows; one prompt length instead of three; of equal inputs the first stays, whatever its answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Annotated, Any

from pydantic import Field

from understudy.curate import checks_of, noted, shots_by_label, validated
from understudy.errors import ParseError
from understudy.evaluation.numbers import last_number
from understudy.prompts import load_prompt
from understudy.prompts.conclusions import option_in
from understudy.prompts.replies import read_json_list
from understudy.recipes import Given, Recipe
from understudy.records import Dropped, Example, Row, digest
from understudy.settings import Settings
from understudy.task import Task
from understudy.teachers import NOT_IN_LEDGER, Teacher, ask


class Direct(Settings):
    """How much is written, and from how much."""

    rows: int = Field(default=1000, gt=0)
    """How many rows to ask for, over all labels; rounded up to whole replies."""
    batch: int = Field(default=10, gt=0)
    """How many rows one reply holds."""
    shots: int = Field(default=5, ge=0)
    """How many gold rows stand in each prompt: of the label asked for, where there are labels."""
    rounds: int = Field(default=1, gt=0)
    """In how many rounds they are asked for, as many in each; a reply then holds at most ``batch``."""
    shown: int = Field(default=10, gt=0)
    """Prompts of later rounds show between 1 and so many earlier rows, of the label asked for, if any."""
    temperature: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] | None = (0.5, 1.7)
    """The sampling temperature of the first and of the last round, evenly between them; null is the teacher's own, and
    so is that of a single round."""


def direct(examples: Iterable[Example], given: Given, settings: Direct) -> Iterator[Row]:
    """Pass on what came, then the rows that the teacher writes."""
    task, there = given.task, set[str]()
    yield from noted(examples, there)
    labels = task.label_names or (None,)
    shots = shots_by_label(given.train, task, settings.shots, given.seed, given.leaks)
    checks = checks_of(task, chain.from_iterable(shots.values()), given.leaks, last_number, there)
    replies, rows = sizes(settings, len(labels))
    earlier = [Earlier(given.seed, turn, settings.shown) for turn in range(settings.rounds)]
    for turn in range(settings.rounds):
        prompt = load_prompt("direct").bind(
            instruction=task.instruction,
            labels=task.label_names,
            shots=shots,
            earlier={label: earlier[turn].drawn(label) for label in labels},
            count=rows,
            choice=task.kind == "choice",
        )
        wanted = [to_write(label, turn if settings.rounds > 1 else None) for label in labels]
        teacher = warmed(given.teacher, settings, turn)
        written = ask(teacher, wanted, prompt, reader(task, shots), n=replies, step="direct")
        is_whole = True
        for row in validated(written, checks, "direct"):
            yield row
            if isinstance(row, Example):
                for later in earlier[turn + 1 :]:
                    later.add(row)
            elif row.reason == NOT_IN_LEDGER:
                is_whole = False
        if not is_whole:  # the prompts of the next are not known before this one's replies are
            return


def sizes(settings: Direct, labels: int) -> tuple[int, int]:
    """How many replies a label each round asks for, and how many rows each of them is to hold."""
    if settings.rounds == 1:
        return _parts(settings.rows, labels * settings.batch), settings.batch
    rows = _parts(settings.rows, labels * settings.rounds)
    replies = _parts(rows, settings.batch)
    return replies, _parts(rows, replies)


def to_write(label: str | None, turn: int | None) -> Example:
    """What the teacher is asked about: a row of a label that is still empty. A recorded reply may go by the round."""
    name, fields = f"direct/{label or 'any'}", {"label": label}
    if turn is None:
        return Example(id=name, input="", target=label, fields=fields)
    return Example(id=f"{name}/{turn + 1}", input="", target=label, fields=fields | {"round": turn + 1})


def warmed(teacher: Teacher, settings: Direct, turn: int) -> Teacher:
    """The teacher at the temperature of a round."""
    if settings.temperature is None or settings.rounds == 1:
        return teacher
    first, last = settings.temperature
    return teacher.with_sampling(temperature=round(first + (last - first) * turn / (settings.rounds - 1), 6))


class Earlier:
    """The rows that one round shows of those written before it: drawn as they come, so that few are held."""

    def __init__(self, seed: int, turn: int, most: int) -> None:
        self._name, self._most = f"{seed} {turn}", most
        self._rows: dict[str | None, list[tuple[str, Example]]] = {}

    def add(self, row: Example) -> None:
        """One more to draw from: those stay whose ids have the smallest hashes."""
        group = self._rows.setdefault(row.fields["label"], [])
        group.append((digest(self._name, row.id, size=8), row))
        group.sort(key=lambda pair: pair[0])
        del group[self._most :]

    def drawn(self, label: str | None) -> list[Example]:
        """Between 1 and ``most`` rows of a label, as far as there are any."""
        count = random.Random(f"{self._name} {label}").randint(1, self._most)
        return [row for _, row in self._rows.get(label, [])[:count]]


def reader(task: Task, shots: Mapping[str | None, Sequence[Example]]) -> Callable[[Example, str], Iterator[Row]]:
    """How a reply becomes rows, each a child of the gold rows that the prompt showed."""

    def read(wanted: Example, reply: str) -> Iterator[Row]:
        shown = shots.get(wanted.target if isinstance(wanted.target, str) else None, ())
        parents = tuple(shot.id for shot in shown)
        for item in read_json_list(reply):
            made = wanted.replace(id=f"direct/{digest(str(wanted.target), repr(item), size=6)}", parents=parents)
            try:
                parts = row(wanted, item)
            except ParseError as error:
                yield Dropped(made, "direct", error.reason, error.detail)
            else:
                yield made.replace(**parts)

    def row(wanted: Example, item: Any) -> dict[str, Any]:
        if wanted.target is not None and isinstance(item, str) and item.strip():
            target = (str(wanted.target),) if task.kind == "multilabel" else wanted.target
            return {"input": item.strip(), "target": target}
        if wanted.target is None and isinstance(item, dict):
            target = item.get("target")
            if isinstance(target, list) and len(target) == 1:  # where an answer of the task may be one of several
                target = target[0]
            made = {"input": _text(item.get("input")), "target": _text(target)}
            if all(made.values()):
                return made | with_choices(made["target"], item) if task.kind == "choice" else made
        raise ParseError("not_a_row", f"{item!r} is not of the form that was asked for")

    def with_choices(target: str, item: dict[str, Any]) -> dict[str, Any]:
        choices = item.get("choices")
        options = tuple(map(_text, choices)) if isinstance(choices, list) else ()
        if not all(options) or len({*options}) < max(2, len(options)):
            raise ParseError("not_a_row", f"{choices!r} are not options to choose from")
        return {"choices": options, "target": target if target in options else option_in(target, options)}

    return read


def _text(value: Any) -> str:
    """A text or a number as a stripped text; of anything else the empty one."""
    return str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _parts(whole: int, part: int) -> int:
    """How many parts hold the whole."""
    return -(-whole // part)


RECIPE = Recipe(
    make=direct,
    settings=Direct,
    prompts=("direct",),
    summary="new rows that the teacher writes from the instruction and gold rows",
    gives=lambda settings: frozenset({"target"}),
    unforeseen=lambda settings: (
        "the rows that prompts of later rounds show are not written yet: those prompts are counted without them"
        if settings.rounds > 1
        else ""
    ),
)
