"""What a model costs when a study does not say."""

from __future__ import annotations

from datetime import date

import pytest

from understudy.teachers.prices import TABLE, price_of

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
