"""The segments of AS-ES in a report: how the scores lie about the threshold, and a sample to look at."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain, islice
from typing import Any

from understudy.segment import Piece, Tag

SAMPLE = 3  # questions
BINS_TO = 4  # times the mean; what lies above is one bin
BINS_A_MEAN = 5
SHOWN = 300  # characters of a text in the sample
BAR = 40  # characters of the longest bar
MARKS: Mapping[Tag, str] = {"es": ".", "as": "#"}
READING = (
    "Each question's reasoning in pieces. A piece whose score is above beta times the mean of its question's pieces is "
    "abstractive (as, `#`), the others are extractive (es, `.`), unless the arm sets its tags in another way. The "
    "histogram is that of score / mean, which stands in the sample behind the score."
)


def histogram(ratios: Iterable[tuple[float, Tag]], beta: float) -> dict[str, Any]:
    """How many pieces of each tag lie where; memory does not grow with the pieces.

    Returns:
        ``edges``: 0, 0.2 ... 4, and beta. ``counts``: tag -> the pieces above each edge, up to and with the next one;
        the first bin holds 0 and what is below it too, the last one has no upper end.
    """
    edges = sorted({*(i / BINS_A_MEAN for i in range(BINS_TO * BINS_A_MEAN + 1)), float(beta)})
    counts: dict[str, list[int]] = {tag: [0] * len(edges) for tag in MARKS}
    for ratio, tag in ratios:
        counts[tag][max(0, bisect_left(edges, ratio) - 1)] += 1
    return {"edges": edges, "counts": counts}


def summarise(
    questions: Iterable[tuple[str, Sequence[Piece]]], *, beta: float, score: str, sample: int = SAMPLE
) -> dict[str, Any]:
    """The ``segments`` of an arm in ``report.json``.

    Args:
        questions: each with the pieces of its reasoning, tagged; read once.
        sample: as many of the first questions are there with their pieces.
    """
    stream, asked = iter(questions), 0
    shown = list(islice(stream, sample))

    def ratios() -> Iterator[tuple[float, Tag]]:
        nonlocal asked
        for _, pieces in chain(shown, stream):
            asked += 1
            for piece in pieces:
                yield piece.ratio, piece.tag

    drawn = histogram(ratios(), beta)
    pieces = {tag: sum(counts) for tag, counts in drawn["counts"].items()}
    total = sum(pieces.values())
    return {
        "beta": beta,
        "score": score,
        "sample": [{"question": text, "pieces": [asdict(piece) for piece in found]} for text, found in shown],
        "histogram": drawn,
        "questions": asked,
        "pieces": total,
        "share_as": round(pieces["as"] / total, 6) if total else 0.0,
    }


def segments_section(report: Mapping[str, Any]) -> str:
    """The section of REPORT.md; empty where no arm has segments. Arms with the same ones share a part of it."""
    parts: list[str] = []
    groups: list[tuple[list[str], Mapping[str, Any]]] = []
    for name, arm in report["arms"].items():
        found = arm.get("segments")
        names = next((names for names, other in groups if other == found), None)
        if names:
            names.append(name)
        elif found:
            groups.append(([name], found))
    for names, found in groups:
        parts += [f"### {_line(', '.join(names))}", _counted(found), _fenced(_bars(found))]
        parts += [_fenced(_shown(one)) for one in found["sample"]]
    return "\n\n".join(["## Segments", READING, *parts]) if parts else ""


def _counted(found: Mapping[str, Any]) -> str:
    return (
        f"{found['questions']:,} questions, {found['pieces']:,} pieces, {found['share_as']:.1%} of them abstractive. "
        f"Score: {found['score']}, beta {found['beta']:g}."
    )


def _bars(found: Mapping[str, Any]) -> Iterator[str]:
    """A line a bin, up to the last one with pieces in it, and one at the threshold."""
    edges, counts = found["histogram"]["edges"], found["histogram"]["counts"]
    totals = [sum(bin) for bin in zip(*(counts[tag] for tag in MARKS), strict=True)]
    at_beta = edges.index(found["beta"])
    last = max(at_beta, *(i for i, total in enumerate(totals) if total), 0)
    width = max(2, len(f"{max(totals):,}"))
    yield "score / mean  " + "  ".join(f"{tag:>{width}}" for tag in MARKS)
    for i in range(last + 1):
        if i == at_beta:
            yield f"---- beta {found['beta']:g} ".ljust(16 + 2 * width + BAR, "-")
        name = f"{edges[i]:g} to {edges[i + 1]:g}" if i + 1 < len(edges) else f"over {edges[i]:g}"
        bar = "".join(mark * _length(counts[tag][i], max(totals)) for tag, mark in MARKS.items())
        yield f"{name:<12}  {'  '.join(f'{counts[tag][i]:>{width},}' for tag in MARKS)}  {bar}".rstrip()


def _length(count: int, longest: int) -> int:
    """Of a bar; what is there is seen."""
    return max(1, round(BAR * count / longest)) if count else 0


def _shown(one: Mapping[str, Any]) -> Iterator[str]:
    """A question and its pieces, a line each."""
    yield f"Q: {_short(one['question'])}"
    scores = [f"{piece['score']:.3f}" for piece in one["pieces"]]
    for piece, score in zip(one["pieces"], scores, strict=True):
        yield f"{piece['tag']} {score:>{max(map(len, scores))}} ({piece['ratio']:.2f}) | {_short(piece['text'])}"


def _fenced(lines: Iterable[str]) -> str:
    return "\n".join(["```", *lines, "```"])


def _line(text: str) -> str:
    return " ".join(text.split())


def _short(text: str) -> str:
    line = _line(text).replace("`" * 3, "'" * 3)  # which would end the block
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
