"""Direct: the teacher writes new rows from the instruction and a few gold rows. The control for every synthesis recipe.

For a task with labels each request names one label, so that the rows come out balanced; otherwise the teacher writes
input and answer together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

from understudy.prompts import load_prompt
from understudy.prompts.replies import read_json_list
from understudy.recipes import Given, Recipe, shots_by_label
from understudy.records import Dropped, Example, Row, digest
from understudy.settings import Settings
from understudy.task import Task
from understudy.teachers import ask


class Direct(Settings):
    """How much is written, and from how much."""

    rows: int = Field(default=1000, gt=0)
    """How many rows to ask for, over all labels; rounded up to whole replies."""
    batch: int = Field(default=10, gt=0)
    """How many rows one reply holds."""
    shots: int = Field(default=5, ge=0)
    """How many gold rows stand in each prompt: of the label asked for, where there are labels."""


def direct(examples: Iterable[Example], given: Given, settings: Direct) -> Iterator[Row]:
    """Pass on what came, then the rows that the teacher writes."""
    yield from examples
    labels = given.task.label_names or (None,)
    shots = shots_by_label(given.train, given.task, settings.shots, given.seed)
    prompt = load_prompt("direct").bind(
        instruction=given.task.instruction,
        labels=given.task.label_names,
        shots=shots,
        count=settings.batch,
        choice=given.task.kind == "choice",
    )
    wanted = [
        Example(id=f"direct/{label or 'any'}", input="", target=label, fields={"label": label}) for label in labels
    ]
    replies = -(-settings.rows // (len(labels) * settings.batch))
    yield from ask(given.teacher, wanted, prompt, reader(given.task, shots), n=replies, step="direct")


def reader(task: Task, shots: Mapping[str | None, Sequence[Example]]) -> Callable[[Example, str], Iterator[Row]]:
    """How a reply becomes rows, each a child of the gold rows that the prompt showed."""

    def read(wanted: Example, reply: str) -> Iterator[Row]:
        shown = shots.get(wanted.target if isinstance(wanted.target, str) else None, ())
        parents = tuple(shot.id for shot in shown)
        for item in read_json_list(reply):
            made = wanted.replace(id=f"direct/{digest(str(wanted.target), repr(item), size=6)}", parents=parents)
            parts = row(wanted, item)
            if parts is None:
                yield Dropped(made, "direct", "not_a_row", f"{item!r} is not of the form that was asked for")
            else:
                yield made.replace(**parts)

    def row(wanted: Example, item: Any) -> dict[str, Any] | None:
        if wanted.target is not None and isinstance(item, str) and item.strip():
            target = (str(wanted.target),) if task.kind == "multilabel" else wanted.target
            return {"input": item.strip(), "target": target}
        if wanted.target is None and isinstance(item, dict) and item.get("input") and item.get("target"):
            made = {"input": str(item["input"]), "target": str(item["target"])}
            return with_choices(made, item.get("choices")) if task.kind == "choice" else made
        return None

    def with_choices(made: dict[str, Any], choices: Any) -> dict[str, Any] | None:
        is_list = isinstance(choices, list) and len({*map(str, choices)}) == len(choices)
        options = tuple(map(str, choices)) if is_list else ()
        return made | {"choices": options} if made["target"] in options else None

    return read


RECIPE = Recipe(
    make=direct,
    settings=Direct,
    prompts=("direct",),
    summary="new rows that the teacher writes from the instruction and gold rows",
    gives=lambda settings: frozenset({"target"}),
)
