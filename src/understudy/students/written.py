"""A trained language model as a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from understudy.errors import DataError
from understudy.pretrained import check_model_folder, quiet
from understudy.students import Trained
from understudy.students.language import read
from understudy.workspace.files import write_atomically

ABOUT = "student.json"

CARD = """---
{front}
---

# A language model trained with Understudy

{facts}

## Use

It reads {reads}, and {does}.

```python
{use}
```
"""
READS = {
    "question": "`Q: <question>`, for a choice ` (A) <first> (B) <second>`, a line break and `A:`",
    "instruction": "the `preface` in student.json, the question, for a choice ` (A) <first> (B) <second>`, an empty "
    "line and `### Response:`",
    "bare": "a text with nothing around it",
}
DOES = {"causal": "goes on", "seq2seq": "writes the answer", "masked": "finds what `<mask>` hides"}
TAGS = {"causal": "text-generation", "masked": "fill-mask"}
USE = {
    "causal": """from transformers import pipeline

answer = pipeline("text-generation", "the/folder/of/this/file")""",
    "masked": """from transformers import pipeline

find = pipeline("fill-mask", "the/folder/of/this/file")""",
    "seq2seq": """from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

network = AutoModelForSeq2SeqLM.from_pretrained("the/folder/of/this/file")
tokenizer = AutoTokenizer.from_pretrained("the/folder/of/this/file")
ids = tokenizer("Q: How are you?\\nA:", return_tensors="pt")
print(tokenizer.decode(network.generate(**ids, max_new_tokens=64)[0], skip_special_tokens=True))""",
}


@dataclass(frozen=True, slots=True)
class About:
    """What a model must know of its training to answer."""

    kind: str  # of the student
    task: str  # the task's kind
    labels: tuple[str, ...]
    rank_by: str
    max_length: int
    max_new_tokens: int
    preface: str = ""
    """What stands before each question, as ``serial.preface_of`` made it."""
    bare: bool = False
    """Whether it reads and writes texts with nothing around them."""
    within_word: bool = False
    """How a masked student scores sentences: see its settings."""
    score_precision: str = "fp32"


def opened(folder: Path) -> tuple[Any, Any, About]:
    """The network, ready to answer, its tokenizer, and what ``save`` was told.

    Raises:
        DataError: the folder is no such model; the message says what is missing.
    """
    check_model_folder(folder, "model")
    try:
        told = json.loads((folder / ABOUT).read_text("utf-8"))
        about = About(**told | {"labels": tuple(told["labels"])})
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        raise DataError(f"model: {str(folder / ABOUT)!r} is missing or broken; train the model again") from None
    network, tokenizer = read(folder, f"model: {str(folder)!r}", about.kind, local_files_only=True)
    return network.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer, about


def save(folder: Path, network: Any, tokenizer: Any, about: About, facts: Mapping[str, str], base: str | None) -> None:
    """Write weights, config, tokenizer, model card and what ``opened`` needs into ``folder``."""
    with quiet():
        network.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):
        weights.chmod(0o644)  # written for its owner alone
    tokenizer.chat_template = None  # what it has learnt are texts without
    tokenizer.save_pretrained(folder)
    tell(folder, about)
    front = [f"base_model: {json.dumps(base)}"] if base else []
    front += ["library_name: transformers"]
    front += [f"pipeline_tag: {TAGS[about.kind]}"] if about.kind in TAGS else []
    front += ["tags: [understudy, distillation]"]
    lines = [f"- {name}: {' '.join(str(value).split())}" for name, value in facts.items()]
    reads = "bare" if about.bare else "instruction" if about.preface else "question"
    words = {"reads": READS[reads], "does": DOES[about.kind], "use": USE[about.kind]}
    card = CARD.format(front="\n".join(front), facts="\n".join(lines), **words)
    (folder / "README.md").write_text(card, "utf-8")


def tell(folder: Path, about: About) -> None:
    """Write what the model must know to answer."""
    content = json.dumps(asdict(about), indent=2, ensure_ascii=False) + "\n"
    write_atomically(folder / ABOUT, content.encode())


def card_facts(trained: Trained, base: str, card: Mapping[str, str]) -> dict[str, str]:
    """The lines of a model card."""
    return {
        "Base": base,
        "Training rows": str(trained.details["rows"]),
        "Parameters": f"{trained.parameters:,}",
        "Steps": f"{trained.steps} ({trained.tokens:,} tokens)",
        **({"Kept": kept_of(**held)} if (held := trained.details.get("held_back")) else {}),
        **card,
    }


def kept_of(rows: int, step: int, loss: float) -> str:
    """Which weights were kept, and on what evidence, for a person."""
    return f"the weights after step {step}, with the lowest loss on {rows:,} rows that were held back: {loss:.4g}"
