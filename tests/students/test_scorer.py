"""Any masked or causal model says how likely sentences are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_pseudo_likelihood import MASKED, network_of, tokenizer_of
from tiny import write_causal, write_seq2seq
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, BertModel

from understudy.errors import DataError
from understudy.students.language import read
from understudy.students.log_likelihood import log_likelihoods
from understudy.students.pseudo_likelihood import pseudo_log_likelihoods
from understudy.students.scorer import likelihoods_of, open_scorer

TEXTS = ["the dog barks", "the dog bark", "a cat walked,"]


def write_masked(family: str, folder: Path) -> str:
    tokenizer_of("bytes", folder)
    network_of(family).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("family", MASKED)
def test_a_masked_model_by_its_folder(family: str, tmp_path: Path):
    folder = write_masked(family, tmp_path)
    network, tokenizer = network_of(family), AutoTokenizer.from_pretrained(folder)
    for within_word in (False, True):
        expected = list(pseudo_log_likelihoods(network, tokenizer, TEXTS, within_word=within_word))
        scorer = open_scorer(folder, within_word=within_word, precision="fp32")
        assert list(scorer(TEXTS)) == pytest.approx(expected, abs=1e-4)
        assert list(scorer(iter(TEXTS[:1]))) == pytest.approx(expected[:1], abs=1e-4)  # a scorer may be asked again


def test_a_causal_model_by_its_folder(tmp_path: Path):
    folder = Path(write_causal("llama", tmp_path))
    network, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    expected = list(log_likelihoods(network, tokenizer, TEXTS))
    assert list(open_scorer(folder, precision="fp32")(TEXTS)) == pytest.approx(expected, abs=1e-4)
    assert list(open_scorer(folder, precision="bf16", batch_tokens=8)(TEXTS)) == pytest.approx(expected, rel=0.05)
    with pytest.raises(DataError, match="is causal, and hides no words; leave within_word out"):
        open_scorer(folder, within_word=True)


def test_a_network_in_memory(tmp_path: Path):
    network: Any = network_of("roberta")
    tokenizer = tokenizer_of("bytes", tmp_path)
    found = list(likelihoods_of(network, tokenizer, TEXTS, precision="fp32", batch_tokens=10**6))
    assert found == pytest.approx(list(pseudo_log_likelihoods(network, tokenizer, TEXTS)), abs=1e-4)


def test_what_scores_no_sentences_is_a_clear_line(tmp_path: Path):
    tokenizer_of("pieces", tmp_path / "headless")
    torch.manual_seed(0)
    small = BertConfig(vocab_size=60, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48)
    BertModel(small).save_pretrained(tmp_path / "headless")
    with pytest.raises(DataError, match="an encoder without the head that fills gaps, as 'cls.* is not there"):
        open_scorer(tmp_path / "headless")
    with pytest.raises(DataError, match=r"is an encoder-decoder \(t5\); name a masked or a causal language model"):
        open_scorer(write_seq2seq("t5", tmp_path / "t5"))
    with pytest.raises(DataError, match="model: there is no folder"):
        open_scorer(tmp_path / "nowhere")


def test_a_masked_base_is_read_by_its_kind_and_named_as_before_under_others(tmp_path: Path):
    folder = write_masked("roberta", tmp_path / "masked")
    network, _ = read(folder, "student.base: 'x'", "masked")
    assert type(network).__name__ == "RobertaForMaskedLM"
    with pytest.raises(
        DataError, match=r"'x' is an encoder \(roberta\), not a causal .*; use student.kind: classifier"
    ):
        read(folder, "student.base: 'x'", "causal")
    causal = write_causal("llama", tmp_path / "causal")
    with pytest.raises(DataError, match=r"is a causal language model \(llama\), not a masked language model; use stu"):
        read(causal, "student.base: 'x'", "masked")
