"""Training of the `masked` student beside transformers' Trainer, in useful tokens a second: padding does not count.

The rivals: the way in which Baby's CoThought is published, one line an example, cut at 128 tokens and padded to the
longest of its batch (Trainer with DataCollatorForLanguageModeling, as its documentation shows it), and the same with
train_sampling_strategy="group_by_length", each with the faster of its two ways to attend (sdpa, eager). All train the
same network on the same lines, with the same optimiser, schedule and precision, and see about as many tokens; they take
turns, and medians count. bf16 is left out where the processor has none. The text: books, a paragraph a line, where
UNDERSTUDY_DATA is set, else generated lines. The network has random weights.

    UNDERSTUDY_DATA=... python benchmarks/pretrain.py [--quick]
"""

from __future__ import annotations

import argparse
import copy
import gzip
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

from understudy.records import Example
from understudy.students import train
from understudy.students.masked import WAY
from understudy.students.packing import IGNORED
from understudy.students.pretraining import Drawing
from understudy.students.sequences import write_sequences
from understudy.students.settings import MaskedScratch, MaskedSettings
from understudy.students.trainer import fit
from understudy.students.tune import in_bf16
from understudy.task import Task

BASE = MaskedScratch(hidden_size=256, layers=6, heads=4, vocab_size=8192)
Figures = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Work:
    """What everyone trains on, and how."""

    lines: list[str]
    network: Any
    tokenizer: Any
    settings: MaskedSettings
    folder: Path


@dataclass(frozen=True)
class Took:
    seconds: float
    tokens: int
    places: int  # tokens and padding
    steps: int


def lines(count: int) -> Iterator[str]:
    """Lines of running text."""
    data = os.environ.get("UNDERSTUDY_DATA")
    if not data:
        draw = random.Random(0)
        words = ["".join(draw.choices("aeioubdklmnrst", k=draw.randint(2, 7))) for _ in range(9000)]
        yield from (" ".join(draw.choices(words, k=max(2, round(draw.expovariate(1 / 60))))) for _ in range(count))
        return
    with gzip.open(Path(data) / "text_books" / "train.jsonl.gz", "rt", encoding="utf-8") as rows:
        of_rows = (json.loads(row)["text"].splitlines() for row in islice(rows, 200, None))
        yield from islice((line for line in chain.from_iterable(of_rows) if line.strip()), count)


def line_by_line(work: Work, attends: str = "sdpa", **more: Any) -> Took:
    """Trainer as its documentation shows it, on lines that are cut at the longest length."""
    settings, sizes = work.settings, []
    coded = work.tokenizer(work.lines, truncation=True, max_length=settings.max_length)["input_ids"]
    rows = [{"input_ids": ids} for ids in coded]
    pad = DataCollatorForLanguageModeling(work.tokenizer, mlm_probability=settings.mask)

    def collate(batch: list[Any]) -> Any:
        made = pad(batch)
        sizes.append((sum(len(row["input_ids"]) for row in batch), made["input_ids"].numel()))
        return made

    mean = statistics.mean(map(len, coded))
    steps = max(1, round((settings.tokens or 0) / mean / settings.batch_size))
    args = TrainingArguments(
        output_dir=str(work.folder / "rival"),
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        bf16=settings.precision == "bf16",
        logging_steps=10,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        **more,
    )
    network = copy.deepcopy(work.network)
    network.set_attn_implementation(attends)
    began = time.perf_counter()
    with redirect_stdout(None):  # it prints its logs
        Trainer(network, args, collate, train_dataset=rows, processing_class=work.tokenizer).train()  # pyright: ignore[reportArgumentType]
    took = time.perf_counter() - began
    tokens, places = (sum(size) for size in zip(*sizes[:steps], strict=True))  # the last batch is not trained on
    return Took(took, tokens, places, steps)


def ours(work: Work) -> Took:
    """The student's training."""
    network, settings = copy.deepcopy(work.network), work.settings
    laying = WAY.lay(settings, network, work.tokenizer, torch.device("cpu"))
    with tempfile.TemporaryDirectory(dir=work.folder) as folder:
        opened = write_sequences(
            Path(folder) / "sequences", work.lines, work.tokenizer, start=laying.start, end=laying.end,
            max_length=settings.max_length, lines=True, packing=laying.packing,
        ).opened()  # fmt: skip
        sizes = opened.sizes()
        drawing = Drawing(opened, sizes, settings.batch_size, 0, by_length=not laying.packing)
        began = time.perf_counter()
        with laying.around():
            run = fit(
                network, drawing, sizes, laying.collate, settings, folder=Path(folder) / "checkpoint", fingerprint="",
                seed=0, report=lambda what, done, total: None,
            )  # fmt: skip
        took = time.perf_counter() - began
    return Took(took, run.tokens, run.steps * settings.batch_size * settings.max_length, run.steps)


RIVALS: dict[str, Callable[..., Took]] = {
    "Trainer, line by line": line_by_line,
    "Trainer, group_by_length": partial(line_by_line, train_sampling_strategy="group_by_length"),
}


@torch.no_grad()
def largest_gap(work: Work) -> float:
    """The largest difference of a batch's loss, in float32: packed with a head a gap, and each line by itself."""
    network = copy.deepcopy(work.network).eval()
    laying = WAY.lay(work.settings, network, work.tokenizer, torch.device("cpu"))
    with tempfile.TemporaryDirectory(dir=work.folder) as folder:
        opened = write_sequences(
            Path(folder) / "sequences", work.lines[:400], work.tokenizer, start=laying.start, end=laying.end,
            max_length=work.settings.max_length, lines=True, packing=True,
        ).opened()  # fmt: skip
        drawing, gap = Drawing(opened, opened.sizes(), 4, 0, by_length=False), 0.0
        for start in range(0, 40, 4):
            rows = [drawing[i] for i in range(start, start + 4)]
            batch = laying.collate(rows)
            with laying.around():
                mine = float(network(**batch).loss)
            width = batch["input_ids"].shape[1]
            labels = torch.full(batch["input_ids"].shape, IGNORED).flatten()
            learnt = batch["labels"][0] != IGNORED
            labels[batch["places"][learnt]] = batch["labels"][0][learnt]
            total, count = 0.0, 0
            for number, row in enumerate(rows):
                at = number * width
                for piece in row.pieces:
                    these = labels[at : at + len(piece)][None]
                    ids = batch["input_ids"].flatten()[at : at + len(piece)][None]
                    if many := int((these != IGNORED).sum()):
                        total += float(network(input_ids=ids, labels=these).loss) * many
                        count += many
                    at += len(piece)
            gap = max(gap, abs(mine - total / count))
    return gap


def measured(work: Work, times: int) -> dict[str, list[Took]]:
    """In turns, every other round the other way around."""
    clients: dict[str, Callable[[Work], Took]] = {name: at_its_best(name, work) for name in RIVALS} | {"ours": ours}
    took: dict[str, list[Took]] = {name: [] for name in clients}
    for turn in range(times):
        for name in clients if turn % 2 == 0 else reversed(clients):
            took[name].append(clients[name](work))
    return took


def at_its_best(name: str, work: Work) -> Callable[[Work], Took]:
    """A rival with the way to attend that is the faster one on a third of the tokens."""
    some = replace(work, settings=work.settings.model_copy(update={"tokens": (work.settings.tokens or 0) // 3}))
    took = {attends: RIVALS[name](some, attends=attends) for attends in ("sdpa", "eager")}
    best = max(took, key=lambda attends: took[attends].tokens / took[attends].seconds)
    print(f"  {name} is faster with {best}", flush=True)
    return partial(RIVALS[name], attends=best)


def compared(work: Work, times: int) -> Figures:
    """Print the table of one precision."""
    took, figures, precision = measured(work, times), {}, work.settings.precision
    rates = {name: statistics.median(run.tokens / run.seconds for run in runs) for name, runs in took.items()}
    print(f"\n{precision}, median of {times}")
    for name, runs in took.items():
        useful = sum(run.tokens for run in runs) / sum(run.places for run in runs)
        print(f"  {name:26}{rates[name]:8.0f} tokens/s {rates[name] / rates['Trainer, line by line']:6.2f} x   "
              f"{useful:6.1%} of what is computed is no padding; {runs[0].steps} steps", flush=True)  # fmt: skip
    for name, goal in (("Trainer, line by line", 1.8), ("Trainer, group_by_length", 1.0)):
        ratio = rates["ours"] / rates[name]
        figures[f"{precision}: useful tokens a second over {name}"] = {
            "value": round(ratio, 2), "goal": goal, "holds": ratio >= goal, "unit": f"x {name}",
        }  # fmt: skip
    return figures


class Rows:
    """So many lines, read anew each time."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[Example]:
        yield from (Example(id=str(i), input=line) for i, line in enumerate(lines(self.count)))


def peak_mib(count: int) -> float:
    """The peak memory of a process that trains five steps on so many lines."""
    code = f"import sys; sys.path.insert(0, 'benchmarks'); import pretrain; pretrain.train_few({count})"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parents[1])  # fmt: skip
    return float(told.stdout.split()[-1])


def train_few(count: int) -> None:
    """Run in a process of its own; prints its peak memory in MiB."""
    settings = MaskedSettings(base=BASE, lines=True, packing=True, steps=5, batch_size=8)
    with tempfile.TemporaryDirectory() as folder:
        train(settings, Task(instruction="-", kind="pretraining"), Rows(count), Path(folder) / "model")
    status = Path("/proc/self/status")  # the other figure also counts what the parent held when this began
    own = status.exists() and status.read_text().partition("VmHWM:")[2].split()[0]
    print(float(own or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one precision, few steps, once: about a minute")
    parser.add_argument("--batch-size", type=int, default=32, help="lines, or sequences, a batch (32)")
    parser.add_argument("--tokens", type=int, default=60_000, help="about so many a run (60000)")
    parser.add_argument("--repeat", type=int, default=5, help="rounds (5)")
    parser.add_argument("--lines", type=int, default=20_000, help="of text (20000)")
    told = parser.parse_args()
    if told.quick:
        told.tokens, told.repeat, told.lines = 20_000, 1, 4_000
    text = list(lines(told.lines))
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    print(f"Python {platform.python_version()}, {versions}, {torch.get_num_threads()} threads; "
          f"load {os.getloadavg()[0]:.1f} before; {BASE.layers} layers, width {BASE.hidden_size}, "
          f"{len(text)} lines")  # fmt: skip
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        tokenizer = WAY.tokenizer(BASE, text)
        network = WAY.network(BASE, tokenizer, 128)
        settings = MaskedSettings(
            base=BASE, packing=True, steps=None, tokens=told.tokens, batch_size=told.batch_size, checkpoint_every_s=3600
        )
        work = Work(text, network, tokenizer, settings, Path(folder))
        gap = largest_gap(work)
        print(f"largest difference of a batch's loss, packed and line by line, float32: {gap:.1e}")
        figures["largest difference of a batch's loss"] = {
            "value": gap, "goal": 1e-3, "holds": gap <= 1e-3, "unit": "nats",
        }  # fmt: skip
        precisions = ("bf16", "fp32") if in_bf16(torch.device("cpu"), "auto") else ("fp32",)
        for precision in precisions[: 1 if told.quick else None]:
            one = replace(work, settings=settings.model_copy(update={"precision": precision}))
            ours(replace(one, settings=one.settings.model_copy(update={"tokens": 5_000})))  # what runs first is slower
            figures |= compared(one, told.repeat)
    few = min(told.lines, 10_000)
    small, large = peak_mib(few), peak_mib(10 * few)
    print(f"\npeak memory of a training on {few:,} lines: {small:.0f} MiB, on {10 * few:,}: {large:.0f} MiB")
    figures["peak memory at ten times the lines"] = {
        "value": round(large - small, 1), "goal": 40, "holds": large - small <= 40, "unit": "MiB more",
    }  # fmt: skip
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
