"""Texts to vectors of unit length, as sentence-transformers makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from understudy.errors import DataError, MissingPackage
from understudy.pretrained import check_model_folder, identity, loading, local_folder, quiet
from understudy.retrieve.bm25 import BM25, open_bm25

if TYPE_CHECKING:
    import numpy as np
    from sentence_transformers import SentenceTransformer

BFLOAT16 = ":bfloat16"
TOKENS_A_BATCH = 512  # with padding; on a processor, where a thread takes a batch: more leave the core's cache
TOKENS_ELSEWHERE = 32_768  # the same on an accelerator
_ONE_AT_A_TIME = Lock()  # each takes all threads, and sets how many torch has
READ_OF_A_MODEL = ("*.json", "*.safetensors", "*.txt", "*.model")


class Encoder(Protocol):
    """What embeds texts."""

    @property
    def name(self) -> str:
        """As it was named; ``open_encoder`` opens it again."""
        ...

    @property
    def identity(self) -> str:
        """The hash of what decides the vectors: weights, tokenizer, precision."""
        ...

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        ...

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> np.ndarray:
        """Vectors of unit length, (texts, width) float32, in the order of the texts.

        Args:
            progress: told now and then how many texts are done.
        """
        ...


def open_encoder(name: str = "all-MiniLM-L6-v2") -> Encoder:
    """A model of sentence-transformers, or ``bm25``, which compares words and makes no vectors.

    Args:
        name: ``bm25``; ``all-MiniLM-L6-v2``, which comes as a package; a folder; or a hub id. With ``:bfloat16`` behind
            it the model computes in bfloat16: about twice as fast on a processor that has it, cosines move by some
            0.003.

    Raises:
        DataError: there is no such model, or it cannot be loaded without running code or pickles.
        MissingPackage: sentence-transformers is not installed, or the package that the model comes in.
    """
    if name == BM25:
        return open_bm25()
    model_name = name.removesuffix(BFLOAT16)
    try:
        import torch
        from safetensors import SafetensorError
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingPackage(f"encoder {name!r} needs {error.name}: pip install 'understudy[retrieve]'") from error
    here = local_folder(model_name, "encoder")
    folder = here or _from_hub(model_name)
    for pickled in folder.glob("[0-9]_*/pytorch_model.bin"):
        if not pickled.with_name("model.safetensors").is_file():
            raise DataError(f"encoder {model_name!r}: {pickled} is a pickle, which is not read; save it as safetensors")
    try:
        with loading():
            model = SentenceTransformer(
                str(folder),
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            ).eval()
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        raise DataError(f"encoder {model_name!r} cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    content = identity(model_name if here else str(folder), what="encoder").removeprefix("sha256:")
    return SentenceEncoder(name, content + name.removeprefix(model_name), model)


def _from_hub(name: str) -> Path:
    """The folder of what the hub, or this machine's copy of it, holds of ``name``: no pickles and no code."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, allow_patterns=list(READ_OF_A_MODEL)))
    except (OSError, ValueError) as error:
        raise DataError(
            f"encoder {name!r} cannot be had from the hub: {str(error).strip().splitlines()[0]} "
            f"(give a folder, or all-MiniLM-L6-v2, which comes as a package)"
        ) from error
    check_model_folder(folder, f"encoder {name!r}")
    return folder


@dataclass(frozen=True)
class SentenceEncoder:
    """A model of sentence-transformers, used as its own ``encode`` does, faster.

    Each distinct text is embedded once; batches hold texts of like length, as many as a number of tokens allows; on a
    processor each thread takes whole batches, so that a vector does not depend on how many threads there are.
    """

    name: str
    identity: str
    model: SentenceTransformer

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        width = self.model.get_embedding_dimension()
        assert width is not None, f"encoder {self.name!r} does not say how wide its vectors are"
        return width

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> np.ndarray:
        """See ``Encoder``; the tokens of all the texts are held in memory."""
        with _ONE_AT_A_TIME:
            return self._encode(texts, progress)

    def _encode(self, texts: Sequence[str], progress: Callable[[int], None] | None) -> np.ndarray:
        import numpy as np
        import torch

        places: dict[str, list[int]] = {}
        for place, text in enumerate(texts):
            places.setdefault(text, []).append(place)
        distinct = list(places)
        vectors = np.empty((len(texts), self.width), np.float32)
        on_processor, threads, done = self.model.device.type == "cpu", torch.get_num_threads(), 0
        batches = list(by_length(self._lengths(distinct), TOKENS_A_BATCH if on_processor else TOKENS_ELSEWHERE))
        tokens = (self._tokens([distinct[number] for number in batch]) for batch in batches)
        pool = ThreadPoolExecutor(threads if on_processor else 1, "encoder", torch.set_num_threads, (1,))
        try:
            for batch, embedded in zip(batches, pool.map(self._embed, tokens), strict=True):
                for number, vector in zip(batch, embedded, strict=True):
                    vectors[places[distinct[number]]] = vector
                    done += len(places[distinct[number]])
                if progress:
                    progress(done)
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)  # the number that threads begin with is one for the whole process
        return vectors

    def _lengths(self, texts: list[str]) -> list[int]:
        """Tokens of each text, as far as the model reads; characters where its tokenizer is not transformers'."""
        from transformers import PreTrainedTokenizerBase

        tokenizer = self.model.tokenizer
        if not texts or not isinstance(tokenizer, PreTrainedTokenizerBase):
            return [len(text) for text in texts]
        with quiet():  # it warns of texts longer than the model
            rows: list[list[int]] = tokenizer(texts)["input_ids"]  # pyright: ignore[reportAssignmentType]
        return [min(len(row), self.model.max_seq_length or len(row)) for row in rows]

    def _tokens(self, texts: list[str]) -> dict[str, Any]:
        """A batch as the model takes it; not to be called in several threads, as tokenizers hold state."""
        return self.model.preprocess(texts, prompt=self.model.prompts.get(self.model.default_prompt_name or ""))

    def _embed(self, tokens: dict[str, Any]) -> np.ndarray:
        import torch

        device = self.model.device
        precise = nullcontext() if not self.name.endswith(BFLOAT16) else torch.autocast(device.type, torch.bfloat16)
        with torch.inference_mode(), precise:
            on_device = {key: value.to(device) if torch.is_tensor(value) else value for key, value in tokens.items()}
            vectors = self.model(on_device)["sentence_embedding"].float()[:, : self.width]
        return torch.nn.functional.normalize(vectors, dim=-1).cpu().numpy()


def by_length(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Numbers of texts in batches, longest first, none over ``tokens`` with padding unless it is a single text."""
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if batch and lengths[batch[0]] * (len(batch) + 1) > tokens:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
