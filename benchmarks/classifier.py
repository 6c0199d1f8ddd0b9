"""The classifier student against logistic regression on frozen MiniLM embeddings, on the same rows of banking77.

The rival is what one would write instead: sentence-transformers embeddings and scikit-learn's LogisticRegressionCV
with C from 0.1 to 100 over five stratified folds; of C by accuracy and C by log loss the better on average counts.

    UNDERSTUDY_DATA=... python benchmarks/classifier.py [--quick]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from understudy.pretrained import local_folder
from understudy.records import Example
from understudy.students import load_model, train
from understudy.students.settings import ClassifierSettings
from understudy.task import Task

GRID = [0.1, 0.3, 1, 3, 10, 30, 100]
GOAL = -0.5
SCORINGS = ("accuracy", "neg_log_loss")
Rows = list[dict[str, str]]


def read(split: str) -> Rows:
    """The rows of a split: text and category."""
    data = os.environ.get("UNDERSTUDY_DATA")
    if not data:
        sys.exit("UNDERSTUDY_DATA is not set; set it to the folder that holds banking77/train.jsonl.gz (docs/data.md)")
    path = Path(data) / "banking77" / f"{split}.jsonl.gz"
    if not path.is_file():
        sys.exit(f"there is no {path}; docs/data.md says where it comes from")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def draw(rows: Rows, shots: int, seed: int) -> Rows:
    """``shots`` rows of every label."""
    by_label: dict[str, Rows] = {}
    for row in rows:
        by_label.setdefault(row["category"], []).append(row)
    choose = random.Random(seed)
    return [
        row for label in sorted(by_label) for row in choose.sample(by_label[label], min(shots, len(by_label[label])))
    ]


def rival(x: np.ndarray, y: np.ndarray, test: np.ndarray, truth: np.ndarray, seed: int) -> dict[str, float]:
    """Accuracy by how C was chosen."""
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    scores = {}
    with threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for scoring in SCORINGS:
            model = LogisticRegressionCV(Cs=GRID, cv=folds, scoring=scoring, max_iter=1000)  # pyright: ignore[reportArgumentType]
            model.fit(x, y)
            scores[scoring] = float(np.mean(model.predict(test) == truth))
    return scores


def ours(
    settings: ClassifierSettings, rows: Rows, test: Rows, labels: list[str], seed: int
) -> tuple[float, str, float]:
    """Accuracy, what was kept, and the seconds of the training."""
    task = Task.model_validate({"instruction": "Which intent?", "kind": "classification", "labels": labels})
    examples = [Example(id=str(i), input=row["text"], target=row["category"]) for i, row in enumerate(rows)]
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        trained = train(settings, task, examples, Path(folder) / "model", seed=seed)
        seconds = time.monotonic() - began
        predictions = load_model(Path(folder) / "model").predict(row["text"] for row in test)
        right = [p.output == row["category"] for p, row in zip(predictions, test, strict=True)]
    return statistics.mean(right), trained.details["kept"], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, 5 rows a label, few steps: under a minute")
    parser.add_argument("--shots", type=int, nargs="+", default=[5, 20, 50])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the student")
    told = parser.parse_args()
    pool, test = read("train"), read("test")
    settings = ClassifierSettings.model_validate(dict(pair.split("=", 1) for pair in told.set))
    if told.quick:
        told.shots, told.seeds, test = [5], [0], test[::6]
        settings = settings.model_copy(update={"steps": 10})
    labels = sorted({row["category"] for row in pool})
    encoder = SentenceTransformer(str(local_folder(settings.base)), device="cpu")
    truth = np.array([row["category"] for row in test])
    embedded = encoder.encode([row["text"] for row in test], normalize_embeddings=True)
    figures = {}
    print(f"settings of the student: {settings.canonical()}\n")
    print("rows a label  seed   C by accuracy  C by log loss   ours  kept           seconds", flush=True)
    for shots in told.shots:
        theirs: list[dict[str, float]] = []
        mine: list[float] = []
        for seed in told.seeds:
            rows = draw(pool, shots, seed)
            x = encoder.encode([row["text"] for row in rows], normalize_embeddings=True)
            y = np.array([row["category"] for row in rows])
            theirs.append(rival(np.asarray(x), y, np.asarray(embedded), truth, seed))
            accuracy, kept, seconds = ours(settings, rows, test, labels, seed)
            mine.append(accuracy)
            by = [f"{100 * theirs[-1][scoring]:13.2f}" for scoring in SCORINGS]
            print(
                f"{shots:12}  {seed:4}   {by[0]}  {by[1]}  {100 * accuracy:5.2f}  {kept:13}  {seconds:7.1f}", flush=True
            )
        means = [statistics.mean(one[scoring] for one in theirs) for scoring in SCORINGS]
        best = SCORINGS[means.index(max(means))]
        gaps = [100 * (a - b[best]) for a, b in zip(mine, theirs, strict=True)]
        gap = statistics.mean(gaps)
        print(f"{shots:12}  mean   {100 * means[0]:13.2f}  {100 * means[1]:13.2f}  {100 * statistics.mean(mine):5.2f}  "
              f"difference {gap:+.2f} ({min(gaps):+.2f} to {max(gaps):+.2f})", flush=True)  # fmt: skip
        figures[f"{shots} rows a label, classifier minus logistic regression"] = {
            "value": round(gap, 2), "goal": GOAL, "holds": gap >= GOAL, "unit": "points",
        }  # fmt: skip
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
