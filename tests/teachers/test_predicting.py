"""A function on this machine as a teacher, and replies that are read whole."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import pytest
from asking import asked, examples, parse, prompt
from servers import ChatServer

from understudy.errors import TeacherError
from understudy.records import Dropped, Example
from understudy.settings import validate
from understudy.teachers import Ledger, Reply, TeacherSettings, ask, open_teacher
from understudy.teachers.backends.predicting import Predicting

SETTINGS = validate(TeacherSettings, {"backend": "predicting", "concurrency": 8}, "teacher")


class Length:
    """Answers with the length of a text, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        self.batches.append(list(texts))
        return [(str(len(text)), -float(len(text))) for text in texts]

    @property
    def texts(self) -> list[str]:
        return [text for batch in self.batches for text in batch]


def test_it_answers_what_waits_in_batches_and_the_ledger_keeps_it(ledger: Ledger):
    length = Length()
    for run in range(2):
        with open_teacher(SETTINGS, ledger, backend=Predicting(length, "sha256:1", "tuned")) as teacher:
            kept, dropped = asked(teacher, examples(100))
            used = teacher.usage()
        assert [(row.id, row.target) for row in kept] == [(f"e{i}", str(len(f"row {i};"))) for i in range(100)]
        assert not dropped
        (reply,) = ledger.get_many(kept[0].replies).values()
        assert (reply.text, reply.model, reply.usd, reply.raw) == ("6", "tuned", 0.0, b'{"mean_logprob":-6.0}')
        assert (used.requests, used.from_ledger, used.usd) == ((100, 0, 0.0), (0, 100, 0.0))[run]
        assert sorted(length.texts) == sorted(f"row {i};" for i in range(100))
    assert 1 < max(map(len, length.batches)) <= 8


def test_another_model_is_another_teacher(ledger: Ledger):
    length = Length()
    for identity in ("sha256:1", "sha256:2", "sha256:1"):
        with open_teacher(SETTINGS, ledger, backend=Predicting(length, identity, "tuned")) as teacher:
            asked(teacher, examples(3))
            assert identity in teacher.identity
    assert len(length.texts) == 6


def test_equal_requests_are_computed_once_and_samples_each(ledger: Ledger):
    length = Length()
    with open_teacher(SETTINGS, ledger, backend=Predicting(length, "i", "tuned")) as teacher:
        same = [row.replace(input="row") for row in examples(20)]
        kept, _ = asked(teacher, same)
        assert ({row.target for row in kept}, length.texts) == ({"3"}, ["row"])
        sampled, _ = asked(teacher, examples(2), n=3)
    assert [row.target for row in sampled] == ["6"] * 6
    assert len(length.texts) == 1 + 6


def test_offline_it_answers_all_the_same_and_a_rehearsal_computes_nothing(ledger: Ledger):
    length = Length()
    with open_teacher(SETTINGS, ledger, backend=Predicting(length, "i", "tuned"), render_only=True) as teacher:
        _, dropped = asked(teacher, examples(5))
        assert ({row.reason for row in dropped}, teacher.estimate().requests) == ({"not_sent"}, 5)
        assert teacher.rendered[0] == prompt(next(examples(1)))
    assert not length.batches
    with open_teacher(SETTINGS, ledger, backend=Predicting(length, "i", "tuned"), offline=True) as teacher:
        rows = list(ask(teacher, examples(5), prompt, parse))
        assert not teacher.is_offline
    assert [row.target for row in rows if isinstance(row, Example)] == ["6"] * 5


def test_a_function_that_fails_ends_the_run_and_keeps_what_was_answered(ledger: Ledger):
    def fails(texts: Sequence[str]) -> list[tuple[str, float]]:
        if any("13" in text for text in texts):
            raise ValueError("no thirteen")
        return [("fine", 0.0)] * len(texts)

    backend = Predicting(fails, "i", "tuned")
    with open_teacher(SETTINGS, ledger, backend=backend) as teacher, pytest.raises(ValueError, match="no thirteen"):
        asked(teacher, examples(20))
    with open_teacher(SETTINGS, ledger, backend=Predicting(Length(), "i", "tuned")) as teacher:
        kept, _ = asked(teacher, examples(20))
    assert {"fine", "7"} <= {row.target for row in kept}

    def too_few(texts: Sequence[str]) -> list[tuple[str, float]]:
        return []

    backend = Predicting(too_few, "few", "tuned")
    with open_teacher(SETTINGS, ledger, backend=backend) as teacher, pytest.raises(ValueError, match="zip"):
        asked(teacher, examples(20))


@pytest.mark.slow
def test_closing_does_not_wait_for_a_long_batch(ledger: Ledger):
    begun, go_on = threading.Event(), threading.Event()

    def slow(texts: Sequence[str]) -> list[tuple[str, float]]:
        begun.set()
        go_on.wait(30)
        return [("late", 0.0)] * len(texts)

    teacher = open_teacher(SETTINGS, ledger, backend=Predicting(slow, "i", "tuned"))
    failed: list[Exception] = []

    def rows() -> None:
        try:
            asked(teacher, examples(3))
        except Exception as error:
            failed.append(error)

    asker = threading.Thread(target=rows)
    asker.start()
    assert begun.wait(30)
    teacher.close()
    asker.join(30)
    go_on.set()
    assert isinstance(failed[0], TeacherError)


def test_a_whole_reply_is_parsed_as_a_text_is(server: ChatServer, ledger: Ledger):
    def whole(example: Example, reply: Reply) -> Example:
        return example.replace(target=f"{reply.text} {reply.mean_logprob}")

    def odd(texts: Sequence[str]) -> list[tuple[str, float]]:
        return [("" if text == "row 1;" else "yes", -math.inf if text == "row 2;" else -0.5) for text in texts]

    with open_teacher(SETTINGS, ledger, backend=Predicting(odd, "i", "tuned")) as teacher:
        rows = list(ask(teacher, examples(3), prompt, whole, form=Reply))
    assert [row.reason if isinstance(row, Dropped) else row.target for row in rows] == [
        "yes -0.5",
        "empty_reply",
        "yes None",
    ]
    assert all(len((row.example if isinstance(row, Dropped) else row).replies) == 1 for row in rows)
    live = validate(TeacherSettings, {"model": "tiny", "base_url": server.base_url}, "teacher")
    with open_teacher(live, ledger) as teacher:
        (said,) = ask(teacher, examples(1), prompt, whole, form=Reply)
    assert isinstance(said, Example)
    assert said.target == "ROW 0; None"


def test_what_a_reply_tells_of_its_tokens():
    assert Reply("a").mean_logprob is None
    assert Reply("a", raw=b'{"mean_logprob":-1.5,"more":1}').mean_logprob == -1.5
    assert Reply("a", raw=b'{"written":true}').mean_logprob is None
    assert Reply("a", raw=b"[1]").mean_logprob is None
