"""Models that are read while others are made."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from understudy.pretrained import loading
from understudy.students.language import read
from understudy.students.scratch import seq2seq_from_scratch
from understudy.students.settings import Seq2SeqScratch

SMALL = Seq2SeqScratch(hidden_size=32, layers=2, heads=2, vocab_size=300)


def made() -> float:
    """The weights of a network of one seed, added up."""
    with loading():
        torch.manual_seed(0)
        network, _ = seq2seq_from_scratch(SMALL, ["a b c"])
    return sum(float(weight.abs().sum()) for weight in network.parameters())


@pytest.mark.slow
def test_networks_made_while_others_are_read_are_whole(tmp_path: Path):
    network, tokenizer = seq2seq_from_scratch(SMALL, ["a b c"])
    network.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    expected, enough = made(), threading.Event()

    def reads() -> None:
        while not enough.is_set():
            read(tmp_path, "base", "seq2seq")

    reader = threading.Thread(target=reads)
    reader.start()
    try:
        found = {made() for _ in range(25)}
    finally:
        enough.set()
        reader.join()
    assert found == {expected}
