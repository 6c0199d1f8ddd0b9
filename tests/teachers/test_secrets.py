"""Keys and passwords: planted everywhere, found nowhere."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote

import pytest
from asking import Live, asked, examples, prompt
from pydantic import BaseModel
from servers import ChatServer

from understudy.errors import SettingsError, TeacherError, UnderstudyError
from understudy.records import Dropped
from understudy.settings import validate
from understudy.teachers import Ledger, TeacherSettings, ask, check, open_teacher

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


def test_a_proxy_that_shows_what_it_was_sent(
    tmp_path: Path, server: ChatServer, live: Live, monkeypatch: pytest.MonkeyPatch
):
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.base_url.removesuffix("/v1").replace("//", f"//user:{PASSWORD}@"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.echo_headers, server.refuse = True, {"row 1;": 400}
    server.answer = lambda messages: f"I was sent {server.headers[-1]}"
    settings = live(base_url="http://teacher.example/v1")
    with Ledger.open(tmp_path / "ledger.sqlite3") as ledger, open_teacher(settings, ledger) as teacher:
        kept, dropped = asked(teacher, examples(3))
    assert PLANTED[2] in server.headers[0]["Proxy-Authorization"], "the plant must be there to be found"
    assert "Proxy-Authorization" in dropped[0].detail
    assert clean(kept, dropped, teacher.settings)
    assert_no_file_holds_a_secret(tmp_path)


@pytest.mark.parametrize("key", [KEY, 'sk-"quoted"\\back/slash-0123456789'])
def test_an_endpoint_that_says_the_key_wherever_it_can(
    tmp_path: Path, server: ChatServer, live: Live, monkeypatch: pytest.MonkeyPatch, key: str
):
    """In good answers, short and long enough to be compressed, in what comes with them, in broken ones and faults."""
    monkeypatch.setenv("OPENAI_API_KEY", key)
    told = f"your key is {key}"

    def said(text: str) -> bytes:
        message = {"content": text, "reasoning_content": text, "tool_calls": [{"arguments": {key: [text]}}]}
        return json.dumps({"id": key, "choices": [{"message": message, "logprobs": {"token": key}}], "x": key}).encode()

    server.raw = [said(told), said(told * 99), f'{{"choices": {json.dumps(told)}'.encode(), json.dumps(told).encode()]
    server.echo_headers, server.refuse = True, {"row 6;": 500, "row 7;": 400}
    heard: list[str] = []
    with (
        Ledger.open(tmp_path / "ledger.sqlite3") as ledger,
        open_teacher(live(concurrency=1, retries=1), ledger, say=heard.append) as teacher,
    ):
        kept, dropped = asked(teacher, examples(8))
        asking = teacher.asking()
        entries = list(ledger.entries())
        assert ledger.info().failures >= 2, "broken answers may have been billed"
    assert [row.reason for row in dropped] == ["server_error", "bad_request"]
    assert (len(kept), str(kept[0].target)) == (6, "your key is ***")
    assert b"reasoning_content" in entries[0].reply.raw
    assert "Authorization" in asking.last_fault
    for text in (kept, dropped, asking, heard, *entries):
        assert key not in f"{text}{text!r}"
        assert json.dumps(key)[1:-1] not in f"{text}{text!r}"
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert key.encode() not in file.read_bytes()
            assert json.dumps(key)[1:-1].encode() not in file.read_bytes()


def test_what_is_asked_again_with_a_form_and_what_is_remembered(
    tmp_path: Path, server: ChatServer, live: Live, monkeypatch: pytest.MonkeyPatch
):
    class Answer(BaseModel):
        number: int

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.refuses_schema, server.echo_headers = 400, True
    server.answer = lambda messages: f"<number>{KEY}</number>"
    url = f"http://user:{PASSWORD}@127.0.0.1:{server.port}/v1?key={quote(KEY)}"
    with (
        Ledger.open(tmp_path / "ledger.sqlite3") as ledger,
        open_teacher(live(base_url=url), ledger) as teacher,
    ):
        rows = list(ask(teacher, examples(2), prompt, lambda row, answer: row, form=Answer))
    assert [row.reason for row in rows if isinstance(row, Dropped)] == ["not_the_form"] * 2
    repairs = [body["messages"] for body in server.bodies if len(body["messages"]) > 2]
    assert "***" in repairs[0][2]["content"]
    assert clean(rows, repairs)
    assert_no_file_holds_a_secret(tmp_path)


@pytest.mark.parametrize("form", ["http://user:{password}@{host}/v1", "http://{host}/v1?key={password}"])
@pytest.mark.parametrize("password", [PASSWORD, quote(KEY, safe="+="), quote(KEY, safe="")])
def test_a_base_url_that_holds_a_password(tmp_path: Path, server: ChatServer, live: Live, form: str, password: str):
    url = form.format(password=password, host=f"127.0.0.1:{server.port}")
    server.echo_headers, server.refuse = True, {"row 1;": 400}
    settings = live(base_url=url)
    with Ledger.open(tmp_path / "ledger.sqlite3") as ledger, open_teacher(settings, ledger) as teacher:
        _, dropped = asked(teacher, examples(2))
    assert len(dropped) == 1
    assert clean(dropped, settings, settings.canonical(), settings.model_dump_json(), check(settings))
    assert_no_file_holds_a_secret(tmp_path)
    with ChatServer() as other:
        gone = live(base_url=form.format(password=password, host=f"127.0.0.1:{other.port}"))
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
        {"base_url": f"http://user:{KEY}@127.0.0.1/v1"},  # its / ends the host
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


def test_a_short_password_is_blotted_in_replies_and_a_word_for_no_key_is_not(
    ledger: Ledger, live: Live, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with ChatServer(answer="none of these, by hunter2, as of 2024-10-21") as server:
        url = server.base_url.replace("http://", "http://me:hunter2@") + "?api-version=2024-10-21"
        with open_teacher(live(base_url=url), ledger) as teacher:
            kept, _ = asked(teacher, examples(1))
    assert kept[0].target == "none of these, by ***, as of 2024-10-21"


@pytest.mark.parametrize("password", ["hunter/2", "123/hunter2", "0123/x", "12#3hunter"])
def test_a_password_that_no_url_can_hold_is_not_shown(ledger: Ledger, live: Live, password: str):
    with pytest.raises(SettingsError, match="as %2F") as caught:
        open_teacher(live(base_url=f"http://me:{password}@localhost:8000/v1"), ledger)
    assert password not in str(caught.value)
