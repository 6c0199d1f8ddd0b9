"""Asking for replies of a form: how it is asked for, what is mended, what is dropped, and what all of it costs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import pytest
from asking import Live, examples, prompt
from pydantic import BaseModel
from servers import ChatServer

from understudy.errors import BudgetReached
from understudy.records import Dropped, Example, Row
from understudy.teachers import Budget, Ledger, Teacher, ask, open_teacher


class Sorted(BaseModel):
    kind: Literal["even", "odd"]
    number: int


class Conversation:
    """Answers about ``row 7;`` in the form: JSON, or tags where those are asked for.

    ``wrong`` is what is answered to a row in place of that at first, ``always_wrong`` also the second time.
    """

    def __init__(self, wrong: dict[int, str] | None = None, always_wrong: dict[int, str] | None = None) -> None:
        self.wrong, self.always_wrong = wrong or {}, always_wrong or {}

    def __call__(self, messages: list[dict[str, str]]) -> str:
        number = int(re.findall(r"row (\d+);", " ".join(message["content"] for message in messages))[0])
        wrong = self.always_wrong if is_repair(messages) else self.wrong | self.always_wrong
        if number in wrong:
            return wrong[number]
        kind = "odd" if number % 2 else "even"
        if "<kind>" in messages[-1]["content"]:
            return f"<kind>{kind}</kind>\n<number>{number}</number>"
        return json.dumps({"kind": kind, "number": number})


def is_repair(messages: list[dict[str, str]]) -> bool:
    return len(messages) > 2


def read(example: Example, form: Sorted) -> Example:
    assert isinstance(form, Sorted)
    return example.replace(target=f"{form.kind} {form.number}")


def sorted_rows(teacher: Teacher, rows: Iterable[Example], n: int = 1) -> list[Row]:
    return list(ask(teacher, rows, prompt, read, n, step="sort", form=Sorted))


def as_said(rows: Iterable[Row]) -> list[str]:
    return [f"{row.example.id} {row.reason}" if isinstance(row, Dropped) else f"{row.id} {row.target}" for row in rows]


def right(numbers: Iterable[int]) -> list[str]:
    return [f"e{i} {'odd' if i % 2 else 'even'} {i}" for i in numbers]


@pytest.fixture
def server(server: ChatServer) -> ChatServer:
    server.answer = Conversation()
    return server


def test_an_endpoint_that_knows_schemas_is_sent_one(ledger: Ledger, server: ChatServer, live: Live):
    with open_teacher(live(concurrency=8), ledger) as teacher:
        assert as_said(sorted_rows(teacher, examples(50))) == right(range(50))
    assert server.requests == 50
    for body in server.bodies:
        assert body["messages"][-1]["content"].endswith(";"), "the words are ours as they are"
        sent = body["response_format"]["json_schema"]
        assert (sent["strict"], sorted(sent["schema"]["properties"])) == (True, ["kind", "number"])


@pytest.mark.parametrize(
    ("switches", "found_out"),
    [({"ignores_schema": True}, 1), ({"refuses_schema": 400}, 1), ({"refuses_schema": 500}, 2)],
)
def test_an_endpoint_that_knows_none_is_found_out_with_the_first_row_and_asked_for_blocks(
    ledger: Ledger, server: ChatServer, live: Live, switches: dict[str, int], found_out: int
):
    for name, value in switches.items():
        setattr(server, name, value)
    conversation = Conversation()
    server.answer = lambda m: conversation(m) if "<kind>" in m[-1]["content"] else "I cannot tell."
    with open_teacher(live(concurrency=8), ledger) as teacher:
        first = sorted_rows(teacher, examples(40))
    assert as_said(first) == right(range(40))
    assert ["response_format" in body for body in server.bodies] == [True] * found_out + [False] * 40
    with open_teacher(live(concurrency=8), ledger) as teacher:
        assert sorted_rows(teacher, examples(40)) == first
        assert as_said(sorted_rows(teacher, examples(10, start=40))) == right(range(40, 50))
    assert server.requests == 50 + found_out
    assert not any("response_format" in body for body in server.bodies[found_out:]), "that is remembered"


def test_a_second_process_of_another_day_knows_too(tmp_path: Path, server: ChatServer, live: Live):
    server.refuses_schema = 400
    for start in (0, 5):
        with Ledger.open(tmp_path / "l") as ledger, open_teacher(live(), ledger) as teacher:
            sorted_rows(teacher, examples(5, start=start))
    assert server.requests == 11


def test_a_passing_fault_says_nothing_about_schemas(ledger: Ledger, server: ChatServer, live: Live):
    server.faults = [500]
    with open_teacher(live(), ledger) as teacher:
        assert as_said(sorted_rows(teacher, examples(5))) == right(range(5))
    assert all("response_format" in body for body in server.bodies)


@pytest.mark.parametrize("no_answer", [{"finish_reason": "length"}, {"finish_reason": "content_filter"}, {}])
def test_a_first_row_without_an_answer_says_nothing_about_schemas(
    ledger: Ledger, server: ChatServer, live: Live, no_answer: dict[str, str]
):
    text = "I am sorry" if no_answer else ""
    choice = {"message": {"content": text}, **no_answer}
    server.raw = [json.dumps({"choices": [choice]}).encode()]
    with open_teacher(live(concurrency=1), ledger) as teacher:
        first, *others = sorted_rows(teacher, examples(5))
    assert isinstance(first, Dropped)
    assert as_said(others) == right(range(1, 5))
    assert all("response_format" in body for body in server.bodies)
    assert server.requests == 5


def test_one_row_that_is_refused_says_nothing_about_schemas(ledger: Ledger, server: ChatServer, live: Live):
    server.refuse = {"row 0;": 400}
    with open_teacher(live(concurrency=1), ledger) as teacher:
        rows = sorted_rows(teacher, examples(5))
    assert as_said(rows) == ["e0 bad_request", *right(range(1, 5))]
    assert ["response_format" in body for body in server.bodies] == [True, False, True, True, True, True]


@pytest.mark.parametrize("knows_schemas", [True, False])
def test_a_reply_that_does_not_fit_is_asked_for_once_more_with_what_is_wrong(
    ledger: Ledger, server: ChatServer, live: Live, knows_schemas: bool
):
    server.refuses_schema = 0 if knows_schemas else 400
    wrong = '{"kind": "prime", "number": 3}' if knows_schemas else "<kind>prime</kind><number>3</number>"
    server.answer = Conversation(wrong={3: wrong})
    with open_teacher(live(concurrency=1), ledger) as teacher:
        rows = sorted_rows(teacher, examples(6))
        usage = teacher.usage()
    assert as_said(rows) == right(range(6))
    (repair,) = [body["messages"] for body in server.bodies if is_repair(body["messages"])]
    assert [message["role"] for message in repair] == ["system", "user", "assistant", "user"]
    assert repair[2]["content"] == wrong
    assert "Your answer cannot be read: kind: Input should be 'even' or 'odd' (got 'prime')" in repair[3]["content"]
    assert ("<kind>" in repair[3]["content"]) is not knows_schemas
    third = rows[3]
    assert isinstance(third, Example)
    texts = [entry.reply.text for key in third.replies if (entry := ledger.get(key))]
    assert (len(texts), texts[0]) == (2, wrong), "the reply that could not be read and the one that was"
    assert [len(row.replies) for row in rows if isinstance(row, Example)] == [1, 1, 1, 2, 1, 1]
    assert usage.requests == 7


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [("It is even, I think.", "not_json"), ('{"kind": "even"}', "not_the_form"), ('{"colour": 1}', "not_the_form")],
)
def test_a_second_reply_that_does_not_fit_drops_its_row(
    ledger: Ledger, server: ChatServer, live: Live, wrong: str, reason: str
):
    server.ignores_schema, server.answer = True, Conversation(always_wrong={2: wrong})
    with open_teacher(live(concurrency=1), ledger) as teacher:
        rows = sorted_rows(teacher, examples(4))
    assert as_said(rows) == [*right(range(2)), f"e2 {reason}", *right(range(3, 4))]
    dropped = rows[2]
    assert isinstance(dropped, Dropped)
    assert dropped.detail
    assert len(ledger.get_many(dropped.example.replies)) == 2, "both are there to be looked at"
    assert server.requests == 5


def test_an_answer_that_was_cut_off_is_dropped_and_not_asked_again(ledger: Ledger, server: ChatServer, live: Live):
    with open_teacher(live(concurrency=1), ledger) as teacher:
        sorted_rows(teacher, examples(1))
        server.finish_reason = "length"
        rows = sorted_rows(teacher, examples(5, start=1))
    assert as_said(rows) == [f"e{i} cut_off" for i in range(1, 6)]
    assert server.requests == 6


MALFORMED = [  # how a model breaks its JSON, and what becomes of the row if it does so twice
    ("{'kind': 'odd', 'number': %d,}", None),
    ('Here you are:\n```json\n{"kind": "odd", "number": %d // a comment\n}\n```\nThat is it.', None),
    ('{"kind": "odd", "numb', "cut_off"),
    ('{"kind": "odd", "number": ...}', "not_json"),
    ('{"kind": "odd"}}, %d', "not_the_form"),
]


def test_malformed_answers_in_twenty_are_mended_or_dropped_and_order_is_kept(
    ledger: Ledger, server: ChatServer, live: Live
):
    rows = range(300)
    wrong = {i: MALFORMED[i // 20 % len(MALFORMED)] for i in range(7, 300, 20)}
    texts = {i: text.replace("%d", str(i)) for i, (text, _) in wrong.items()}
    server.ignores_schema = True  # it sends its JSON as it is
    server.latency_s = 0.005
    server.answer = Conversation({i: texts[i] for i in wrong if i < 150}, {i: texts[i] for i in wrong if i >= 150})
    server.faults = [500, 429, 503]  # while it is not known yet whether it knows schemas
    with open_teacher(live(concurrency=16), ledger) as teacher:
        first = sorted_rows(teacher, examples(300))
    lost = {
        i: reason
        for i, (_, reason) in wrong.items()
        if reason and i >= 150  # those below are right the second time
    }
    assert as_said(first) == [f"e{i} {lost[i]}" if i in lost else right([i])[0] for i in rows]
    repairs = sum(reason is not None for _, reason in wrong.values())
    assert server.requests == 300 + repairs + 3
    replies = [row.example.replies if isinstance(row, Dropped) else row.replies for row in first]
    assert Counter(map(len, replies)) == {1: 300 - repairs, 2: repairs}
    assert ledger.info().replies == 300 + repairs
    server.stop()
    with open_teacher(live(concurrency=16), ledger) as teacher:
        assert sorted_rows(teacher, examples(300)) == first
        assert teacher.usage().requests == 0


def test_a_budget_holds_with_repairs_and_the_next_run_goes_on(ledger: Ledger, server: ChatServer, live: Live):
    server.answer = Conversation(wrong=dict.fromkeys(range(0, 20, 2), '{"kind": "even"}'))
    budget, rows = Budget(requests=15), list[Row]()
    with open_teacher(live(concurrency=4), ledger, budget=budget) as teacher, pytest.raises(BudgetReached):
        rows.extend(ask(teacher, examples(20), prompt, read, form=Sorted))
    assert server.requests == budget.spent.requests == 15
    assert ledger.info().replies == 15
    with open_teacher(live(concurrency=4), ledger, budget=Budget(requests=15)) as teacher:
        assert as_said(sorted_rows(teacher, examples(20))) == right(range(20))
    assert (server.requests, server.doubles) == (30, 0)


def test_finding_out_counts_against_the_budget(ledger: Ledger, server: ChatServer, live: Live):
    server.ignores_schema = True
    conversation = Conversation()
    server.answer = lambda m: conversation(m) if "<kind>" in m[-1]["content"] else "I cannot tell."
    budget = Budget(requests=3)
    with open_teacher(live(), ledger, budget=budget) as teacher, pytest.raises(BudgetReached):
        sorted_rows(teacher, examples(5))
    assert server.requests == budget.spent.requests == 3
    assert (ledger.info().replies, ledger.info().failures) == (2, 1), "the answer in no form was billed too"


def test_each_sample_is_mended_by_itself(ledger: Ledger, server: ChatServer, live: Live):
    server.ignores_schema, server.answer = True, Conversation(wrong={1: "odd"}, always_wrong={2: "even"})
    with open_teacher(live(sampling={"temperature": 1}), ledger) as teacher:
        sorted_rows(teacher, examples(1))
        rows = sorted_rows(teacher, examples(3), n=2)
        again = sorted_rows(teacher, examples(3), n=2)
    assert as_said(rows) == [
        "e0+sort.0 even 0", "e0+sort.1 even 0",
        "e1+sort.0 odd 1", "e1+sort.1 odd 1",
        "e2+sort.0 not_json", "e2+sort.1 not_json",
    ]  # fmt: skip
    assert rows == again
    keys = [key for row in rows for key in (row.example if isinstance(row, Dropped) else row).replies]
    assert len(keys) == len(set(keys)) == 2 + 4 + 4
    assert Counter(body.get("n", 1) for body in server.bodies) == {1: 2 + 4, 2: 2}, "and one was there before"
