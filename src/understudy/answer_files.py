"""The answers to the test rows as a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import orjson

from understudy.records import Example, Prediction, Target
from understudy.workspace.files import write_atomically


def write_answers(path: Path, test: Iterable[Example], answers: Sequence[Prediction]) -> None:
    """One row a test row; ``notes`` are JSON."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def listed(target: Target) -> list[str]:
        return [] if target is None else [target] if isinstance(target, str) else list(target)

    rows = list(test)
    table = {
        "id": [row.id for row in rows],
        "target": [listed(row.target) for row in rows],
        "prediction": [listed(answer.output) for answer in answers],
        "one": [isinstance(answer.output, str) for answer in answers],
        "score": [max(answer.scores.values(), default=None) for answer in answers],
        "rationale": pa.array([answer.rationale for answer in answers], pa.string()),
        "notes": [orjson.dumps(dict(answer.notes)).decode() for answer in answers],
    }
    content = pa.BufferOutputStream()
    pq.write_table(pa.table(table), content)
    write_atomically(path, content.getvalue().to_pybytes())


def read_answers(path: Path) -> list[Prediction]:
    """What ``write_answers`` was given, without the scores of each label."""
    import pyarrow.parquet as pq

    columns = ["prediction", "one", "rationale", "notes"]
    return [
        Prediction(
            row["prediction"][0] if row["one"] else tuple(row["prediction"]),
            rationale=row["rationale"],
            notes=orjson.loads(row["notes"]),
        )
        for row in pq.read_table(path, columns=columns).to_pylist()
    ]
