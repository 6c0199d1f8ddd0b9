"""Retrieval: (a) embedding cells of real datasets, (b) scoring a task against a million cells.

The rival of (a) is what sentence-transformers' documentation shows, ``SentenceTransformer.encode(cells)``, on the same
model and cells; its vectors and ours are compared. Also timed: our batches with less exact arithmetic, and the share of
the ten nearest neighbours that it keeps (ONNX where onnx and onnxruntime are installed). What (b) compares stands in
``stores/score.py``; it needs no data.

    UNDERSTUDY_DATA=... python benchmarks/retrieval.py [--only embedding|score] [--quick]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from understudy.retrieve.encoder import BFLOAT16, SentenceEncoder, open_encoder

GOAL_EMBEDDING = 1.5
DATASETS = [
    "banking77/train",
    "goemotions/train",
    "gsm8k/train",
    "squad_v2_dev/dev",
    "teacher_esnli_palm540b/valid",
    "wikisql/dev",
    "mmlu/test",
    "teacher_gpteacher/codegen",
    "mts_dialog/train",
    "movie_reviews/all",
    "blimp/all",
    "e2e_nlg/dev",
]


def cells(rows_per_dataset: int) -> list[str]:
    """Every cell of every k-th row, labels and other cells that repeat among them."""
    data = os.environ.get("UNDERSTUDY_DATA")
    if not data:
        sys.exit("UNDERSTUDY_DATA is not set; set it to the folder that holds banking77 and others (docs/data.md)")
    found: list[str] = []
    for name in DATASETS:
        with gzip.open(Path(data) / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = list(lines)
        chosen = rows[:: max(1, len(rows) // rows_per_dataset)][:rows_per_dataset]
        found += [text for row in chosen for text in texts_in(json.loads(row))]
    return found


def texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from texts_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts_in(inner)
    elif value is not None and str(value).strip():
        yield str(value)


def timed(work: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    began = time.perf_counter()
    made = work()
    return made, time.perf_counter() - began


def loss(exact: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Of every fourth text: the share of its ten nearest that stay so, and the farthest that a cosine moved."""
    asked = np.arange(0, len(exact), 4)
    a, b = exact[asked] @ exact.T, other[asked] @ other.T
    moved = float(np.abs(a - b).max())
    for cosines in (a, b):
        cosines[np.arange(len(asked)), asked] = -2  # itself
    nearest = (np.argpartition(-cosines, 10)[:, :10] for cosines in (a, b))
    kept = [len(set(x) & set(y)) / 10 for x, y in zip(*nearest, strict=True)]
    return statistics.mean(kept), moved


def in_int8(encoder: SentenceEncoder) -> SentenceEncoder:
    """torch's dynamic quantization of every linear layer."""
    import torch

    quantize: Any = torch.ao.quantization.quantize_dynamic
    return replace(encoder, model=quantize(deepcopy(encoder.model), {torch.nn.Linear}, dtype=torch.qint8))


def in_onnx(encoder: SentenceEncoder, int8: bool = False) -> SentenceEncoder:
    """The network run by onnxruntime, a thread for each batch; int8: its dynamic quantization, by channel."""
    import onnxruntime  # pyright: ignore[reportMissingImports]
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic  # pyright: ignore[reportMissingImports]

    model: Any = deepcopy(encoder.model)
    network = model[0].model
    network.set_attn_implementation("eager")

    class Exported(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.network(input_ids=ids, attention_mask=mask).last_hidden_state

    axes = {0: "rows", 1: "tokens"}
    ids = torch.ones((3, 7), dtype=torch.long)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.onnx"
        torch.onnx.export(
            Exported().eval(), (ids, ids), path, dynamo=False, opset_version=17,
            input_names=["ids", "mask"], output_names=["out"], dynamic_axes={"ids": axes, "mask": axes, "out": axes},
        )  # fmt: skip
        if int8:
            quantize_dynamic(path, f"{folder}/int8.onnx", weight_type=QuantType.QInt8, per_channel=True)
            path = f"{folder}/int8.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def forward(features: dict[str, Any], **_: Any) -> dict[str, Any]:
        asked = {"ids": features["input_ids"].numpy(), "mask": features["attention_mask"].numpy()}
        return {**features, "token_embeddings": torch.from_numpy(session.run(None, asked)[0])}

    model[0].forward = forward
    return replace(encoder, model=model)


def less_exact(encoder: SentenceEncoder) -> dict[str, Callable[[list[str]], np.ndarray]]:
    """What else this machine offers."""
    offered = {"torch, bfloat16": open_encoder(encoder.name + BFLOAT16), "torch, dynamic int8": in_int8(encoder)}
    if find_spec("onnx") and find_spec("onnxruntime"):
        offered |= {"ONNX, float32": in_onnx(encoder), "ONNX, dynamic int8": in_onnx(encoder, int8=True)}
    return {name: one.encode for name, one in offered.items()}


def embedding(rows_per_dataset: int, repeats: int, backends: bool) -> dict[str, Any]:
    """The figures of (a)."""
    encoder = open_encoder()
    assert isinstance(encoder, SentenceEncoder)
    plain, texts = encoder.model, cells(rows_per_dataset)
    distinct = [texts.index(text) for text in dict.fromkeys(texts)]
    print(f"{len(texts)} cells of {len(DATASETS)} datasets, {len(distinct)} distinct", flush=True)
    plain.encode(texts[:64])
    theirs, ours, ratios = [], [], []
    exact = made = np.empty(0)
    for _ in range(repeats):
        exact, seconds = timed(lambda: np.asarray(plain.encode(texts)))
        theirs.append(seconds)
        made, seconds = timed(lambda: encoder.encode(texts))
        ours.append(seconds)
        ratios.append(theirs[-1] / ours[-1])
    differ = float(np.abs(exact - made).max())
    assert differ < 1e-5, f"vectors differ by {differ:g}"
    base, ratio = statistics.median(theirs), statistics.median(ratios)

    def line(name: str, seconds: float | None = None, vectors: np.ndarray | None = None) -> None:
        speed = f"{len(texts) / seconds:13.0f}  {base / seconds:6.2f}" if seconds else " " * 21
        lost = "  {:16.4f}  {:15.0e}".format(*loss(exact[distinct], vectors[distinct])) if vectors is not None else ""
        print(f"{name:34}  {speed}{lost}", flush=True)

    print(f"{'':34}  rows a second   ratio  ten nearest kept  farthest cosine")
    line("SentenceTransformer.encode", base)
    line("the same, distinct cells only", timed(lambda: np.asarray(plain.encode([texts[at] for at in distinct])))[1])
    line("ours: torch, float32", base / ratio, made)
    for name, encode in (less_exact(encoder) if backends else {}).items():
        made, seconds = timed(lambda encode=encode: encode(texts))
        line(f"our batches: {name}", seconds, made)
    line("ours, stored as float16", None, exact.astype(np.float16).astype(np.float32))
    return {
        "embedding, rows a second": {
            "value": round(ratio, 2), "goal": GOAL_EMBEDDING, "holds": ratio >= GOAL_EMBEDDING,
            "unit": "x SentenceTransformer.encode",
        }
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["embedding", "score"])
    parser.add_argument("--quick", action="store_true", help="few rows, once: under a minute")
    parser.add_argument("--rows-per-dataset", type=int, default=25, help="of (a)")
    parser.add_argument("--repeats", type=int, default=3, help="of (a)")
    told = parser.parse_args()
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    figures: dict[str, Any] = {}
    if told.only in (None, "embedding"):
        if told.quick:
            figures |= embedding(8, 1, backends=False)
        else:
            figures |= embedding(told.rows_per_dataset, told.repeats, backends=True)
    if told.only in (None, "score"):
        from stores.score import score

        figures |= score((10_000, 100_000), 100, 3) if told.quick else score((10_000, 100_000, 1_000_000), 2_500, 9)
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
