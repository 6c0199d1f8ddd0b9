"""What a masked student learns of a batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import GAP_FILLERS, write_masked

from understudy.students.language import positions_of, read
from understudy.students.masking import Drawn, Masking, at_places, keeps_apart
from understudy.students.packing import IGNORED, ROUND
from understudy.students.scratch import masked_from_scratch, masked_tokenizer_of
from understudy.students.settings import MaskedScratch

MASKING = Masking(0.15, mask_id=4, pad_id=1, vocabulary=261, special=frozenset(range(5)), offset=2, is_apart=True)


def piece(*sizes: int, begin: int = 5) -> list[Any]:
    return [np.array([0, *(begin + (7 * i + size) % 250 for i in range(size - 2)), 2]) for size in sizes]


def hidden(batch: dict[str, Any]) -> tuple[Any, Any]:
    """The places that count, and what stood there."""
    labels = batch["labels"][0]
    learnt = labels != IGNORED
    return batch["places"][learnt], labels[learnt]


def test_the_share_that_is_hidden_and_how() -> None:
    rows = [Drawn(piece(128), (0, 0, i)) for i in range(400)]
    batch = MASKING(rows)
    places, labels = hidden(batch)
    before = torch.from_numpy(np.stack([row.pieces[0] for row in rows])).flatten()
    seen = batch["input_ids"].flatten()
    assert torch.equal(before[places], labels)
    assert len(batch["places"]) % ROUND == 0
    assert abs(len(places) / (126 * 400) - 0.15) < 0.001
    assert not set(labels.tolist()) & MASKING.special
    kinds = [float((seen[places] == one).float().mean()) for one in (4, labels)]
    assert kinds == pytest.approx([0.8, 0.1], abs=0.02)
    untouched = torch.ones_like(seen, dtype=torch.bool).index_fill(0, places, False)
    assert torch.equal(seen[untouched], before[untouched])


def test_what_is_hidden_depends_on_the_draw_alone() -> None:
    one, again = (MASKING([Drawn(piece(40), (3, 1, 7))]) for _ in range(2))
    in_a_batch = MASKING([Drawn(piece(60), (3, 1, 8)), Drawn(piece(40), (3, 1, 7))])
    later = MASKING([Drawn(piece(40), (3, 2, 7))])
    assert torch.equal(one["input_ids"], again["input_ids"])
    assert torch.equal(one["input_ids"][0], in_a_batch["input_ids"][1, :40])
    assert not torch.equal(one["input_ids"], later["input_ids"])


def test_a_text_of_one_token_has_a_gap() -> None:
    _, labels = hidden(MASKING([Drawn(piece(3), (0,))]))
    assert len(labels) == 1


@pytest.mark.parametrize("family", GAP_FILLERS)
def test_packed_the_logits_are_those_of_each_text_alone(family: str, tmp_path: Path) -> None:
    """DeBERTa's positions are relative and reach across texts: it is told to be such, and its texts are not packed."""
    network, _ = read(write_masked(family, tmp_path), "base", "masked")
    network.eval()
    masking = replace(MASKING, offset=positions_of(network)[1])
    assert positions_of(network)[1] == (2 if family == "roberta" else 0)
    assert keeps_apart(network, masking, 32) is (family != "deberta-v2")
    if family == "deberta-v2":
        return
    parts = piece(9, 5, 12)
    batch = masking([Drawn(parts, (0,)), Drawn(piece(20), (1,))])
    given = {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids")}
    with torch.no_grad():
        together = network(**given).logits[0]
        seen = batch["input_ids"][0, :26].split([9, 5, 12])
        alone = torch.cat([network(input_ids=part[None]).logits[0] for part in seen])
    assert float((together[:26] - alone).abs().max()) < 1e-5 * max(1.0, float(alone.abs().max()))


def test_of_a_long_text_packed_every_layer_sees_what_it_sees_alone() -> None:
    tokenizer = masked_tokenizer_of(["the cat sleeps and the dogs sleep"], 300)
    network = masked_from_scratch(MaskedScratch(architecture="modernbert", layers=3), tokenizer, 256).eval()
    masking = replace(MASKING, offset=positions_of(network)[1], vocabulary=len(tokenizer))
    assert keeps_apart(network, masking, 256)
    batch = masking([Drawn(piece(200, 50), (0,))])
    given = {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids")}
    with torch.no_grad():
        together = network(**given).logits[0, :200]
        alone = network(input_ids=batch["input_ids"][:, :200]).logits[0]
    assert float((together - alone).abs().max()) < 1e-5 * max(1.0, float(alone.abs().max()))
    network.config.local_attention = 128  # as in the models of its authors
    assert not keeps_apart(network, masking, 256)


def test_the_head_sees_gaps_only_and_the_loss_is_the_same(tmp_path: Path) -> None:
    network, _ = read(write_masked("roberta", tmp_path), "base", "masked")
    batch = MASKING([Drawn(piece(30, 20), (0,)), Drawn(piece(41), (1,))])
    with torch.no_grad():
        with at_places(network.eval()):
            found = network(**batch)
        places, labels = hidden(batch)
        everywhere = torch.full(batch["input_ids"].shape, IGNORED).flatten().index_copy(0, places, labels)
        given = {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids")}
        expected = network(**given, labels=everywhere.view_as(batch["input_ids"]))
    assert found.logits.shape[1] == len(batch["places"])
    assert float(found.loss) == pytest.approx(float(expected.loss), abs=1e-5)
