"""Networks with random weights, and a tokenizer trained on the text that they are trained on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    T5Config,
)

from understudy.students.settings import CausalScratch, Scratch, Seq2SeqScratch

PAD, END = "<|pad|>", "<|end|>"


def causal_from_scratch(scratch: CausalScratch, texts: Iterable[str], positions: int) -> tuple[Any, Any]:
    """A causal language model of so many positions, and its tokenizer."""
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
    return AutoModelForCausalLM.from_config(LlamaConfig(**shared, intermediate_size=_inner(scratch))), tokenizer


def seq2seq_from_scratch(scratch: Seq2SeqScratch, texts: Iterable[str]) -> tuple[Any, Any]:
    """A T5, whose positions have no end, and its tokenizer, which ends a text with the stop token."""
    tokenizer = _tokenizer_of(texts, scratch.vocab_size)
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


def _inner(scratch: Scratch) -> int:
    """The width between the two maps of a layer: 8/3 of the network's, as Llama and T5 have it."""
    return -(-scratch.hidden_size * 8 // 3 // 16) * 16


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
