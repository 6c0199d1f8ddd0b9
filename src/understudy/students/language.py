"""Language models to start from: of a hub id, a folder, or random weights with a tokenizer of the training text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, LlamaConfig, PreTrainedTokenizerFast

from understudy.errors import DataError, SettingsError
from understudy.records import Example, digest
from understudy.settings import did_you_mean
from understudy.students import serial
from understudy.students.base import identity, local_folder
from understudy.students.network import quiet
from understudy.students.packing import IGNORED, Row
from understudy.students.settings import CausalSettings, Lora, Scratch
from understudy.task import Task

PAD, END = "<|pad|>", "<|end|>"


def origin_of(settings: CausalSettings) -> str:
    """What the student starts from, by content.

    Raises: as ``understudy.students.base.identity``.
    """
    if isinstance(settings.base, Scratch):
        return f"scratch:{digest(settings.base.canonical())}"
    return identity(settings.base, settings.revision)


def open_base(settings: CausalSettings, texts: Iterable[str]) -> tuple[Any, Any]:
    """The network, float32, and its tokenizer. ``texts`` train the tokenizer of a network with random weights.

    Weights are read from safetensors only, and no code comes with them.

    Raises:
        DataError: the base cannot be loaded, sees later tokens, or has no stop token.
    """
    if isinstance(settings.base, Scratch):
        return _from_scratch(settings.base, texts, settings.max_length + settings.max_new_tokens)
    folder = local_folder(settings.base)
    source = settings.base if folder is None else str(folder)
    where: dict[str, Any] = {"revision": settings.revision} if folder is None and settings.revision else {}
    network, tokenizer = read(source, f"student.base: {settings.base!r}", **where)
    if not _reads_forward(network):
        raise DataError(
            f"student.base: {settings.base!r} sees the tokens after the one it predicts; use a causal model"
        )
    if stop_of(network, tokenizer) is None:
        raise DataError(f"student.base: {settings.base!r} has no stop token; set eos_token in its tokenizer")
    return network, tokenizer


def read(source: str | Path, what: str, **where: Any) -> tuple[Any, Any]:
    """A causal language model in float32 and its tokenizer.

    Raises:
        DataError: they cannot be loaded.
    """
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **where)
            network = AutoModelForCausalLM.from_pretrained(
                source, trust_remote_code=False, use_safetensors=True, dtype=torch.float32, **where
            )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{what} cannot be loaded as a causal language model: {first}") from error
    return network, tokenizer


def stop_of(network: Any, tokenizer: Any) -> int | None:
    """The token that ends a text."""
    stop = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else network.config.eos_token_id
    return stop[0] if isinstance(stop, list) else stop


def longest_of(network: Any, max_length: int) -> int:
    """The most tokens of a sequence: as set, or fewer where the network has no more positions."""
    return min(max_length, getattr(network.config, "max_position_embeddings", None) or max_length)


def with_lora(network: Any, lora: Lora) -> Any:
    """The network with adapters, which alone are trained.

    Raises:
        SettingsError: the network has no layer of a name in ``targets``.
    """
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    linear = (nn.Linear, Conv1D, nn.Embedding)
    names = {name.rpartition(".")[2] for name, module in network.named_modules() if isinstance(module, linear)}
    for target in lora.targets or ():
        if target not in names:
            raise SettingsError(
                f"student.lora.targets: the base has no layer {target!r}. {did_you_mean(target, sorted(names))}"
            )
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # pyright: ignore[reportArgumentType]  # it is only divided by r
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets) if lora.targets else "all-linear",
        fan_in_fan_out=network.config.model_type == "gpt2",  # its layers hold their weights transposed
        task_type="CAUSAL_LM",
    )
    return get_peft_model(network, config)


def encode(tokenizer: Any, parts: Sequence[tuple[str, ...]]) -> list[list[list[int]]]:
    """Token ids of each part of each text; the first part begins with the tokenizer's start token, if it has one."""
    if not parts:
        return []
    flat = [part for text in parts for part in text]
    with quiet():  # it warns of texts longer than the model
        ids = iter(tokenizer(flat, add_special_tokens=False, return_attention_mask=False)["input_ids"])
    coded = [[list(next(ids)) for _ in text] for text in parts]
    start = _start_of(tokenizer)
    for text in coded:
        text[0] = start + text[0]
    return coded


def rows_of(
    examples: Sequence[Example], task: Task, tokenizer: Any, stop: int, settings: CausalSettings, limit: int
) -> tuple[list[Row], int]:
    """Each example as it is learnt, at most its last ``limit`` tokens; and how many were longer.

    Raises: as ``serial.answer_parts``.
    """
    rows, cut = [], 0
    for prompt, *rest in encode(tokenizer, [serial.text_of(example, task) for example in examples]):
        answer = [token for part in rest for token in part] + [stop]
        ids = prompt + answer
        labels = ids if settings.loss_on == "all" else [IGNORED] * len(prompt) + answer
        cut += len(ids) > limit
        rows.append(Row(input_ids=ids[-limit:], labels=[IGNORED, *labels[-limit:][1:]]))
    return rows, cut


def _from_scratch(scratch: Scratch, texts: Iterable[str], positions: int) -> tuple[Any, Any]:
    tokenizer = _tokenizer_of(texts, scratch.vocab_size)
    shared = {
        "vocab_size": len(tokenizer),
        "hidden_size": scratch.hidden_size,
        "num_hidden_layers": scratch.layers,
        "num_attention_heads": scratch.heads,
        "max_position_embeddings": positions,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": True,
        "initializer_range": 0.02 * (768 / scratch.hidden_size) ** 0.5,  # GPT-2's, by width: small networks start alive
    }
    if scratch.architecture == "gpt2":
        return AutoModelForCausalLM.from_config(GPT2Config(**shared)), tokenizer
    inner = -(-scratch.hidden_size * 8 // 3 // 16) * 16  # as Llama's: 8/3 of the width
    return AutoModelForCausalLM.from_config(LlamaConfig(**shared, intermediate_size=inner)), tokenizer


def _tokenizer_of(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE, so that it knows every text."""
    bytewise: Any = Tokenizer(models.BPE())
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bytewise.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bytewise, pad_token=PAD, eos_token=END)


def _start_of(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before every text."""
    start = tokenizer.bos_token_id
    return [start] if start is not None and tokenizer("a")["input_ids"][:1] == [start] else []


@torch.no_grad()
def _reads_forward(network: Any) -> bool:
    ids = torch.tensor([[0, 1, 2], [0, 1, 3]])
    a, b = network.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, :2]
    return bool(torch.allclose(a, b, atol=1e-4 * float(a.std())))
