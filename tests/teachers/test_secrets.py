"""Keys and passwords: planted everywhere, found nowhere."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from asking import Live, asked, examples
from servers import ChatServer

from understudy.errors import SettingsError, TeacherError, UnderstudyError
from understudy.settings import validate
from understudy.teachers import Ledger, TeacherSettings, check, open_teacher

KEY = "sk-planted/key+with=signs-0123456789"
PASSWORD = "pass-word-0123456789"
PLANTED = [KEY, PASSWORD, base64.b64encode(f"user:{PASSWORD}".encode()).decode(), "sk-planted%2Fkey"]


def clean(*texts: object) -> bool:
    return not any(secret in str(text) + repr(text) for secret in PLANTED for text in texts)


def test_an_endpoint_that_echoes_headers_in_its_errors(
    tmp_path: Path, server: ChatServer, live: Live, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.echo_headers, server.refuse, server.faults = True, {"row 1;": 400}, [500]
    server.answer = lambda messages: f"I was sent {server.headers[-1]}"
    with Ledger.open(tmp_path / "ledger.sqlite3") as ledger, open_teacher(live(), ledger) as teacher:
        kept, dropped = asked(teacher, examples(3))
        server.faults = [401]
        with pytest.raises(TeacherError) as caught:
            asked(teacher, examples(1, start=9))
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}", "the plant must be there to be found"
    assert "Authorization" in dropped[0].detail
    assert "Authorization" in str(kept[0].target)
    assert clean(kept, dropped, caught.value, teacher.settings, teacher.identity)
    assert_no_file_holds_a_secret(tmp_path)


@pytest.mark.parametrize("form", ["http://user:{password}@{host}/v1", "http://{host}/v1?key={password}"])
def test_a_base_url_that_holds_a_password(tmp_path: Path, server: ChatServer, live: Live, form: str):
    url = form.format(password=PASSWORD, host=f"127.0.0.1:{server.port}")
    server.echo_headers, server.refuse = True, {"row 1;": 400}
    settings = live(base_url=url)
    with Ledger.open(tmp_path / "ledger.sqlite3") as ledger, open_teacher(settings, ledger) as teacher:
        _, dropped = asked(teacher, examples(2))
    assert len(dropped) == 1
    assert clean(dropped, settings, settings.canonical(), settings.model_dump_json(), check(settings))
    assert_no_file_holds_a_secret(tmp_path)
    with ChatServer() as other:
        gone = live(base_url=form.format(password=PASSWORD, host=f"127.0.0.1:{other.port}"))
    caught = pytest.raises(TeacherError)
    with Ledger.open(tmp_path / "ledger.sqlite3") as ledger, open_teacher(gone, ledger) as teacher, caught as info:
        asked(teacher, examples(2))
    assert clean(info.value, check(gone))


@pytest.mark.parametrize(
    "changes",
    [
        {"base_url": f"http://user:{PASSWORD}@host/v1", "backend": "recorded"},
        {"api_key_env": KEY},
        {"api_key": KEY},
        {"base_url": f"ftp://user:{PASSWORD}@host"},
    ],
)
def test_a_wrong_setting_is_explained_without_its_secret(tmp_path: Path, changes: dict[str, str]):
    with pytest.raises(SettingsError) as caught, Ledger.open(tmp_path / "ledger.sqlite3") as ledger:
        open_teacher(validate(TeacherSettings, {"model": "tiny", **changes}, "teacher"), ledger)
    assert clean(caught.value)


def test_a_key_with_a_line_end_inside_is_refused_without_showing_it(
    tmp_path: Path, live: Live, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n{KEY}")
    with Ledger.open(tmp_path / "ledger.sqlite3") as ledger, pytest.raises(UnderstudyError) as caught:
        open_teacher(live(), ledger)
    assert "OPENAI_API_KEY" in str(caught.value)
    assert clean(caught.value)


def assert_no_file_holds_a_secret(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert not any(secret.encode() in content for secret in PLANTED), file
    with Ledger.open(folder / "ledger.sqlite3") as ledger:  # what stands there compressed
        assert clean(*ledger.entries())


def test_a_key_in_the_place_of_its_variables_name(monkeypatch: pytest.MonkeyPatch):
    key = "gsk_mysecretkey0123456789"
    with pytest.raises(SettingsError, match="write the NAME of the variable, e.g. OPENAI_API_KEY") as caught:
        validate(TeacherSettings, {"model": "tiny", "api_key_env": key}, "teacher")
    with pytest.raises(ValueError, match="NAME of the variable") as raw:
        TeacherSettings(model="tiny", api_key_env=key)
    assert key not in str(caught.value) + str(raw.value)
    monkeypatch.setenv("my_key", "x")
    assert TeacherSettings(model="tiny", api_key_env="my_key").api_key_env == "my_key"
    assert TeacherSettings(model="tiny", api_key_env="NOT_SET").api_key_env == "NOT_SET"
