"""Sentences scored by tiny random masked models of several families, against one masked token a forward pass."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    DistilBertConfig,
    ModernBertConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

from understudy.errors import DataError
from understudy.evaluation.minimal_pairs import predictions
from understudy.records import Example
from understudy.students import pseudo_likelihood
from understudy.students.pseudo_likelihood import pseudo_log_likelihoods

WORDS = ["the", "a", "dog", "dogs", "cat", "barks", "bark", "unbelievably", "it's", "hugging", "walked,", ".", "?"]
POSITIONS = 40
VOCABULARY = 150
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": POSITIONS, "pad_token_id": 1, "bos_token_id": 0,
    "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2,
}  # fmt: skip
BEHIND_PADDING: dict[str, Any] = {**SMALL, "max_position_embeddings": POSITIONS + 2}
MASKED: dict[str, PretrainedConfig] = {
    "roberta": RobertaConfig(**BEHIND_PADDING, type_vocab_size=1),
    "bert": BertConfig(**SMALL),
    "distilbert": DistilBertConfig(
        vocab_size=VOCABULARY, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=POSITIONS,
        pad_token_id=1,
    ),
    "modernbert": ModernBertConfig(**SMALL),
}  # fmt: skip


class Bodiless(RobertaForMaskedLM):
    """A network whose body is not to be found."""

    base_model_prefix = ""


def sentences(count: int, longest: int = 7) -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, longest))) for _ in range(count)]


def tokenizer_of(kind: str, folder: Path) -> Any:
    """Byte-level BPE as RoBERTa's, or word pieces as BERT's with words that it does not know."""
    if kind == "pieces":
        trained = Tokenizer(models.WordPiece(unk_token="<unk>"))
        trained.normalizer = normalizers.Lowercase()  # pyright: ignore[reportAttributeAccessIssue]
        trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # pyright: ignore[reportAttributeAccessIssue]
        trainer: Any = trainers.WordPieceTrainer(vocab_size=60, special_tokens=SPECIAL, show_progress=False)
    else:
        trained = Tokenizer(models.BPE())
        trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
        trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL, show_progress=False)  # pyright: ignore[reportCallIssue]
    trained.train_from_iterator(sentences(100), trainer)
    trained.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=trained, cls_token="<s>", sep_token="</s>", pad_token="<pad>", unk_token="<unk>",
        mask_token="<mask>",
    ).save_pretrained(folder)  # fmt: skip
    return PreTrainedTokenizerFast.from_pretrained(folder)


def network_of(family: str, kind: Any = AutoModelForMaskedLM) -> Any:
    """A random network, its weights spread so that what it attends to shows."""
    torch.manual_seed(0)
    config = MASKED[family]
    network = kind.from_config(config) if kind is AutoModelForMaskedLM else kind(config)
    with torch.no_grad():
        for weights in network.parameters():
            weights.add_(torch.randn_like(weights) * 0.15)
    return network.eval()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tokenizer_of("bytes", tmp_path_factory.mktemp("bytes"))


@pytest.fixture(scope="module")
def roberta() -> Any:
    return network_of("roberta")


def one_token_a_pass(network: Any, tokenizer: Any, texts: Sequence[str], within_word: bool = False) -> list[float]:
    scores = []
    for text in texts:
        coded = tokenizer(text, return_offsets_mapping=True)
        ids, offsets = coded["input_ids"], coded["offset_mapping"]
        spans = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
        word = [next(n for n, (_, (low, high)) in enumerate(spans) if low <= at < high) for at, _ in offsets[1:-1]]
        total = 0.0
        for place in range(1, len(ids) - 1):
            hidden = [p for p in range(place, len(ids) - 1) if p == place or word[p - 1] == word[place - 1]]
            masked = torch.tensor([ids])
            masked[0, hidden if within_word else place] = tokenizer.mask_token_id
            with torch.inference_mode():
                total += network(input_ids=masked).logits[0, place].log_softmax(-1)[ids[place]].item()
        scores.append(total)
    return scores


@pytest.mark.slow
@pytest.mark.parametrize("within_word", [False, True])
@pytest.mark.parametrize("family", MASKED)
def test_a_score_is_that_of_one_token_a_forward_pass(family: str, within_word: bool, tokenizer: Any):
    network, texts = network_of(family), sentences(25)
    expected = one_token_a_pass(network, tokenizer, texts, within_word)
    for batch_tokens in (1, 100, 10**6):
        found = pseudo_log_likelihoods(network, tokenizer, texts, within_word=within_word, batch_tokens=batch_tokens)
        assert list(found) == pytest.approx(expected, abs=1e-4)


def test_within_words_only_words_of_several_tokens_have_other_scores(roberta: Any, tokenizer: Any):
    text = "the xylophonist barks"
    plain, within = (next(pseudo_log_likelihoods(roberta, tokenizer, [text], within_word=w)) for w in (False, True))
    assert plain != pytest.approx(within, abs=1e-3)
    assert len(tokenizer("the dog")["input_ids"]) == 4
    plain, within = (
        next(pseudo_log_likelihoods(roberta, tokenizer, ["the dog"], within_word=w)) for w in (False, True)
    )
    assert plain == within


def test_a_token_for_the_unknown_is_scored_as_any_other(tmp_path: Path):
    pieces, network = tokenizer_of("pieces", tmp_path), network_of("bert")
    texts = ["The dog sees 字 .", "Dogs bark"]
    assert pieces.unk_token_id in pieces(texts[0])["input_ids"]
    expected = one_token_a_pass(network, pieces, texts)
    assert list(pseudo_log_likelihoods(network, pieces, texts)) == pytest.approx(expected, abs=1e-4)


def test_the_head_works_on_the_masked_places_alone(roberta: Any, tokenizer: Any):
    texts = sentences(20)
    seen: list[torch.Size] = []
    hook = roberta.get_output_embeddings().register_forward_hook(lambda *given: seen.append(given[-1].shape))
    found = list(pseudo_log_likelihoods(roberta, tokenizer, texts))
    hook.remove()
    assert sum(shape[:-1].numel() for shape in seen) <= sum(len(tokenizer(text)["input_ids"]) - 2 for text in texts)
    assert not roberta.base_model._forward_hooks
    assert found == pytest.approx(one_token_a_pass(roberta, tokenizer, texts), abs=1e-4)


def test_a_network_whose_body_is_not_found_is_scored_from_all_logits(roberta: Any, tokenizer: Any):
    bodiless = network_of("roberta", Bodiless)
    bodiless.load_state_dict(roberta.state_dict())
    assert bodiless.base_model is bodiless
    texts = sentences(20)
    expected = list(pseudo_log_likelihoods(roberta, tokenizer, texts))
    assert list(pseudo_log_likelihoods(bodiless, tokenizer, texts)) == pytest.approx(expected, abs=1e-4)


def test_equal_copies_are_read_once_and_equal_sentences_tie_to_the_last_bit(roberta: Any, tokenizer: Any):
    rows: list[int] = []
    hook = roberta.register_forward_pre_hook(
        lambda _, __, given: rows.append(len(given["input_ids"])), with_kwargs=True
    )
    (score,) = pseudo_log_likelihoods(roberta, tokenizer, ["the dog"])
    alone = sum(rows)
    same = list(pseudo_log_likelihoods(roberta, tokenizer, ["the dog", "a", "the dog", "the cat"], batch_tokens=20))
    rows.clear()
    list(pseudo_log_likelihoods(roberta, tokenizer, ["the dog", "the dog"]))
    hook.remove()
    assert sum(rows) == alone
    assert same[0] == same[2] == pytest.approx(score, abs=1e-4)


def test_sentences_are_read_a_window_at_a_time(roberta: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pseudo_likelihood, "WINDOW", 8)
    texts, read = sentences(30), []
    found = pseudo_log_likelihoods(roberta, tokenizer, (read.append(0) or text for text in texts))
    first = next(found)
    assert len(read) == 8
    expected = one_token_a_pass(roberta, tokenizer, texts)
    assert [first, *found] == pytest.approx(expected, abs=1e-4)
    assert list(pseudo_log_likelihoods(roberta, tokenizer, [])) == []


@pytest.mark.parametrize("family", ["roberta", "bert"])
def test_a_sentence_has_the_positions_of_the_model_and_no_more(family: str, tokenizer: Any):
    network = network_of(family)
    fits = "?" * (POSITIONS - 2)
    assert len(tokenizer(fits)["input_ids"]) == POSITIONS
    (score,) = pseudo_log_likelihoods(network, tokenizer, [fits])
    assert score == pytest.approx(one_token_a_pass(network, tokenizer, [fits])[0], abs=1e-3)
    with pytest.raises(DataError, match="its 41 tokens are more than the model's 40 positions"):
        list(pseudo_log_likelihoods(network, tokenizer, ["the dog", fits + "?"]))


def test_what_cannot_be_scored_is_a_clear_line(roberta: Any, tokenizer: Any):
    with pytest.raises(DataError, match="sentence '': there are no tokens to score"):
        list(pseudo_log_likelihoods(roberta, tokenizer, ["the dog", ""]))
    unmasked = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, pad_token="<pad>")
    with pytest.raises(DataError, match="has no mask_token"):
        list(pseudo_log_likelihoods(roberta, unmasked, ["the dog"]))


def test_bf16_moves_a_score_by_little_and_leaves_the_network_as_it_is(roberta: Any, tokenizer: Any):
    texts = sentences(20)
    exact = list(pseudo_log_likelihoods(roberta, tokenizer, texts))
    rough = list(pseudo_log_likelihoods(roberta, tokenizer, texts, precision="bf16"))
    assert rough != exact
    assert rough == pytest.approx(exact, rel=0.05)
    assert {weights.dtype for weights in roberta.parameters()} == {torch.float32}


def test_pairs_are_judged_by_a_masked_student(roberta: Any, tokenizer: Any):
    given = [("the dog barks .", "the dog bark ."), ("the dogs bark", "the dogs barks"), ("same", "same")]
    rows = [Example(id=pair[0], input=pair[0], choices=pair) for pair in given]
    scores = one_token_a_pass(roberta, tokenizer, [text for pair in given for text in pair])
    found = predictions(rows, lambda some: pseudo_log_likelihoods(roberta, tokenizer, some))
    likelier = [pair[good < bad] for pair, good, bad in zip(given, scores[::2], scores[1::2], strict=True)]
    assert [one.output for one in found] == [*likelier[:2], None]
