"""Makes pairs.jsonl, by rule, of words that stand in stories.txt: python examples/cothought/make.py"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

HERE = Path(__file__).parent
EACH = 40  # pairs a paradigm
NOUNS = [
    ("baker", "bakers"), ("boy", "boys"), ("girl", "girls"), ("farmer", "farmers"), ("teacher", "teachers"),
    ("child", "children"), ("dog", "dogs"), ("cat", "cats"), ("bird", "birds"), ("horse", "horses"), ("hen", "hens"),
    ("cow", "cows"), ("boat", "boats"), ("player", "players"), ("traveller", "travellers"), ("visitor", "visitors"),
    ("woman", "women"), ("man", "men"), ("neighbour", "neighbours"), ("customer", "customers"),
]  # fmt: skip
VERBS = [("walks", "walk"), ("sleeps", "sleep"), ("waits", "wait"), ("sings", "sing"), ("runs", "run"),
         ("stands", "stand"), ("eats", "eat"), ("comes", "come"), ("goes", "go"), ("works", "work")]  # fmt: skip
THINGS = [("book", "books"), ("letter", "letters"), ("loaf", "loaves"), ("apple", "apples"), ("house", "houses"),
          ("window", "windows"), ("stone", "stones"), ("basket", "baskets"), ("boat", "boats"),
          ("tree", "trees")]  # fmt: skip
PLACES = ["in the garden", "near the river", "at the market", "in the village", "on the road"]


def agreement() -> Iterator[tuple[str, str]]:
    for (one, many), (single, plural), place in product(NOUNS, VERBS, PLACES):
        yield f"The {one} {single} {place}.", f"The {one} {plural} {place}."
        yield f"The {many} {plural} {place}.", f"The {many} {single} {place}."


def determiners() -> Iterator[tuple[str, str]]:
    for (who, _), (one, many) in product(NOUNS, THINGS):
        yield f"The {who} looks at this {one}.", f"The {who} looks at this {many}."
        yield f"The {who} looks at these {many}.", f"The {who} looks at these {one}."


def be() -> Iterator[tuple[str, str]]:
    for (one, many), place in product(NOUNS, PLACES):
        yield f"The {one} is {place}.", f"The {one} are {place}."
        yield f"The {many} were {place}.", f"The {many} was {place}."


def order() -> Iterator[tuple[str, str]]:
    for (one, _), (single, _), place in product(NOUNS, VERBS, PLACES):
        turned = " ".join([*place.split()[1:], place.split()[0]])
        yield f"The {one} {single} {place}.", f"The {one} {single} {turned}."


def infinitives() -> Iterator[tuple[str, str]]:
    for (one, many), (single, plural) in product(NOUNS, VERBS):
        yield f"The {one} wants to {plural}.", f"The {one} wants to {single}."
        yield f"The {many} did not {plural}.", f"The {many} did not {single}."


def main() -> None:
    known = set(re.findall(r"[a-z]+", (HERE / "stories.txt").read_text("utf-8").lower()))
    draw = random.Random(0)
    with (HERE / "pairs.jsonl").open("w", encoding="utf-8") as file:
        for paradigm in (agreement, be, determiners, infinitives, order):
            found = [pair for pair in paradigm() if set(re.findall(r"[a-z]+", " ".join(pair).lower())) <= known]
            for good, bad in sorted(draw.sample(found, min(EACH, len(found)))):
                row = {"sentence_good": good, "sentence_bad": bad, "UID": paradigm.__name__}
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
