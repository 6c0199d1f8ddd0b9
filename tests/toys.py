"""A toy task that a tiny student can learn: which of three topics a message of a few words is about."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from servers import ChatServer

WORDS = {
    "card": ["card", "chip", "pin", "stolen", "plastic", "contactless"],
    "money": ["money", "transfer", "pending", "salary", "bank", "euro"],
    "login": ["password", "phone", "locked", "forgot", "account", "app"],
}
FILLER = ["please", "help", "me", "with", "my", "the", "a", "is", "was", "it", "today", "again"]


def message(draw: random.Random, topic: str) -> str:
    words = draw.sample(WORDS[topic], 2) + draw.sample(FILLER, draw.randint(2, 6))
    draw.shuffle(words)
    return " ".join(words)


def rows(count: int, seed: int) -> list[dict[str, str]]:
    """``count`` different messages, the topics in turn."""
    draw, found = random.Random(seed), dict[str, str]()
    while len(found) < count:
        topic = list(WORDS)[len(found) % 3]
        found.setdefault(message(draw, topic), topic)
    return [{"text": text, "topic": topic} for text, topic in found.items()]


def teach(messages: list[dict[str, str]]) -> str:
    """What the loopback teacher answers: a topic by its words, or a JSON list of new messages."""
    prompt = messages[-1]["content"]
    if wanted := re.search(r'Write (\d+) new inputs whose answer is "(\w+)"', prompt):
        draw = random.Random(prompt)
        return json.dumps([message(draw, wanted[2]) for _ in range(int(wanted[1]))])
    text = prompt.rpartition("Input: ")[2].partition("\n")[0].split()
    return max(WORDS, key=lambda topic: sum(word in WORDS[topic] for word in text))


def write_jsonl(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_encoder(folder: Path, topics: dict[str, list[str]] = WORDS) -> str:
    """A random BERT of two layers with a tokenizer of whole words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    every = [*special, *FILLER, *(word for words in topics.values() for word in words)]
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(every)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    words.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=len(every),
        max_position_embeddings=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    BertModel(shape).save_pretrained(folder)
    return str(folder)


def hear_ctrl_c() -> None:
    """For a process that a test starts: shells start background jobs deaf to it, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Toy:
    """A study in a folder: ``study`` is its values, ``path`` its file, ``runs`` where it runs."""

    folder: Path
    study: dict[str, Any]
    server: ChatServer

    @classmethod
    def write(cls, folder: Path, encoder: str, server: ChatServer) -> Toy:
        folder.mkdir(parents=True)
        write_jsonl(folder / "train.jsonl", rows(12, seed=1))
        write_jsonl(folder / "more.jsonl", [{"text": row["text"]} for row in rows(30, seed=2)])
        write_jsonl(folder / "test.jsonl", rows(24, seed=3))
        study = {
            "name": "toy",
            "task": {
                "instruction": "What is the message about?",
                "kind": "classification",
                "labels": list(WORDS),
                "fields": {"input": "text", "target": "topic"},
                "train": "train.jsonl",
                "unlabelled": "more.jsonl",
                "test": "test.jsonl",
            },
            "teacher": {"backend": "openai", "model": "tiny", "base_url": server.base_url, "concurrency": 4},
            "student": {"kind": "classifier", "base": encoder, "steps": 3, "precision": "fp32", "threads": 1},
            "arms": {
                "gold": ["gold"],
                "answers": ["answers"],
                "both": ["answers", {"direct": {"rows": 12, "batch": 2}}],
            },
            "seeds": [0, 1],
        }
        toy = cls(folder, study, server)
        toy.save()
        return toy

    @property
    def path(self) -> Path:
        return self.folder / "study.yaml"

    @property
    def runs(self) -> Path:
        return self.folder / "runs" / "toy"

    def save(self) -> None:
        self.path.write_text(yaml.safe_dump(self.study, sort_keys=False))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "understudy", "run", "study.yaml", *arguments]

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """The command as a process of its own, in the study's folder."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=hear_ctrl_c,
        )

    def call(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The command, waited for."""
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)
