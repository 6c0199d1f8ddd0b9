"""Training of the `causal` student beside transformers' Trainer, in useful tokens a second: padding does not count.

The rivals: Trainer as its documentation shows it, with a collator that pads each batch to its longest row
(DataCollatorForLanguageModeling; where only the answer is learnt DataCollatorForSeq2Seq, which pads labels too), and
the same with train_sampling_strategy="group_by_length". All train the same network on the same rows, for as many steps
of as many rows, with the same optimiser, schedule and precision; they take turns, and medians count. The rows:
CommonsenseQA with three explanations by a Claude model, and with PaLM's rationales, where UNDERSTUDY_DATA is set, else
generated ones of like lengths. The network has random weights. --compile adds both sides with torch_compile, compiled
before their time is taken, which takes minutes.

    UNDERSTUDY_DATA=... python benchmarks/train.py [--quick]
"""

from __future__ import annotations

import argparse
import copy
import gzip
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import torch
from transformers import DataCollatorForLanguageModeling, DataCollatorForSeq2Seq, Trainer, TrainingArguments

from understudy.records import Example
from understudy.students import serial
from understudy.students.causal import lay
from understudy.students.course import Laid
from understudy.students.scratch import causal_from_scratch, tokenizer_of
from understudy.students.settings import CausalScratch, CausalSettings
from understudy.students.trainer import Lessons, fit, order_of
from understudy.task import Fields, Task

TASK = Task(instruction="Answer the question.", kind="choice", fields=Fields(choices="choices"))
LIKE = {"three explanations": (53, 148), "a rationale": (53, 47)}  # tokens: mean of prompt and of the rest
Figures = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Work:
    """What everyone trains on, and how."""

    network: Any
    tokenizer: Any
    student: Any  # the same network, ready for packed rows
    laid: Laid
    settings: CausalSettings
    folder: Path


@dataclass(frozen=True)
class Took:
    seconds: float
    tokens: int
    places: int  # tokens and padding


def lessons(what: str) -> list[Example]:
    """CommonsenseQA's training rows with ``what`` after the answer, as many as group_by_length has use for."""
    data = os.environ.get("UNDERSTUDY_DATA")
    if not data:
        return generated(*LIKE[what], 1000)
    name = "teacher_claude_csqa" if what == "three explanations" else "teacher_cqa_palm540b"
    rows = []
    with gzip.open(Path(data) / name / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if what == "three explanations":
                said = "\n\n".join(row[field] for field in ("fundamentals", "chain_of_thought", "mistakes"))
            else:
                said = row["llm_output"].partition("\n\nQ:")[0].strip()  # it runs on into the next question
            rows.append(Example(
                id=str(row["id"]), input=row["question"], choices=tuple(row["choices"]), target=row["answer"],
                notes={"explanations": said},
            ))  # fmt: skip
    return rows[:3200]


def generated(prompt: int, rest: int, count: int) -> list[Example]:
    """Rows of as many words as CommonsenseQA's have tokens, and as unlike in length."""
    draw = random.Random(0)
    words = ["".join(draw.choices("aeioubdklmnrst", k=draw.randint(3, 6))) for _ in range(3000)]
    some = lambda mean: " ".join(draw.choices(words, k=max(3, round(draw.gauss(mean, mean / 5)))))  # noqa: E731
    return [
        Example(id=str(i), input=some(prompt - 25), choices=tuple("vwxyz"), target=draw.choice("vwxyz"),
                notes={"explanations": some(rest - 12)})
        for i in range(count)
    ]  # fmt: skip


def trainer(work: Work, **more: Any) -> Took:
    """Trainer as its documentation shows it."""
    settings, pad = work.settings, collator(work)
    sizes: list[tuple[int, int]] = []  # the last is of a batch that is made and not trained on

    def collate(rows: list[Any]) -> Any:
        batch = pad(rows)
        sizes.append((sum(len(row["input_ids"]) for row in rows), batch["input_ids"].numel()))
        return batch

    args = TrainingArguments(
        output_dir=str(work.folder / "rival"),
        max_steps=settings.steps or 0,
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
    network, rows = copy.deepcopy(work.network), plain(work)
    began = time.perf_counter()
    with redirect_stdout(None):  # it prints its logs
        Trainer(network, args, collate, train_dataset=rows, processing_class=work.tokenizer).train()  # pyright: ignore[reportArgumentType]
    took = time.perf_counter() - began
    tokens, places = (sum(size) for size in zip(*sizes[: settings.steps], strict=True))
    return Took(took, tokens, places)


def plain(work: Work) -> list[dict[str, list[int]]]:
    """The rows as a tokenizer gives them; labels where not all tokens are learnt."""
    learnt = work.settings.loss_on == "target"
    return [
        {"input_ids": row["input_ids"], "attention_mask": [1] * len(row["input_ids"])}
        | ({"labels": row["labels"]} if learnt else {})
        for row in work.laid.rows
    ]


def collator(work: Work) -> Callable[[list[Any]], Any]:
    """The one of transformers that pads no further than it must."""
    if work.settings.loss_on == "target":
        return DataCollatorForSeq2Seq(work.tokenizer)
    return DataCollatorForLanguageModeling(work.tokenizer, mlm=False)


def ours(work: Work) -> Took:
    """The student's training."""
    network, laid = copy.deepcopy(work.student), work.laid
    lessons = Lessons(laid.rows, order_of(laid.tokens, work.settings.batch_size, 0, laid.by_length))
    with tempfile.TemporaryDirectory(dir=work.folder) as folder:
        began = time.perf_counter()
        run = fit(
            network, lessons, laid.tokens, laid.collate, work.settings, folder=Path(folder) / "checkpoint",
            fingerprint="", seed=0, report=lambda what, done, total: None,
        )  # fmt: skip
        took = time.perf_counter() - began
    return Took(took, run.tokens, run.tokens)


def ours_compiled(work: Work) -> Took:
    """The same with one of Trainer's own arguments."""
    return ours(replace(work, settings=work.settings.model_copy(update={"trainer": {"torch_compile": True}})))


CLIENTS: dict[str, Callable[[Work], Took]] = {
    "Trainer": trainer,
    "Trainer, group_by_length": partial(trainer, train_sampling_strategy="group_by_length"),
    "ours": ours,
}
COMPILED: dict[str, Callable[[Work], Took]] = {
    "Trainer, torch_compile": partial(trainer, torch_compile=True),
    "ours, torch_compile": ours_compiled,
}


@torch.no_grad()
def largest_gap(work: Work) -> float:
    """The largest difference of the loss of ten batches, theirs padded and ours packed, in float32."""
    size, rows, pad = work.settings.batch_size, plain(work), collator(work)
    gap = 0.0
    for start in range(0, 10 * size, size):
        theirs = work.network(**pad(rows[start : start + size])).loss
        mine = work.student(**work.laid.collate([*work.laid.rows[start : start + size]])).loss
        gap = max(gap, abs(float(theirs) - float(mine)))
    return gap


def made(what: str, loss_on: str, told: argparse.Namespace, folder: Path) -> Work:
    """The network, and the rows as both sides take them; steps for about ``told.tokens`` tokens."""
    examples = lessons(what)
    scratch = {"architecture": told.architecture, "hidden_size": 256, "layers": 6, "heads": 4, "vocab_size": 4096}
    settings = CausalSettings.model_validate(
        {"base": scratch, "loss_on": loss_on, "batch_size": told.batch_size, "checkpoint_every_s": 3600}
    )
    texts = ["".join(serial.text_of(example, TASK, settings.rank_by)) for example in examples]
    torch.manual_seed(0)
    assert isinstance(settings.base, CausalScratch)
    tokenizer = tokenizer_of(texts, settings.base.vocab_size)
    network = causal_from_scratch(settings.base, tokenizer, settings.max_length)
    student = copy.deepcopy(network)
    laid = lay(student, tokenizer, examples, TASK, settings)
    steps = max(1, round(told.tokens / statistics.mean(laid.tokens) / settings.batch_size))
    settings = settings.model_copy(update={"steps": steps})
    return Work(network.eval(), tokenizer, student.eval(), laid, settings, folder)  # Trainer has it train


def measured(work: Work, clients: dict[str, Callable[[Work], Took]], repeat: int) -> dict[str, list[Took]]:
    """In turns, every other round the other way around."""
    took: dict[str, list[Took]] = {name: [] for name in clients}
    for turn in range(repeat):
        for name in clients if turn % 2 == 0 else reversed(clients):
            took[name].append(clients[name](work))
    return took


def compared(work: Work, case: str, compiled: bool, repeat: int) -> Figures:
    """Print the table of one case."""
    lengths, figures = work.laid.tokens, {}
    ours(work)  # what runs first is slower
    for name, client in COMPILED.items() if compiled else ():
        began = time.perf_counter()
        client(work)
        print(f"  {name}: {time.perf_counter() - began:.0f} s the first time", flush=True)
    took = measured(work, CLIENTS | COMPILED if compiled else CLIENTS, repeat)
    print(f"\n{case}: {work.settings.steps} steps of {work.settings.batch_size} of {len(lengths)} rows, "
          f"{min(lengths)} to {max(lengths)} tokens, mean {statistics.mean(lengths):.0f}; "
          f"median of {repeat}")  # fmt: skip
    rates = {name: statistics.median(run.tokens / run.seconds for run in runs) for name, runs in took.items()}
    for name, runs in took.items():
        useful = sum(run.tokens for run in runs) / sum(run.places for run in runs)
        print(f"  {name:26}{rates[name]:8.0f} tokens/s {rates[name] / rates['Trainer']:6.2f} x   "
              f"{useful:6.1%} of what is computed is no padding", flush=True)  # fmt: skip
    for name, goal in (("Trainer", 1.5), ("Trainer, group_by_length", 1.0)):
        ratio = rates["ours"] / rates[name]
        figures[f"{case}: tokens a second over {name}"] = {
            "value": round(ratio, 2), "goal": goal, "holds": ratio >= goal, "unit": f"x {name}",
        }  # fmt: skip
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one case, few steps, once: under a minute")
    parser.add_argument("--only", help="cases whose name holds this")
    parser.add_argument("--architecture", choices=["llama", "gpt2"], default="llama")
    parser.add_argument("--batch-size", type=int, default=16, help="rows a batch (16)")
    parser.add_argument("--tokens", type=int, default=16_000, help="about so many a run (16000)")
    parser.add_argument("--compile", action="store_true", help="compare trainings that are compiled, too")
    parser.add_argument("--repeat", type=int, default=3, help="rounds (3)")
    told = parser.parse_args()
    if told.quick:
        told.tokens, told.repeat, told.only = 5_000, 1, "a rationale, loss on target, fp32"
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    print(f"Python {platform.python_version()}, {versions}, {torch.get_num_threads()} threads; "
          f"load {os.getloadavg()[0]:.1f} before; {told.architecture}, 6 layers, width 256, 4096 tokens")  # fmt: skip
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for what, loss_on in product(LIKE, ("target", "all")):
            cases = {name: f"{what}, loss on {loss_on}, {name}" for name in ("fp32", "bf16")}
            cases = {name: case for name, case in cases.items() if (told.only or "") in case}
            if not cases:
                continue
            work = made(what, loss_on, told, Path(folder))
            gap = largest_gap(work)
            figures[f"{what}, loss on {loss_on}: largest difference of a batch's loss"] = {
                "value": gap, "goal": 1e-3, "holds": gap <= 1e-3, "unit": "nats",
            }  # fmt: skip
            for name, case in cases.items():
                settings = work.settings.model_copy(update={"precision": name})
                figures |= compared(replace(work, settings=settings), case, told.compile, told.repeat)
            print(f"  largest difference of a batch's loss, padded and packed, float32: {gap:.1e}")
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
