"""Makes the problems beside it: multiple-choice questions about a made-up world, and explanations of the answers.

    python examples/problems/make.py [--seed 0] [--out <folder>]

Every creature is of a kind, and its kind alone decides all of its properties. A question asks for one property of one
creature and never names the kind. Of each creature some properties stand in the train file, others in the valid and
the test file, so that those can only be told by way of the kind: which creatures are alike, and what the others do.

The explanations are of train rows alone, and state only what is right in the made-up world:

- fundamentals: which kinds have which of the options. The same for all questions about a property; no creature.
- rationale: the creature's kind, the rule of this kind for the property that is asked for, and the answer.
- mistakes: another kind, which has a wrong option, and that the creature is not of it.

So no text of a train row holds a creature together with the answer to its valid or test rows, in any field.
Every option is that of two kinds of eight, and in every file the answer stands equally often under each letter.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

KINDS: tuple[str, ...] = ("dalling", "fenling", "gorling", "harling", "merling", "pelling", "sorling", "tulling")
CREATURES_A_KIND = 20
SPLITS = {"train": 3, "valid": 2, "test": 5}  # properties of each creature


@dataclass(frozen=True)
class Property:
    """What a question can ask for; no option stands in any other property's texts."""

    name: str
    question: str
    rule: str
    options: tuple[str, str, str, str]


PROPERTIES = (
    Property("move", "How does a {} move?", "moves by {}", ("flying", "swimming", "climbing", "hopping")),
    Property("cover", "What covers a {}?", "is covered by {}", ("feathers", "scales", "fur", "spikes")),
    Property("home", "Where does a {} live?", "lives in {}", ("forests", "deserts", "rivers", "mountains")),
    Property("food", "What does a {} eat?", "eats {}", ("seeds", "worms", "roots", "honey")),
    Property("hour", "When does a {} wake?", "wakes at {}", ("dawn", "noon", "dusk", "midnight")),
    Property("bed", "Where does a {} sleep?", "sleeps in {}", ("nests", "caves", "reeds", "burrows")),
    Property("call", "How does a {} call?", "calls by {}", ("humming", "barking", "clicking", "whistling")),
    Property("fear", "What does a {} fear?", "fears {}", ("thunder", "fire", "snakes", "shadows")),
    Property("legs", "How many legs has a {}?", "has {} legs", ("two", "four", "six", "eight")),
    Property("defence", "How does a {} defend itself?", "fights by {}", ("biting", "kicking", "stinging", "spitting")),
)

Rules = Mapping[Property, Mapping[str, str]]  # property -> kind -> option


def world(draw: random.Random) -> tuple[dict[str, str], Rules]:
    """Each creature's kind, and what each kind has. Every option is that of as many kinds."""
    kinds = list(KINDS) * CREATURES_A_KIND
    draw.shuffle(kinds)
    creatures = dict(zip(names(len(kinds), draw), kinds, strict=True))
    rules = {}
    for one in PROPERTIES:
        options = list(one.options) * (len(KINDS) // len(one.options))
        draw.shuffle(options)
        rules[one] = dict(zip(KINDS, options, strict=True))
    return creatures, rules


def names(count: int, draw: random.Random) -> list[str]:
    """Different names of two syllables, such as ``bipom``."""
    letters = ("bdfgklmnprstvz", "aiou", "bdgklmnprtvz", "aiou", "bdgkmnpx")
    return draw.sample(["".join(word) for word in product(*letters)], count)


def problems(seed: int) -> dict[str, list[dict[str, Any]]]:
    """The rows of each split; only those of train are explained."""
    draw = random.Random(seed)
    creatures, rules = world(draw)
    asked = {split: list[tuple[str, Property]]() for split in SPLITS}
    for creature in creatures:
        properties = iter(draw.sample(PROPERTIES, len(PROPERTIES)))
        for split, count in SPLITS.items():
            asked[split] += [(creature, next(properties)) for _ in range(count)]
    return {split: rows(asked[split], creatures, rules, split == "train", draw) for split in SPLITS}


def rows(
    asked: Sequence[tuple[str, Property]],
    creatures: Mapping[str, str],
    rules: Rules,
    explained: bool,
    draw: random.Random,
) -> list[dict[str, Any]]:
    places = [i % 4 for i in range(len(asked))]
    draw.shuffle(places)
    made = []
    for (creature, one), place in zip(asked, places, strict=True):
        answer = rules[one][creatures[creature]]
        choices = [option for option in one.options if option != answer]
        draw.shuffle(choices)
        wrong = draw.choice(choices)
        choices.insert(place, answer)
        row = {"id": f"{creature}-{one.name}", "question": one.question.format(creature), "choices": choices}
        row["answer"] = answer
        if explained:
            other = draw.choice([kind for kind in KINDS if rules[one][kind] == wrong])
            row |= explanations(creature, creatures[creature], one, rules[one], other)
        made.append(row)
    draw.shuffle(made)
    return made


def explanations(creature: str, kind: str, one: Property, options: Mapping[str, str], other: str) -> dict[str, str]:
    """What ``options``, kind -> option, say of this creature, and how another kind misleads."""
    by_option = {option: [kind for kind in KINDS if options[kind] == option] for option in one.options}
    general = [f"{' and every '.join(kinds)} {one.rule.format(option)}" for option, kinds in by_option.items()]
    rule = one.rule.format(options[kind])
    return {
        "fundamentals": " ".join(f"Every {sentence}." for sentence in general),
        "rationale": f"A {creature} is a {kind}. Every {kind} {rule}. So the answer is {options[kind]}.",
        "mistakes": f"Some take a {creature} for a {other}, which {one.rule.format(options[other])}. "
        f"But a {creature} is no {other}.",
    }


def write(folder: Path, seed: int) -> None:
    """One gzipped JSONL file a split."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, made in problems(seed).items():
        lines = "".join(json.dumps(row) + "\n" for row in made)
        (folder / f"{split}.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the multiple-choice problems.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    write(arguments.out, arguments.seed)
