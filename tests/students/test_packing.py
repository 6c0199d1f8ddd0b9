"""Rows laid into sequences: what a row gives packed is what it gives alone, in every family that can."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import FAMILIES, write_causal

from understudy.students.language import read
from understudy.students.packing import IGNORED, Row, isolates, layout, packed, padded_rows

PACKING = [family for family in FAMILIES if family != "bloom"]  # BLOOM takes no block mask


def rows(*lengths: int) -> list[Row]:
    draw = random.Random(0)
    ids = [[draw.randrange(1, 257) for _ in range(length)] for length in lengths]
    return [Row(input_ids=row, labels=[IGNORED, *row[1:]]) for row in ids]


def test_the_layout_of_two_rows_to_the_token() -> None:
    one, two = Row(input_ids=[7, 8, 9], labels=[IGNORED, 8, 9]), Row(input_ids=[5, 6], labels=[IGNORED, 6])
    batch = packed([two, one], pad_id=0, limit=6)
    assert batch["input_ids"].tolist() == [[7, 8, 9, 5, 6]]
    assert batch["labels"].tolist() == [[IGNORED, 8, 9, IGNORED, 6]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert batch["attention_mask"].int().tolist() == [
        [[[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]]
    ]
    assert packed([one, two], pad_id=0, limit=4)["input_ids"].tolist() == [[7, 8, 9], [5, 6, 0]]
    assert padded_rows([two, one], pad_id=0)["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(50, 200))
def test_every_row_has_one_place_and_no_sequence_is_too_long(lengths: list[int], limit: int) -> None:
    sequences = layout(lengths, limit)
    assert sorted(i for sequence in sequences for i in sequence) == list(range(len(lengths)))
    widths = [sum(lengths[i] for i in sequence) for sequence in sequences]
    assert max(widths) <= limit
    assert max(widths) * len(widths) <= max(lengths) * len(lengths)  # never more places than one row a sequence


@pytest.mark.parametrize("family", PACKING)
def test_logits_packed_and_alone_are_equal(family: str, tmp_path: Path) -> None:
    network, _ = read(write_causal(family, tmp_path), "model")
    assert isolates(network)
    lessons = rows(12, 5, 9, 30, 1, 3)
    batch = packed(lessons, pad_id=0, limit=32)
    assert 1 < len(batch["input_ids"]) < len(lessons)
    del batch["labels"]
    with torch.no_grad():
        together = network.eval()(**batch).logits
        for row in lessons:
            ids = row["input_ids"]
            s, c = next(
                (s, c)
                for s, c in (batch["position_ids"] == 0).nonzero().tolist()
                if batch["input_ids"][s, c : c + len(ids)].tolist() == ids
            )
            alone = network(input_ids=torch.tensor([ids])).logits[0]
            assert (together[s, c : c + len(ids)] - alone).abs().max() <= 1e-5


@pytest.mark.parametrize("family", PACKING)
def test_the_loss_is_the_same_however_the_rows_are_laid(family: str, tmp_path: Path) -> None:
    network, _ = read(write_causal(family, tmp_path), "model")
    lessons = rows(12, 5, 9, 30, 2, 3)
    with torch.no_grad():
        losses = [
            float(network.eval()(**batch, num_items_in_batch=torch.tensor(55)).loss)
            for batch in (packed(lessons, pad_id=0, limit=64), padded_rows(lessons, pad_id=0))
        ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_bloom_takes_no_block_mask(tmp_path: Path) -> None:
    network, _ = read(write_causal("bloom", tmp_path), "model")
    assert not isolates(network)
