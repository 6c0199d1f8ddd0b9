"""One task scored over a store, beside the bare product of its vectors with the two averaged queries.

Ours: the averaged queries, every row's score, the 3,000 best with their parts and best cells; not the reading of their
texts, which is shown apart. The rivals: all that torch offers for the product alone, from vectors that are mapped
already. A plain reference, in which every example meets every text, says whether our scores are right.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from understudy.retrieve.building import build
from understudy.retrieve.cosine import Cosines, cosines_of
from understudy.retrieve.datastore import DATASET, Dataset, Datastore, folder_of
from understudy.retrieve.ranking import Target, best_rows, score_rows, starts_of
from understudy.retrieve.search import Query, search
from understudy.retrieve.tables import read_sources

K, WIDTH, CELLS_PER_ROW = 3_000, 384, 4
ROWS_OF_A_SMALL_ONE = 1_000
GOAL, GOAL_MEMORY_MIB, GOAL_DIFFERENCE = 4.0, 600, 1e-3
TASK = Query("an instruction", tuple((f"input {i}", f"output {i}") for i in range(10)))
MIB = 2**20


class RandomEncoder:
    """A random unit vector for each text."""

    name, identity, width = "random", f"random-{WIDTH}", WIDTH

    def __init__(self) -> None:
        self._draw = np.random.default_rng(0)

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> np.ndarray:
        vectors = self._draw.standard_normal((len(texts), WIDTH), dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def one_dataset(folder: Path, cells: int) -> Datastore:
    """A store of one dataset whose cells are all different."""
    rows = ({f"c{j}": f"{i} in {j}" for j in range(CELLS_PER_ROW)} for i in range(cells // CELLS_PER_ROW))
    return _built(folder, {"one": rows})


def many_datasets(folder: Path, datasets: int) -> Datastore:
    """A store of datasets of 1,000 rows, a text and one of four labels each: one in 25 is built, the others copied."""
    rows = lambda name: ({"text": f"{i} in {name}", "label": f"label {i % 4}"} for i in range(ROWS_OF_A_SMALL_ONE))  # noqa: E731
    built = _built(folder, {f"{n:03}": rows(n) for n in range(datasets // 25)}).datasets
    for number in range(datasets - len(built)):
        dataset = built[number % len(built)]
        copy = folder_of(folder / "store", f"{dataset.name}-{number:05}")
        shutil.copytree(dataset.folder, copy)
        summary = dataset.summary.model_copy(update={"name": f"{dataset.name}-{number:05}"})
        (copy / DATASET).write_text(summary.canonical())
    return Datastore.open(folder / "store")


def _built(folder: Path, datasets: dict[str, Any]) -> Datastore:
    sources = folder / "sources"
    sources.mkdir(parents=True)
    for name, rows in datasets.items():
        with (sources / f"{name}.jsonl").open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    report = build(folder / "store", read_sources([str(sources)]), encoder=RandomEncoder(), rows_per_dataset=None)
    assert not report.skipped, report.skipped
    return Datastore.open(folder / "store")


def bare_products(datasets: Sequence[Dataset], cosines: Cosines) -> dict[str, Callable[[], Any]]:
    """Ways to multiply all vectors by the two averaged queries."""
    with warnings.catch_warnings(action="ignore"):  # that the maps are read-only
        maps = [torch.from_numpy(dataset.vectors()) for dataset in datasets]
    query = torch.from_numpy(cosines.vectors[:2]).half()
    block = torch.empty(4096, WIDTH)

    def in_float32(vectors: Tensor) -> None:
        for some in vectors.split(len(block)):
            _ = block[: len(some)].copy_(some) @ query.T.float()

    ways: dict[str, Callable[[Tensor], Any]] = {
        "float16, queries @ vectors.T": lambda vectors: query @ vectors.T,
        "float16, vectors @ queries.T": lambda vectors: vectors @ query.T,
        "float16, a query at a time": lambda vectors: (torch.mv(vectors, query[0]), torch.mv(vectors, query[1])),
        "float32, converted by blocks": in_float32,
    }
    products: dict[str, Callable[[], Any]] = {
        name: (lambda way=way: [way(vectors) for vectors in maps]) for name, way in ways.items()
    }
    if len(datasets) == 1:
        copy, short = maps[0].bfloat16(), query.bfloat16()
        products["bfloat16, vectors @ queries.T"] = lambda: [copy @ short.T]
    return products


def ours(store: Datastore, cosines: Cosines) -> tuple[np.ndarray, np.ndarray]:
    """Every row's score, and the scores of the best."""
    target = Target(cosines, np.full(3, 1 / 3))
    scores = score_rows(store.datasets, target)
    return scores, best_rows(store.datasets, starts_of(store.datasets), scores, target, K).scores


def task_vectors() -> np.ndarray:
    """float32 (1 + 2 x examples, width): what the query's cosines are made of; a fresh encoder draws the same."""
    return RandomEncoder().encode([""] * (1 + 2 * len(TASK.examples)))


def reference(dataset: Dataset, vectors: np.ndarray) -> np.ndarray:
    """The formula with nothing averaged before: vectors, (1 + 2 x examples, width), the instruction first."""
    stored, examples = dataset.vectors(), len(TASK.examples)
    by_text = np.empty((len(stored), 2), np.float32)
    for i in range(0, len(stored), 10_000):
        cosines = stored[i : i + 10_000].astype(np.float32) @ vectors[1:].T
        by_text[i : i + 10_000] = cosines.reshape(-1, 2, examples).mean(axis=2)
    best = np.maximum.reduceat(by_text[dataset.cell_texts()], dataset.offsets()[:-1], axis=0)
    return (best.sum(axis=1) + dataset.description_vector() @ vectors[0]) / 3


def in_turns(ways: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each, after one round that does not count."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, work in ways.items():
            began = time.perf_counter()
            work()
            took[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds[1:]) for name, seconds in took.items()}


def private_mib() -> float:
    """Memory of this process that is no file's."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) / 1024


def searched(path: Path) -> tuple[float, float, float]:
    """In a process of its own, a whole search: peak private memory, that before it, and seconds with reading texts."""
    store, encoder, seen, ended = Datastore.open(path), RandomEncoder(), [private_mib()], threading.Event()

    def watch() -> None:
        while not ended.wait(0.002):
            seen.append(private_mib())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    found = search(store, encoder, TASK, K)
    seconds = time.perf_counter() - began
    ended.set()
    watcher.join()
    assert len(found) == min(K, sum(dataset.rows for dataset in store.datasets))
    return max(seen), seen[0], seconds


def in_a_fresh_process(path: Path) -> tuple[float, float, float]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(searched, path).result()


def difference(dataset: Dataset, made: tuple[np.ndarray, np.ndarray], vectors: np.ndarray) -> float:
    """Between our scores and the reference's: of every row, and of the best in their order."""
    exact = reference(dataset, vectors)
    ranked = -np.sort(-exact)[:K]
    return float(max(np.abs(made[0] - exact).max(), np.abs(made[1] - ranked).max()))


def by_size(cells: int, cosines: Cosines, repeats: int) -> dict[str, float]:
    """Prints a line of the table; the figures of one size."""
    with tempfile.TemporaryDirectory() as folder:
        store = one_dataset(Path(folder), cells)
        ways = bare_products(store.datasets, cosines)
        took = in_turns({"ours": partial(ours, store, cosines), **ways}, repeats)
        off = difference(store.datasets[0], ours(store, cosines), task_vectors())
        peak, before, seconds = in_a_fresh_process(store.path)
    fastest = min(ways, key=took.__getitem__)
    ratio = took["ours"] / took[fastest]
    print(
        f"{cells:9} {took['ours']:8.4f} {took[fastest]:10.4f} {ratio:7.2f} {peak:12.0f} ({before:.0f}) "
        f"{seconds:18.2f} {off:11.1e}   " + "; ".join(f"{name} {took[name]:.4f}" for name in ways),
        flush=True,
    )
    return {"ratio": ratio, "peak": peak, "off": off}


def by_number(datasets: int, cosines: Cosines, repeats: int) -> None:
    """Prints what many small datasets cost."""
    with tempfile.TemporaryDirectory() as folder:
        store = many_datasets(Path(folder), datasets)
        ways = bare_products(store.datasets, cosines)
        took = in_turns({"ours": partial(ours, store, cosines), **ways}, repeats)
        peak, before, seconds = in_a_fresh_process(store.path)
    fastest = min(took[name] for name in ways)
    print(
        f"{datasets} datasets of {ROWS_OF_A_SMALL_ONE} rows and {ROWS_OF_A_SMALL_ONE + 4} texts each: "
        f"ours {took['ours']:.3f} s, product {fastest:.3f} s, "
        f"{(took['ours'] - fastest) / datasets * 1e6:.0f} us a dataset over it; "
        f"private {peak:.0f} MiB ({before:.0f} before), whole search {seconds:.2f} s"
    )


def score(sizes: Sequence[int], datasets: int, repeats: int) -> dict[str, Any]:
    """The figures of (b)."""
    print(f"\nOne task of {len(TASK.examples)} examples scored, the {K} best rows; {torch.get_num_threads()} threads")
    print(f"median of {repeats} in turns; rows of {CELLS_PER_ROW} cells, every cell another text, {WIDTH} numbers each")
    print("    cells   ours s  product s   ratio  private MiB (before)  whole search s   off by   all products, s")
    cosines = cosines_of(RandomEncoder(), TASK)
    made = [by_size(cells, cosines, repeats) for cells in sizes][-1]
    by_number(datasets, cosines, max(3, repeats // 2))
    cells = f"{sizes[-1]} cells"
    goals = {
        f"score of {cells}": (made["ratio"], GOAL, "x the fastest bare float16 product"),
        f"private memory of a search in {cells}": (made["peak"], GOAL_MEMORY_MIB, "MiB"),
        f"score of {cells}, off the reference by": (made["off"], GOAL_DIFFERENCE, ""),
    }
    return {
        what: {"value": float(f"{value:.3g}"), "goal": goal, "holds": value <= goal, "unit": unit}
        for what, (value, goal, unit) in goals.items()
    }
