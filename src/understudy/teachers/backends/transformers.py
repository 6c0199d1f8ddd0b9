"""A model on this machine as a teacher: what waits is answered in batches."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from understudy.errors import DataError, MissingPackage, SettingsError
from understudy.records import Example, digest
from understudy.teachers.request import Reply, Request
from understudy.teachers.settings import TeacherSettings

if TYPE_CHECKING:
    from understudy.teachers.backends.local_model import LocalModel

# What decides the answers: weights, configuration, tokenizer, chat template. No pickles: they are never loaded.
_FILES = ("*.safetensors", "*config.json", "*.index.json", "*token*", "vocab*", "merges.txt", "*.model", "*.jinja")
_PARAMETERS = {"temperature", "top_p", "max_tokens", "stop", "seed"}


@dataclass(slots=True, eq=False)
class _Waiting:
    request: Request
    reply: asyncio.Future[Reply]


class Local:
    """A causal or encoder-decoder model from a folder or the hub, in safetensors, without remote code.

    Without ``temperature``, or with 0, the likeliest token is taken. Otherwise each request draws with a generator
    seeded by its key, so that its answer does not depend on its batch (but for the rounding that padding brings).
    Penalties and least lengths that the model was published with do not count. ``max_tokens`` is 256 where it is not
    set. Without a chat template the messages' texts are joined by blank lines.
    """

    costs = False
    model = ""  # the identity says it all, wherever the folder lies

    def __init__(self, settings: TeacherSettings) -> None:
        assert settings.model is not None  # TeacherSettings sees to it
        self._settings = settings
        self._folder = _folder(settings.model, download=False)
        self.identity = self._hash() if self._folder else f"hub:{settings.model}"  # of what is not here yet
        self.endpoint = f"transformers {self._folder or settings.model} {settings.dtype}"
        self._model: LocalModel | None = None
        self._waiting: list[_Waiting] = []
        self._work: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="understudy-model")

    def start(self) -> None:
        """Load the weights.

        Raises:
            DataError: the folder holds no model, or none in safetensors.
            MissingPackage: torch or transformers is not installed.
        """
        try:
            from understudy.teachers.backends.local_model import LocalModel
        except ImportError as error:
            raise MissingPackage(f'backend transformers: {error}; pip install "understudy[train]"') from None
        if self._folder is None:
            self._folder = _folder(str(self._settings.model), download=True)
            self.identity = self._hash()
        name = self._settings.name or Path(str(self._settings.model)).name
        self._model = LocalModel(str(self._folder), name, self._settings.dtype)

    async def complete(self, request: Request, example: Example) -> Reply:
        """Answer one request in the next batch.

        Raises:
            Refused: the prompt is too long, or the chat template does not take it.
            SettingsError: a parameter that a local model does not have.
        """
        if unknown := sorted(request.sampling.keys() - _PARAMETERS):
            raise SettingsError(f"teacher.sampling.extra: backend transformers knows no {unknown[0]!r}; take it out")
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._answer_all())
        return await waiting.reply

    async def aclose(self) -> None:
        """End the batch at work at its next token."""
        if self._model is not None:
            self._model.is_stopped = True
        if self._work is not None:
            await asyncio.wait([self._work], timeout=1)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _answer_all(self) -> None:
        await asyncio.sleep(0)  # let the others of this moment line up
        loop = asyncio.get_running_loop()
        while batch := self._next_batch():
            try:
                await loop.run_in_executor(self._thread, self._answer, batch, loop)
            except Exception as error:
                for waiting in batch:
                    _resolve(waiting.reply, error)

    def _answer(self, batch: Sequence[_Waiting], loop: asyncio.AbstractEventLoop) -> None:
        """Hand every reply back when it is there. In a thread of its own."""
        assert self._model is not None
        started = time.perf_counter()
        requests = [waiting.request for waiting in batch]
        is_wanted = lambda number: not batch[number].reply.done()  # noqa: E731
        for number, reply in self._model.answer(requests, self._settings.batch_size, is_wanted):
            if isinstance(reply, Reply):
                reply = replace(reply, latency_s=time.perf_counter() - started)
            loop.call_soon_threadsafe(_resolve, batch[number].reply, reply)

    def _next_batch(self) -> list[_Waiting]:
        """All requests that wait with the same parameters as the first."""
        self._waiting = [waiting for waiting in self._waiting if not waiting.reply.done()]
        if not self._waiting:
            return []
        sampling = self._waiting[0].request.sampling
        batch = [one for one in self._waiting if one.request.sampling == sampling]
        self._waiting = [one for one in self._waiting if one not in batch]
        return batch

    def _hash(self) -> str:
        assert self._folder is not None
        return f"local:{digest(_content(self._folder), self._settings.dtype)}"


def _resolve(future: asyncio.Future[Reply], reply: Reply | Exception) -> None:
    if future.done():  # cancelled, or answered before the others failed
        return
    if isinstance(reply, Exception):
        future.set_exception(reply)
    else:
        future.set_result(reply)


def _folder(model: str, *, download: bool) -> Path | None:
    """The folder of a model; ``None`` for one of the hub that is not here."""
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or model.count("/") != 1 or model.startswith("."):
        raise DataError(f"teacher.model: there is no folder {model!r}; give a folder, or a hub id such as org/name")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingPackage('backend transformers is not installed; pip install "understudy[train]"') from None
    try:
        return Path(snapshot_download(model, allow_patterns=list(_FILES), local_files_only=not download))
    except Exception as error:  # the hub's errors share no root
        if not download:
            return None
        first = (str(error).strip().splitlines() or [""])[0]
        raise DataError(f"teacher.model: {model!r} is no folder and the hub does not give it: {first}") from None


def _content(folder: Path) -> str:
    """A hash of every file that decides the answers.

    Raises:
        DataError: the folder holds no model, or none in safetensors.
    """
    files = sorted({file for pattern in _FILES for file in folder.glob(pattern) if file.is_file()})
    names = [file.name for file in files]
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        raise DataError(
            f"teacher.model: {str(folder)!r} is no model folder: config.json and weights in *.safetensors are needed; "
            "save it with save_pretrained"
        )
    sums = []
    for file in files:
        with file.open("rb") as opened:
            sums += [file.name, hashlib.file_digest(opened, "sha256").hexdigest()]
    return digest(*sums)
