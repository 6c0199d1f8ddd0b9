"""A trained language model as a folder, and how it answers: by ranking options, or by writing."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from understudy.errors import DataError
from understudy.records import Example, Prediction
from understudy.students import Trained, serial
from understudy.students.base import check_model_folder
from understudy.students.batches import by_length
from understudy.students.choices import Ranked, rank
from understudy.students.language import encode, longest_of, read, stop_of
from understudy.students.network import quiet
from understudy.task import COMMAS

WINDOW = 512  # inputs that are sorted by length together; no more are held in memory
BATCH_TOKENS = 4096
ABOUT = "student.json"

CARD = """---
{front}
---

# A language model trained with Understudy

{facts}

## Use

It reads `Q: <question>`, for a choice ` (A) <first> (B) <second>`, a line break and `A:`, and goes on.

```python
from transformers import pipeline

answer = pipeline("text-generation", "the/folder/of/this/file")
```
"""


@dataclass(frozen=True, slots=True)
class About:
    """What a model must know of its training to answer."""

    kind: str  # of the student
    task: str  # the task's kind
    labels: tuple[str, ...]
    rank_by: str
    max_length: int
    max_new_tokens: int


@dataclass(frozen=True)
class LanguageModel:
    """A trained causal student."""

    network: Any
    tokenizer: Any
    about: About

    def predict(self, inputs: Iterable[str | Example]) -> Iterator[Prediction]:
        """One prediction an input, in input order.

        The options of an example, or the labels of a classification task, are ranked by likelihood, and ``scores``
        holds their shares. For anything else the answer is the first line that the model writes.

        Raises:
            DataError: an example has more options than letters, or an option without a token.
        """
        stream = iter(inputs)
        while window := list(islice(stream, WINDOW)):
            options = [self._options(one) for one in window]
            ranked = self._rank([(one, texts) for one, texts in zip(window, options, strict=True) if texts])
            written = self._write([one for one, texts in zip(window, options, strict=True) if not texts])
            for texts in options:
                yield next(ranked) if texts else next(written)

    def _options(self, one: str | Example) -> tuple[str, ...]:
        if isinstance(one, Example) and one.choices:
            return one.choices
        return self.about.labels if self.about.task == "classification" else ()

    def _rank(self, rows: Sequence[tuple[str | Example, tuple[str, ...]]]) -> Iterator[Prediction]:
        coded = encode(self.tokenizer, [self._ranked_parts(one, names) for one, names in rows])
        cut = []
        for prompt, lead, *options in coded:
            room = longest_of(self.network, self.about.max_length) - max(map(len, options))
            cut.append(((prompt + lead)[-max(1, room) :], options))
        ranking = rank(self.network, cut, pad_id=self._stop, batch_tokens=BATCH_TOKENS)
        for (one, names), scores in zip(rows, ranking, strict=True):
            by_mean = isinstance(one, Example) and bool(one.choices) and self.about.rank_by == "text"
            yield _best(names, scores, by_mean)

    def _ranked_parts(self, one: str | Example, names: tuple[str, ...]) -> tuple[str, ...]:
        """The prompt, what leads from it to the options, and the options."""
        if not (isinstance(one, Example) and one.choices):
            return serial.prompt_of(one), serial.LEAD, *map(serial.label_part, names)
        if self.about.rank_by == "letter":
            return serial.prompt_of(one), f"{serial.LEAD} (", *serial.letters_of(one)
        return serial.prompt_of(one), serial.LEAD, *(f" {name}" for name in names)

    def _write(self, rows: Sequence[str | Example]) -> Iterator[Prediction]:
        limit = longest_of(self.network, self.about.max_length + self.about.max_new_tokens)
        room = max(1, min(self.about.max_length, limit - self.about.max_new_tokens))
        prompts = [prompt[-room:] for (prompt,) in encode(self.tokenizer, [(serial.prompt_of(one),) for one in rows])]
        texts = [""] * len(rows)
        for batch in by_length([len(prompt) for prompt in prompts], BATCH_TOKENS):
            for i, text in zip(batch, self._continue([prompts[i] for i in batch]), strict=True):
                texts[i] = text
        yield from map(self._prediction, texts)

    def _continue(self, prompts: Sequence[Sequence[int]]) -> list[str]:
        """What the model writes after each prompt, up to the end of the line."""
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), self._stop)
        mask = torch.zeros_like(ids)
        for i, prompt in enumerate(prompts):
            ids[i, width - len(prompt) :] = torch.tensor(prompt)
            mask[i, width - len(prompt) :] = 1
        with torch.inference_mode(), quiet():
            out = self.network.generate(
                input_ids=ids.to(self.network.device),
                attention_mask=mask.to(self.network.device),
                max_new_tokens=min(self.about.max_new_tokens, longest_of(self.network, 1 << 30) - width),
                do_sample=False,
                num_beams=1,
                eos_token_id=self._ends,
                pad_token_id=self._stop,
            )
        texts = self.tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
        return [text.partition("\n")[0].strip() for text in texts]

    def _prediction(self, text: str) -> Prediction:
        if self.about.task != "multilabel":
            return Prediction(text)
        named = text.removeprefix(serial.LEAD.strip()).strip().removesuffix(".")
        told = {label.strip() for label in re.split(COMMAS, named)}
        return Prediction(tuple(label for label in self.about.labels if label in told))

    @cached_property
    def _stop(self) -> int:
        stop = stop_of(self.network, self.tokenizer)
        assert stop is not None  # the base was refused without one
        return stop

    @cached_property
    def _ends(self) -> list[int]:
        """The stop token, and the tokens that end a line."""
        texts = self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])
        return [self._stop, *(i for i, text in enumerate(texts) if "\n" in text and i != self._stop)]


def load(folder: Path) -> LanguageModel:
    """See ``understudy.students.load_model``."""
    check_model_folder(folder, "model")
    try:
        told = json.loads((folder / ABOUT).read_text("utf-8"))
        about = About(**told | {"labels": tuple(told["labels"])})
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        raise DataError(f"model: {str(folder / ABOUT)!r} is missing or broken; train the model again") from None
    network, tokenizer = read(folder, f"model: {str(folder)!r}", local_files_only=True)
    return LanguageModel(network.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer, about)


def save(folder: Path, network: Any, tokenizer: Any, about: About, facts: Mapping[str, str], base: str | None) -> None:
    """Write weights, config, tokenizer, model card and what ``load`` needs into ``folder``."""
    with quiet():
        network.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):
        weights.chmod(0o644)  # written for its owner alone
    tokenizer.save_pretrained(folder)
    (folder / ABOUT).write_text(json.dumps(asdict(about), indent=2, ensure_ascii=False) + "\n", "utf-8")
    front = [f"base_model: {json.dumps(base)}"] if base else []
    front += ["library_name: transformers", "pipeline_tag: text-generation", "tags: [understudy, distillation]"]
    lines = [f"- {name}: {' '.join(str(value).split())}" for name, value in facts.items()]
    (folder / "README.md").write_text(CARD.format(front="\n".join(front), facts="\n".join(lines)), "utf-8")


def card_facts(trained: Trained, base: str, card: Mapping[str, str]) -> dict[str, str]:
    """The lines of a model card."""
    return {
        "Base": base,
        "Training rows": str(trained.details["rows"]),
        "Parameters": f"{trained.parameters:,}",
        "Steps": f"{trained.steps} ({trained.tokens:,} tokens)",
        **card,
    }


def _best(names: Sequence[str], scores: Sequence[Ranked], by_mean: bool) -> Prediction:
    values = [one.mean if by_mean else one.total for one in scores]
    top = max(values)
    weights = [math.exp(value - top) for value in values]
    shares = {name: weight / sum(weights) for name, weight in zip(names, weights, strict=True)}
    return Prediction(names[values.index(top)], shares)
