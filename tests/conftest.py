"""What every test gets: a ledger of its own, no endpoint from outside, and one thread a process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("busy", deadline=None)  # no test measures time
settings.load_profile("busy")
os.environ["OMP_NUM_THREADS"] = "1"  # tests run side by side
os.environ["HF_HUB_OFFLINE"] = "1"

from servers import ChatServer  # noqa: E402
from toys import Toy, teach, write_encoder  # noqa: E402


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UNDERSTUDY_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a random two-layer encoder with a tokenizer of whole words."""
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """An endpoint on loopback that sorts toy messages and writes new ones."""
    with ChatServer(answer=teach) as running:
        yield running


@pytest.fixture
def toy(tmp_path: Path, encoder: str, server: ChatServer) -> Toy:
    """A small study with its files, its server and its encoder, in a folder of its own."""
    return Toy.write(tmp_path / "toy", encoder, server)
