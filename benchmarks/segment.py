"""Scores of pieces and texts written in turns, as AS-ES needs them, beside one at a time.

Entropy scoring (`students.piece_scores`): the rival is the authors' loop, one piece a forward pass, in which the
encoder reads the question again for each piece. Both are given texts; it tokenises a question once.

Iterative inference (`students.iterative`): an ES and an AS model write in turns, at most 5 rounds and 100 tokens a
step. The rival does so a row after the other, with transformers' `generate`, greedy and with its cache. Its speed does
not depend on the number of rows, so it writes the first ones only, and their texts are compared.

Both sides have the same networks in float32, threads and inference mode; they take turns, and medians of each turn's
ratio count. The problems are those of examples/as_es, with their true segments. A network with random weights would
never stop: each student learns its segments for a short while, enough to end them and to come to an answer; few of
the answers are right.

    python benchmarks/segment.py [--quick] [--only seq2seq]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from understudy.records import Example
from understudy.segment import joined
from understudy.students import load_model, train
from understudy.students.iterative import Iterated, iterate
from understudy.students.piece_scores import PieceScore, score_pieces
from understudy.task import Task

PROBLEMS = Path(__file__).parents[1] / "examples" / "as_es"
TASK = Task(instruction="Go on.", kind="generation")
MARKER = "The answer is"
ROUNDS, NEW_TOKENS = 5, 100
TOKENS = 400  # of the tokenizer: a question takes 57, about as many as one of GSM8K with a tokenizer of any text
SCORING_GOAL, WRITING_GOAL = 8, 6
Row = tuple[str, list[str]]
Figures = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Segment:
    """A step of a text: what goes before it, and what it adds."""

    tag: str
    before: str
    text: str


def problems(split: str) -> list[dict[str, Any]]:
    with gzip.open(PROBLEMS / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def segments(problem: dict[str, Any]) -> list[Segment]:
    """Neighbours of one tag together."""
    made, before = [], problem["question"]
    for tag, pieces in groupby(problem["pieces"], key=lambda piece: piece[0]):
        text = "".join(piece for _, piece in pieces).strip()
        made.append(Segment(tag, before, text))
        before = joined(before, text)
    return made


def student(kind: str, tag: str, told: argparse.Namespace, folder: Path) -> Any:
    """A model that has learnt the segments of one tag."""
    lessons = [
        Example(id=f"{number}.{place}", input=one.before, target=f" {one.text}")
        for number, problem in enumerate(problems("train"))
        for place, one in enumerate(segments(problem))
        if one.tag == tag
    ]
    scratch = {"hidden_size": told.width, "layers": told.layers, "heads": 4, "vocab_size": TOKENS}
    settings = {
        "kind": kind, "base": scratch, "prompt": "bare", "steps": told.steps, "batch_size": 16,
        "learning_rate": 0.4 / told.width, "precision": "fp32", "max_new_tokens": NEW_TOKENS, "max_length": 512,
    }  # fmt: skip
    train(settings, TASK, lessons[: 16 * told.steps], folder)
    return load_model(folder)


@torch.inference_mode()
def piece_by_piece(model: Any, rows: Sequence[Row]) -> Any:
    """The authors' loop."""
    network, tokenizer, scores = model.network, model.tokenizer, []
    for question, texts in rows:
        prompt = tokenizer(question)["input_ids"]
        scores.append([])
        for text in texts:
            piece = tokenizer(f" {text.strip()}", add_special_tokens=False)["input_ids"]
            if network.config.is_encoder_decoder:
                given = torch.tensor([[network.config.decoder_start_token_id, *piece[:-1]]])
                logits = network(input_ids=torch.tensor([prompt]), decoder_input_ids=given, use_cache=False).logits[0]
            else:
                ids = torch.tensor([[*prompt, *piece[:-1]]])
                logits = network(input_ids=ids, logits_to_keep=len(piece), use_cache=False).logits[0]
            likely = logits.log_softmax(-1)
            loss = -likely[range(len(piece)), piece].sum().item()
            scores[-1].append(PieceScore(-(likely.exp() * likely).sum().item(), loss, len(piece)))
    return scores


def in_batches(model: Any, rows: Sequence[Row]) -> Any:
    return list(score_pieces(model, rows))


@torch.inference_mode()
def row_by_row(models: Sequence[Any], prompts: Sequence[str]) -> list[Iterated]:
    """transformers' ``generate``."""
    return [_row(models, prompt) for prompt in prompts]


def _row(models: Sequence[Any], prompt: str) -> Iterated:
    text, pieces, silent = "", [], 0
    for step in range(2 * ROUNDS):
        model = models[step % 2]
        tokenizer, network = model.tokenizer, model.network
        ids = torch.tensor([tokenizer(joined(prompt, text))["input_ids"]])
        out = network.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False
        )[0]
        out = out[1:] if network.config.is_encoder_decoder else out[ids.shape[1] :]
        piece = tokenizer.decode(out, skip_special_tokens=True).strip()
        if piece:
            pieces.append((step % 2, piece))
            text = joined(text, piece)
        silent = 0 if piece else silent + 1
        if MARKER in text or silent == 2:
            return Iterated(text, tuple(pieces), step // 2 + 1, "stalled" if silent else "marker")
    return Iterated(text, tuple(pieces), ROUNDS, "cap")


def in_turns(models: Sequence[Any], prompts: Sequence[str]) -> list[Iterated]:
    return list(iterate(models, prompts, is_over=lambda text: MARKER in text, rounds=ROUNDS))


def measured(clients: dict[str, Callable[[], Any]], repeat: int) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds, in turns, every other round the other way around; and what came of it."""
    took: dict[str, list[float]] = {name: [] for name in clients}
    made: dict[str, Any] = {}
    for turn in range(repeat):
        for name in clients if turn % 2 == 0 else reversed(clients):
            began = time.perf_counter()
            made[name] = clients[name]()
            took[name].append(time.perf_counter() - began)
    return took, made


def table(took: dict[str, list[float]], tokens: Sequence[int]) -> float:
    """Print tokens a second of both; ours over the rival's."""
    rates = [[count / second for second in seconds] for count, seconds in zip(tokens, took.values(), strict=True)]
    ratio = statistics.median(ours / theirs for theirs, ours in zip(*rates, strict=True))
    for name, some, times in zip(took, rates, (1, ratio), strict=True):
        print(f"  {name:24}{statistics.median(some):9.0f} tokens/s {times:6.2f} x", flush=True)
    return ratio


def scoring(kind: str, model: Any, told: argparse.Namespace) -> Figures:
    rows: list[Row] = [(one["question"], [text for _, text in one["pieces"]]) for one in problems("test")][: told.rows]
    asked = model.read([prompt for prompt, _ in rows])
    in_batches(model, rows[:50])  # what runs first is slower
    piece_by_piece(model, rows[:5])
    took, made = measured({
        "one piece a pass": partial(piece_by_piece, model, rows),
        "score_pieces": partial(in_batches, model, rows),
    }, told.repeat)  # fmt: skip
    expected, found = ([one for row in scores for one in row] for scores in made.values())
    tokens = sum(one.tokens for one in expected)
    gap = max(max(abs(a.entropy - b.entropy), abs(a.loss - b.loss)) for a, b in zip(expected, found, strict=True))
    print(f"\n{kind}, pieces scored: {len(rows)} questions of {statistics.mean(map(len, asked)):.0f} "
          f"tokens, {len(expected)} pieces of {tokens / len(expected):.1f}, a vocabulary of {len(model.tokenizer)}; "
          f"median of {told.repeat}")  # fmt: skip
    ratio = table(took, [tokens, tokens])
    print(f"  largest difference of a score: {gap:.1e} nats")
    return {
        f"{kind}, tokens scored a second": {
            "value": round(ratio, 2), "goal": SCORING_GOAL, "holds": ratio >= SCORING_GOAL, "unit": "x one piece a pass"
        },
        f"{kind}, largest difference of a score": {"value": gap, "goal": 1e-4, "holds": gap <= 1e-4, "unit": "nats"},
    }  # fmt: skip


def writing(kind: str, models: Sequence[Any], told: argparse.Namespace) -> Figures:
    solved = problems("test")[: told.prompts]
    prompts = [one["question"] for one in solved]
    in_turns(models, prompts[:4])
    row_by_row(models, prompts[:1])
    took, made = measured({
        "generate, row by row": partial(row_by_row, models, prompts[: told.alone]),
        "iterate": partial(in_turns, models, prompts),
    }, told.turns)  # fmt: skip
    expected, found = made.values()
    lengths, alone = ([len(models[number].tokenizer(text, add_special_tokens=False)["input_ids"]) + 1
                       for row in rows for number, text in row.pieces] for rows in (found, expected))  # fmt: skip
    right = statistics.mean(
        row.text.endswith(f"{MARKER} {one['answer']}.") for row, one in zip(found, solved, strict=True)
    )
    by_cap = statistics.mean(row.stopped == "cap" for row in found)
    unlike = statistics.mean(a != b for a, b in zip(expected, found, strict=False))
    print(f"\n{kind}, written in turns: {len(prompts)} problems, the first {len(expected)} row by row, "
          f"{len(lengths) / len(found):.1f} steps of {statistics.mean(lengths):.0f} tokens (at most {max(lengths)}), "
          f"{by_cap:.0%} to the cap, {right:.0%} right; median of {told.turns}")  # fmt: skip
    ratio = table(took, [sum(alone), sum(lengths)])
    print(f"  texts that differ: {unlike:.1%}")
    return {
        f"{kind}, tokens written in turns a second": {
            "value": round(ratio, 2), "goal": WRITING_GOAL, "holds": ratio >= WRITING_GOAL, "unit": "x row by row"
        },
        f"{kind}, share of texts that differ": {
            "value": unlike, "goal": 0.0, "holds": unlike == 0, "unit": f"of {len(expected)} texts",
        },
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="causal, once: under a minute")
    parser.add_argument("--only", default="", help="kinds of student whose name holds this")
    parser.add_argument("--rows", type=int, default=200, help="questions whose pieces are scored (200)")
    parser.add_argument("--prompts", type=int, default=400, help="problems that are answered in turns (400)")
    parser.add_argument("--alone", type=int, default=16, help="of them by the rival (16)")
    parser.add_argument("--steps", type=int, default=200, help="of each student's training (200)")
    parser.add_argument("--width", type=int, default=64, help="of the students: those of examples/as_es-problems (64)")
    parser.add_argument("--layers", type=int, default=2, help="of the students (2)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds of scoring (3)")
    parser.add_argument("--turns", type=int, default=2, help="rounds of writing (2)")
    told = parser.parse_args()
    if told.quick:
        told.repeat, told.turns, told.rows, told.prompts, told.alone, told.steps = 1, 1, 60, 48, 8, 60
        told.only = "causal"
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    print(f"Python {platform.python_version()}, {versions}, {torch.get_num_threads()} threads; "
          f"load {os.getloadavg()[0]:.1f} before")  # fmt: skip
    figures: Figures = {}
    for kind in ("seq2seq", "causal"):
        if told.only in kind:
            with tempfile.TemporaryDirectory() as folder:
                models = [student(kind, tag, told, Path(folder) / tag / "model") for tag in ("es", "as")]
            figures |= scoring(kind, models[0], told) | writing(kind, models, told)
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
