"""Texts as sequences of token ids on disk."""

from __future__ import annotations

import random
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from understudy.errors import DataError
from understudy.students.scratch import masked_tokenizer_of
from understudy.students.sequences import Sequences, write_sequences

TEXTS = ["The cat sat on the mat.", "Rain fell.\n\nAll day it fell on the old road.", "Why? Nobody could say why."]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return masked_tokenizer_of(TEXTS, 300)


def written(folder: Path, texts: list[str], tokenizer: Any, **more: Any) -> Sequences:
    values = {"max_length": 16, "lines": False, "packing": True, **more}
    start, end = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
    return write_sequences(folder, iter(texts), tokenizer, start=start, end=end, **values)


def read(sequences: Sequences, tokenizer: Any) -> list[list[str]]:
    """The text of each piece of each sequence."""
    opened = sequences.opened()
    found = [[tokenizer.decode(piece.tolist()) for piece in opened.at(i)] for i in range(len(opened.sizes()))]
    assert all(piece.startswith("<s>") and piece.endswith("</s>") for pieces in found for piece in pieces)
    return [[piece.removeprefix("<s>").removesuffix("</s>") for piece in pieces] for pieces in found]


def test_one_text_a_sequence_and_what_is_longer_is_cut_off_and_counted(tokenizer: Any, tmp_path: Path) -> None:
    sequences = written(tmp_path / "laid", ["Rain.", TEXTS[1], "  \n"], tokenizer, packing=False)
    (rain,), (longer,) = read(sequences, tokenizer)
    assert (rain, longer) == ("Rain.", TEXTS[1][: len(longer)])
    assert (sequences.about["rows"], sequences.about["cut"]) == (3, 1)
    endless = written(tmp_path / "endless", ["word " * 20_000], tokenizer, packing=False)
    assert (endless.about["rows"], endless.about["cut"]) == (1, 1)


def test_each_line_by_itself(tokenizer: Any, tmp_path: Path) -> None:
    sequences = written(tmp_path / "laid", [TEXTS[1]], tokenizer, packing=False, lines=True, max_length=64)
    assert read(sequences, tokenizer) == [["Rain fell."], ["All day it fell on the old road."]]


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=60), min_size=1, max_size=30), st.integers(5, 40))
def test_packed_no_token_is_lost_and_no_sequence_is_longer(
    tokenizer: Any, tmp_path: Path, texts: list[str], longest: int
) -> None:
    if not any(text.strip() for text in texts):
        with pytest.raises(DataError, match="anything to learn"):
            written(tmp_path / "laid", texts, tokenizer, max_length=longest)
        return
    opened = written(tmp_path / "laid", texts, tokenizer, max_length=longest).opened()
    assert opened.sizes().max() <= longest
    pieces = [piece.tolist()[1:-1] for i in range(len(opened.sizes())) for piece in opened.at(i)]
    whole = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts if text.strip()]
    assert sorted(chain.from_iterable(pieces)) == sorted(chain.from_iterable(whole))
    short = [ids for ids in whole if 0 < len(ids) <= longest - 2]
    assert all(ids in pieces for ids in short)  # a text that fits is never cut


def test_packed_sequences_are_nearly_full(tokenizer: Any, tmp_path: Path) -> None:
    draw = random.Random(0)
    texts = ["cat " * draw.randint(1, 60) for _ in range(400)]
    opened = written(tmp_path / "laid", texts, tokenizer, max_length=128).opened()
    assert opened.sizes()[:-1].mean() > 0.95 * 128
    assert opened.tokens.dtype == np.uint16
