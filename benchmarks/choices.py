"""Five options ranked by log-likelihood: `students.choices.rank` beside the two loops one would write instead.

The rivals: one option a forward pass, and the five options of a question as one batch. Both ask the network for no
more logits than they need and for no cache. Questions of CommonsenseQA where UNDERSTUDY_DATA is set, else generated
ones of like lengths; a randomly initialised Llama (width 256, 6 layers), float32; the three take turns, medians count.

    UNDERSTUDY_DATA=... python benchmarks/choices.py [--quick]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from understudy.students.choices import Ranked, Row, rank

PAD = 0
LETTERS = "ABCDE"
Scores = list[list[Ranked]]


def questions() -> tuple[str, list[tuple[str, list[str]]]]:
    """Where they come from, and each question with its five options."""
    data = os.environ.get("UNDERSTUDY_DATA")
    path = Path(data or "") / "teacher_cqa_palm540b" / "test.jsonl.gz"
    if data and path.is_file():
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        return "CommonsenseQA", [(row["question"], row["choices"]) for row in rows]
    draw = random.Random(0)
    words = ["".join(draw.choices("aeioubdklmnrst", k=draw.randint(3, 8))) for _ in range(3000)]
    some = lambda low, high: " ".join(draw.choices(words, k=draw.randint(low, high)))  # noqa: E731
    return "generated", [(some(6, 20), [some(1, 2) for _ in LETTERS]) for _ in range(600)]


def tokenised(rows: list[tuple[str, list[str]]], by: str) -> tuple[list[Row], int]:
    """Prompt and options of each question as token ids, and how many tokens there are."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    listed = [
        f"Q: {question} {' '.join(f'({a}) {b}' for a, b in zip(LETTERS, options, strict=True))}\nA:"
        for question, options in rows
    ]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(  # pyright: ignore[reportCallIssue]
        vocab_size=8192, special_tokens=["<pad>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(listed, trainer)
    ids = lambda text: tokenizer.encode(text).ids  # noqa: E731
    if by == "letters":
        made: list[Row] = [(ids(f"{prompt} The answer is ("), [ids(a) for a in LETTERS]) for prompt in listed]
    else:
        made = [
            (ids(prompt), [ids(f" {b}") for b in options]) for prompt, (_, options) in zip(listed, rows, strict=True)
        ]
    return made, tokenizer.get_vocab_size()


def one_option_a_pass(network: Any, rows: Sequence[Row]) -> Scores:
    """The obvious loop."""
    scores = []
    for prompt, options in rows:
        scores.append([])
        for option in options:
            ids = torch.tensor([[*prompt, *option]])
            logits = network(input_ids=ids, logits_to_keep=len(option) + 1, use_cache=False).logits[0, :-1]
            scores[-1].append(scored(logits, option))
    return scores


def one_question_a_batch(network: Any, rows: Sequence[Row]) -> Scores:
    """The five options, each behind the prompt, padded on the right."""
    scores = []
    for prompt, options in rows:
        width = max(map(len, options))
        ids = torch.tensor([[*prompt, *option, *[PAD] * (width - len(option))] for option in options])
        mask = torch.tensor([[1] * (len(prompt) + len(o)) + [0] * (width - len(o)) for o in options])
        logits = network(input_ids=ids, attention_mask=mask, logits_to_keep=width + 1, use_cache=False).logits
        scores.append([scored(logits[i, : len(option)], option) for i, option in enumerate(options)])
    return scores


def scored(logits: Tensor, option: Sequence[int]) -> Ranked:
    """Logits, (option's tokens, vocabulary), to the option's log-likelihood."""
    return Ranked(logits.log_softmax(-1)[range(len(option)), list(option)].sum().item(), len(option))


def ours(network: Any, rows: Sequence[Row]) -> Scores:
    return list(rank(network, rows, pad_id=PAD))


CLIENTS: dict[str, Callable[[Any, Sequence[Row]], Scores]] = {
    "one option a pass": one_option_a_pass,
    "one question a batch": one_question_a_batch,
    "rank": ours,
}


def choices(scores: Scores) -> list[tuple[int, int]]:
    """The best option of each question by mean and by sum."""
    best = lambda values: max(range(len(values)), key=values.__getitem__)  # noqa: E731
    return [(best([s.mean for s in row]), best([s.total for s in row])) for row in scores]


def measured(network: Any, rows: list[Row], repeat: int) -> tuple[dict[str, float], dict[str, Scores]]:
    """Median questions a second, and the scores, of each client."""
    took: dict[str, list[float]] = {name: [] for name in CLIENTS}
    scores: dict[str, Scores] = {}
    with torch.inference_mode():
        for client in CLIENTS.values():
            client(network, rows[:20])
        for _ in range(repeat):
            for name, client in CLIENTS.items():
                began = time.perf_counter()
                scores[name] = client(network, rows)
                took[name].append(time.perf_counter() - began)
    return {name: len(rows) / statistics.median(times) for name, times in took.items()}, scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="40 questions, once: under a minute")
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=3)
    told = parser.parse_args()
    if told.quick:
        told.questions, told.repeat = 40, 1
    source, texts = questions()
    figures = {}
    for by in ("texts", "letters"):
        rows, vocabulary = tokenised(texts, by)
        rows = rows[: told.questions]
        torch.manual_seed(0)
        network = LlamaForCausalLM(LlamaConfig(
            vocab_size=vocabulary, hidden_size=256, intermediate_size=688, num_hidden_layers=6, num_attention_heads=4,
            bos_token_id=None, eos_token_id=None,
        )).eval()  # fmt: skip
        rates, scores = measured(network, rows, told.repeat)
        lengths = [len(option) for _, options in rows for option in options]
        prompt_tokens = statistics.mean(len(prompt) for prompt, _ in rows)
        print(f"\noption {by}: {len(rows)} {source} questions of {prompt_tokens:.1f} tokens, "
              f"options of {statistics.mean(lengths):.2f}, {torch.get_num_threads()} threads, "
              f"median of {told.repeat}")  # fmt: skip
        loop = rates["one option a pass"]
        for name, rate in rates.items():
            print(f"  {name:22}{rate:8.1f} questions/s  {rate / loop:6.2f} x", flush=True)
        expected, got = scores["one option a pass"], scores["rank"]
        other = sum(a != b for a, b in zip(choices(expected), choices(got), strict=True))
        gap = max(abs(a.total - b.total) for x, y in zip(expected, got, strict=True) for a, b in zip(x, y, strict=True))
        print(f"  questions with another choice: {other}; largest difference of a score: {gap:.1e}")
        for name, goal in (("one option a pass", 3), ("one question a batch", 1)):
            ratio = rates["rank"] / rates[name]
            figures[f"option {by}, questions a second over {name}"] = {
                "value": round(ratio, 2), "goal": goal, "holds": ratio >= goal, "unit": f"x {name}",
            }  # fmt: skip
        figures[f"option {by}, questions with another choice"] = {
            "value": other, "goal": 0, "holds": other == 0, "unit": f"of {len(rows)} questions",
        }  # fmt: skip
        figures[f"option {by}, largest difference of a score"] = {
            "value": gap, "goal": 1e-4, "holds": gap <= 1e-4, "unit": "nats",
        }  # fmt: skip
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
