"""Word problems with their reasoning, and a tiny student that reads the one and begins to write the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from understudy.records import Example
from understudy.students import load_model, train
from understudy.students.serial import prompt_of
from understudy.task import Task

NAMES = ("Tom", "Ann", "Luke", "Mia")
SCRATCH = {"hidden_size": 32, "layers": 2, "heads": 2, "vocab_size": 300}
TASK = Task(instruction="Reason.", kind="generation")


def problem(number: int) -> dict[str, str]:
    name, first, more = NAMES[number % len(NAMES)], number + 2, number % 5 + 3
    question = f"{name} has {first} apples. {name} buys {more} more apples. How many apples are there?"
    copied = f"{name} has {first} apples. {name} buys {more} more apples."
    return {"question": question, "rationale": f"{copied} So that makes {first} + {more} = {first + more} in all."}


def write_reasoner(folder: Path, kind: str = "seq2seq", **more: Any) -> str:
    """The folder of a student of few steps."""
    rows = [problem(number) for number in range(16)]
    lessons = [
        Example(id=str(number), input=prompt_of(row["question"]), target=row["rationale"])
        for number, row in enumerate(rows)
    ]
    plain = {"kind": kind, "base": SCRATCH, "prompt": "bare", "steps": 3, "batch_size": 4, "precision": "fp32"}
    train(plain | {"threads": 1} | more, TASK, lessons, folder)
    return str(folder)


def reasoner(folder: str) -> Any:
    return load_model(folder)
