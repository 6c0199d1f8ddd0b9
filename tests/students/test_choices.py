"""Options ranked over tiny random networks of every family, saved and loaded, against one option a forward pass."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BartConfig,
    BloomConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PretrainedConfig,
    T5Config,
)

from understudy.errors import DataError
from understudy.students import choices
from understudy.students.choices import LedRow, Row, rank, rank_seq2seq

VOCABULARY, PAD, POSITIONS = 60, 0, 48
SMALL: dict[str, Any] = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": 2}
WIDE: dict[str, Any] = {
    **SMALL, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": POSITIONS,
}  # fmt: skip
CAUSAL: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**WIDE, num_key_value_heads=2),
    "gpt2": GPT2Config(**SMALL, n_embd=32, n_layer=2, n_head=4, n_positions=POSITIONS),
    "opt": OPTConfig(
        **SMALL, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=48, word_embed_proj_dim=16,
        max_position_embeddings=POSITIONS,
    ),
    "gpt_neox": GPTNeoXConfig(**WIDE),
    "bloom": BloomConfig(**SMALL, hidden_size=32, n_layer=2, n_head=4),
    "mistral with a window": MistralConfig(**WIDE, num_key_value_heads=2, sliding_window=6),
}  # fmt: skip
SEQ2SEQ: dict[str, PretrainedConfig] = {
    "t5": T5Config(
        **SMALL, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
        decoder_start_token_id=PAD,  # pyright: ignore[reportCallIssue]
    ),
    "bart": BartConfig(
        **SMALL, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=POSITIONS, decoder_start_token_id=2,
    ),
}  # fmt: skip


def saved(kind: Any, config: PretrainedConfig, folder: Path) -> Any:
    """A random network, its weights spread so that what it attends to shows, through the disk."""
    torch.manual_seed(0)
    network = kind.from_config(config)
    with torch.no_grad():
        for weights in network.parameters():
            weights.add_(torch.randn_like(weights) * 0.15)
    network.save_pretrained(folder)
    return kind.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return saved(AutoModelForCausalLM, CAUSAL["llama"], tmp_path_factory.mktemp("llama"))


def some_rows(count: int, longest_option: int = 6) -> list[Row]:
    draw = random.Random(0)
    text = lambda longest: [draw.randrange(3, VOCABULARY) for _ in range(draw.randint(1, longest))]  # noqa: E731
    return [(text(40), [text(longest_option) for _ in range(draw.randint(1, 7))]) for _ in range(count)]


def one_pass_an_option(network: Any, rows: Sequence[Row]) -> list[list[float]]:
    def score(prompt: Sequence[int], option: Sequence[int]) -> float:
        logits = network(input_ids=torch.tensor([[*prompt, *option]])).logits[0, len(prompt) - 1 : -1]
        return logits.log_softmax(-1)[range(len(option)), list(option)].sum().item()

    with torch.inference_mode():
        return [[score(prompt, option) for option in options] for prompt, options in rows]


def led_rows(count: int) -> list[LedRow]:
    """Rows whose options follow on nothing, on one token or on two; half of them have options of one token."""
    rows = some_rows(count // 2) + some_rows(count // 2, longest_option=1)
    return [(prompt, options, [7, 8][: i % 3]) for i, (prompt, options) in enumerate(rows)]


def one_decoding_an_option(network: Any, rows: Sequence[LedRow]) -> list[list[float]]:
    def score(prompt: Sequence[int], option: Sequence[int], lead: Sequence[int]) -> float:
        unlearnt = network(input_ids=torch.tensor([list(prompt)]), labels=torch.tensor([[*lead, *option]])).logits[0]
        return unlearnt[len(lead) :].log_softmax(-1)[range(len(option)), list(option)].sum().item()

    with torch.inference_mode():
        return [[score(prompt, option, lead) for option in options] for prompt, options, lead in rows]


def best(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=scores.__getitem__)


@pytest.mark.slow
@pytest.mark.parametrize("batch_tokens", [1, 200, 4096])
@pytest.mark.parametrize("family", CAUSAL)
def test_a_causal_student_ranks_as_one_option_a_forward_pass(family: str, batch_tokens: int, tmp_path: Path):
    network = saved(AutoModelForCausalLM, CAUSAL[family], tmp_path)
    rows = some_rows(40)
    ranked = list(rank(network, rows, pad_id=PAD, batch_tokens=batch_tokens))
    agree(ranked, one_pass_an_option(network, rows), rows)


@pytest.mark.slow
@pytest.mark.parametrize("family", SEQ2SEQ)
def test_a_seq2seq_student_ranks_as_one_option_a_decoding(family: str, tmp_path: Path):
    network = saved(AutoModelForSeq2SeqLM, SEQ2SEQ[family], tmp_path)
    rows = led_rows(40)
    for batch_tokens in (1, 200, 4096):
        ranked = list(rank_seq2seq(network, rows, pad_id=PAD, batch_tokens=batch_tokens))
        agree(ranked, one_decoding_an_option(network, rows), rows)


def agree(ranked: list[list[choices.Ranked]], expected: list[list[float]], rows: Sequence[Row | LedRow]) -> None:
    assert len(ranked) == len(rows)
    for scores, totals, (_, options, *_) in zip(ranked, expected, rows, strict=True):
        lengths = [len(option) for option in options]
        assert [score.tokens for score in scores] == lengths
        assert [score.total for score in scores] == pytest.approx(totals, abs=1e-4)
        means = [total / length for total, length in zip(totals, lengths, strict=True)]
        assert [score.mean for score in scores] == pytest.approx(means, abs=1e-4)
        assert best([score.total for score in scores]) == best(totals)
        assert best([score.mean for score in scores]) == best(means)


def test_letters_need_nothing_but_the_prompt(llama: Any):
    rows = [(prompt, [[10], [11], [12], [13], [14]]) for prompt, _ in some_rows(50)]
    passes = []
    hook = llama.register_forward_pre_hook(lambda *_, **given: passes.append(given))
    ranked = list(rank(llama, rows, pad_id=PAD, batch_tokens=10**6))
    hook.remove()
    assert len(passes) == 1
    agree(ranked, one_pass_an_option(llama, rows), rows)


@pytest.mark.slow
def test_letters_of_a_seq2seq_student_are_read_off_one_decoding(tmp_path: Path):
    network = saved(AutoModelForSeq2SeqLM, SEQ2SEQ["bart"], tmp_path)
    rows: list[LedRow] = [(prompt, [[10], [11], [12], [13], [14]], [5, 6]) for prompt, _ in some_rows(50)]
    decoded = []
    hook = network.register_forward_pre_hook(
        lambda _, __, given: decoded.append(given["decoder_input_ids"]), with_kwargs=True
    )
    ranked = list(rank_seq2seq(network, rows, pad_id=PAD, batch_tokens=10**6))
    hook.remove()
    assert [ids.shape for ids in decoded] == [(50, 3)]
    agree(ranked, one_decoding_an_option(network, rows), rows)


def test_equal_options_tie_to_the_last_bit_so_that_the_first_is_chosen(llama: Any):
    ((_, *same),) = rank(llama, [([5, 6, 7], [[9], [8, 4, 3], [20, 21], [8, 4, 3]])], pad_id=PAD)
    assert same[0].total == same[2].total


def test_the_padding_token_does_not_matter(llama: Any):
    rows = some_rows(20)
    a, b = (list(rank(llama, rows, pad_id=pad)) for pad in (PAD, 17))
    assert a == b


def test_rows_are_read_a_window_at_a_time(llama: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(choices, "WINDOW", 8)
    rows, read = some_rows(30), []
    ranked = rank(llama, (read.append(0) or row for row in rows), pad_id=PAD)
    next(ranked)
    assert len(read) == 8
    assert len(list(ranked)) == 29
    assert list(rank(llama, [], pad_id=PAD)) == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (([], [[3]]), r"rows\[1\]: the prompt has no tokens; .*bos"),
        (([3], []), r"rows\[1\]: there are no options"),
        (([3], [[4], []]), r"rows\[1\]: option 1 of 2 has no tokens"),
        (([3] * 47, [[4], [4, 5, 6]]), r"of 47 tokens and options of up to 3 take 49 positions .* has 48; cut 1"),
    ],
)
def test_a_row_that_cannot_be_ranked_is_a_clear_line(llama: Any, row: Row, message: str):
    with pytest.raises(DataError, match=message):
        list(rank(llama, [([3], [[4]]), row], pad_id=PAD))


def test_the_last_position_can_be_used(llama: Any):
    rows: list[Row] = [([3] * 47, [[4, 5]]), ([3] * POSITIONS, [[4], [5]])]
    agree(list(rank(llama, rows, pad_id=PAD)), one_pass_an_option(llama, rows), rows)


def test_a_seq2seq_student_has_its_positions_twice(tmp_path: Path):
    network = saved(AutoModelForSeq2SeqLM, SEQ2SEQ["bart"], tmp_path)
    assert list(rank_seq2seq(network, [([3] * POSITIONS, [[4] * POSITIONS], [])], pad_id=PAD))
    for row in (([3] * 49, [[4]], []), ([3], [[4], [4] * 49], []), ([3], [[4], [4] * 45], [5] * 4)):
        with pytest.raises(DataError, match="take 49 positions and the model has 48"):
            list(rank_seq2seq(network, [row], pad_id=PAD))
