"""What a study says about its teacher."""

from __future__ import annotations

import os
import re
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit, urlunsplit

from pydantic import ConfigDict, Field, field_serializer, field_validator, model_validator

from understudy.settings import Settings
from understudy.templates import is_template, variables_of

_RESERVED = {"messages", "model", "n", "stream", "response_format"}
_OWN_FIELDS = {
    "openai": {"base_url", "api_key_env", "connect_timeout_s", "stall_timeout_s"},
    "batch": {"base_url", "api_key_env", "poll_s"},
    "recorded": {"replies"},
    "transformers": {"batch_size", "dtype"},
}
_IN_BATCHES = 10_000  # what is in flight there waits for hours, at little cost
_NEEDED = {"batch": {"model"}, "openai": {"model"}, "recorded": {"replies"}, "transformers": {"model"}}


class Price(Settings):
    """What the teacher charges, in US dollars per million tokens."""

    input: float = Field(ge=0)
    """US dollars per million prompt tokens."""
    output: float = Field(ge=0)
    """US dollars per million completion tokens."""
    most_prompt_tokens: int | None = Field(default=None, gt=0)
    """Longer prompts cost more, nobody says here how much: a budget in usd lets none through; null is no limit."""

    def holds_for(self, prompt_tokens: int) -> bool:
        """Whether it is the price of a prompt so long."""
        return self.most_prompt_tokens is None or prompt_tokens <= self.most_prompt_tokens

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """The price of one reply."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1_000_000


class Sampling(Settings):
    """How the teacher draws its answers. What is null is not sent, so that any parameter can be taken out."""

    temperature: float | None = Field(default=None, ge=0)
    """0 for the likeliest answer, 1 for the model's own distribution."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Share of the probability to draw from."""
    max_tokens: int | None = Field(default=None, gt=0)
    """Longest answer in tokens; a budget in money or tokens needs it."""
    stop: tuple[str, ...] | None = None
    """Texts at which the answer ends."""
    seed: int | None = None
    """Seed of the first sample; sample i is sent seed + i."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Further parameters of the endpoint, sent as they are, e.g. top_k or max_completion_tokens."""

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, stop: Any) -> Any:
        return (stop,) if isinstance(stop, str) else stop

    @field_validator("extra")
    @classmethod
    def _not_ours(cls, extra: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(extra.keys() & (_RESERVED | {"temperature", "top_p", "max_tokens", "stop", "seed"}))
        if taken:
            raise ValueError(f"{taken[0]!r} cannot stand in extra: it is a setting of its own or set by the engine")
        return extra

    def parameters(self) -> dict[str, Any]:
        """What is sent and what stands in the request's key: only what is set."""
        named = self.model_dump(mode="json", exclude={"extra"}, exclude_none=True)
        return {**named, **self.extra}

    @property
    def longest_answer(self) -> int | None:
        """The most completion tokens that one answer can have, where that is bounded."""
        return self.max_tokens or self.extra.get("max_completion_tokens")


class RecordedFile(Settings):
    """One file of recorded replies."""

    path: str
    """A file of any form that a source has, one reply a row; rows with one key are successive samples."""
    match: dict[str, str] = Field(min_length=1)
    """The file's column -> field or template of the example that must equal it."""
    reply: str = "reply"
    """Column of the reply, or a template over the line."""

    @field_validator("match", "reply")
    @classmethod
    def _readable(cls, value: Any) -> Any:
        for text in value.values() if isinstance(value, dict) else [value]:
            if is_template(text):
                variables_of(text)  # a SettingsError here is a ValueError
        return value


class TeacherSettings(Settings):
    """One teacher. Which fields a back end takes is said with each; the others are refused."""

    model_config = ConfigDict(hide_input_in_errors=True)  # it may hold a URL with a password

    backend: str = "openai"
    """openai, batch, transformers, recorded, or the name of an installed extension."""
    model: str | None = None
    """The endpoint's name of the model, or a hub id or folder (transformers); for recorded: who wrote the replies."""
    name: str | None = None
    """The teacher's name in the ledger; by default the model. Two names never share replies."""
    sampling: Sampling = Sampling()
    """How answers are drawn."""
    price: Price | None = None
    """US dollars per million tokens; a budget in money needs it. By default that of a small dated table, where it knows
    the model at its own endpoint. For batch what its batch API takes."""
    concurrency: int = Field(default=64, gt=0)
    """Most requests in flight at once, over all teachers at this place; where they differ, the first one's holds.
    For batch 10,000 by default."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """The endpoint's limit, where it does not say so itself."""
    tokens_per_minute: float | None = Field(default=None, gt=0)
    """The endpoint's limit, of prompts and answers together."""
    timeout_s: float = Field(default=120.0, gt=0, allow_inf_nan=False)
    """Longest wait for one answer."""
    connect_timeout_s: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """openai: longest wait for a connection."""
    stall_timeout_s: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    """openai: longest wait for more of an answer that has begun to come."""
    retries: int = Field(default=5, ge=0)
    """How often a request is sent again after a fault. Being told to slow down does not count, nor does an endpoint
    that answers nobody; either for 10 minutes ends the run."""
    max_failures: float = Field(default=0.5, gt=0, le=1)
    """Share of requests that may fail for good, once 50 have; more ends the run."""
    base_url: str | None = Field(default=None, repr=False)
    """openai, batch: where the API is; by default the variable OPENAI_BASE_URL, then https://api.openai.com/v1."""
    api_key_env: str = "OPENAI_API_KEY"
    """openai, batch: the environment variable that holds the key; the key itself is never a setting."""
    poll_s: float = Field(default=30.0, gt=0)
    """batch: longest time between two looks at what was sent."""
    replies: tuple[RecordedFile, ...] = ()
    """recorded: the files that hold the replies; the first whose fields an example has answers it."""
    batch_size: int = Field(default=8, gt=0)
    """transformers: most requests in one batch."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """transformers: the numbers to compute with; auto is what the weights are saved in."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of an extension's back end."""

    @model_validator(mode="before")
    @classmethod
    def _many_at_once(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("backend") == "batch":
            return {"concurrency": _IN_BATCHES, **values}
        return values

    @field_validator("replies", mode="before")
    @classmethod
    def _one_file(cls, replies: Any) -> Any:
        return (replies,) if isinstance(replies, dict) else replies

    @model_validator(mode="after")
    def _belongs(self) -> TeacherSettings:
        if not _is_variable(self.api_key_env):
            raise ValueError(  # without the value, which may be a key
                "api_key_env holds no name of a set variable; write the NAME of the variable, e.g. OPENAI_API_KEY"
            )
        if self.backend not in _OWN_FIELDS:
            return self
        for name, field in type(self).model_fields.items():
            owners = [b for b, own in _OWN_FIELDS.items() if name in own] if name != "options" else ["an extension"]
            is_default = getattr(self, name) == field.get_default(call_default_factory=True)
            if owners and self.backend not in owners and not is_default:
                raise ValueError(f"{name} belongs to backend {owners[0]}, not to {self.backend}; take one of them out")
        missing = sorted(name for name in _NEEDED[self.backend] if not getattr(self, name))
        if missing:
            raise ValueError(f"backend {self.backend} needs {', '.join(missing)}")
        return self

    @field_serializer("base_url", when_used="json")
    def _without_credentials(self, base_url: str | None) -> str | None:
        return base_url and public_url(base_url)


def _is_variable(name: str) -> bool:
    """Whether this can be a variable's name; what holds small letters looks like a key unless it is set."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is not None and (name.upper() == name or name in os.environ)


def public_url(url: str) -> str:
    """The URL without user, password, query and fragment: all that may be shown or written."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "(not a URL)"
    return urlunsplit((parts.scheme, host, parts.path, "", "")) if has_port(parts) else "(not a URL)"


def has_port(parts: SplitResult) -> bool:
    """Whether what stands in the place of the port is one, or nothing: it may be a password with a / in it."""
    try:
        port = parts.port
    except ValueError:
        return False
    return port is None or (port != 0 and ("@" not in parts.path + parts.fragment or "@" in parts.netloc))
