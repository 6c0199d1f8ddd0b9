"""The gold rows that a prompt shows, and those that a recipe trains on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from understudy.errors import DataError
from understudy.records import Example
from understudy.task import Task


def shots_by_label(
    train: Iterable[Example], task: Task, count: int, seed: int, leaks: Callable[[str], bool]
) -> dict[str | None, list[Example]]:
    """At most ``count`` solved examples of each label, drawn in one pass; under ``None`` for a task without labels.

    Args:
        leaks: whether a text is that of a test row, or near it: it stands in no prompt.
    """
    rng = random.Random(seed)
    drawn: dict[str | None, list[tuple[float, Example]]] = {}
    for example in train:
        if example.target is None:
            continue
        for label in example.answers if task.label_names else (None,):
            group, rank = drawn.setdefault(label, []), rng.random()
            is_enough = len(group) >= count and (not group or rank > group[-1][0])
            if is_enough or leaks(example.input):
                continue
            group.append((rank, example))
            group.sort(key=lambda pair: pair[0])
            del group[count:]
    return {label: [example for _, example in group] for label, group in drawn.items()}


def draw_shots(
    train: Iterable[Example], task: Task, count: int, seed: int, leaks: Callable[[str], bool]
) -> list[Example]:
    """``count`` solved examples, taken from the labels in turn, in an order that is drawn too."""
    groups = list(shots_by_label(train, task, count, seed, leaks).values())
    random.Random(seed).shuffle(groups)
    turns = (group[turn] for turn in range(count) for group in groups if turn < len(group))
    return list({example.id: example for example in turns}.values())[:count]


def solved(train: Iterable[Example], task: Task, leaks: Callable[[str], bool], recipe: str) -> list[Example]:
    """The gold rows that are not near a test row, for a recipe that trains on them.

    Raises:
        DataError: there is none, or none of a label, which nobody could then learn.
    """
    gold = [row for row in train if row.target is not None and not leaks(row.input)]
    held = {row.target for row in gold}
    missing = [label for label in task.label_names if label not in held] if task.kind == "classification" else []
    if gold and not missing:
        return gold
    lack = f"none of the {len(gold)} gold rows has the label {missing[0]!r}" if gold else "there is no gold row"
    others = f" ({len(missing)} of {len(task.label_names)} labels have none)" if gold and len(missing) > 1 else ""
    raise DataError(
        f"recipe {recipe!r}: {lack}{others}, so that it cannot be learnt; draw rows of every label with "
        "task.train.per_label, or read more rows"
    )
