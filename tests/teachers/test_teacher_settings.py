"""Mistakes in a teacher's settings, each with one clear line; and what ``doctor`` sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from asking import Live, asked, examples
from servers import ChatServer

from understudy.errors import SettingsError
from understudy.settings import validate
from understudy.teachers import Ledger, TeacherSettings, check, open_teacher


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"modle": "x"}, "teacher.modle: unknown key. Did you mean 'model'?"),
        ({}, "backend openai needs model"),
        (
            {"model": "m", "replies": {"path": "x", "match": {"a": "b"}}},
            "replies belongs to backend recorded, not to openai",
        ),
        ({"model": "m", "backend": "transformers", "base_url": "http://x"}, "base_url belongs to backend openai"),
        ({"model": "m", "options": {"a": 1}}, "options belongs to backend an extension"),
        ({"model": "m", "concurrency": 0}, "teacher.concurrency"),
        ({"model": "m", "sampling": {"temprature": 1}}, "teacher.sampling.temprature: unknown key"),
        ({"model": "m", "sampling": {"extra": {"n": 2}}}, "'n' cannot stand in extra"),
        ({"model": "m", "sampling": {"temperature": -1}}, "teacher.sampling.temperature"),
        ({"model": "m", "price": {"input": 1}}, "teacher.price.output: this key is required"),
    ],
)
def test_a_mistake_is_named(values: dict[str, Any], says: str):
    with pytest.raises(SettingsError) as caught:
        validate(TeacherSettings, values, "teacher")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_back_end_lists_the_known_ones(ledger: Ledger):
    with pytest.raises(SettingsError, match="'opnai' is unknown. Did you mean 'openai'") as caught:
        open_teacher(validate(TeacherSettings, {"backend": "opnai"}, "teacher"), ledger)
    assert "openai, recorded, transformers" in str(caught.value)


def test_settings_survive_being_written_down(live: Live):
    settings = live(sampling={"stop": ["a"]}, price={"input": 1, "output": 2})
    assert validate(TeacherSettings, settings.model_dump(mode="json"), "teacher") == settings


def test_doctor_looks_at_an_endpoint(server: ChatServer, live: Live, monkeypatch: pytest.MonkeyPatch):
    assert check(live()) == [
        ("teacher key", True, "none needed"),
        ("teacher endpoint", True, f"{server.base_url} answers"),
        ("teacher model", True, "'tiny' is served"),
    ]
    assert check(live(model="big"))[2] == ("teacher model", False, "'big' is not among tiny")
    assert server.requests == 0
    server.stop()
    monkeypatch.setenv("OPENAI_API_KEY", "abcdefgh")
    key, endpoint = check(live())
    assert key == ("teacher key", True, "set in OPENAI_API_KEY")
    assert endpoint[1] is False
    assert "cannot be reached" in endpoint[2]


def test_doctor_looks_at_a_file(tmp_path: Path):
    replies = {"path": str(tmp_path / "none"), "match": {"a": "b"}}
    settings = validate(TeacherSettings, {"backend": "recorded", "replies": replies}, "teacher")
    ((_, ok, says),) = check(settings)
    assert not ok
    assert "there is no such file" in says


def test_an_installed_extension_is_a_back_end_too(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "parrot.py").write_text(
        "from understudy.teachers import Reply\n"
        "class Parrot:\n"
        "    identity, model, endpoint, costs = 'parrot', '', 'parrot', False\n"
        "    def __init__(self, settings): self.word = settings.options['word']\n"
        "    def start(self): pass\n"
        "    async def complete(self, request, example): return Reply(self.word)\n"
        "    async def aclose(self): pass\n"
    )
    installed = tmp_path / "parrot-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Name: parrot\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[understudy.teachers]\nparrot = parrot:Parrot\n")
    monkeypatch.syspath_prepend(tmp_path)
    settings = validate(TeacherSettings, {"backend": "parrot", "options": {"word": "hello"}}, "teacher")
    with open_teacher(settings, ledger) as teacher:
        kept, _ = asked(teacher, examples(2))
    assert [row.target for row in kept] == ["hello", "hello"]
