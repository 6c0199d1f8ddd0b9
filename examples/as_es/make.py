"""Makes the problems beside it: word problems of two to four steps, with reasoning whose true segments are known.

    python examples/as_es/make.py [--seed 0] [--out <folder>]

The families are those of MAWPS and SVAMP: something is got and given away, bought and sold, put together, compared,
shared. Of the facts in a question some have nothing to do with what is asked, and not all stand in the order of use.

The reasoning is made of sentences of two sorts, and ``pieces`` says which is which:

- ``es``: one or two facts of the question, word for word but for a capital letter: what an extractive segment is.
- ``as``: a computation and what it says, or the answer: what an abstractive segment is; none stands in the question.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = ("Anna", "Ben", "Carla", "David", "Emma", "Frank", "Grace", "Henry", "Irene", "Jack")
THINGS = ("apples", "beads", "cards", "eggs", "marbles", "pencils", "shells", "stamps", "stickers", "stones")
HOLDERS = ("bags", "boxes", "jars")
GOT = ("{hero} found {n} {thing}", "{helper} gave {hero} {n} {thing}", "{hero} bought {n} more {thing}")
GONE = ("{hero} lost {n} {thing}", "{hero} gave {helper} {n} {thing}", "{hero} sold {n} {thing}")
BESIDE = (  # says nothing about the hero's or the friend's things, nor about the hero's coins
    "{stranger} had {n} {thing}",
    "{stranger} lost {n} {thing}",
    "{stranger} bought {n} {thing} for {m} coins each",
    "{hero} had {n} {other}",
    "{hero} found {n} {other}",
    "{helper} lost {n} {other}",
)
SAID = ("{equation}, so {meaning}.", "{equation}, which means that {meaning}.")
SPLITS = {"train": 4000, "valid": 300, "test": 400}
MOST = 30  # no result is higher: almost all computations of a test row stand in the train file


@dataclass(frozen=True)
class Fact:
    """A clause; a loose one can stand anywhere in a question."""

    text: str
    loose: bool = False


@dataclass(frozen=True)
class Step:
    """The facts that it takes up, what it computes, and what that means."""

    facts: tuple[Fact, ...]
    equation: str
    meaning: str


@dataclass(frozen=True)
class Problem:
    """What is asked and how it is solved; nobody is named but the cast: hero, friend, helper, stranger, things."""

    steps: tuple[Step, ...]
    asked: str
    answer: int


class Unfit(Exception):
    """A number is too high, too low or none: draw again."""


def compute(a: int, sign: str, b: int) -> tuple[int, str]:
    """The result and the equation. Nothing is ever 1, so that every thing stands in the plural."""
    result = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[sign]
    if not 2 <= result <= MOST or (sign == "/" and a % b):
        raise Unfit
    return result, f"{a} {sign} {b} = {result}"


def changes(cast: dict[str, str], draw: random.Random) -> Problem:
    """Some are there, some come, some go; then perhaps all are shared, sold, compared or put together with others."""
    hero, thing = cast["hero"], cast["thing"]
    ending = draw.choice(("none", "none", "share", "sell", "more", "together"))
    count, steps, before = draw.randint(2, 4), list[Step](), tuple[Fact, ...]()
    if draw.random() < 0.35:
        groups, each = draw.randint(2, 5), draw.randint(2, 6)
        have, equation = compute(groups, "*", each)
        start = f"{hero} had {groups} {draw.choice(HOLDERS)} with {each} {thing} in each"
        steps.append(Step(early(start, draw), equation, f"{hero} had {have} {thing}"))
    else:
        have = draw.randint(3, 20)
        before = early(f"{hero} had {have} {thing}", draw)
    for _ in range(count - len(steps) - (ending != "none")):
        sign, n = draw.choice("+-"), draw.randint(2, 9)
        have, equation = compute(have, sign, n)
        change = draw.choice(GOT if sign == "+" else GONE).format(n=n, **cast)
        steps.append(Step((*before, Fact(change)), equation, f"{hero} then had {have} {thing}"))
        before = ()
    if ending == "none":
        return Problem(tuple(steps), f"How many {thing} does {hero} have now?", have)
    n = draw.randint(2, 5 if ending in ("share", "sell") else 12)
    sign, fact, meaning, asked = ended(ending, n, cast)
    answer, equation = compute(have, sign, n)
    steps.append(Step((*before, fact), equation, meaning.format(answer)))
    return Problem(tuple(steps), asked, answer)


def ended(ending: str, n: int, cast: dict[str, str]) -> tuple[str, Fact, str, str]:
    """The sign of the last computation, its fact, what its result means, and what is asked."""
    hero, friend, thing = cast["hero"], cast["friend"], cast["thing"]
    if ending == "share":
        fact = Fact(f"then {hero} shared all the {thing} evenly among {n} children")
        return "/", fact, f"each child got {{}} {thing}", f"How many {thing} did each child get?"
    if ending == "sell":
        fact = Fact(f"then {hero} sold all the {thing} for {n} coins each")
        return "*", fact, f"{hero} got {{}} coins", f"How many coins did {hero} get for all the {thing}?"
    fact = Fact(f"{friend} had {n} {thing}", loose=True)
    if ending == "more":
        asked = f"How many more {thing} than {friend} does {hero} have now?"
        return "-", fact, f"{hero} had {{}} more {thing} than {friend}", asked
    asked = f"How many {thing} do {hero} and {friend} have together now?"
    return "+", fact, f"{hero} and {friend} had {{}} {thing} together", asked


def early(start: str, draw: random.Random) -> tuple[Fact]:
    """How it was before all else; where the fact says so, it can stand anywhere."""
    return (Fact(f"{start} at first", loose=True) if draw.random() < 0.4 else Fact(start),)


def relations(cast: dict[str, str], draw: random.Random) -> Problem:
    """Each has more, fewer or so many times as many as the one before."""
    people, thing = [cast["hero"], cast["friend"], cast["helper"]], cast["thing"]
    draw.shuffle(people)
    people = people[: draw.randint(2, 3)]
    have, steps = [draw.randint(3, 14)], list[Step]()
    before = (Fact(f"{people[0]} had {have[0]} {thing}", loose=True),)
    for one, other in zip(people[1:], people, strict=False):
        sign = draw.choice("+-*")
        n = draw.randint(2, 3 if sign == "*" else 9)
        result, equation = compute(have[-1], sign, n)
        kind = {"+": "{} more {} than", "-": "{} fewer {} than", "*": "{} times as many {} as"}[sign].format(n, thing)
        facts = (*before, Fact(f"{one} had {kind} {other}", loose=True))
        steps.append(Step(facts, equation, f"{one} had {result} {thing}"))
        have, before = [*have, result], ()
    if len(people) == 3 and draw.random() < 0.5:
        return Problem(tuple(steps), f"How many {thing} did {people[-1]} have?", have[-1])
    answer = have[0]
    for i, n in enumerate(have[1:], start=1):
        answer, equation = compute(answer, "+", n)
        steps.append(Step((), equation, f"{' and '.join(people[: i + 1])} had {answer} {thing} together"))
    return Problem(tuple(steps), f"How many {thing} did {' and '.join(people)} have together?", answer)


def purchases(cast: dict[str, str], draw: random.Random) -> Problem:
    """Things of one or two sorts are bought; how many coins is that, or how many are left?"""
    hero, sorts = cast["hero"], [cast["thing"], cast["second"]][: draw.randint(1, 2)]
    steps, costs = list[Step](), list[int]()
    for sort in sorts:
        n, price = draw.randint(2, 6), draw.randint(2, 5)
        cost, equation = compute(n, "*", price)
        fact = Fact(f"{hero} bought {n} {sort} for {price} coins each", loose=True)
        steps.append(Step((fact,), equation, f"the {sort} cost {cost} coins"))
        costs.append(cost)
    spent = costs[0]
    if len(costs) == 2:
        spent, equation = compute(costs[0], "+", costs[1])
        steps.append(Step((), equation, f"{hero} spent {spent} coins"))
        if draw.random() < 0.5:
            return Problem(tuple(steps), f"How many coins did {hero} spend?", spent)
    coins = spent + draw.randint(2, 9)
    left, equation = compute(coins, "-", spent)
    fact = Fact(f"{hero} had {coins} coins at first", loose=True)
    steps.append(Step((fact,), equation, f"{hero} had {left} coins left"))
    return Problem(tuple(steps), f"How many coins does {hero} have left?", left)


def row(draw: random.Random) -> dict[str, Any]:
    """A problem as it stands in the files.

    Raises:
        Unfit: the numbers drawn do not do.
    """
    hero, friend, helper, stranger = draw.sample(NAMES, 4)
    thing, second, other = draw.sample(THINGS, 3)
    cast = {"hero": hero, "friend": friend, "helper": helper, "stranger": stranger}
    cast |= {"thing": thing, "second": second, "other": other}
    problem = draw.choices((changes, relations, purchases), (5, 2, 2))[0](cast, draw)
    pieces = list(reasoning(problem, draw))
    return {
        "question": " ".join([*sentences(ordered(problem, cast, draw), draw), problem.asked]),
        "rationale": "".join(text for _, text in pieces),
        "answer": str(problem.answer),
        "pieces": pieces,
    }


def ordered(problem: Problem, cast: dict[str, str], draw: random.Random) -> list[str]:
    """The facts as the question has them, with one or two that do not matter."""
    facts = [fact for step in problem.steps for fact in step.facts]
    texts = [fact.text for fact in facts if not fact.loose]
    beside = draw.sample(BESIDE, draw.randint(1, 2))
    loose = [text.format(n=draw.randint(2, 20), m=draw.randint(2, 5), **cast) for text in beside]
    for text in [fact.text for fact in facts if fact.loose] + loose:
        texts.insert(draw.randint(0, len(texts)), text)
    return texts


def sentences(clauses: Iterable[str], draw: random.Random) -> Iterator[str]:
    """One clause each, or two with an ``and``."""
    rest = list(clauses)
    while rest:
        count = 2 if draw.random() < 0.25 else 1
        text, rest = " and ".join(rest[:count]), rest[count:]
        yield f"{text[0].upper()}{text[1:]}."


def reasoning(problem: Problem, draw: random.Random) -> Iterator[tuple[str, str]]:
    """Tags and sentences: facts are copied, mostly right before they are needed, and computed with."""
    waiting = list[Step]()
    is_first = True
    for step in problem.steps:
        waiting.append(step)
        if step is not problem.steps[-1] and draw.random() < 0.2:
            continue  # the facts of the next step are copied first
        if not is_first or draw.random() < 0.95:  # else the reasoning begins with a computation
            facts = [fact.text for one in waiting for fact in one.facts]
            for text in sentences(facts, draw):
                yield "es", text if is_first else f" {text}"
                is_first = False
        for one in waiting:
            text = draw.choice(SAID).format(equation=one.equation, meaning=one.meaning)
            yield "as", text if is_first else f" {text}"
            is_first = False
        waiting.clear()
    yield "as", f" The answer is {problem.answer}."


def rows(seed: int) -> dict[str, list[dict[str, Any]]]:
    """The rows of each split; no question stands twice in any of them."""
    draw = random.Random(seed)
    made = dict[str, dict[str, Any]]()
    while len(made) < sum(SPLITS.values()):
        try:
            one = row(draw)
        except Unfit:
            continue
        made.setdefault(one["question"], one)
    rest = iter(made.values())
    return {split: [next(rest) for _ in range(count)] for split, count in SPLITS.items()}


def write(folder: Path, seed: int) -> None:
    """One gzipped JSONL file a split."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, made in rows(seed).items():
        lines = "".join(json.dumps(one) + "\n" for one in made)
        (folder / f"{split}.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the word problems.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    write(arguments.out, arguments.seed)
