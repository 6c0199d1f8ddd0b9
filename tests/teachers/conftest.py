"""What the stories about teachers share: a ledger, a server, and settings for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import ChatServer

from understudy.settings import validate
from understudy.teachers import Ledger, TeacherSettings


@pytest.fixture(autouse=True)
def _no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.sqlite3") as opened:
        yield opened


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer(answer=lambda messages: messages[-1]["content"].upper()) as running:
        yield running


@pytest.fixture
def live(server: ChatServer) -> Callable[..., TeacherSettings]:
    """Settings of a teacher on the server."""

    def settings(**changes: Any) -> TeacherSettings:
        return validate(TeacherSettings, {"model": "tiny", "base_url": server.base_url, **changes}, "teacher")

    return settings
