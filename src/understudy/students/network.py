"""The classifier as a network that ``from_pretrained`` opens: encoder, pooling, unit length, linear head.

Importing this module tells transformers' Auto classes of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from understudy.errors import DataError
from understudy.pretrained import loading, local_folder, pooling_of
from understudy.students.language import positions_of


class ClassifierConfig(PretrainedConfig):
    """What ``config.json`` holds: the encoder's own config, the pooling, the labels and the multilabel threshold."""

    model_type = "understudy_classifier"

    def __init__(
        self, encoder: dict[str, Any] | None = None, pooling: str = "mean", threshold: float = 0.5, **rest: Any
    ) -> None:
        self.encoder = encoder or {}
        self.pooling = pooling
        self.threshold = threshold
        super().__init__(**rest)


class UnderstudyClassifier(PreTrainedModel):
    """``logits = head(unit length of the pooled encoder output)``."""

    config_class = ClassifierConfig
    base_model_prefix = "encoder"

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__(config)
        encoder = AutoConfig.for_model(**config.encoder)
        self.encoder = AutoModel.from_config(encoder)
        self.head = nn.Linear(encoder.hidden_size, len(config.id2label or ()))
        self.post_init()

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and mask, (rows, tokens), to embeddings of unit length, (rows, width) float32."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
        if self.config.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            kept = attention_mask.unsqueeze(-1).float()
            pooled = (hidden * kept).sum(1) / kept.sum(1).clamp(min=1)
        return F.normalize(pooled, dim=-1)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **_: Any
    ) -> SequenceClassifierOutput:
        """Logits, (rows, labels); with ``labels`` (numbers, or 0/1 of every label where multilabel) the loss too."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        logits = self.head(self.embed(input_ids, mask))
        loss = None if labels is None else self.loss(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)  # pyright: ignore[reportArgumentType]

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean over rows of the log loss that the head was fitted with."""
        if self.config.problem_type == "multi_label_classification":
            return F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="sum") / len(logits)
        return F.cross_entropy(logits, labels)

    @property
    def labels(self) -> list[str]:
        """The labels' names in the order of the logits."""
        return [name for _, name in sorted((self.config.id2label or {}).items(), key=lambda item: int(item[0]))]

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits to one probability a label."""
        return logits.sigmoid() if self.config.problem_type == "multi_label_classification" else logits.softmax(-1)


AutoConfig.register(ClassifierConfig.model_type, ClassifierConfig, exist_ok=True)
AutoModelForSequenceClassification.register(ClassifierConfig, UnderstudyClassifier, exist_ok=True)


def from_base(
    base: str,
    revision: str | None,
    labels: tuple[str, ...],
    exclusive: bool,
    max_length: int,
    layers: int | None = None,
) -> tuple[UnderstudyClassifier, Any]:
    """A classifier around the encoder ``base``, and its tokenizer; the head is yet to be set.

    Weights are read from safetensors only, in float32, and no code comes with them.

    Raises:
        DataError: the base cannot be loaded, has fewer than ``layers`` layers, or its tokenizer cannot pad.
        MissingPackage: the base comes as a package that is not installed.
    """
    folder = local_folder(base)
    source = base if folder is None else str(folder)
    where: dict[str, Any] = {"revision": revision} if folder is None and revision else {}
    try:
        with loading():
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **where)
            config = AutoConfig.from_pretrained(source, trust_remote_code=False, **where)
            encoder, told = AutoModel.from_pretrained(
                source, config=_with_layers(config, layers, base), trust_remote_code=False, use_safetensors=True,
                dtype=torch.float32, output_loading_info=True, **where,
            )  # fmt: skip
    except DataError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0]
        raise DataError(f"student.base: {base!r} cannot be loaded: {first}") from error
    if tokenizer.pad_token_id is None:
        raise DataError(f"student.base: the tokenizer of {base!r} has no padding token; use a base that is an encoder")
    _without_chance(encoder, told["missing_keys"], base)
    tokenizer.model_max_length = min(max_length, positions_of(encoder)[0] or max_length)
    config = ClassifierConfig(
        encoder={k: v for k, v in encoder.config.to_dict().items() if k != "_name_or_path"},
        pooling=pooling_of(folder),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        problem_type="single_label_classification" if exclusive else "multi_label_classification",
    )
    with torch.device("meta"):
        network = UnderstudyClassifier(config)
    network.encoder = encoder
    network.head = nn.Linear(encoder.config.hidden_size, len(labels))
    return on_device(network), tokenizer


def _without_chance(encoder: Any, missing: Iterable[str], base: str) -> None:
    """Zeros for a pooler that a masked language model has no weights of: nothing reads it, and chance would fill it.

    Raises:
        DataError: the base lacks other weights.
    """
    others = sorted(name for name in missing if not name.startswith("pooler."))
    if others:
        raise DataError(f"student.base: {base!r} has no weights for {', '.join(others[:3])}; save the whole model")
    for name in missing:
        nn.init.zeros_(encoder.get_parameter(name))


def _with_layers(config: Any, layers: int | None, base: str) -> Any:
    """The config of the first so many layers, whose weights alone are then read."""
    if layers is None:
        return config
    has = getattr(config, "num_hidden_layers", None)
    if has is None or layers > has:
        raise DataError(f"student.layers: {base!r} has {has or 'no known number of'} layers, not {layers}; set fewer")
    for name, value in vars(config).items():
        if isinstance(value, list) and len(value) == has:  # what is said of each layer
            setattr(config, name, value[:layers])
    config.num_hidden_layers = layers
    return config


def on_device(network: UnderstudyClassifier) -> UnderstudyClassifier:
    """Ready to predict, on the GPU where there is one."""
    nn.Module.to(network, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return network.eval()
