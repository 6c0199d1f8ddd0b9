"""Rows laid into one sequence: what a row gives packed is what it gives alone, in every family that can."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import FAMILIES, write_causal
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments

from understudy.students.language import read_base
from understudy.students.packing import (
    IGNORED,
    ROUND,
    ROW_BY_ROW,
    Row,
    isolates,
    packed,
    padded_rows,
    row_by_row,
    side_by_side,
)

PACKING = [family for family in FAMILIES if family != "bloom"]  # BLOOM has no positions to reset


def rows(*lengths: int, learnt: float = 1.0) -> list[Row]:
    """Of each row the last part is learnt."""
    draw = random.Random(0)
    ids = [[draw.randrange(1, 257) for _ in range(length)] for length in lengths]
    cuts = [max(1, round(len(row) * (1 - learnt))) for row in ids]
    return [Row(input_ids=row, labels=[IGNORED] * cut + row[cut:]) for row, cut in zip(ids, cuts, strict=True)]


def small(family: str, folder: Path) -> Any:
    return read_base(write_causal(family, folder, positions=32), None, "causal")[0]


def test_the_layout_of_two_rows_to_the_token() -> None:
    one, two = Row(input_ids=[7, 8, 9], labels=[IGNORED, IGNORED, 9]), Row(input_ids=[5, 6], labels=[IGNORED, 6])
    batch = packed([two, one])
    fill = ROUND - 5  # in rows of three tokens, of which nothing is learnt
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, *[0] * fill]]
    assert batch["position_ids"].tolist() == [[0, 1, 0, 1, 2, *(i % 3 for i in range(fill))]]
    assert batch["logits_to_keep"].tolist() == [
        0,
        3,
        *[ROUND - 1] * (ROUND - 2),
    ]  # before the 6 and the 9, then the last
    assert batch["labels"].tolist() == [[IGNORED, 6, 9, *[IGNORED] * (ROUND - 3)]]
    assert batch["lengths"] == (2, 3, *[3] * (fill // 3), fill % 3)
    assert batch["places"].tolist()[:8] == [0, 1, 3, 4, 5, 6, 7, 8]
    assert padded_rows([two, one], pad_id=0)["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize("family", PACKING)
def test_logits_packed_and_alone_are_equal(family: str, tmp_path: Path) -> None:
    network = small(family, tmp_path)
    lessons = rows(12, 5, 9, 30, 1, 3)  # together more tokens than the network has positions
    with torch.no_grad():
        alone = [network.eval()(input_ids=torch.tensor([row["input_ids"]])).logits[0] for row in lessons]
        assert isolates(network, 32)
        together = network(**packed(lessons)).logits[0]
    expected = torch.cat([logits[:-1] for logits in alone])
    assert (together[: len(expected)] - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("family", PACKING)
@pytest.mark.parametrize("learnt", [1.0, 0.3])
def test_the_same_loss_and_gradients_as_padded(family: str, learnt: float, tmp_path: Path) -> None:
    network, lessons = small(family, tmp_path).eval(), rows(12, 5, 9, 30, 2, 3, learnt=learnt)

    def taught(batch: dict[str, Any]) -> tuple[float, list[torch.Tensor]]:
        network.zero_grad()
        loss = network(**batch).loss
        loss.backward()
        return loss.item(), [weight.grad.clone() for weight in network.parameters()]

    loss, gradients = taught(padded_rows(lessons, pad_id=0))
    assert isolates(network, 32)
    same, others = taught(packed(lessons))
    assert same == pytest.approx(loss, abs=1e-5)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(gradients, others, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"label_smoothing_factor": 0.1}, {"activation_checkpointing": True}])
def test_trainer_scales_and_smooths_the_same_loss(more: dict[str, Any], tmp_path: Path) -> None:
    """Over two unlike batches of one step."""
    lessons = rows(30, 20, 2, 3, learnt=0.5)

    def trained(collate: Any, packs: bool) -> dict[str, torch.Tensor]:
        network = small("llama", tmp_path / "base")
        assert not packs or isolates(network, 32)
        args = TrainingArguments(
            str(tmp_path), max_steps=1, per_device_train_batch_size=2, gradient_accumulation_steps=2, use_cpu=True,
            train_sampling_strategy="sequential", remove_unused_columns=False, optim="sgd", learning_rate=1.0,
            report_to="none", save_strategy="no", disable_tqdm=True, **more,
        )  # fmt: skip
        Trainer(network, args, data_collator=collate, train_dataset=lessons).train()  # pyright: ignore[reportArgumentType]
        return network.state_dict()

    one, other = trained(packed, True), trained(lambda batch: padded_rows(batch, pad_id=0), False)
    assert all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)


def test_attention_is_the_same_in_one_call_and_in_a_call_a_row() -> None:
    batch, module = packed(rows(5, 1, 9)), torch.nn.Module()
    states = [torch.randn(1, 2, ROUND, 8, requires_grad=True) for _ in range(3)]
    weights = torch.randn(1, ROUND, 2, 8)
    outs, gradients = [], []
    for way in (row_by_row, side_by_side):
        outs.append(way(module, *states, lengths=batch["lengths"], places=batch["places"]))
        gradients.append(torch.autograd.grad((outs[-1] * weights).sum(), states))
    assert torch.allclose(*outs, atol=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


def test_a_network_that_cannot_is_left_as_it_was(tmp_path: Path) -> None:
    network = small("bloom", tmp_path)
    usual = network.config._attn_implementation
    assert not isolates(network, 32)
    assert network.config._attn_implementation == usual

    sizes = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = AutoConfig.for_model("mistral", **sizes, num_key_value_heads=1, intermediate_size=16, sliding_window=8)
    network = AutoModelForCausalLM.from_config(config)
    assert not isolates(network, 9)
    assert network.config._attn_implementation == "sdpa"
    assert isolates(network, 8)
    assert network.config._attn_implementation == ROW_BY_ROW
    network.save_pretrained(tmp_path / "saved")
    assert ROW_BY_ROW not in (tmp_path / "saved" / "config.json").read_text("utf-8")
