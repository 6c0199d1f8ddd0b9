"""What a tuned teacher's rows of E2E NLG are worth: how many are true, new, or copied from the gold rows.

    UNDERSTUDY_DATA=... understudy sweep examples/tuned_teacher-e2e.yaml task.train.sample=234,1168,all
    python benchmarks/meanings.py runs/tuned_teacher-e2e-sweep/*=*

A row is *true* where every slot of its meaning is said: the value stands in the sentence, whatever its case; of
familyFriendly that families, kids or children are named. That is strict: prices and ratings may be said in other words,
so the same is counted of the gold rows. It is *copied* where its sentence is that of a gold row, and then never true.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from understudy.records import Dropped, Example, normalise
from understudy.workspace import Rows

SLOT = re.compile(r"([a-zA-Z ]+)\[([^\[\]]*)\]")
SHARES = ("true", "copied", "meaning", "new meaning")
FAMILY = re.compile(r"famil|kid|child", re.IGNORECASE)


def slots(meaning: str) -> dict[str, str] | None:
    """The slots of a meaning; ``None`` where it is no list of slots, each once, the first a name."""
    parts = meaning.split(", ")
    found = [SLOT.fullmatch(part) for part in parts]
    named = {match[1].strip(): match[2] for match in found if match}
    return named if all(found) and len(named) == len(parts) and "name" in named and all(named.values()) else None


def is_true(row: Example) -> bool:
    """Whether the sentence says every slot of the meaning."""
    meaning, said = slots(row.input), f" {normalise(row.answers[0] if row.answers else '')} "
    return meaning is not None and all(
        bool(FAMILY.search(said)) if slot == "familyFriendly" else f" {normalise(value)} " in said
        for slot, value in meaning.items()
    )


def counted(run: Path, arm: str) -> dict[str, Any]:
    """Shares of what one arm's teacher wrote, and what the same test says of the gold rows."""
    steps = json.loads((run / "arms" / arm / "chain.json").read_text("utf-8"))
    kept, count, dropped = Rows(run / "steps" / steps[-1]["key"]), Counter[str](), Counter[str]()
    gold = [row for row in kept if row.fields.get("made_by") == "gold"]
    meanings, sentences = ({normalise(text) for text in texts} for texts in _texts(gold))
    for row in chain(kept, kept.dropped()):
        example = row.example if isinstance(row, Dropped) else row
        if example.fields.get("made_by") == "gold" or (arm == "annotated" and normalise(example.input) in meanings):
            continue  # which the teacher did not write, or was not to be asked about
        is_copy = any(normalise(text) in sentences for text in example.answers)
        is_meaning = slots(example.input) is not None
        dropped.update([row.reason] if isinstance(row, Dropped) else [])
        count.update(
            {
                "rows": 1,
                "true": is_true(example) and not is_copy,
                "copied": is_copy,
                "meaning": is_meaning,
                "new meaning": is_meaning and normalise(example.input) not in meanings,
            }
        )
    shares = {name: round(count[name] / max(1, count["rows"]), 3) for name in SHARES}
    of_gold = round(sum(map(is_true, gold)) / len(gold), 3)
    return {"gold": len(gold), "rows": count["rows"], **shares, "true of gold": of_gold, "dropped": dict(dropped)}


def _texts(rows: Sequence[Example]) -> tuple[list[str], list[str]]:
    return [row.input for row in rows], [text for row in rows for text in row.answers]


def main() -> None:
    """Print a line an arm of each run folder, and last the figures as JSON."""
    print(f"{'run':26} {'arm':10}" + "".join(f"{name:>13}" for name in ("gold", "rows", *SHARES, "true of gold")))
    figures = {}
    for run in map(Path, sys.argv[1:]):
        for arm in ("annotated", "generated"):
            if not (run / "arms" / arm / "chain.json").is_file():
                continue
            told = counted(run, arm)
            shares = "".join(f"{told[name]:13.1%}" for name in (*SHARES, "true of gold"))
            print(f"{run.name:26} {arm:10}{told['gold']:13,}{told['rows']:13,}{shares}  {told['dropped']}")
            figures |= {f"{run.name} {arm} {name}": {"value": told[name]} for name in SHARES}
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
