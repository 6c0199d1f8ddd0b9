"""What well-known models cost: a small table with dates, for studies that give no price of their own.

``with_price`` is where a teacher gets one.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from datetime import date
from urllib.parse import urlsplit

from understudy.teachers.backends.address import OPENAI_URL
from understudy.teachers.settings import Price, TeacherSettings

_VERSION = re.compile(r"-(latest|\d{4}-\d{2}-\d{2}|\d{8})$")


@dataclass(frozen=True, slots=True)
class Priced:
    """The price of a model at its own endpoint, and how we know."""

    price: Price
    batch: float | None
    """What its batch API takes of the price, e.g. 0.5; ``None``: it has none."""
    looked_up: date
    """When the source was written or last checked; the first of the month where it says no more."""
    source: str
    """The page that it was read from."""


def with_price(settings: TeacherSettings) -> TeacherSettings:
    """The settings with the table's price where they set none and there is one. What is asked stays the same."""
    found = table_price(settings)
    return settings.model_copy(update={"price": found.price}) if found else settings


def table_price(settings: TeacherSettings) -> Priced | None:
    """The price that a teacher has from the table; ``None`` where it sets its own, or the table does not know it."""
    if settings.price is not None or settings.backend not in ("openai", "batch") or settings.model is None:
        return None
    found = price_of(settings.model, settings.base_url)
    if found is None or settings.backend == "openai":
        return found
    if found.batch is None:
        return None
    price = found.price
    less = {"input": price.input * found.batch, "output": price.output * found.batch}
    return replace(found, price=price.model_copy(update=less))


def tell_price(settings: TeacherSettings) -> str:
    """The table's price of a teacher, how old it is and where it stands, for a person; empty where it has none."""
    found = table_price(settings)
    if found is None:
        return ""
    price = found.price
    limit = f", for prompts of at most {price.most_prompt_tokens:,} tokens" if price.most_prompt_tokens else ""
    return (
        f"price of {settings.model}{' in batches' * (settings.backend == 'batch')} as of {found.looked_up}, "
        f"{found.source}: {price.input:g} and {price.output:g} usd per million prompt and answer tokens{limit}; "
        "set teacher.price if it changed"
    )


def price_of(model: str, base_url: str | None) -> Priced | None:
    """What ``model`` costs, where the endpoint is the one whose prices these are; ``None`` for all others.

    A date or ``-latest`` at the end of the name may be missing in the table.

    Args:
        base_url: as in a teacher's settings: by default OPENAI_BASE_URL, then OpenAI's own.
    """
    url = base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
    try:
        models = TABLE.get(urlsplit(url).hostname or "", {})
    except ValueError:  # no URL at all, which others say better
        return None
    return models.get(model) or models.get(_VERSION.sub("", model))


def _row(
    usd: tuple[float, float], day: str, source: str, *, batch: float | None = 0.5, most: int | None = None
) -> Priced:
    price = Price(input=usd[0], output=usd[1], most_prompt_tokens=most)
    return Priced(price, batch, date.fromisoformat(day), source)


_CLAUDE = "https://platform.claude.com/docs/about-claude/models/whats-new-opus-5"  # it lists all current models
_CLAUDE_BEFORE = "https://platform.claude.com/docs/zh-CN/models/opus-5-5/overview"
_CLAUDIT = "https://github.com/kurofune/claudit/releases/tag/v1.9.2"
_CODEXOMETER = "https://github.com/merefield/codexometer/releases/tag/v0.18.4"
_DEEPSEEK = "https://api-docs.deepseek.com/quick_start/pricing"
_DEPLOYBASE = "https://deploybase.ai/articles/openai-pricing"
_LITELLM = "https://docs.litellm.ai/blog/gpt-6-1-terra"
_PYDANTIC = "https://github.com/pydantic/genai-prices/tree/main/prices/providers"
_TOKENMIX = "https://tokenmix.ai/blog/groq-api-access-2026-free-tier-rate-limits"

TABLE: dict[str, dict[str, Priced]] = {
    # https://developers.openai.com/api/docs/pricing
    "api.openai.com": {
        "gpt-6.1-sol": _row((2.00, 10.00), "2026-10-26", _LITELLM, most=272_000),
        "gpt-6.1-terra": _row((1.00, 5.00), "2026-10-26", _LITELLM, most=272_000),
        "gpt-6-luna": _row((0.10, 0.50), "2026-09-22", _CODEXOMETER, most=272_000),
        "gpt-5.6-terra": _row((2.00, 12.00), "2026-10-26", _LITELLM, most=272_000),
        "gpt-5.6-luna": _row((0.20, 1.20), "2026-08-02", _PYDANTIC, most=272_000),
        "gpt-5.4-mini": _row((0.75, 4.50), "2026-03-18", _PYDANTIC),
        "gpt-5-mini": _row((0.25, 2.00), "2026-03-01", _DEPLOYBASE),
        "gpt-5-nano": _row((0.05, 0.40), "2026-03-01", _DEPLOYBASE),
        "gpt-4.1": _row((2.00, 8.00), "2026-03-01", _DEPLOYBASE),
        "gpt-4.1-mini": _row((0.40, 1.60), "2026-03-01", _DEPLOYBASE),
        "gpt-4o-mini": _row((0.15, 0.60), "2026-03-01", _DEPLOYBASE),
    },
    # https://platform.claude.com/docs/en/about-claude/pricing; its pages are not dated: the day is that of the newest
    # model that they list
    "api.anthropic.com": {
        "claude-opus-5-5": _row((4.00, 20.00), "2026-10-07", _CLAUDE),
        "claude-sonnet-5-5": _row((2.00, 10.00), "2026-10-07", _CLAUDE),
        "claude-haiku-5-5": _row((0.10, 0.50), "2026-10-24", _CLAUDIT, most=100_000),
        "claude-haiku-4-5": _row((1.00, 5.00), "2026-09-22", _CLAUDE_BEFORE),
    },
    # https://ai.google.dev/gemini-api/docs/pricing; without those whose price changes with the year
    "generativelanguage.googleapis.com": {
        "gemini-3.5-flash": _row((1.50, 9.00), "2026-05-19", _PYDANTIC),
        "gemini-3.5-flash-lite": _row((0.30, 2.50), "2026-07-22", _PYDANTIC),
        "gemini-3.1-flash-lite": _row((0.25, 1.50), "2026-05-12", _PYDANTIC),
    },
    # https://mistral.ai/pricing; only by their dates, because other dates of the same names have other prices
    "api.mistral.ai": {
        "mistral-large-2512": _row((0.50, 1.50), "2026-06-09", _PYDANTIC),
        "mistral-small-2603": _row((0.15, 0.60), "2026-06-09", _PYDANTIC),
    },
    # at peak hours; it is half of that at others, and a budget has to hold at any
    "api.deepseek.com": {
        "deepseek-flash": _row((0.30, 1.20), "2026-10-27", _DEEPSEEK, batch=None),
        "deepseek-v4-pro": _row((1.32, 3.96), "2026-10-27", _DEEPSEEK, batch=None),
    },
    # https://groq.com/pricing
    "api.groq.com": {
        "openai/gpt-oss-120b": _row((0.15, 0.60), "2026-06-04", _TOKENMIX),
    },
}
"""Host of the endpoint -> name of the model -> its price."""
