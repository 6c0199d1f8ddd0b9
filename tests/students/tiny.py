"""Tiny random language models, saved on disk as those of the hub are."""

from __future__ import annotations

from pathlib import Path

FAMILIES = ("llama", "opt", "gpt_neox", "gpt2", "bloom")
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
