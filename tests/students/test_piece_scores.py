"""Pieces scored in batches over tiny random models, against one piece a forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import write_causal, write_seq2seq

from understudy.errors import DataError
from understudy.segment import separator
from understudy.students import piece_scores
from understudy.students.causal import CausalModel
from understudy.students.causal import open_base as open_causal
from understudy.students.language import encode, frame_of
from understudy.students.piece_scores import NOTHING, PieceScore, Sees, score_pieces
from understudy.students.seq2seq import Seq2SeqModel
from understudy.students.seq2seq import open_base as open_seq2seq
from understudy.students.settings import CausalSettings, Seq2SeqSettings
from understudy.students.written import About

FAMILIES = ("t5", "bart", "llama", "gpt2", "bloom")
ROWS = [
    ("Ann has 3 pens.", ["Ann has 3 pens.", " She buys 4,", " so 3 + 4 = 7. ", "The answer is 7."]),
    ("Two?", ["  ", "One and one.", "", "Then 2."]),
    ("Why does the very long question never end, says Ann, who has 12 pens and 5 jars?", ["It ends."]),
    ("Nothing", []),
    ("Blank", [" ", "\n"]),
]


def model_of(family: str, folder: Path, max_length: int = 128, max_new_tokens: int = 64) -> Any:
    """A random student as ``load_model`` gives it, trained with ``prompt: bare``."""
    is_pair = family in ("t5", "bart")
    about = About("seq2seq" if is_pair else "causal", "generation", (), "letter", max_length, max_new_tokens, bare=True)
    if is_pair:
        network, tokenizer = open_seq2seq(Seq2SeqSettings(base=write_seq2seq(family, folder)), ())
    else:
        network, tokenizer = open_causal(CausalSettings(base=write_causal(family, folder)), ())
    return (Seq2SeqModel if is_pair else CausalModel)(network.eval(), tokenizer, about)


@torch.inference_mode()
def one_at_a_time(model: Any, prompt: str, pieces: list[str], sees: Sees) -> list[PieceScore]:
    """The loop that one would write, in float64 but for the network."""
    network, tokenizer = model.network, model.tokenizer
    is_pair = network.config.is_encoder_decoder
    scores = []
    for place, piece in enumerate(pieces):
        earlier = [text.strip() for text in pieces[:place] if text.strip()] if sees == "earlier" else []
        if not piece.strip():
            scores.append(NOTHING)
            continue
        texts = [prompt, *earlier, piece.strip()]
        parts = [separator(a, b) + b for a, b in zip(["", *texts], texts, strict=False)][1 if is_pair else 0 :]
        *before, own = encode(tokenizer, [tuple(parts)])[0]
        known = [token for part in before for token in part]
        if is_pair:
            start = [network.config.decoder_start_token_id, *frame_of(tokenizer, written=True)[0]]
            given = torch.tensor([start + known + own[:-1]])
            logits = network(input_ids=torch.tensor([tokenizer(prompt)["input_ids"]]), decoder_input_ids=given).logits
        else:
            logits = network(input_ids=torch.tensor([known + own[:-1]])).logits
        likely = logits[0, -len(own) :].double().log_softmax(-1)
        loss = -likely[range(len(own)), own].sum().item()
        scores.append(PieceScore(-(likely.exp() * likely).sum().item(), loss, len(own)))
    return scores


def agree(found: list[list[PieceScore]], expected: list[list[PieceScore]]) -> None:
    assert [[one.tokens for one in row] for row in found] == [[one.tokens for one in row] for row in expected]
    for some, others in zip(found, expected, strict=True):
        assert [one.entropy for one in some] == pytest.approx([one.entropy for one in others], abs=1e-4)
        assert [one.loss for one in some] == pytest.approx([one.loss for one in others], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_one_piece_a_forward_pass_whatever_the_batch(family: str, tmp_path: Path) -> None:
    model = model_of(family, tmp_path)
    for sees in ("question", "earlier"):
        expected = [one_at_a_time(model, prompt, pieces, sees) for prompt, pieces in ROWS]
        for batch_tokens in (1, 60, 4096):
            agree(list(score_pieces(model, ROWS, sees=sees, batch_tokens=batch_tokens)), expected)
    assert model.truncated == 0


def test_what_stands_between_the_prompt_and_a_piece(tmp_path: Path) -> None:
    model = model_of("llama", tmp_path)  # a token a byte
    alone, behind = (next(score_pieces(model, ROWS, sees=sees)) for sees in ("question", "earlier"))
    assert [one.tokens for one in alone] == [1 + len(piece.strip()) for piece in ROWS[0][1]]
    agree([alone[:1]], [behind[:1]])
    assert abs(alone[1].loss - behind[1].loss) > 1e-2


def test_a_piece_has_the_same_scores_wherever_it_stands(tmp_path: Path) -> None:
    model = model_of("t5", tmp_path)
    (there,) = score_pieces(model, [("Ann?", ["She sat.", " She sat. ", "He did.", "She sat."])])
    agree([[there[0]] * 2], [[there[1], there[3]]])
    assert there[0].tokens == len(encode(model.tokenizer, [("She sat.",)])[0][0])


@pytest.mark.slow
@pytest.mark.parametrize("family", ["t5", "bart", "gpt2"])
def test_beyond_the_positions_every_token_is_scored_once(family: str, tmp_path: Path) -> None:
    model = model_of(family, tmp_path, max_length=32, max_new_tokens=16)
    long = [("Why? " * 100, ["word " * 60, "Two.", "words " * 300])]
    for sees in ("question", "earlier"):
        (some,) = score_pieces(model, long, sees=sees)
        (others,) = score_pieces(model, long, sees=sees, batch_tokens=1)
        agree([some], [others])
        coded = encode(model.tokenizer, [(piece.strip(),) for piece in long[0][1]])
        space = family != "t5"  # a token of its own where a tokenizer's bytes have it
        assert [one.tokens for one in some][:2] == [len(ids) + space for (ids,) in coded][:2]
        assert all(one.loss > one.tokens for one in some)
    assert model.truncated == 4


def test_a_long_text_is_scored_as_its_stretches(tmp_path: Path) -> None:
    model = model_of("t5", tmp_path, max_length=12, max_new_tokens=8)
    (found,) = score_pieces(model, [("Why?", ["abcdefghijklmnopqrstuvwxyz"])])
    (ids,) = encode(model.tokenizer, [("abcdefghijklmnopqrstuvwxyz",)])[0]
    read, loss = torch.tensor([model.tokenizer("Why?")["input_ids"]]), 0.0
    for first, known, end in ((0, 0, 19), (8, 19, 27)):  # one position of twenty is the start token's
        given = torch.tensor([[model.network.config.decoder_start_token_id, *ids[first:end][:-1]]])
        with torch.inference_mode():
            likely = model.network(input_ids=read, decoder_input_ids=given).logits[0].log_softmax(-1)
        loss -= sum(likely[i - first, ids[i]].item() for i in range(known, end))
    assert found[0].loss == pytest.approx(loss, abs=1e-4)


def test_windows_and_large_vocabularies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama", tmp_path)
    expected = [*score_pieces(model, ROWS)]
    monkeypatch.setattr(piece_scores, "WINDOW", 2)
    monkeypatch.setattr(piece_scores, "LOGITS", 257 * 10)
    monkeypatch.setattr(piece_scores, "CHUNK", 257 * 3)
    agree([*score_pieces(model, ROWS)], expected)
    taken = []

    def endless() -> Iterator[tuple[str, list[str]]]:
        while True:
            taken.append(len(taken))
            yield ROWS[0]

    agree([next(score_pieces(model, endless()))], expected[:1])
    assert len(taken) == 2


def test_half_precision_is_summed_in_single(tmp_path: Path) -> None:
    model = model_of("llama", tmp_path)
    model.network.bfloat16()
    found, expected = next(score_pieces(model, ROWS)), one_at_a_time(model, ROWS[0][0], ROWS[0][1], "question")
    assert [one.entropy for one in found] == pytest.approx([one.entropy for one in expected], rel=0.05)


def test_nothing_to_go_on_from(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="input '': there are no tokens to go on from; give it an input"):
        list(score_pieces(model_of("llama", tmp_path), [("", ["One."])]))
