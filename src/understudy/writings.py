"""What the report tells of students that write in turns: the segments that they learnt, and how they wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from understudy.lessons import Lessons
from understudy.records import Example, Prediction
from understudy.report.segments import summarise
from understudy.segment import Piece
from understudy.segmenting import Segmenting

WHY = ("marker", "cap", "stalled", "ended")


def segments_of(lessons: Lessons) -> Mapping[str, Any] | None:
    """What ``report.segments.summarise`` says of the arm's rows; nothing where they are no segments."""
    settings = lessons.arm.chain[-1].settings
    if not isinstance(settings, Segmenting) or "pieces" not in next(iter(lessons.rows)).fields:
        return None
    return summarise(_questions(lessons.rows), **settings.model_dump(include={"beta", "score"}))


def _questions(rows: Iterable[Example]) -> Iterator[tuple[str, list[Piece]]]:
    for _, segments in groupby(rows, key=lambda row: row.parents):
        found = list(segments)
        pieces = [Piece(**piece) for segment in found for piece in segment.fields["pieces"]]
        yield found[0].fields.get("question", ""), pieces


def inference_of(answers: Mapping[int, Sequence[Prediction]]) -> Mapping[str, Any] | None:
    """``{rounds: mean, stopped: {why: rows}, share_capped}`` over all seeds; nothing where none wrote in turns."""
    notes = [answer.notes for of_seed in answers.values() for answer in of_seed if "rounds" in answer.notes]
    if not notes:
        return None
    stopped = Counter(note["stopped"] for note in notes)
    return {
        "rounds": round(sum(note["rounds"] for note in notes) / len(notes), 3),
        "stopped": {why: stopped[why] for why in WHY},
        "share_capped": round(stopped["cap"] / len(notes), 6),
    }
