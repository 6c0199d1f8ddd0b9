"""Tiny random language models, saved on disk as those of the hub are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FAMILIES = ("llama", "opt", "gpt_neox", "gpt2", "bloom")
ENCODER_DECODERS = ("t5", "bart")
GAP_FILLERS = ("roberta", "bert", "modernbert", "deberta-v2")
END = "<|end|>"


def write_causal(family: str, folder: Path, positions: int = 256, wide: float = 0.2) -> str:
    """A model of two layers with a tokenizer of bytes that has a stop token and no padding token.

    Weights are drawn ``wide``, so that what a token sees shows in its logits.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytewise = Tokenizer(models.BPE({token: i for i, token in enumerate([END, *alphabet])}, []))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    bytewise.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    PreTrainedTokenizerFast(tokenizer_object=bytewise, eos_token=END).save_pretrained(folder)
    shared = {"vocab_size": 257, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "eos_token_id": 0}
    special = {"bos_token_id": None, "pad_token_id": None, "max_position_embeddings": positions}
    own = {
        "llama": {"intermediate_size": 64},
        "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
        "gpt_neox": {"intermediate_size": 64},
        "gpt2": {},
        "bloom": {},
    }[family]
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **shared, **special, **own, initializer_range=wide, init_std=wide)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return str(folder)


def write_seq2seq(family: str, folder: Path, positions: int = 256, dropout: float = 0.0) -> str:
    """An encoder-decoder of two layers a half, with a tokenizer of characters of the family's own class.

    T5's puts a stop token behind a text and knows no line breaks; BART's puts a token before it too, and its model is
    published with settings of another task: beams, a least length, and no three tokens twice.
    """
    import torch
    from tokenizers import pre_tokenizers
    from transformers import (
        AutoConfig,
        AutoModelForSeq2SeqLM,
        BartTokenizer,
        GenerationConfig,
        T5Tokenizer,
    )

    if family == "t5":
        special = {"<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0}
        plain = ["▁", *map(chr, range(33, 127))]
        pieces = special | dict.fromkeys(plain, -4.0) | dict.fromkeys(["▁The", "▁answer", "▁is", "▁("], -5.0)
        tokenizer = T5Tokenizer(vocab=list(pieces.items()), extra_ids=0)
        own = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "dropout_rate": dropout}
        asked = {}
    else:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *alphabet]
        tokenizer = BartTokenizer(vocab={name: i for i, name in enumerate(names)}, merges=[])
        own = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
               "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "dropout": dropout,
               "max_position_embeddings": positions, "bos_token_id": 0, "init_std": 0.1}  # fmt: skip
        asked = {"num_beams": 4, "min_length": 30, "no_repeat_ngram_size": 3, "early_stopping": True,
                 "forced_bos_token_id": 0, "bos_token_id": 0}  # fmt: skip
    tokenizer.save_pretrained(folder)
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    ids["decoder_start_token_id"] = ids["pad_token_id"] if family == "t5" else ids["eos_token_id"]
    torch.manual_seed(0)
    network = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(family, vocab_size=len(tokenizer), **ids, **own))
    network.generation_config = GenerationConfig(**ids, **asked)
    network.save_pretrained(folder)
    return str(folder)


def write_masked(family: str, folder: Path, positions: int = 66, mask: str | None = "<mask>") -> str:
    """A masked language model of two layers with a tokenizer of bytes; weights are drawn wide."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedTokenizerFast

    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bytewise: Any = Tokenizer(models.BPE({token: i for i, token in enumerate(names)}, []))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    bytewise.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    special = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>"}
    special |= {"mask_token": mask} if mask else {}
    PreTrainedTokenizerFast(tokenizer_object=bytewise, **special).save_pretrained(folder)
    shared = {"vocab_size": len(names), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
              "intermediate_size": 64, "max_position_embeddings": positions, "pad_token_id": 1,
              "initializer_range": 0.2}  # fmt: skip
    own = {"modernbert": {"cls_token_id": 0, "sep_token_id": 2, "bos_token_id": 0, "eos_token_id": 2}}
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **shared, **own.get(family, {}))
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    return str(folder)
