"""Networks with random weights, and a tokenizer trained on the text that they are trained on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    T5Config,
)

from understudy.students.settings import CausalScratch, MaskedScratch, Scratch, Seq2SeqScratch

LONG_WORD = re.compile(r"\S{100,}")  # teaches no tokens, and takes time by the square of its length
PAD, END = "<|pad|>", "<|end|>"
ROBERTAS = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}


def causal_from_scratch(scratch: CausalScratch, tokenizer: Any, positions: int) -> Any:
    """A causal language model of so many positions."""
    shared: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": scratch.hidden_size,
        "num_hidden_layers": scratch.layers,
        "num_attention_heads": scratch.heads,
        "max_position_embeddings": positions,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": True,
        "initializer_range": _spread(scratch),
    }
    if scratch.architecture == "gpt2":
        return AutoModelForCausalLM.from_config(GPT2Config(**shared))
    return AutoModelForCausalLM.from_config(LlamaConfig(**shared, intermediate_size=_inner(scratch)))


def masked_from_scratch(scratch: MaskedScratch, tokenizer: Any, positions: int) -> Any:
    """A masked language model of so many positions; without dropout, as small networks see no text often."""
    start, end, pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
    shared: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": scratch.hidden_size,
        "num_hidden_layers": scratch.layers,
        "num_attention_heads": scratch.heads,
        "initializer_range": _spread(scratch),
        "pad_token_id": pad,
        "bos_token_id": start,
        "eos_token_id": end,
    }
    if scratch.architecture == "modernbert":
        config: Any = ModernBertConfig(
            **shared,
            intermediate_size=_inner(scratch),
            max_position_embeddings=positions,
            local_attention=2 * positions,  # every layer sees the whole text
            cls_token_id=start,
            sep_token_id=end,
        )
    else:
        config = RobertaConfig(
            **shared,
            intermediate_size=4 * scratch.hidden_size,
            max_position_embeddings=positions + pad + 1,  # RoBERTa counts them from behind that of the padding
            type_vocab_size=1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    return AutoModelForMaskedLM.from_config(config)


def seq2seq_from_scratch(scratch: Seq2SeqScratch, texts: Iterable[str]) -> tuple[Any, Any]:
    """A T5, whose positions have no end, and its tokenizer, which ends a text with the stop token."""
    tokenizer = tokenizer_of(texts, scratch.vocab_size)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[attr-defined]
        single=f"$A {END}", special_tokens=[(END, tokenizer.eos_token_id)]
    )
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=scratch.hidden_size,
        d_kv=scratch.hidden_size // scratch.heads,
        d_ff=_inner(scratch),
        num_layers=scratch.layers,
        num_heads=scratch.heads,
        feed_forward_proj="gated-gelu",  # as T5's later versions
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dropout_rate=0.0,  # as T5 was pretrained since: few steps suffice
        decoder_start_token_id=tokenizer.pad_token_id,  # pyright: ignore[reportCallIssue]
    )
    return AutoModelForSeq2SeqLM.from_config(config), tokenizer


def _spread(scratch: Scratch) -> float:
    """The standard deviation of weights: GPT-2's and RoBERTa's, by width, so that small networks start alive."""
    return 0.02 * (768 / scratch.hidden_size) ** 0.5


def _inner(scratch: Scratch) -> int:
    """The width between the two maps of a layer: 8/3 of the network's, as Llama and T5 have it."""
    return -(-scratch.hidden_size * 8 // 3 // 16) * 16


def tokenizer_of(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE of so many tokens at most, so that it knows every text."""
    return PreTrainedTokenizerFast(tokenizer_object=_bytewise(texts, size, [PAD, END]), pad_token=PAD, eos_token=END)


def masked_tokenizer_of(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """The same with the special tokens of RoBERTa, two of which stand around every text."""
    start, end = ROBERTAS["cls_token"], ROBERTAS["sep_token"]
    bytewise = _bytewise(texts, size, [*ROBERTAS.values()])
    ids = [(token, bytewise.token_to_id(token)) for token in (start, end)]
    bytewise.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", pair=f"{start} $A {end} {end} $B {end}", special_tokens=ids
    )
    return PreTrainedTokenizerFast(tokenizer_object=bytewise, **ROBERTAS, bos_token=start, eos_token=end)


def _bytewise(texts: Iterable[str], size: int, special: list[str]) -> Any:
    bytewise: Any = Tokenizer(models.BPE())
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bytewise.train_from_iterator((LONG_WORD.sub(" ", text) for text in texts), trainer)
    return bytewise
