"""How diverse the lessons of every arm are, found once and kept beside their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson

from understudy.curate import diversity
from understudy.errors import UnderstudyError
from understudy.progress import Watch
from understudy.workspace import Rows
from understudy.workspace.files import write_atomically

if TYPE_CHECKING:
    from numpy.typing import NDArray


def diversities(sets: Iterable[Rows], watch: Watch) -> dict[str, Mapping[str, Any]]:
    """What ``curate.diversity`` says of each set of rows, by its key; arms that share one share that too."""
    by_key = {rows.key: rows for rows in sets}
    found: dict[str, Mapping[str, Any]] = {}
    for key, rows in by_key.items():
        watch.step("diversity", len(found), len(by_key))
        found[key] = _diversity(rows)
    watch.step("diversity", len(found), len(by_key))
    return found


def _diversity(rows: Rows) -> Mapping[str, Any]:
    path = rows.folder / "diversity.json"
    kept = orjson.loads(path.read_bytes()) if path.exists() else {"nearest": None}
    if kept["nearest"] is not None:  # else the encoder may be there by now
        return kept
    found = diversity(rows, _encode())
    write_atomically(path, orjson.dumps(found, option=orjson.OPT_INDENT_2))
    return found


@cache
def _encode() -> Callable[[Sequence[str]], NDArray[Any]] | None:
    """The encoder of retrieval, where it is installed: no report is refused for want of one figure."""
    from understudy.retrieve.encoder import open_encoder

    try:
        return open_encoder().encode
    except UnderstudyError:
        return None
