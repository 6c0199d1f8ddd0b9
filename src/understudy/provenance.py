"""How one row came about, followed back through the steps, the ledger and the source."""

from __future__ import annotations

from dataclasses import asdict
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from understudy.errors import DataError
from understudy.records import Dropped
from understudy.teachers import Ledger
from understudy.workspace import Rows


def explain(folder: str | Path, id: str) -> dict[str, Any]:
    """The history of a row: itself, where it was kept or dropped, the replies it rests on, and its parents' histories.

    Args:
        folder: a run folder.
        id: a row's id as it stands in ``steps/*/part-*.parquet`` or ``dropped.parquet``.

    Raises:
        DataError: the folder is no run folder, or no step knows the row; near ids are named.
    """
    done = sorted(Path(folder).glob("steps/*/done.json"), key=lambda path: path.stat().st_mtime_ns)
    steps = [Rows(path.parent) for path in done]  # in the order in which they were made
    if not steps:
        raise DataError(f"{str(folder)!r} holds no finished step; name a run folder such as 'runs/demo'")
    with Ledger.open() as ledger:
        return _history(steps, ledger, id)


def _history(steps: list[Rows], ledger: Ledger, id: str) -> dict[str, Any]:
    places, example = [], None
    for step in steps:
        for row in step.find(id):
            example = row.example if isinstance(row, Dropped) else row
            outcome = f"dropped: {row.reason}" if isinstance(row, Dropped) else "kept"
            detail = row.detail if isinstance(row, Dropped) else ""
            places.append({"step": step.taken.name, "key": step.key, "outcome": outcome, "detail": detail})
    if example is None:
        some = [known for step in steps for known in islice(step.ids(), 10_000)]
        near = get_close_matches(id, some, n=1) or some[:1]
        raise DataError(
            f"no step of this run holds a row with the id {id!r}; ids look like {', '.join(map(repr, near))}"
        )
    return {
        "id": id,
        "row": {"input": example.input, "target": example.target, "rationale": example.rationale, **example.notes},
        "origin": asdict(example.origin) if example.origin else None,
        "fields": dict(example.fields),
        "steps": places,
        "replies": [reply for key in example.replies if (reply := _reply(ledger, key))],
        "parents": [_history(steps, ledger, parent) for parent in example.parents if _is_row(steps, parent)],
    }


def _is_row(steps: list[Rows], id: str) -> bool:
    """What a teacher was asked for from nothing has no row as a parent."""
    return any(True for step in steps for _ in step.find(id))


def _reply(ledger: Ledger, key: str) -> dict[str, Any] | None:
    entry = ledger.get(key)
    if entry is None:
        if refusal := ledger.refusal(key):
            prompt = orjson.loads(refusal.content)["messages"]
            return {"key": key, "teacher": refusal.teacher, "prompt": prompt, "refused": refusal.reason}
        return {"key": key, "missing": "this ledger does not hold the reply"}
    reply = entry.reply
    return {
        "key": key,
        "teacher": entry.request.teacher,
        "prompt": list(entry.request.messages),
        "reply": reply.text,
        "model": reply.model,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "usd": reply.usd,
        "recorded": reply.recorded,
    }


def tell(history: dict[str, Any], depth: int = 0) -> str:
    """A history as indented text for a person."""
    lines = [f"{'made from ' if depth else ''}{history['id']}"]
    origin = history["origin"]
    if origin:
        licence = f", licence {origin['licence']}" if origin["licence"] else ""
        lines.append(f"  source: {origin['dataset']}, row {origin['row']}, read for {origin['split']}{licence}")
    if history["fields"] not in [parent["fields"] for parent in history["parents"]]:
        what = "as it was read" if origin and not history["parents"] else "fields"
        lines.append(f"  {what}: {orjson.dumps(history['fields']).decode()}")
    lines += [f"  {name}: {value}" for name, value in history["row"].items() if value]
    lines += [f"  at {place['step']}: {place['outcome']} {place['detail']}".rstrip() for place in history["steps"]]
    for reply in history["replies"]:
        lines += _tell_reply(reply)
    lines += [tell(parent, depth + 1) for parent in history["parents"]]
    return "\n".join("  " * bool(depth) + line for line in "\n".join(lines).splitlines())


def _tell_reply(reply: dict[str, Any]) -> list[str]:
    if "missing" in reply:
        return [f"  reply {reply['key']}: {reply['missing']}"]
    asked = [f"    {line}" for message in reply["prompt"] for line in message["content"].splitlines()]
    if "refused" in reply:
        return ["  prompt:", *asked, f"  refused by {reply['teacher']}: {reply['refused']}"]
    who = reply["model"] or reply["teacher"]
    how = "recorded, matched by the row's fields and not by its prompt" if reply["recorded"] else f"usd {reply['usd']}"
    said = [f"    {line}" for line in reply["reply"].splitlines()]
    return ["  prompt:", *asked, f"  reply of {who} ({how}):", *said]
