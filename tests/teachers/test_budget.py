"""The budget: a wall in money, tokens and requests."""

from __future__ import annotations

import pytest
from asking import Live, asked, examples, parse, prompt
from pydantic import BaseModel, Field
from servers import ChatServer

from understudy.errors import BudgetReached, SettingsError
from understudy.records import Row
from understudy.teachers import Budget, Ledger, Spending, ask, open_teacher, usual_prompt_tokens

PRICE = {"input": 1_000_000, "output": 2_000_000}  # a dollar a prompt token makes sums easy to read
COST = 10 * 1 + 5 * 2  # of what the server says that one reply took


def test_the_wall_is_never_passed_and_everything_paid_is_kept(ledger: Ledger, server: ChatServer, live: Live):
    budget = Budget(usd=1000)
    rows: list[Row] = []
    settings = live(price=PRICE, sampling={"max_tokens": 5}, concurrency=16)
    with open_teacher(settings, ledger, budget=budget) as teacher, pytest.raises(BudgetReached) as caught:
        rows.extend(ask(teacher, examples(200), prompt, parse))
    assert budget.spent.usd == server.requests * COST <= 1000
    assert server.requests > 35, "the last few requests are held back, not half of the budget"
    assert len(rows) <= server.requests == ledger.info().replies  # what came after the wall waits in the ledger
    assert "raise budget.usd and run the same command" in str(caught.value)


def test_tokens_and_requests_are_limits_too(ledger: Ledger, server: ChatServer, live: Live):
    budget = Budget(requests=7)
    with open_teacher(live(), ledger, budget=budget) as teacher, pytest.raises(BudgetReached, match=r"7 of 7"):
        asked(teacher, examples(20))
    assert server.requests == 7
    budget = Budget(tokens=1000)
    settings = live(sampling={"max_tokens": 20})
    with (
        open_teacher(settings, ledger, budget=budget) as teacher,
        pytest.raises(BudgetReached, match=r"budget\.tokens"),
    ):
        asked(teacher, examples(200))
    assert budget.spent.tokens <= 1000


@pytest.mark.slow
def test_attempts_count_as_requests(ledger: Ledger, server: ChatServer, live: Live):
    server.faults = [500] * 9
    budget = Budget(requests=2)
    with open_teacher(live(), ledger, budget=budget) as teacher, pytest.raises(BudgetReached):
        asked(teacher, examples(1))
    assert server.requests == 2


def test_replies_from_the_ledger_cost_nothing(ledger: Ledger, live: Live):
    with open_teacher(live(), ledger) as teacher:
        asked(teacher, examples(20))
    with open_teacher(live(), ledger, budget=Budget(requests=0)) as teacher:
        assert len(asked(teacher, examples(20))[0]) == 20


def test_two_teachers_share_one_budget_and_earlier_runs_count(ledger: Ledger, server: ChatServer, live: Live):
    budget = Budget(requests=10, spent=Spending(requests=4))
    with open_teacher(live(), ledger, budget=budget) as one, open_teacher(live(name="b"), ledger, budget=budget) as two:
        asked(one, examples(4))
        with pytest.raises(BudgetReached):
            asked(two, examples(4))
    assert server.requests == 6


def test_what_cannot_be_bounded_is_refused_before_anything_is_sent(ledger: Ledger, live: Live):
    with pytest.raises(SettingsError, match=r"teacher\.price"):
        open_teacher(live(), ledger, budget=Budget(usd=1))
    with pytest.raises(SettingsError, match="max_tokens"):
        open_teacher(live(price=PRICE), ledger, budget=Budget(usd=1))
    settings = live(sampling={"extra": {"max_completion_tokens": 9}})
    with open_teacher(settings, ledger, budget=Budget(tokens=1)) as teacher, pytest.raises(SettingsError):
        teacher.with_sampling(extra={})


def test_a_note_that_fails_stops_what_is_not_sent_and_loses_nothing_that_was_paid(
    ledger: Ledger, server: ChatServer, live: Live
):
    notes: list[Spending] = []

    def note(most: Spending) -> None:
        notes.append(most)
        if len(notes) > 1:
            raise OSError(28, "No space left on device")

    budget = Budget(requests=99, note=note)
    with open_teacher(live(concurrency=1), ledger, budget=budget) as teacher, pytest.raises(OSError, match="No space"):
        asked(teacher, examples(20))
    assert [most.requests for most in notes] == [1, 1, 2]
    assert (server.requests, ledger.info().replies, budget.spent.requests) == (1, 1, 1)
    notes.clear()
    assert budget.reserve(Spending(requests=98)), "what could not be noted was not set aside"


class Card(BaseModel):
    front: str = Field(description="What is asked, in one sentence that can be understood without any other. " * 5)
    back: str = Field(description="The answer to it, in as few words as it takes, and nothing that is not asked. " * 5)


@pytest.mark.parametrize("refuses_schema", [0, 400])
def test_the_wall_counts_what_a_form_adds_to_a_prompt(
    ledger: Ledger, server: ChatServer, live: Live, refuses_schema: int
):
    """An endpoint may count the schema, or the words that stand for it."""
    server.refuses_schema = refuses_schema
    server.answer = "<front>a</front><back>b</back>" if refuses_schema else '{"front": "a", "back": "b"}'
    server.prompt_tokens = 1000  # fewer than its bytes
    budget = Budget(tokens=20_000)
    with open_teacher(live(sampling={"max_tokens": 5}), ledger, budget=budget) as teacher:
        rows = ask(teacher, examples(200), prompt, lambda example, card: example, form=Card)
        with pytest.raises(BudgetReached):
            list(rows)
        assert 15_000 < budget.spent.tokens <= 20_000
    messages = prompt(next(iter(examples(1))))
    assert usual_prompt_tokens(messages, Card.model_json_schema()) > 200 + usual_prompt_tokens(messages)
