"""Cassettes as files: the same bytes wherever they are made, and nothing taken from one that was changed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from understudy.errors import DataError, SettingsError
from understudy.teachers import (
    Cassette,
    Ledger,
    Price,
    Reply,
    Request,
    RequestFile,
    Secrets,
    import_cassette,
    import_replies,
    terms_of,
    write_cassette,
)

KEY = "sk-planted/key+with=signs-0123456789"


def request(number: int, **more: Any) -> Request:
    messages = [{"role": "user", "content": f"grüß dich, {number}?"}]
    return Request("tiny", "tiny", messages, {"temperature": 0.0, "seed": 7}, number % 2, **more)


def fill(ledger: Ledger, count: int = 5) -> list[str]:
    """A ledger with some replies; all that can be set is set in one of them."""
    price = Price(input=1, output=2)
    for number in range(count):
        reply = Reply(f"ja ✓ {number}\n", "stop", 10, number, 1e-05 * number, "tiny-2024", 0.123456789, 2)
        ledger.put(request(number), reply, price)
    full = Reply("x" * 5000, "length", None, None, None, recorded=True, raw=b'{"reasoning":"hm","n":[0.1,2]}')
    ledger.put(request(99, schema={"type": "object"}, matched="b2b2"), full)
    return [entry.key for entry in ledger.entries()]


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "elsewhere" / "ledger.sqlite3") as opened:
        yield opened


def test_a_cassette_is_the_same_file_wherever_it_is_exported(ledger: Ledger, other: Ledger, tmp_path: Path):
    keys = fill(ledger)
    first, second = tmp_path / "a.jsonl", tmp_path / "b" / "b.jsonl"
    assert write_cassette(first, [*keys, *keys], ledger, study="toy").replies == 6
    found = import_cassette(first, other)
    assert (found.replies, found.new, found.promised, found.doubles, found.is_cut) == (6, 6, 6, 0, False)
    write_cassette(second, reversed(keys), other, study="toy")
    assert first.read_bytes() == second.read_bytes()
    for entry in ledger.entries():
        stored = other.get(entry.key)
        assert stored is not None
        assert (stored.reply, stored.price, int(stored.created)) == (entry.reply, entry.price, int(entry.created))
    packed = tmp_path / "a.jsonl.gz"
    write_cassette(packed, keys, ledger, study="toy")
    assert gzip.decompress(packed.read_bytes()) == first.read_bytes()
    assert import_cassette(packed, other).new == 0


def test_a_person_reads_who_wrote_it_and_under_whose_terms(ledger: Ledger, tmp_path: Path):
    file = tmp_path / "a.jsonl"
    ledger.put(request(1), Reply("yes", model="gpt-4o-mini-2024-07-18"))
    ledger.put(replace(request(2), teacher="me", model=""), Reply("no"))
    write_cassette(file, [entry.key for entry in ledger.entries()], ledger, study="toy", licence="CC-BY-4.0")
    header, *lines = map(json.loads, file.read_text().splitlines())
    assert header.pop("created").endswith("Z")
    assert header == {
        "cassette": 1,
        "study": "toy",
        "written_by": ["gpt-4o-mini-2024-07-18", "me"],
        "replies": 2,
        "terms": {
            "gpt-4o-mini-2024-07-18": "https://openai.com/policies/services-agreement/",
            "me": "see the provider",
        },
        "licence": "CC-BY-4.0",
    }
    assert [line["key"] for line in lines] == sorted(line["key"] for line in lines)
    assert set(lines[0]) == {"key", "request", "reply", "price", "created"}
    assert "grüß" in file.read_text(), "text is written as it is read"


@pytest.mark.parametrize(
    ("model", "owner"),
    [("openai/gpt-oss-20b", "see"), ("o3-mini", "openai"), ("anthropic/claude-opus-4", "anthropic"), ("llama", "see")],
)
def test_terms_go_by_the_models_name(model: str, owner: str):
    assert owner in terms_of(model)


def changed(file: Path, number: int, old: str, new: str) -> str:
    """The file with one line changed; where that line is."""
    lines = file.read_text().splitlines(keepends=True)
    assert old in lines[number - 1]
    lines[number - 1] = lines[number - 1].replace(old, new, 1)
    file.write_text("".join(lines))
    return f"{file.name}:{number}"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("dich", "Dich", "does not belong to the request"),
        ('"key":"b2:', '"key":"b2:0', "does not belong to the request"),
        ('"text":"', '"text":5,"x":"', "text"),
        ('"reply":{', '"reply":"yes","x":{', "no line of a cassette"),
        ('"created":"', '"created":"soon', "no line of a cassette"),
        ('{"key"', '["key"', "no JSON"),
    ],
)
def test_of_a_cassette_that_was_changed_nothing_is_taken(
    ledger: Ledger, other: Ledger, tmp_path: Path, old: str, new: str, said: str
):
    file = tmp_path / "a.jsonl"
    write_cassette(file, fill(ledger), ledger, study="toy")
    where = changed(file, 4, old, new)
    with pytest.raises(DataError) as caught:
        import_cassette(file, other)
    assert where in str(caught.value)
    assert said in str(caught.value)
    assert other.info().replies == 0


def test_doubles_and_an_unfinished_end_are_said(ledger: Ledger, other: Ledger, tmp_path: Path):
    file = tmp_path / "a.jsonl"
    write_cassette(file, fill(ledger), ledger, study="toy")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:3], lines[2], lines[3], lines[4][:100]]))
    found = import_cassette(file, other)
    assert (found.replies, found.new, found.doubles, found.promised, found.is_cut) == (3, 3, 1, 6, True)
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(b"".join(lines))[:-30])
    with pytest.raises(DataError, match="the gzip file is cut off"):
        import_cassette(packed, other)


def test_what_is_no_cassette_is_refused(ledger: Ledger, tmp_path: Path):
    file = tmp_path / "a.jsonl"
    known = "no cassette: its first line is not"
    for content, said in [("", known), ('{"a": 1}\n', known), ('{"cassette": 2}\n', "update understudy")]:
        file.write_text(content)
        with pytest.raises(DataError, match=said):
            import_cassette(file, ledger)
    with pytest.raises(DataError, match="nowhere"):
        Cassette(tmp_path / "nowhere.jsonl")


def test_replies_that_are_there_stay_and_missing_ones_are_counted(ledger: Ledger, other: Ledger, tmp_path: Path):
    keys = fill(ledger)
    other.put(request(3), Reply("mine"))
    write_cassette(tmp_path / "a.jsonl", keys, ledger, study="toy")
    assert import_cassette(tmp_path / "a.jsonl", other).new == 5
    assert other.get_many([request(3).key])[request(3).key].text == "mine"
    with pytest.raises(DataError, match="2 of 8 replies are not in the ledger"):
        write_cassette(tmp_path / "b.jsonl", [*keys, "b2:" + "0" * 32, "b2:" + "1" * 32], ledger, study="toy")
    assert not list(tmp_path.glob("*b.jsonl*"))


def test_secrets_are_taken_out_of_replies_and_refused_in_prompts(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "a.jsonl"
    monkeypatch.setenv("SOME_API_KEY", KEY)
    monkeypatch.setenv("SHORT_KEY", "yes")
    ledger.put(request(1), Reply(f"yes, I was sent {KEY} at http://me:word@host/v1", raw=b'{"a":"%s"}' % KEY.encode()))
    ledger.put(request(2), Reply("yes"))
    keys = [entry.key for entry in ledger.entries()]
    written = write_cassette(file, keys, ledger, study="toy", secrets=Secrets.all_known())
    assert written.redacted == 1
    assert KEY not in file.read_text()
    assert "http://***@host/v1" in file.read_text()
    assert '"text":"yes"' in file.read_text()
    asked = Request("tiny", "tiny", [{"role": "user", "content": f"my key is {KEY}"}])
    ledger.put(asked, Reply("yes"))
    with pytest.raises(DataError, match=f"the prompt of reply {asked.key} holds a key") as caught:
        write_cassette(file, [asked.key], ledger, study="toy", secrets=Secrets.all_known())
    assert KEY not in str(caught.value)
    with pytest.raises(DataError, match="holds a key"), RequestFile(file, Secrets.all_known()) as requests:
        requests.add(asked)


def body(text: str, **more: Any) -> dict[str, Any]:
    choices = [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]
    usage = {"prompt_tokens": 10, "completion_tokens": 3}
    return {"model": "tiny", "created": 1_760_000_000, "choices": choices, "usage": usage} | more


def write(file: Path, *lines: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_requests_go_out_in_batch_form_and_answers_come_back(ledger: Ledger, tmp_path: Path):
    asked, file = [request(1), request(2), request(3, matched="m")], tmp_path / "r.jsonl"
    with RequestFile(file) as requests:
        for one in [*asked, *asked]:
            requests.add(one)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["custom_id"] for line in lines] == sorted(one.key for one in asked)
    assert all((line["method"], line["url"]) == ("POST", "/v1/chat/completions") for line in lines)
    sent = {line["custom_id"]: line["body"] for line in lines}
    assert sent[asked[0].key] == {"model": "tiny", "messages": asked[0].messages, "temperature": 0.0, "seed": 8}
    answers = write(
        tmp_path / "a.jsonl",
        {"custom_id": asked[0].key, "response": {"status_code": 200, "body": body("one")}, "error": None},
        {"custom_id": asked[0].key, "response": {"status_code": 200, "body": body("again")}, "error": None},
        {"custom_id": asked[1].key, "response": {"status_code": 400, "body": {"error": {"message": "no"}}}},
        {"custom_id": asked[2].key, "response": None, "error": {"code": "batch_expired"}},
    )
    found = import_replies(answers, file, ledger)
    assert (found.replies, found.new, found.doubles, found.failed, found.promised) == (1, 1, 1, 2, 3)
    entry = ledger.get(asked[0].key)
    assert entry is not None
    assert (entry.request, entry.created) == (asked[0], 1_760_000_000)
    assert replace(entry.reply, raw=b"") == Reply("one", prompt_tokens=10, completion_tokens=3, model="tiny")


def test_written_replies_say_who_wrote_them_and_when(ledger: Ledger, other: Ledger, tmp_path: Path):
    file = tmp_path / "r.jsonl"
    with RequestFile(file) as requests:
        requests.add(request(1))
        requests.add(request(2))
    answers = write(
        tmp_path / "a.jsonl",
        {"custom_id": request(1).key, "response": {"status_code": 200, "body": body("one", model="elsewhere")}},
        {"key": request(2).key, "reply": "two"},
    )
    for writer in (None, "Somebody", "Somebody, yesterday", "Somebody, 2026-13-01"):
        with pytest.raises((SettingsError, DataError)):
            import_replies(answers, file, ledger, written_by=writer)
    assert ledger.info().replies == 0
    import_replies(answers, file, ledger, written_by="Somebody Large, 2026-11-20")
    for entry, text in zip(sorted(ledger.entries(), key=lambda e: e.reply.text), ("one", "two"), strict=True):
        reply = entry.reply
        assert (reply.text, reply.model, reply.is_written) == (text, "Somebody Large, 2026-11-20", True)
        assert (reply.prompt_tokens, reply.completion_tokens, reply.usd) == (None, None, 0.0)
    cassette, again = tmp_path / "c.jsonl", tmp_path / "d.jsonl"
    keys = [entry.key for entry in ledger.entries()]
    write_cassette(cassette, keys, ledger, study="toy")
    assert json.loads(cassette.read_text().splitlines()[0])["written_by"] == ["Somebody Large, 2026-11-20"]
    import_cassette(cassette, other)
    assert all(entry.reply.is_written for entry in other.entries())
    write_cassette(again, keys, other, study="toy")
    assert again.read_bytes() == cassette.read_bytes()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"custom_id": "b2:1", "reply": "x"}, "is the custom_id of no line"),
        ({"reply": "x"}, "is the custom_id of no line"),
        ({"custom_id": "", "nothing": "x"}, "neither a response with a body nor a reply"),
        ({"custom_id": "", "response": {"status_code": 200, "body": body("x", model="other")}}, "'other'"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_with_its_line(
    ledger: Ledger, tmp_path: Path, line: dict[str, Any], said: str
):
    with RequestFile(tmp_path / "r.jsonl") as requests:
        requests.add(request(1))
    if "custom_id" in line:
        line = {**line, "custom_id": line["custom_id"] or request(1).key}
    answers = write(tmp_path / "a.jsonl", line)
    with pytest.raises(DataError, match=said) as caught:
        import_replies(answers, tmp_path / "r.jsonl", ledger)
    assert "a.jsonl:1" in str(caught.value)
    where = changed(tmp_path / "r.jsonl", 1, "dich", "Dich")
    with pytest.raises(DataError, match="does not belong to the request") as caught:
        import_replies(answers, tmp_path / "r.jsonl", ledger)
    assert where in str(caught.value)
