"""A trained classifier as a folder: written, read, and asked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from understudy.errors import DataError
from understudy.pretrained import PACKAGED, check_model_folder, loading, quiet
from understudy.records import Example, Prediction
from understudy.students import Trained
from understudy.students.batches import by_length, padded
from understudy.students.network import ClassifierConfig, UnderstudyClassifier, on_device
from understudy.students.settings import ClassifierSettings

WINDOW = 1024  # inputs that are sorted by length together; no more are held in memory

CARD = """---
{front}
---

# A classifier trained with Understudy

{facts}

## Use

```python
import understudy.students.classifier  # tells transformers of the architecture
from transformers import pipeline

classify = pipeline("text-classification", "the/folder/of/this/file", truncation=True)
```
"""


@dataclass(slots=True)
class ClassifierModel:
    """A trained classifier."""

    network: UnderstudyClassifier
    tokenizer: Any
    truncated: int = field(default=0, init=False)

    def predict(self, inputs: Iterable[str | Example]) -> Iterator[Prediction]:
        """One prediction an input, in input order; the scores are the probability of each label."""
        stream = (one if isinstance(one, str) else one.input for one in inputs)
        while window := list(islice(stream, WINDOW)):
            coded = self.tokenizer(window, truncation=True, return_attention_mask=False)
            self.truncated += sum(bool(one.overflowing) for one in coded.encodings or ())
            ids = coded["input_ids"]
            p = torch.empty(len(ids), len(self.network.labels))
            with torch.inference_mode():
                for batch in by_length([len(row) for row in ids]):
                    rows = padded([ids[i] for i in batch], self.tokenizer.pad_token_id, self.network.device)
                    p[batch] = self.network.probabilities(self.network(*rows).logits).cpu()
            yield from map(self._prediction, p.tolist())

    def _prediction(self, p: list[float]) -> Prediction:
        config, names = self.network.config, self.network.labels
        if config.problem_type == "multi_label_classification":
            output = tuple(name for name, score in zip(names, p, strict=True) if score >= config.threshold)
        else:
            output = names[max(range(len(p)), key=p.__getitem__)]
        return Prediction(output, dict(zip(names, p, strict=True)))


def token_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, cut off at the tokenizer's length."""
    return tokenizer(texts, truncation=True, return_attention_mask=False)["input_ids"] if texts else []


def load(folder: Path) -> ClassifierModel:
    """See ``understudy.students.load_model``."""
    check_model_folder(folder, "model")
    try:
        kind = json.loads((folder / "config.json").read_text("utf-8")).get("model_type")
    except (ValueError, AttributeError):
        raise DataError(f"model: {str(folder / 'config.json')!r} is not JSON; train the model again") from None
    if kind != ClassifierConfig.model_type:
        raise DataError(
            f"model: {str(folder)!r} holds a model of type {kind!r}, not one that Understudy trained; "
            "name a folder such as runs/<study>/arms/<arm>/seed-0/model"
        )
    try:
        with loading():
            network = AutoModelForSequenceClassification.from_pretrained(
                folder, use_safetensors=True, dtype=torch.float32, local_files_only=True
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever a damaged file makes of it
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"model: {str(folder)!r} cannot be loaded ({first}); train the model again") from error
    return ClassifierModel(on_device(network), tokenizer)


def save(
    folder: Path,
    network: UnderstudyClassifier,
    tokenizer: Any,
    settings: ClassifierSettings,
    trained: Trained,
    card: Mapping[str, str],
) -> None:
    """Write weights, config, tokenizer and model card into ``folder``."""
    with quiet():
        network.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):
        weights.chmod(0o644)  # written for its owner alone
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(_card(settings, network.labels, trained, card), "utf-8")


def _card(settings: ClassifierSettings, labels: list[str], trained: Trained, card: Mapping[str, str]) -> str:
    packaged, folder = PACKAGED.get(settings.base), Path(settings.base).expanduser()
    base = f"sentence-transformers/{settings.base}" if packaged else settings.base
    few = {None: "", 1: ", its first layer"}.get(settings.layers, f", its first {settings.layers} layers")
    front = [f"license: {packaged.licence}"] if packaged else []
    if not folder.is_dir():
        front.append(f"base_model: {json.dumps(base)}")
    front += ["library_name: transformers", "pipeline_tag: text-classification", "tags: [understudy, distillation]"]
    facts = {
        "Base": (folder.name if folder.is_dir() else base) + few,
        "Labels": ", ".join(labels),
        "Training rows": str(trained.details["rows"]),
        "Parameters": f"{trained.parameters:,}",
        "Kept": trained.details["kept"],
        "Steps of the whole network": f"{trained.steps} ({trained.tokens:,} tokens)",
        **card,
    }
    lines = [f"- {name}: {' '.join(str(value).split())}" for name, value in facts.items()]
    return CARD.format(front="\n".join(front), facts="\n".join(lines))
