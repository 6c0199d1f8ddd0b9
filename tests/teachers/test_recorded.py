"""Recorded replies: a file in the place of a teacher."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import orjson
import pytest
from asking import asked, examples

from understudy.errors import DataError, SettingsError
from understudy.records import Example
from understudy.settings import validate
from understudy.teachers import Ledger, TeacherSettings, open_teacher


def recorded(path: Path, match: Any = None, reply: str = "reply", **changes: Any) -> TeacherSettings:
    replies = {"path": str(path), "match": match or {"text": "text"}, "reply": reply}
    return validate(TeacherSettings, {"backend": "recorded", "replies": replies, **changes}, "teacher")


def write(path: Path, rows: list[Any]) -> Path:
    lines = b"\n".join(row if isinstance(row, bytes) else orjson.dumps(row) for row in rows)
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


@pytest.mark.parametrize("name", ["replies.jsonl", "replies.jsonl.gz"])
def test_each_row_gets_the_reply_that_was_given_to_it(tmp_path: Path, ledger: Ledger, name: str):
    path = write(tmp_path / name, [{"text": f"row {i};", "reply": f"answer {i}"} for i in (3, 1, 0, 2)])
    with open_teacher(recorded(path, model="big-model"), ledger) as teacher:
        kept, dropped = asked(teacher, examples(4))
        usage = teacher.usage()
    assert [row.target for row in kept] == [f"answer {i}" for i in range(4)]
    assert dropped == []
    assert (usage.usd, usage.unpriced) == (0.0, 0)
    entry = ledger.get(kept[0].replies[0])
    assert entry is not None
    assert (entry.reply.recorded, entry.reply.model, entry.reply.prompt_tokens) == (True, "big-model", None)


def test_a_missing_reply_drops_its_row_and_the_run_goes_on(tmp_path: Path, ledger: Ledger):
    path = write(tmp_path / "replies.jsonl", [{"text": "row 0;", "reply": None}, {"text": "row 2;", "reply": "two"}])
    with open_teacher(recorded(path), ledger) as teacher:
        kept, dropped = asked(teacher, examples(3))
    assert [row.id for row in kept] == ["e2"]
    assert [(row.example.id, row.reason) for row in dropped] == [
        ("e0", "no_recorded_reply"),
        ("e1", "no_recorded_reply"),
    ]
    assert dropped[1].detail == "replies.jsonl has no reply 0 to 'e1'"


def test_rows_with_one_key_are_successive_samples(tmp_path: Path, ledger: Ledger):
    path = write(tmp_path / "r.jsonl", [{"label": 1.0, "reply": text} for text in "ab"])
    rows = [Example(id="x", input="", fields={"label": 1})]
    with open_teacher(recorded(path, match={"label": "label"}), ledger) as teacher:
        kept, dropped = asked(teacher, rows, n=3)
    assert [(row.id, row.target) for row in kept] == [("x+loud.0", "a"), ("x+loud.1", "b")]
    assert [row.example.id for row in dropped] == ["x+loud.2"]


def test_templates_match_rows_and_make_replies(tmp_path: Path, ledger: Ledger):
    path = write(tmp_path / "r.jsonl", [{"pair": "row 0;/gold", "text": "<b>"}])
    settings = recorded(path, match={"pair": "{{ text }}/{{ target }}"}, reply="{{ [text] | tojson }}")
    with open_teacher(settings, ledger) as teacher:
        kept, _ = asked(teacher, [row.replace(target="gold") for row in examples(1)])
    assert kept[0].target == '["<b>"]'


def test_stop_cuts_a_reply_as_a_server_would(tmp_path: Path, ledger: Ledger):
    path = write(tmp_path / "r.jsonl", [{"text": "row 0;", "reply": "yes.\nAnswer: 1\n\nNext: no"}])
    with open_teacher(recorded(path, sampling={"stop": ["\n\n", "no"]}), ledger) as teacher:
        kept, _ = asked(teacher, examples(1))
    assert kept[0].target == "yes.\nAnswer: 1"


def test_another_file_is_another_teacher(tmp_path: Path, ledger: Ledger):
    path = write(tmp_path / "r.jsonl", [{"text": "row 0;", "reply": "old", "other": "else"}])
    answers, identities = [], []
    for settings in (recorded(path), recorded(path, reply="other"), recorded(path)):
        with open_teacher(settings, ledger) as teacher:
            answers.append(asked(teacher, examples(1))[0][0].target)
            identities.append(teacher.identity)
    write(path, [{"text": "row 0;", "reply": "new"}])
    with open_teacher(recorded(path), ledger) as teacher:
        answers.append(asked(teacher, examples(1))[0][0].target)
        identities.append(teacher.identity)
        assert (teacher.usage().requests, teacher.usage().from_ledger) == (1, 0)
    assert answers == ["old", "else", "old", "new"]
    assert [identities.index(one) for one in identities] == [0, 1, 0, 3]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"text": "a", "reply": "b"}, b'{"text": '], "replies.jsonl:2: broken JSON at column 10"),
        ([{"text": "a", "reply": "b"}, {"text": "c"}], "replies.jsonl:2: there is no column 'reply'"),
        ([{"txt": "a", "reply": "b"}], "replies.jsonl:1: there is no column 'text'. Did you mean 'txt'?"),
        ([[1, 2]], "replies.jsonl:1: the file holds a JSON array"),
        ([b'{"text": "\xff", "reply": ""}'], "replies.jsonl:1: not UTF-8: byte 0xff"),
        ([], "replies.jsonl: it holds no rows"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, ledger: Ledger, rows: list[Any], says: str):
    path = write(tmp_path / "replies.jsonl", rows)
    with pytest.raises(DataError) as caught:
        open_teacher(recorded(path), ledger)
    assert says in str(caught.value)


def test_mistakes_in_the_settings_are_said(tmp_path: Path, ledger: Ledger):
    with pytest.raises(DataError, match=r"none\.jsonl: there is no such file"):
        open_teacher(recorded(tmp_path / "none.jsonl"), ledger)
    path = write(tmp_path / "r.jsonl", [{"text": "row 0;", "reply": "b"}])
    settings = recorded(path, match={"text": "txt"})
    unmatched = pytest.raises(DataError, match=r"no file matches example 'e0', which has no field txt")
    with open_teacher(settings, ledger) as teacher, unmatched:
        asked(teacher, examples(1))
    with pytest.raises(SettingsError, match="backend recorded needs replies"):
        validate(TeacherSettings, {"backend": "recorded"}, "teacher")


def test_each_of_several_files_answers_the_rows_that_have_its_fields(tmp_path: Path, ledger: Ledger):
    answers = write(tmp_path / "answers.jsonl", [{"text": "row 0;", "reply": "an answer"}])
    written = write(tmp_path / "direct.jsonl", [{"label": "news", "reply": "a new row"}])
    files = [{"path": str(answers), "match": {"text": "text"}}, {"path": str(written), "match": {"label": "label"}}]
    settings = validate(TeacherSettings, {"backend": "recorded", "replies": files}, "teacher")
    rows = [*examples(1), Example(id="d", input="", fields={"label": "news"})]
    with open_teacher(settings, ledger) as teacher:
        kept, _ = asked(teacher, rows)
    assert [row.target for row in kept] == ["an answer", "a new row"]


def test_rows_with_equal_prompts_get_each_its_own_reply(tmp_path: Path, ledger: Ledger):
    path = write(tmp_path / "r.jsonl", [{"number": i, "reply": f"answer {i}"} for i in range(3)])
    rows = [Example(id=f"e{i}", input="the same", fields={"number": i % 3}) for i in range(6)]
    with open_teacher(recorded(path, match={"number": "number"}), ledger) as teacher:
        kept, _ = asked(teacher, rows)
        assert asked(teacher, rows)[0] == kept
    assert [row.target for row in kept] == [f"answer {i % 3}" for i in range(6)]
    assert ledger.info().replies == 3, "rows that are matched alike share a reply"
    entry = ledger.get(kept[0].replies[0])
    assert entry is not None
    assert entry.request.key == entry.key


def test_every_sample_is_matched_by_the_row_that_was_asked_about(tmp_path: Path, ledger: Ledger):
    path = write(tmp_path / "r.jsonl", [{"row": "e0", "reply": text} for text in "ab"])
    with open_teacher(recorded(path, match={"row": "id"}), ledger) as teacher:
        kept, _ = asked(teacher, examples(1), n=2)
    assert [(row.id, row.target) for row in kept] == [("e0+loud.0", "a"), ("e0+loud.1", "b")]


@pytest.mark.parametrize(
    ("match", "reply"),
    [({"text": "{{ text"}, "reply"), ({"text": "text"}, "{{ reply | shout }}"), ({"a": "{% x %}"}, "b")],
)
def test_a_broken_template_is_refused_when_the_settings_are_read(match: dict[str, str], reply: str):
    with pytest.raises(SettingsError, match=r"teacher\.replies.*template"):
        recorded(Path("none.jsonl"), match, reply)


def test_a_template_that_fails_says_where(tmp_path: Path, ledger: Ledger):
    path = write(tmp_path / "r.jsonl", [{"text": "row 0;", "reply": "a"}, {"text": "row 1;", "reply": 1}])
    with pytest.raises(DataError, match=r"r\.jsonl:2: the template '{{ reply \+ text }}'"):
        open_teacher(recorded(path, reply="{{ reply + text }}"), ledger)
    settings = recorded(path, match={"text": "{{ text.nothing.at.all }}"})
    with open_teacher(settings, ledger) as teacher, pytest.raises(DataError, match="example 'e0': the template"):
        asked(teacher, examples(1))
