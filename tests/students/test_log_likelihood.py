"""Sentences scored by tiny random causal models, saved and loaded, against one sentence a forward pass."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import write_causal
from transformers import AutoModelForCausalLM, AutoTokenizer

from understudy.errors import DataError
from understudy.evaluation.minimal_pairs import predictions
from understudy.records import Example
from understudy.students import log_likelihood
from understudy.students.log_likelihood import log_likelihoods

POSITIONS = 48


def sentences(count: int) -> list[str]:
    draw = random.Random(0)
    words = ["the", "a", "dog", "dogs", "bark", "barks", "unseen", "é"]
    return [" ".join(draw.choices(words, k=draw.randint(1, 7)))[:POSITIONS] for _ in range(count)]


def opened(family: str, folder: Path) -> tuple[Any, Any]:
    write_causal(family, folder, POSITIONS)
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    return opened("llama", tmp_path_factory.mktemp("llama"))


def one_sentence_a_pass(network: Any, tokenizer: Any, texts: Sequence[str], start: int) -> list[float]:
    scores = []
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logits = network(input_ids=torch.tensor([[start, *ids]])).logits[0, :-1]
        scores.append(logits.log_softmax(-1)[range(len(ids)), ids].sum().item())
    return scores


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_score_is_that_of_one_sentence_a_forward_pass(family: str, tmp_path: Path):
    network, tokenizer = opened(family, tmp_path)
    texts = sentences(40)
    expected = one_sentence_a_pass(network, tokenizer, texts, tokenizer.eos_token_id)
    for batch_tokens in (1, 100, 10**6):
        found = log_likelihoods(network, tokenizer, texts, batch_tokens=batch_tokens)
        assert list(found) == pytest.approx(expected, abs=1e-4)


def test_the_first_token_follows_bos_where_there_is_one(llama: tuple[Any, Any]):
    network, tokenizer = llama
    start = tokenizer("~", add_special_tokens=False)["input_ids"][0]
    begun = AutoTokenizer.from_pretrained(tokenizer.name_or_path, bos_token="~")
    expected = one_sentence_a_pass(network, tokenizer, sentences(5), start)
    assert list(log_likelihoods(network, begun, sentences(5))) == pytest.approx(expected, abs=1e-4)


def test_equal_sentences_tie_to_the_last_bit(llama: tuple[Any, Any]):
    a, _, b = log_likelihoods(*llama, ["the dog barks", "a dog barks at the cat", "the dog barks"], batch_tokens=16)
    assert a == b


def test_sentences_are_read_a_window_at_a_time(llama: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(log_likelihood, "WINDOW", 8)
    texts, read = sentences(30), []
    found = log_likelihoods(*llama, (read.append(0) or text for text in texts))
    first = next(found)
    assert len(read) == 8
    expected = one_sentence_a_pass(*llama, texts, llama[1].eos_token_id)
    assert [first, *found] == pytest.approx(expected, abs=1e-4)
    assert list(log_likelihoods(*llama, [])) == []


def test_what_cannot_be_scored_is_a_clear_line(llama: tuple[Any, Any]):
    network, tokenizer = llama
    assert list(log_likelihoods(network, tokenizer, ["x" * POSITIONS]))
    with pytest.raises(DataError, match="its 49 tokens are more than the model's 48 positions"):
        list(log_likelihoods(network, tokenizer, ["a", "x" * (POSITIONS + 1)]))
    with pytest.raises(DataError, match="sentence '': there are no tokens to score"):
        list(log_likelihoods(network, tokenizer, ["a", ""]))
    endless = AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    endless.eos_token = None
    with pytest.raises(DataError, match="neither bos nor eos"):
        list(log_likelihoods(network, endless, ["a"]))


def test_bf16_moves_a_score_by_little(llama: tuple[Any, Any]):
    exact, rough = (list(log_likelihoods(*llama, sentences(20), precision=p)) for p in ("fp32", "bf16"))
    assert rough != exact
    assert rough == pytest.approx(exact, rel=0.05)


def test_pairs_are_judged_by_a_causal_student(llama: tuple[Any, Any]):
    given = [("the dog barks", "the dog bark"), ("dogs bark", "dogs barks"), ("same", "same")]
    rows = [Example(id=pair[0], input=pair[0], choices=pair) for pair in given]
    scores = one_sentence_a_pass(*llama, [text for pair in given for text in pair], 0)
    found = predictions(rows, lambda some: log_likelihoods(*llama, some))
    likelier = [pair[good < bad] for pair, good, bad in zip(given, scores[::2], scores[1::2], strict=True)]
    assert [one.output for one in found] == [*likelier[:2], None]
