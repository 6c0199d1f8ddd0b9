"""Texts written in batches beside those that transformers' ``generate`` writes one by one."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from students.tiny import ENCODER_DECODERS, FAMILIES, write_causal, write_seq2seq

from understudy.errors import DataError

pytestmark = pytest.mark.slow  # loads PyTorch models

LONGEST = 40


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """A tiny model computes sooner than threads start."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def opened(family: str, folder: Path) -> Any:
    """A tiny random model, and none of the settings that it was published with."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, GenerationConfig

    is_pair = family in ENCODER_DECODERS
    (write_seq2seq if is_pair else write_causal)(family, folder)
    network = (AutoModelForSeq2SeqLM if is_pair else AutoModelForCausalLM).from_pretrained(folder).eval()
    start = network.config.decoder_start_token_id if is_pair else None
    with torch.no_grad():  # so that what an encoder read shows in what the decoder writes
        for name, weights in network.named_parameters():
            if is_pair and weights.dim() == 2 and "embed" not in name and "shared" not in name:
                weights.mul_(3)
    network.generation_config = GenerationConfig(pad_token_id=1, decoder_start_token_id=start)
    return network


def prompts_of(network: Any, count: int = 20) -> list[list[int]]:
    draw = random.Random(0)
    return [[draw.randrange(5, network.config.vocab_size) for _ in range(draw.randint(1, 30))] for _ in range(count)]


def alone(network: Any, prompt: list[int], longest: int = LONGEST) -> list[int]:
    """What transformers writes to one prompt."""
    import torch

    ids = torch.tensor([prompt])
    out = network.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=longest, do_sample=False)
    return out[0, 1 if network.config.is_encoder_decoder else len(prompt) :].tolist()


def ours(network: Any, prompts: list[list[int]], ends: Collection[int] = (), **more: Any) -> list[Any]:
    from understudy.generation import generate

    start = [network.config.decoder_start_token_id] if network.config.is_encoder_decoder else []
    how = {"max_new_tokens": LONGEST, "ends": ends, "pad_id": 1, "start": start}
    return generate(network, prompts, **how | more)


def length_of(number: int) -> int:
    """After how many tokens an answer is over: every fifth never is."""
    return 1 + number * 7 % 31 if number % 5 else LONGEST + 1


def is_over(number: int, tokens: Sequence[int]) -> bool:
    return len(tokens) == length_of(number)


def expected_of(network: Any, prompts: list[list[int]]) -> tuple[set[int], list[list[int]]]:
    """A token that ends some answers, and what is to be written to each prompt."""
    answers = [alone(network, prompt) for prompt in prompts]
    end = answers[1][0]
    places = [answer.index(end) + 1 if end in answer else LONGEST for answer in answers]
    cut = [answer[: min(place, length_of(i))] for i, (answer, place) in enumerate(zip(answers, places, strict=True))]
    return {end}, cut


@pytest.mark.parametrize("family", [*FAMILIES, *ENCODER_DECODERS])
def test_whatever_the_batch_the_tokens_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    network = opened(family, tmp_path)
    prompts = prompts_of(network)
    ends, expected = expected_of(network, prompts)
    lengths = {len(answer) for answer in expected}
    assert len(lengths) > 5, "answers end at different times"
    assert LONGEST in lengths, "and one never does"
    assert len(set(map(tuple, expected))) > 10, "what is written depends on what was read"
    for rows in (1, 4, 7, 64):
        written = ours(network, prompts, ends, is_over=is_over, rows=rows)
        assert [one.tokens for one in written] == expected
        assert {one.finish for one in written if len(one.tokens) < LONGEST} == {"stop"}
        assert "length" in {one.finish for one in written if len(one.tokens) == LONGEST}


def test_a_model_with_a_sliding_window_writes_the_same(tmp_path: Path) -> None:
    import torch
    from transformers import GenerationConfig, MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=8, initializer_range=0.3,
    )  # fmt: skip
    network: Any = MistralForCausalLM(config).eval()
    network.generation_config = GenerationConfig(pad_token_id=1)
    prompts = prompts_of(network)
    ends, expected = expected_of(network, prompts)
    for rows in (4, 64):
        assert [one.tokens for one in ours(network, prompts, ends, is_over=is_over, rows=rows)] == expected


def test_the_confidence_is_the_mean_log_probability_of_what_was_written(tmp_path: Path) -> None:
    import torch

    network = opened("llama", tmp_path)
    prompts = prompts_of(network, 5)
    for prompt, one in zip(prompts, ours(network, prompts, rows=2), strict=True):
        logits = network(torch.tensor([prompt + one.tokens])).logits[0, len(prompt) - 1 : -1]
        found = logits.log_softmax(-1)[range(LONGEST), one.tokens].mean()
        assert one.mean_logprob == pytest.approx(found.item(), abs=1e-4)


def test_a_draw_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    import torch

    network = opened("gpt2", tmp_path)
    prompts = prompts_of(network, 9)

    def drawn(rows: int) -> list[list[int]]:
        generators = [torch.Generator().manual_seed(i) for i in range(len(prompts))]

        def choose(logits: Any, numbers: Sequence[int]) -> Any:
            noise = [torch.rand(logits.shape[1], generator=generators[number]) for number in numbers]
            return (logits.softmax(-1) / -torch.log(torch.stack(noise))).argmax(-1)

        return [one.tokens for one in ours(network, prompts, list(range(40)), choose=choose, rows=rows)]

    assert drawn(1) == drawn(4) == drawn(16)
    assert drawn(4) != [one.tokens for one in ours(network, prompts, list(range(40)))]


def test_few_tokens_a_batch_are_few_rows(tmp_path: Path) -> None:
    network, seen = opened("llama", tmp_path), set()
    prompts = prompts_of(network)
    longest = max(map(len, prompts)) + LONGEST

    def choose(logits: Any, numbers: Sequence[int]) -> Any:
        seen.add(len(numbers))
        return logits.argmax(-1)

    ours(network, prompts, choose=choose, batch_tokens=3 * longest)
    assert max(seen) == 3


def test_the_caller_may_end_an_answer_and_hears_of_each_when_it_ends(tmp_path: Path) -> None:
    from understudy.generation import written

    network = opened("opt", tmp_path)
    prompts = prompts_of(network, 6)
    how = {"max_new_tokens": 30, "ends": (), "pad_id": 1}
    found = list(written(network, prompts, is_over=lambda number, tokens: len(tokens) == 5 * number, rows=6, **how))
    assert [number for number, _ in found[:4]] == [1, 2, 3, 4]
    assert {number: len(one.tokens) for number, one in found} == {0: 30, 1: 5, 2: 10, 3: 15, 4: 20, 5: 25}
    assert {number for number, one in found if one.finish == "length"} == {0}


def test_an_answer_ends_where_the_positions_do(tmp_path: Path) -> None:
    network = opened("gpt2", tmp_path)  # 256 positions
    prompts = [[7] * 250, [8] * 3, [9] * 255]
    expected = [alone(network, prompt, longest=min(20, 256 - len(prompt))) for prompt in prompts]
    assert [one.tokens for one in ours(network, prompts, max_new_tokens=20)] == expected
    for prompts in ([[7], []], [[7], [7] * 256]):
        with pytest.raises(DataError, match=r"prompts\[1\]"):
            ours(network, prompts)
    assert ours(network, []) == []
