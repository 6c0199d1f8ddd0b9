"""Several samples of one prompt: by ``n`` where the endpoint honours it, one by one where it does not."""

from __future__ import annotations

from collections import Counter

import pytest
from asking import Live, asked, examples
from servers import ChatServer

from understudy.errors import BudgetReached
from understudy.teachers import Budget, Ledger, open_teacher

pytestmark = pytest.mark.slow  # many small waits

HOT = {"temperature": 1, "max_tokens": 5}
PRICE = {"input": 1_000_000, "output": 2_000_000}  # a dollar a prompt token makes sums easy to read


def asked_for(server: ChatServer) -> list[int]:
    """How many samples each request asked for."""
    return [body.get("n", 1) for body in server.bodies]


def all_of(rows: int, n: int = 3) -> list[str]:
    return [f"e{i}+loud.{sample}" for i in range(rows) for sample in range(n)]


def test_one_request_brings_all_samples_and_its_prompt_is_paid_once(ledger: Ledger, server: ChatServer, live: Live):
    server.completion_tokens = 7
    settings = live(sampling=HOT, price=PRICE, concurrency=8)
    with open_teacher(settings, ledger) as teacher:
        kept, dropped = asked(teacher, examples(50), n=3)
        usage = teacher.usage()
    assert ([row.id for row in kept], dropped) == (all_of(50), [])
    assert asked_for(server) == [3] * 50
    entries = [ledger.get(row.replies[0]) for row in kept]
    assert len({row.replies for row in kept}) == ledger.info().replies == 150
    assert [entry.request.sample for entry in entries if entry] == [0, 1, 2] * 50
    assert (usage.requests, usage.attempts) == (150, 50)
    assert (usage.prompt_tokens, usage.completion_tokens) == (50 * 10, 50 * 21)
    assert usage.usd == usage.spent_usd == ledger.info().usd == 50 * (10 + 2 * 21)
    with open_teacher(settings, ledger) as teacher:
        assert asked(teacher, examples(50), n=3) == (kept, [])
        assert teacher.usage().usd == usage.usd
    assert server.requests == 50


def test_samples_that_are_there_are_not_asked_for_again(ledger: Ledger, server: ChatServer, live: Live):
    with open_teacher(live(sampling=HOT), ledger) as teacher:
        asked(teacher, examples(3), n=2)
        kept, _ = asked(teacher, examples(4), n=5)
    assert [row.id for row in kept] == all_of(4, n=5)
    assert Counter(asked_for(server)) == {2: 3, 3: 3, 5: 1}


@pytest.mark.parametrize("fault", ["ignores_n", "refuses_n"])
def test_an_endpoint_that_knows_no_n_is_found_out_and_asked_one_by_one(
    ledger: Ledger, server: ChatServer, live: Live, fault: str
):
    setattr(server, fault, True)
    server.latency_s = 0.01
    with open_teacher(live(sampling=HOT, concurrency=4), ledger) as teacher:
        kept, dropped = asked(teacher, examples(100), n=3)
        usage = teacher.usage()
        tried = asked_for(server).count(3)
        assert tried <= 4, "those in flight when it was found out"
        asked(teacher, examples(50, start=100), n=3)
    assert ([row.id for row in kept], dropped) == (all_of(100), [])
    assert Counter(asked_for(server)) == {3: tried, 1: 450 if fault == "refuses_n" else 450 - tried}
    assert len(ledger.get_many(row.replies[0] for row in kept)) == 300
    assert (usage.requests, usage.prompt_tokens, usage.completion_tokens) == (300, 3000, 1500)


def test_a_fault_of_an_endpoint_that_knows_n_is_asked_again_as_it_was(ledger: Ledger, server: ChatServer, live: Live):
    server.faults, server.raw = [500, 429], [b'{"choices": [{"mess']
    with open_teacher(live(sampling=HOT, concurrency=1), ledger) as teacher:
        kept, dropped = asked(teacher, examples(5), n=3)
    assert ([row.id for row in kept], dropped) == (all_of(5), [])
    assert asked_for(server) == [3] * 8


def test_a_row_that_is_refused_changes_nothing_for_the_others(ledger: Ledger, server: ChatServer, live: Live):
    server.refuse = {"row 1;": 400}
    with open_teacher(live(sampling=HOT, concurrency=2), ledger) as teacher:
        kept, dropped = asked(teacher, examples(200), n=3)
    assert [row.id for row in kept] == [id for id in all_of(200) if not id.startswith("e1+")]
    assert [(row.example.id, row.reason) for row in dropped] == [(f"e1+loud.{i}", "bad_request") for i in range(3)]
    assert Counter(asked_for(server)) == {3: 200, 1: 3}


def test_a_row_that_is_refused_before_any_is_answered_changes_nothing_either(
    ledger: Ledger, server: ChatServer, live: Live
):
    server.refuse = {"row 0;": 400}
    with open_teacher(live(sampling=HOT, concurrency=1), ledger) as teacher:
        kept, dropped = asked(teacher, examples(50), n=3)
    assert [row.id for row in kept] == all_of(50)[3:]
    assert len(dropped) == 3
    assert Counter(asked_for(server)) == {3: 50, 1: 3}


def test_with_a_seed_each_sample_is_asked_for_with_its_own(ledger: Ledger, server: ChatServer, live: Live):
    with open_teacher(live(sampling={**HOT, "seed": 40}, concurrency=1), ledger) as teacher:
        kept, _ = asked(teacher, examples(3), n=3)
    assert [row.id for row in kept] == all_of(3)
    assert [body["seed"] for body in server.bodies] == [40, 41, 42] * 3
    assert asked_for(server) == [1] * 9


@pytest.mark.parametrize("fault", ["", "ignores_n", "refuses_n"])
def test_a_budget_in_tokens_holds(ledger: Ledger, server: ChatServer, live: Live, fault: str):
    if fault:
        setattr(server, fault, True)
    budget = Budget(tokens=2000)
    settings = live(sampling=HOT, concurrency=8)
    with open_teacher(settings, ledger, budget=budget) as teacher, pytest.raises(BudgetReached, match="tokens"):
        asked(teacher, examples(200), n=3)
    paid = [ledger_entry.reply for ledger_entry in ledger.entries()]
    tokens = sum((reply.prompt_tokens or 0) + (reply.completion_tokens or 0) for reply in paid)
    assert budget.spent.tokens == tokens <= 2000
    assert tokens > 1600, "near the wall, not half of it"


def test_a_budget_in_requests_counts_one_for_all_samples(ledger: Ledger, server: ChatServer, live: Live):
    budget = Budget(requests=10)
    with open_teacher(live(sampling=HOT), ledger, budget=budget) as teacher, pytest.raises(BudgetReached):
        asked(teacher, examples(11), n=3)
    assert server.requests == budget.spent.requests == 10
    assert ledger.info().replies == 30


def test_equal_rows_share_their_samples(ledger: Ledger, server: ChatServer, live: Live):
    rows = [example.replace(input="the same") for example in examples(10)]
    server.latency_s = 0.05
    with open_teacher(live(sampling=HOT), ledger) as teacher:
        kept, _ = asked(teacher, rows, n=3)
        usage = teacher.usage()
    assert ([row.id for row in kept], asked_for(server)) == (all_of(10), [3])
    assert (usage.requests, usage.from_ledger) == (3, 27)
