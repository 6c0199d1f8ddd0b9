"""What a model costs when a study does not say."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from asking import Live, asked, examples
from servers import ChatServer

from understudy.errors import SettingsError
from understudy.records import Example
from understudy.teachers import Budget, Ledger, Price, TeacherSettings, open_teacher
from understudy.teachers.prices import TABLE, Priced, price_of, tell_price, with_price

OPENAI = "https://api.openai.com/v1"


def test_a_known_model_at_its_own_endpoint_has_a_price():
    found = price_of("gpt-4o-mini", OPENAI)
    assert found is not None
    assert found.price.usd(1_000_000, 1_000_000) == pytest.approx(0.75)
    assert found.batch == 0.5
    assert found.source.startswith("https://")


@pytest.mark.parametrize(
    ("model", "base_url"),
    [
        ("gpt-4o-mini-2024-07-18", OPENAI),
        ("gpt-4o-mini-latest", OPENAI),
        ("claude-haiku-4-5-20251001", "https://api.anthropic.com/v1/"),
        ("mistral-large-2512", "https://api.mistral.ai/v1"),
        ("openai/gpt-oss-120b", "https://API.groq.com/openai/v1?key=1"),
    ],
)
def test_a_date_at_the_end_of_a_name_does_not_matter(model: str, base_url: str):
    assert price_of(model, base_url) is not None


@pytest.mark.parametrize(
    ("model", "base_url"),
    [
        ("gpt-4o-mini", "http://localhost:8000/v1"),
        ("gpt-4o-mini", "https://api.openai.com.example.org/v1"),
        ("gpt-4o-mini", "https://openrouter.ai/api/v1"),
        ("gpt-4o-mini", "https://[nonsense"),
        ("gpt-4o-mini", "nonsense"),
        ("gpt-4o-mini-audio-preview", OPENAI),
        ("gpt-4o", OPENAI),
        ("mistral-large-latest", "https://api.mistral.ai/v1"),
        ("mistral-large-2411", "https://api.mistral.ai/v1"),
    ],
)
def test_another_endpoint_or_model_has_none(model: str, base_url: str):
    assert price_of(model, base_url) is None


def test_without_an_endpoint_it_is_the_one_that_would_be_asked(monkeypatch: pytest.MonkeyPatch):
    assert price_of("gpt-4o-mini", None) == price_of("gpt-4o-mini", OPENAI)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8000/v1")
    assert price_of("gpt-4o-mini", None) is None


def test_every_row_makes_sense():
    rows = [row for models in TABLE.values() for row in models.values()]
    assert rows
    for row in rows:
        assert 0 < row.price.input < row.price.output
        assert row.batch is None or 0 < row.batch < 1
        assert date(2026, 1, 1) <= row.looked_up
        assert row.source.startswith("https://")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts the test's server into the table, as if it were a model's own endpoint."""

    def put(**more: Any) -> None:
        priced = Priced(Price(input=1, output=2, **more), 0.5, date(2026, 3, 1), "https://example.com/prices")
        monkeypatch.setitem(TABLE, "127.0.0.1", {"tiny": priced})

    return put


def test_a_teacher_without_a_price_has_the_tables_and_asks_the_same(
    ledger: Ledger, server: ChatServer, live: Live, here: Callable[..., None]
):
    settings = live(sampling={"max_tokens": 5})
    with open_teacher(settings, ledger) as teacher:
        asked(teacher, examples(1))
        unpriced, identity = teacher.usage(), teacher.identity
    assert (unpriced.unpriced, unpriced.usd) == (1, 0.0)
    here()
    budget = Budget(usd=1)
    with open_teacher(settings, ledger, budget=budget) as teacher:
        asked(teacher, examples(3))
        assert (teacher.usage().from_ledger, teacher.identity) == (1, identity)
    assert budget.spent.usd == pytest.approx(2 * (10 * 1 + 5 * 2) / 1e6)
    assert [entry.price for entry in ledger.entries()] == [None, *[Price(input=1, output=2)] * 2]
    with open_teacher(settings, ledger, budget=budget, render_only=True) as teacher:
        asked(teacher, examples(4))
        found = teacher.estimate()
    assert found.usd == pytest.approx((found.prompt_tokens * 1 + 5 * 2) / 1e6)
    with open_teacher(live(price={"input": 3, "output": 3}), ledger) as teacher:
        asked(teacher, examples(1, start=9))
        assert teacher.usage().usd == pytest.approx(15 * 3 / 1e6), "the study's own comes first"


def test_prompts_longer_than_a_price_is_known_for_have_none(
    ledger: Ledger, server: ChatServer, live: Live, here: Callable[..., None]
):
    here(most_prompt_tokens=150)
    settings = live(sampling={"max_tokens": 5})
    long = [Example(id="long", input="row " * 50)]
    with open_teacher(settings, ledger, budget=Budget(usd=1)) as teacher:
        assert len(asked(teacher, examples(2))[0]) == 2
        with pytest.raises(SettingsError, match=r"teacher\.price: budget\.usd needs the price of a prompt of up to 3"):
            asked(teacher, long)
    assert server.requests == 2
    with open_teacher(settings, ledger, render_only=True) as teacher:
        asked(teacher, long)
        assert teacher.estimate().usd is None
    server.prompt_tokens = 151
    with open_teacher(settings, ledger) as teacher:
        asked(teacher, long)
        assert teacher.usage().unpriced == 1


def test_a_person_is_told_where_a_price_comes_from():
    settings = TeacherSettings(model="gpt-4o-mini", base_url=OPENAI)
    assert tell_price(settings) == (
        "price of gpt-4o-mini as of 2026-03-01, https://deploybase.ai/articles/openai-pricing: 0.15 and 0.6 usd per "
        "million prompt and answer tokens; set teacher.price if it changed"
    )
    batch = TeacherSettings(backend="batch", model="gpt-6-luna", base_url=OPENAI)
    assert with_price(batch).price == Price(input=0.05, output=0.25, most_prompt_tokens=272_000)
    assert "gpt-6-luna in batches as of" in tell_price(batch)
    assert "0.05 and 0.25 usd per million prompt and answer tokens, for prompts of at most 272,000" in tell_price(batch)
    own = TeacherSettings(model="gpt-4o-mini", base_url=OPENAI, price=Price(input=9, output=9))
    near = TeacherSettings(model="gpt-4o-mini", base_url="http://localhost:8000/v1")
    no_batches = TeacherSettings(backend="batch", model="deepseek-flash", base_url="https://api.deepseek.com")
    for one in (own, near, no_batches):
        assert (tell_price(one), with_price(one)) == ("", one)
