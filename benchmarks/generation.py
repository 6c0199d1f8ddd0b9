"""Batched writing beside transformers' ``generate``, in tokens written a second.

The rival: ``generate`` on padded batches in input order, as its documentation shows it; and the same with the prompts
sorted by length. Both sides have the same network, prompts, limits and rows a batch; they take turns, and medians of
each turn's ratio count. Answers are of very different lengths and end by themselves: a network with random weights
learns for half a minute to count down from the number in its prompt. Numbers go from 2 to 120, and few are large:
their logarithms are spread evenly. In float32 all must write the same; the share of answers that differ in bfloat16 is
printed.

    python benchmarks/generation.py [--quick] [--only T5]
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    GPT2Config,
    LlamaConfig,
    T5Config,
    get_cosine_schedule_with_warmup,
)

from understudy.generation import generate

PAD, END, LARGEST, VOCABULARY, PLACES = 0, 1, 120, 4096, 256
GOAL = 2.0
STEPS = 60  # of training
SHARED = {
    "vocab_size": VOCABULARY, "bos_token_id": None, "eos_token_id": END, "pad_token_id": PAD,
    "tie_word_embeddings": True,
}  # fmt: skip
Answers = list[list[int]]


@dataclass(frozen=True)
class Work:
    network: Any
    prompts: Sequence[list[int]]
    rows: int
    longest: int  # tokens of an answer

    @property
    def start(self) -> list[int]:
        return [PAD] if self.network.config.is_encoder_decoder else []


def network_of(name: str, wide: int, layers: int) -> Any:
    """Random weights."""
    torch.manual_seed(0)
    shape = {"hidden_size": wide, "num_hidden_layers": layers, "num_attention_heads": 4}
    room = {"max_position_embeddings": PLACES, "initializer_range": 0.02 * (768 / wide) ** 0.5}
    if name == "T5":
        config = T5Config(
            d_model=wide, d_kv=wide // 4, d_ff=wide * 2, num_layers=layers, num_heads=4, dropout_rate=0.0,
            feed_forward_proj="gated-gelu", decoder_start_token_id=PAD, **SHARED,  # pyright: ignore[reportCallIssue]
        )  # fmt: skip
        return AutoModelForSeq2SeqLM.from_config(config)
    if name == "GPT-2":
        dropouts = dict.fromkeys(["resid_pdrop", "embd_pdrop", "attn_pdrop"], 0.0)
        return AutoModelForCausalLM.from_config(GPT2Config(**shape, **room, **dropouts, **SHARED))
    return AutoModelForCausalLM.from_config(LlamaConfig(intermediate_size=wide * 8 // 3, **shape, **room, **SHARED))


def numbered(draw: random.Random, is_pair: bool, share: float | None = None) -> tuple[list[int], list[int]]:
    """A prompt that is words and a number, or for an encoder-decoder a number again and again; and the way down."""
    number = round(2 * (LARGEST / 2) ** draw.random()) if share is None else 1 + round(share * (LARGEST - 1))
    length = draw.randint(4, 60)
    others = [1 + number if is_pair else draw.randrange(2 + LARGEST, VOCABULARY) for _ in range(length)]
    return [*others, 1 + number], [*range(number, 0, -1)]  # the token of n is 1 + n, and 0 is the end


def train(network: Any, steps: int) -> None:
    """Teach it to count down, by short pieces of the way that begin anywhere."""
    draw, is_pair = random.Random(1), network.config.is_encoder_decoder
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    schedule = get_cosine_schedule_with_warmup(optimizer, steps // 10, steps)
    for _ in range(steps):
        pairs = [numbered(draw, is_pair, draw.random()) for _ in range(16)]
        pairs = [(prompt[-12:], answer[:16]) for prompt, answer in pairs]
        if is_pair:
            batch = {"input_ids": filled([a for a, _ in pairs], PAD), "labels": filled([b for _, b in pairs], -100)}
        else:
            labels = [[-100] * len(a) + b for a, b in pairs]
            batch = {"input_ids": filled([a + b for a, b in pairs], PAD), "labels": filled(labels, -100)}
            firsts = torch.tensor([[draw.randrange(PLACES - 28)] for _ in pairs])
            batch["position_ids"] = firsts + torch.arange(batch["input_ids"].shape[1])
        batch["attention_mask"] = (batch["input_ids"] != PAD).long()
        network(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def filled(rows: Sequence[Sequence[int]], value: int, at_left: bool = False) -> torch.Tensor:
    width = max(map(len, rows))
    gaps = [[value] * (width - len(row)) for row in rows]
    return torch.tensor([[*gap, *row] if at_left else [*row, *gap] for gap, row in zip(gaps, rows, strict=True)])


@torch.inference_mode()
def theirs(work: Work, *, is_sorted: bool = False) -> Answers:
    """transformers, a batch after the other."""
    order = sorted(range(len(work.prompts)), key=lambda i: len(work.prompts[i]) * is_sorted)
    answers: Answers = [[] for _ in order]
    is_pair = work.network.config.is_encoder_decoder
    for at in range(0, len(order), work.rows):
        chosen = order[at : at + work.rows]
        ids = filled([work.prompts[i] for i in chosen], PAD, at_left=not is_pair)
        out = work.network.generate(
            input_ids=ids, attention_mask=(ids != PAD).long(), max_new_tokens=work.longest, do_sample=False
        )
        for i, row in zip(chosen, out[:, 1 if is_pair else ids.shape[1] :].tolist(), strict=True):
            answers[i] = row[: row.index(END) + 1] if END in row else row
    return answers


def ours(work: Work) -> Answers:
    answers = generate(
        work.network,
        work.prompts,
        max_new_tokens=work.longest,
        ends={END},
        pad_id=PAD,
        start=work.start,
        rows=work.rows,
    )
    return [one.tokens for one in answers]


def shrinking(work: Work) -> Answers:
    """A batch after the other, from which rows are taken as they end; none joins it."""
    order = sorted(range(len(work.prompts)), key=lambda i: len(work.prompts[i]))
    answers: Answers = [[] for _ in order]
    for at in range(0, len(order), work.rows):
        chosen = order[at : at + work.rows]
        part = replace(work, prompts=[work.prompts[i] for i in chosen])
        for i, answer in zip(chosen, ours(part), strict=True):
            answers[i] = answer
    return answers


CLIENTS: dict[str, Callable[[Work], Answers]] = {
    "generate": theirs,
    "generate, sorted by length": partial(theirs, is_sorted=True),
    "ours, no row joins a batch": shrinking,
    "ours": ours,
}


def measured(work: Work, clients: dict[str, Any], repeat: int) -> tuple[dict[str, list[float]], dict[str, Answers]]:
    """Seconds, in turns, every other round the other way around; and what was written."""
    took: dict[str, list[float]] = {name: [] for name in clients}
    wrote: dict[str, Answers] = {}
    for turn in range(repeat):
        for name in clients if turn % 2 == 0 else reversed(clients):
            began = time.perf_counter()
            wrote[name] = clients[name](work)
            took[name].append(time.perf_counter() - began)
    return took, wrote


def compared(name: str, network: Any, told: argparse.Namespace) -> dict[str, Any]:
    """Print the table of one network."""
    draw = random.Random(2)
    pairs = [numbered(draw, network.config.is_encoder_decoder) for _ in range(told.prompts)]
    work = Work(network, [prompt for prompt, _ in pairs], told.rows, LARGEST + 8)
    ours(replace(work, prompts=work.prompts[: told.rows]))  # what runs first is slower
    took, wrote = measured(work, CLIENTS, told.repeat)
    answers = wrote["generate"]
    lengths = sorted(map(len, answers))
    right = statistics.mean(a == b for a, (_, b) in zip(answers, pairs, strict=True))
    print(
        f"\n{name}: {told.prompts} prompts of 5 to 61 tokens, {told.rows} rows a batch; answers of {lengths[0]} to "
        f"{lengths[-1]} tokens, median {statistics.median(lengths):.0f}, mean {statistics.mean(lengths):.0f}, "
        f"{right:.0%} right; median of {told.repeat}"
    )
    ratios = {}
    for client, seconds in took.items():
        ratios[client] = statistics.median(a / b for a, b in zip(took["generate"], seconds, strict=True))
        print(
            f"  {client:28}{sum(lengths) / statistics.median(seconds):8.0f} tokens/s {ratios[client]:6.2f} x",
            flush=True,
        )
    unlike = max(differing(wrote[client], answers) for client in CLIENTS)
    half = replace(work, network=copy.deepcopy(network).bfloat16())
    print(
        f"  answers that differ: float32 {unlike:.1%}; bfloat16 {differing(ours(half), theirs(half)):.1%}", flush=True
    )
    return {
        f"{name}: tokens written a second": {
            "value": round(ratios["ours"], 2), "goal": GOAL, "holds": ratios["ours"] >= GOAL, "unit": "x generate",
        },
        f"{name}: share of answers that differ, float32": {
            "value": unlike, "goal": 0.0, "holds": unlike == 0, "unit": "of the answers",
        },
    }  # fmt: skip


def differing(some: Answers, others: Answers) -> float:
    return statistics.mean(a != b for a, b in zip(some, others, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small network, once: under a minute")
    parser.add_argument("--only", default="", help="networks whose name holds this")
    parser.add_argument("--prompts", type=int, default=192, help="how many (192)")
    parser.add_argument("--rows", type=int, default=16, help="of a batch (16)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds (3)")
    told = parser.parse_args()
    wide, layers = 256, 6
    if told.quick:
        told.repeat, told.only, told.prompts, wide, layers = 1, "Llama", 64, 128, 4
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    print(f"Python {platform.python_version()}, {versions}, {torch.get_num_threads()} threads; "
          f"load {os.getloadavg()[0]:.1f} before; {layers} layers, width {wide}")  # fmt: skip
    figures: dict[str, Any] = {}
    for name in ("Llama", "GPT-2", "T5"):
        if told.only in name:
            network = network_of(name, wide, layers)
            train(network, STEPS)
            network.eval().generation_config = GenerationConfig(
                eos_token_id=END, pad_token_id=PAD, decoder_start_token_id=PAD
            )
            figures |= compared(name, network, told)
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
