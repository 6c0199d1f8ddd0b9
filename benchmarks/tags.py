"""Pieces of reasoning told apart by AS-ES's scores, beside their true tags: a result, no gate.

The problems of examples/as_es say which of their sentences are copied facts (extractive, ES) and which compute or
conclude (abstractive, AS). Their reasoning is cut as the recipe `as_es` cuts it; a piece has the true tag of the
sentence that it lies in, and one that spans two that of more of its characters. Each score's tags at the published
beta stand beside the truth, in the published direction (what scores high is AS) and, where that is the wrong way
round, reversed too. The first is the recipe's default. Beside them: the length in characters as a score; the default's
tags dealt out at random among each question's pieces, the mean of 20 draws; and all pieces extractive.

- AS: the share that is tagged AS; accuracy and Cohen's kappa of the tags; whole: questions whose tags are all right.
- AUC, of the score over the mean of its question's pieces: how well AS is told from ES whatever the beta.
- A hint: the beta with the highest kappa, and that kappa. It is chosen on the truth, which no one has elsewhere.

The scoring student is one that a study has trained on whole texts (--scorer), else one is trained, as in
examples/as_es-problems.yaml, in about 2 minutes. It has learnt the rows of `train`, as in the recipe, not `valid`.

    python benchmarks/tags.py [--quick] [--scorer runs/as_es-problems/arms/plain/seed-0/model]
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from understudy.recipes.as_es import AsEs, texts_of, whole, writing
from understudy.records import Example
from understudy.scoring import BY_STUDENT
from understudy.segment import Piece, Tag, shuffled, tagged
from understudy.segmenting import Segmenting, segmented
from understudy.settings import validate
from understudy.students import load_model, settings_model, train
from understudy.task import Task

EXAMPLES = Path(__file__).parents[1] / "examples"
TASK = Task(instruction="Solve the word problem.", kind="numeric")
BETAS = [step / 20 for step in range(61)]  # 0 to 3
DRAWS = 20
SCORINGS = {
    f"{score}, {'average' if average else 'sum'}, sees {sees}": Segmenting(score=score, average=average, sees=sees)
    for score in BY_STUDENT
    for sees in ("question", "earlier")
    for average in (False, True)
} | {score: Segmenting(score=score) for score in ("bleu", "rouge_l", "embedding", "location")}
Tags = Sequence[Sequence[Tag]]
Figures = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Agreement:
    """Tags and truth; every figure is a share but kappa, which is at most 1."""

    abstractive: float
    accuracy: float
    kappa: float
    auc: float
    whole: float


def problems(split: str) -> list[tuple[Example, list[tuple[Tag, str]]]]:
    """Each problem with its sentences and their true tags."""
    with gzip.open(EXAMPLES / "as_es" / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [
        (Example(id=f"{split}.{n}", input=one["question"], target=one["answer"], rationale=one["rationale"]),
         one["pieces"]) for n, one in enumerate(rows)
    ]  # fmt: skip


def scorer(folder: Path, steps: int | None) -> Path:
    """A student of the whole texts, as the recipe trains it."""
    values = yaml.safe_load((EXAMPLES / "as_es-problems.yaml").read_text("utf-8"))["student"]
    values |= {"steps": steps} if steps else {}
    plain = AsEs(path="plain")
    student = writing(plain, validate(settings_model(values["kind"]), values, "student"))
    train(student, texts_of(TASK), (whole(row, plain) for row, _ in problems("train")), folder)
    return folder


def true_tags(pieces: Sequence[Piece], sentences: Sequence[tuple[Tag, str]]) -> tuple[list[Tag], int]:
    """The tag of each piece, and how many pieces span sentences of both tags."""
    of_each = [tag for tag, text in sentences for _ in text]
    tags: list[Tag] = []
    at = spanning = 0
    for piece in pieces:
        here = [tag for tag, sign in zip(of_each[at:], piece.text, strict=False) if not sign.isspace()]
        tags.append("as" if 2 * here.count("as") > len(here) else "es")
        spanning += len(set(here)) > 1
        at += len(piece.text)
    assert at == len(of_each)
    return tags, spanning


def flat(rows: Sequence[Sequence[Any]]) -> list[Any]:
    return [one for row in rows for one in row]


def agreement(truth: Tags, tags: Tags, by: Sequence[float]) -> Agreement:
    """How far ``tags`` are the true ones, and how well ``by``, one a piece, tells AS from ES."""
    expected, found = ([tag == "as" for tag in flat(rows)] for rows in (truth, tags))
    return Agreement(
        abstractive=fmean(found),
        accuracy=fmean(a == b for a, b in zip(expected, found, strict=True)),
        kappa=float(cohen_kappa_score(expected, found)),
        auc=float(roc_auc_score(expected, by)),
        whole=fmean(list(a) == list(b) for a, b in zip(truth, tags, strict=True)),
    )


def best_beta(truth: Tags, rows: Sequence[Sequence[Piece]], reverse: bool) -> tuple[float, float]:
    """The beta with the highest kappa, and that kappa."""
    expected = [tag == "as" for tag in flat(truth)]
    ratios = [piece.ratio for piece in flat(rows)]
    kappas = [float(cohen_kappa_score(expected, [(ratio > beta) != reverse for ratio in ratios])) for beta in BETAS]
    return BETAS[kappas.index(max(kappas))], max(kappas)


def tags_of(rows: Sequence[Sequence[Piece]]) -> Tags:
    return [[piece.tag for piece in row] for row in rows]


def without_scores(truth: Tags, own: Sequence[Sequence[Piece]]) -> dict[str, Agreement]:
    """What tags are worth that look at no text."""
    draws: list[Agreement] = []
    for draw in range(DRAWS):
        tags = tags_of([shuffled(row, f"{draw}.{number}") for number, row in enumerate(own)])
        draws.append(agreement(truth, tags, [float(tag == "as") for tag in flat(tags)]))
    none: Tags = [["es" for _ in row] for row in own]
    return {
        "random": Agreement(**{name: fmean(vars(one)[name] for one in draws) for name in vars(draws[0])}),
        "all extractive": agreement(truth, none, [0.0 for _ in flat(none)]),
    }


def compared(split: str, model: Any, told: argparse.Namespace) -> Figures:
    """Print the table of a split; its figures."""
    given = problems(split)[: told.rows]
    found = {name: list(segmented([row for row, _ in given], how, model)) for name, how in SCORINGS.items()}
    own = next(iter(found.values()))
    found["length"] = [tagged([p.text for p in row], [len(p.text.strip()) for p in row]) for row in own]
    pairs = [true_tags(row, sentences) for row, (_, sentences) in zip(own, given, strict=True)]
    truth = [tags for tags, _ in pairs]
    share, spanning = fmean(tag == "as" for tag in flat(truth)), sum(count for _, count in pairs)
    print(f"\n{split}: {len(given)} problems, {len(flat(truth)):,} pieces, {spanning} of them across sentences of both "
          f"tags; {share:.1%} are truly AS\n"
          f"  {'':40}{'AS':>7}{'accuracy':>10}{'kappa':>7}{'AUC':>6}{'whole':>7}   hint: beta, kappa")  # fmt: skip
    figures: Figures = {f"{split}, true share of AS": {"value": round(share, 4)}}
    for name, rows in found.items():
        for reverse in (False, True):
            of_means = [-piece.ratio if reverse else piece.ratio for piece in flat(rows)]
            tags = tags_of([tagged([p.text for p in row], [p.score for p in row], reverse=reverse) for row in rows])
            one = agreement(truth, tags, of_means)
            if reverse and one.auc <= 0.5:
                continue
            hint = "" if name == "location" else "{:14.2f}{:7.2f}".format(*best_beta(truth, rows, reverse))
            figures |= line(split, name + (", reversed" if reverse else ""), one, hint)
    for name, one in without_scores(truth, own).items():
        figures |= line(split, name, one)
    for (row, _), pieces, tags in list(zip(given, own, truth, strict=True))[: told.show]:
        show(row, pieces, tags)
    return figures


def line(split: str, name: str, one: Agreement, hint: str = "") -> Figures:
    print(f"  {name:40}{one.abstractive:7.1%}{one.accuracy:10.1%}{one.kappa:7.2f}{one.auc:6.2f}{one.whole:7.1%}{hint}")
    return {f"{split}, {name}, {what}": {"value": round(value, 4)} for what, value in vars(one).items()}


def show(row: Example, pieces: Sequence[Piece], truth: Sequence[Tag]) -> None:
    print(f"\n  {row.input}\n  true tag   nats  ratio")
    for piece, tag in zip(pieces, truth, strict=True):
        print(f"  {tag:>4}{piece.tag:>4}{piece.score:7.2f}{piece.ratio:7.2f}  {piece.text.strip()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="60 problems, a student of 200 steps: under a minute")
    parser.add_argument("--scorer", type=Path, help="folder of a student of whole texts; left out, one is trained")
    parser.add_argument("--rows", type=int, default=300, help="of each split (300)")
    parser.add_argument("--show", type=int, default=2, help="problems of each split whose pieces are printed (2)")
    told = parser.parse_args()
    if told.quick:
        told.rows = 60
    with tempfile.TemporaryDirectory() as folder:
        model = load_model(told.scorer or scorer(Path(folder) / "model", 200 if told.quick else None))
    figures = compared("valid", model, told) | compared("train", model, told)
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
