"""BLiMP pairs scored by a masked model: `pseudo_log_likelihoods` beside the obvious loop and minicons.

The rivals: the loop, which takes the pairs as they come in the file, pads the two sentences of a pair, and gives each
masked position a forward pass of its own; the same loop with more sentences a batch; and minicons
(`MaskedLMScorer.sequence_score`), where it is installed. The last two have the fastest of some batch sizes. All score
in float32 and take turns, medians count. Then ours within words, and in bfloat16 with the share of pairs whose choice
that changes.

Stretches of pairs from all over BLiMP where UNDERSTUDY_DATA is set, else generated ones of like lengths; a randomly
initialised RoBERTa (width 256, 6 layers) with a byte-level BPE of 8,192 tokens of the pairs' own text, or --model.

    UNDERSTUDY_DATA=... python benchmarks/minimal_pairs.py [--quick] [--model runs/.../model]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer
from tokenizers.processors import RobertaProcessing
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerFast, RobertaConfig

from understudy.records import Example
from understudy.sources import load
from understudy.students.pseudo_likelihood import pseudo_log_likelihoods
from understudy.task import PARADIGM, Task

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
SIZES = (8, 32, 128)  # sentences a batch that a rival may choose from
STRETCH = 64  # pairs that follow one another in the file: its neighbours are alike in length, which padding likes
GOALS = {"loop": 4, "loop, batched": None, "minicons": 1.3}
Score = Callable[[Sequence[str]], list[float]]


def pairs() -> tuple[str, list[Example]]:
    """Where they come from, and the pairs in the file's order."""
    task = Task.model_validate({"kind": "pretraining"})
    path = Path(os.environ.get("UNDERSTUDY_DATA") or "") / "blimp" / "all.jsonl.gz"
    if path.is_file():
        return "BLiMP", list(load(str(path), task, "test"))
    draw = random.Random(0)
    words = ["".join(draw.choices("aeioubdklmnrst", k=draw.randint(3, 8))) for _ in range(3000)]
    made = []
    for number in range(3000):
        good = draw.choices(words, k=draw.randint(4, 12))
        bad = [*good[:-1], draw.choice(words)]
        row = {
            "sentence_good": f"{' '.join(good)}.",
            "sentence_bad": f"{' '.join(bad)}.",
            PARADIGM: number * 67 // 3000,
        }
        made.append(task.pair(row, id=str(number)))
    return "generated", made


def random_roberta(texts: Sequence[str]) -> tuple[Any, Any]:
    """A network and its tokenizer."""
    bytewise: Any = ByteLevelBPETokenizer()
    bytewise.train_from_iterator(texts, vocab_size=8192, special_tokens=SPECIAL, show_progress=False)
    bytewise.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytewise._tokenizer,
        **dict(zip(names, SPECIAL, strict=True)),
        cls_token="<s>",
        sep_token="</s>",
    )
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=8192, hidden_size=256, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=4,
        max_position_embeddings=130, type_vocab_size=1, initializer_range=0.06,
    )  # fmt: skip
    return AutoModelForMaskedLM.from_config(config), tokenizer


@torch.inference_mode()
def loop(network: Any, tokenizer: Any, batch: int, sentences: Sequence[str]) -> list[float]:
    """Each masked position its own forward pass."""
    scores: list[float] = []
    for start in range(0, len(sentences), batch):
        some = list(sentences[start : start + batch])
        read = tokenizer(some, padding=True, return_special_tokens_mask=True, return_tensors="pt").to(network.device)
        ids, scored = read["input_ids"], 1 - read["special_tokens_mask"]
        totals = torch.zeros(len(some), device=ids.device)
        for place in range(ids.shape[1]):
            if scored[:, place].any():
                masked = ids.clone()
                masked[:, place] = tokenizer.mask_token_id
                logits = network(input_ids=masked, attention_mask=read["attention_mask"]).logits[:, place]
                totals += logits.log_softmax(-1).gather(1, ids[:, place, None])[:, 0] * scored[:, place]
        scores += totals.tolist()
    return scores


def minicons(network: Any, tokenizer: Any, batch: int, sentences: Sequence[str]) -> list[float]:
    from minicons.scorer import MaskedLMScorer  # pyright: ignore[reportMissingImports]

    if not hasattr(tokenizer, "batch_encode_plus"):  # which transformers 5 no longer has
        tokenizer.batch_encode_plus = tokenizer.__call__
    scorer = MaskedLMScorer(network, str(network.device), tokenizer=tokenizer)
    scores: list[float] = []
    for start in range(0, len(sentences), batch):
        some = list(sentences[start : start + batch])
        scores += scorer.sequence_score(some, reduction=lambda tokens: tokens.sum().item())
    return scores


def ours(network: Any, tokenizer: Any, sentences: Sequence[str], **how: Any) -> list[float]:
    return list(pseudo_log_likelihoods(network, tokenizer, sentences, **how))


def fastest(score: Callable[[int, Sequence[str]], list[float]], sentences: Sequence[str]) -> tuple[int, Score]:
    """The batch size with which a rival is fastest, and the rival with it."""
    size = min(SIZES, key=lambda size: seconds(lambda: score(size, sentences)))
    return size, partial(score, size)


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measured(clients: dict[str, Score], sentences: Sequence[str], repeat: int) -> tuple[dict[str, float], Any]:
    """Median pairs a second, and the scores, of each client."""
    took: dict[str, list[float]] = {name: [] for name in clients}
    scores: dict[str, list[float]] = {}
    for client in clients.values():
        client(sentences[:20])
    for _ in range(repeat):
        for name, client in clients.items():
            took[name].append(seconds(lambda name=name, client=client: scores.update({name: client(sentences)})))
    return {name: len(sentences) / 2 / statistics.median(times) for name, times in took.items()}, scores


def choices(scores: Sequence[float]) -> list[bool]:
    return [good > bad for good, bad in zip(scores[::2], scores[1::2], strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="64 pairs, once: under a minute")
    parser.add_argument("--pairs", type=int, default=640)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--probed", type=int, default=256, help="sentences by which rivals choose a batch size")
    parser.add_argument("--model", help="folder of a masked model with its tokenizer")
    told = parser.parse_args()
    if told.quick:
        told.pairs, told.repeat, told.probed = 64, 1, 32
    source, all_pairs = pairs()
    texts = [text for pair in all_pairs for text in pair.choices]
    if told.model:
        network, tokenizer = AutoModelForMaskedLM.from_pretrained(told.model), AutoTokenizer.from_pretrained(told.model)
    else:
        network, tokenizer = random_roberta(texts)
    network = network.to("cuda" if torch.cuda.is_available() else "cpu").float().eval()
    stretch = min(STRETCH, told.pairs // 4)
    starts = range(0, len(all_pairs), len(all_pairs) * stretch // told.pairs)
    chosen = [pair for start in starts for pair in all_pairs[start : start + stretch]][: told.pairs]
    sentences = [text for pair in chosen for text in pair.choices]
    print(f"{len(chosen)} {source} pairs of {len({pair.fields[PARADIGM] for pair in chosen})} paradigms, "
          f"{statistics.mean(map(len, tokenizer(sentences)['input_ids'])):.1f} tokens a sentence; "
          f"{network.num_parameters() / 1e6:.1f}M parameters, {torch.get_num_threads()} threads, "
          f"median of {told.repeat}", flush=True)  # fmt: skip

    clients: dict[str, Score] = {"loop": partial(loop, network, tokenizer, 2)}
    sized = {"loop, batched": loop} | ({"minicons": minicons} if find_spec("minicons") else {})
    for name, rival in sized.items():
        size, clients[name] = fastest(partial(rival, network, tokenizer), sentences[: told.probed])
        print(f"  {name} is fastest with {size} sentences a batch", flush=True)
    rivals = list(clients)
    own = {"ours": {}, "ours, within words": {"within_word": True}, "ours, bfloat16": {"precision": "bf16"}}
    clients |= {name: partial(ours, network, tokenizer, **how) for name, how in own.items()}
    rates, scores = measured(clients, sentences, told.repeat)
    for name, rate in rates.items():
        print(f"  {name:22}{rate:8.1f} pairs/s  {rate / rates['loop']:6.2f} x", flush=True)
    if "minicons" not in rivals:
        print("  minicons is not installed: its figures are left out")

    figures: dict[str, Any] = {}
    for name in rivals:
        ratio = rates["ours"] / rates[name]
        other = sum(a != b for a, b in zip(choices(scores[name]), choices(scores["ours"]), strict=True))
        gap = max(abs(a - b) for a, b in zip(scores[name], scores["ours"], strict=True))
        print(f"  beside {name}: {other} pairs with another choice; largest difference of a score: {gap:.1e}")
        for what, value, goal, holds, unit in (
            ("pairs a second", round(ratio, 2), GOALS[name], GOALS[name] and ratio >= GOALS[name], f"x {name}"),
            ("pairs with another choice", other, 0, other == 0, f"of {len(chosen)} pairs"),
            ("largest difference of a score", gap, 1e-3, gap <= 1e-3, "nats"),
        ):
            held = {} if goal is None else {"goal": goal, "holds": holds}
            figures[f"{what}, beside {name}"] = {"value": value, **held, "unit": unit}
    changed = sum(a != b for a, b in zip(choices(scores["ours"]), choices(scores["ours, bfloat16"]), strict=True))
    print(f"  bfloat16 changes the choice on {changed / len(chosen):.1%} of the pairs")
    figures["bfloat16, pairs with another choice"] = {"value": round(changed / len(chosen), 4), "unit": "share"}
    figures["bfloat16, pairs a second"] = {"value": round(rates["ours, bfloat16"] / rates["ours"], 2), "unit": "x ours"}
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
