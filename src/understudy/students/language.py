"""Language models of a hub id or a folder, and what their tokenizers make of a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from understudy.errors import DataError
from understudy.pretrained import identity, loading, local_folder, quiet
from understudy.records import digest
from understudy.students.settings import CausalSettings, MaskedSettings, Scratch, Seq2SeqSettings

AUTO: dict[str, Any] = {
    "causal": AutoModelForCausalLM,
    "masked": AutoModelForMaskedLM,
    "seq2seq": AutoModelForSeq2SeqLM,
}
LETTER = "Z"
OpenedSettings: TypeAlias = CausalSettings | Seq2SeqSettings | MaskedSettings
CALLED = {
    "causal": "a causal language model",
    "masked": "a masked language model",
    "seq2seq": "an encoder-decoder",
    "classifier": "an encoder",
}
SCORED = ("masked", "causal")  # kinds that say how likely a sentence is


def origin_of(settings: OpenedSettings) -> str:
    """What the student starts from, by content.

    Raises: as ``understudy.pretrained.identity``.
    """
    if isinstance(settings.base, Scratch):
        return f"scratch:{digest(settings.base.canonical())}"
    return identity(settings.base, settings.revision)


def names_of(settings: OpenedSettings) -> tuple[str | None, str]:
    """The hub id of the base, if it has one, and the base's name for a person; never a path of one machine."""
    if isinstance(settings.base, Scratch):
        return None, f"random weights, {settings.base.architecture}"
    folder = Path(settings.base).expanduser()
    return (None, folder.name) if folder.is_dir() else (settings.base, settings.base)


def read_base(base: str, revision: str | None, kind: str) -> tuple[Any, Any]:
    """The network, float32, and its tokenizer.

    Raises:
        DataError: the base cannot be loaded, or is of another kind.
    """
    folder = local_folder(base)
    source = base if folder is None else str(folder)
    where: dict[str, Any] = {"revision": revision} if folder is None and revision else {}
    return read(source, f"student.base: {base!r}", kind, **where)


def read(source: str | Path, what: str, kind: str = "causal", **where: Any) -> tuple[Any, Any]:
    """A language model in float32 and its tokenizer.

    Weights are read from safetensors only, and no code comes with them.

    Raises:
        DataError: they cannot be loaded, or are of another kind.
    """
    with _told(what, CALLED[kind]):
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, **where)
        found = _kinds_of(config)
        if kind not in found:  # BART opens as a causal model too, without its encoder
            other = f"{CALLED[found[0]]} ({config.model_type})"
            raise DataError(f"{what} is {other}, not {CALLED[kind]}; use student.kind: {found[0]}, or another base")
        return _opened(source, what, kind, where)


def read_scored(source: str | Path, what: str, **where: Any) -> tuple[Any, Any]:
    """As ``read``, whatever kind of language model it is, if it can say how likely a sentence is.

    Raises:
        DataError: as ``read``.
    """
    with _told(what, "a language model"):
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, **where)
        found = _kinds_of(config)
        kind = next((kind for kind in SCORED if kind in found), None)
        if kind is None:
            other = f"{CALLED[found[0]]} ({config.model_type})"
            raise DataError(f"{what} is {other}; name a masked or a causal language model")
        return _opened(source, what, kind, where)


def is_masked(network: Any) -> bool:
    """Whether it is a masked language model, not a causal one."""
    return "masked" in _kinds_of(network.config)


def _opened(source: str | Path, what: str, kind: str, where: dict[str, Any]) -> tuple[Any, Any]:
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **where)
    network, told = AUTO[kind].from_pretrained(
        source, trust_remote_code=False, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **where
    )
    if kind == "masked" and (lost := sorted(told["missing_keys"])):
        raise DataError(
            f"{what} cannot be loaded as {CALLED[kind]}: it is an encoder without the head that fills gaps, as "
            f"{lost[0]!r} is not there; name a model with its head"
        )
    return network, tokenizer


@contextmanager
def _told(what: str, called: str) -> Iterator[None]:
    """Say in one line what cannot be loaded."""
    try:
        with loading():
            yield
    except DataError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{what} cannot be loaded as {called}: {first}") from error


def _kinds_of(config: Any) -> tuple[str, ...]:
    """The kinds of student that a model can be."""
    if config.is_encoder_decoder:
        return ("seq2seq",)
    fills_gaps = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    goes_on = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and getattr(config, "is_decoder", True)
    return ("classifier", "masked") if fills_gaps and not goes_on else ("causal",)


def stop_of(network: Any, tokenizer: Any) -> int:
    """The token that ends a text.

    Raises:
        DataError: there is none.
    """
    stop = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else network.config.eos_token_id
    if stop is None:
        raise DataError(f"student.base: {network.name_or_path!r} has no stop token; set eos_token in its tokenizer")
    return stop[0] if isinstance(stop, list) else stop


def longest_of(network: Any, max_length: int) -> int:
    """The most tokens of a sequence: as set, or fewer where the network has no more positions."""
    return min(max_length, getattr(network.config, "max_position_embeddings", None) or max_length)


def positions_of(network: Any) -> tuple[int | None, int]:
    """How many tokens the network can read, if that has an end, and the position of the first one.

    RoBERTa counts positions from behind that of the padding.
    """
    limit: int | None = getattr(network.config, "max_position_embeddings", None)
    for name, part in network.named_modules():
        if name.endswith("position_embeddings") and (padding := getattr(part, "padding_idx", None)) is not None:
            return part.num_embeddings - padding - 1, padding + 1
    return limit, 0


def encode(tokenizer: Any, texts: Sequence[tuple[str, ...]]) -> list[list[list[int]]]:
    """Token ids of each part of each text, without special tokens.

    A part that follows another is read behind a letter, whose tokens are taken off: the tokenizers of T5 and Llama 2
    put a space before whatever they read, and would make ``( B )`` of ``(``, ``B`` and ``)``.
    """
    follows = [place > 0 for text in texts for place in range(len(text))]
    parts = [part for text in texts for part in text]
    (letter,) = _ids(tokenizer, [LETTER])
    ids = _ids(tokenizer, [LETTER + part if behind else part for part, behind in zip(parts, follows, strict=True)])
    grown = [i for i, behind in enumerate(follows) if behind and ids[i][: len(letter)] != letter]  # into one token
    ids = [one[len(letter) :] if behind else one for one, behind in zip(ids, follows, strict=True)]
    for i, alone in zip(grown, _ids(tokenizer, [parts[i] for i in grown]), strict=True):
        ids[i] = alone
    coded = iter(ids)
    return [[next(coded) for _ in text] for text in texts]


def _ids(tokenizer: Any, parts: list[str]) -> list[list[int]]:
    with quiet():  # it warns of texts longer than the model
        return tokenizer(parts, add_special_tokens=False, return_attention_mask=False)["input_ids"] if parts else []


def frame_of(tokenizer: Any, *, written: bool = False) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after every text, one that is read or one that is ``written`` by a decoder."""
    key = "text_target" if written else "text"
    bare, framed = (tokenizer(**{key: "a"}, add_special_tokens=special)["input_ids"] for special in (False, True))
    before = next(i for i in range(len(framed)) if framed[i : i + len(bare)] == bare)
    return framed[:before], framed[before + len(bare) :]
