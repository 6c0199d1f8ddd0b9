"""The base of every settings model, and the one place where a bad setting becomes a clear line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from understudy.errors import SettingsError

S = TypeVar("S", bound="Settings")

_VARIABLE = re.compile(r"\$\{(\w+)\}")


class Settings(BaseModel):
    """Frozen, unknown keys refused, every field documented where it is declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())

    def canonical(self, exclude: Any = None) -> str:
        """The settings as canonical JSON, but for those that pydantic's ``exclude`` names."""
        return orjson.dumps(self.model_dump(mode="json", exclude=exclude), option=orjson.OPT_SORT_KEYS).decode()


def validate(model: type[S], values: Any, key: str = "") -> S:
    """Build ``model`` from plain values.

    Args:
        key: where the values stand in the study, e.g. ``"arms.answers.teacher"``.

    Raises:
        SettingsError: names the field, the value, the problem and the known keys.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_explain(model, problem, key) for problem in error.errors(include_url=False)]
        raise SettingsError("\n".join(lines)) from None


def _explain(model: type[BaseModel], problem: Any, key: str) -> str:
    place = ".".join(str(part) for part in (key, *problem["loc"]) if not _is_tag(part) and part != "")
    if problem["type"] == "extra_forbidden":
        known = sorted(_fields_at(model, problem["loc"][:-1]))
        return f"{place}: unknown key. {did_you_mean(str(problem['loc'][-1]), known)}"
    if problem["type"] == "missing":
        return f"{place}: this key is required"
    message = problem["msg"].removeprefix("Value error, ")
    if isinstance(problem["input"], Mapping):  # the whole block, which may hold a URL with a password
        return f"{place}: {message}"
    return f"{place}: {message} (got {_short(problem['input'])})"


def _is_tag(part: int | str) -> bool:
    """Whether a part of a location is the tag of a union, which nobody writes into a study."""
    return str(part).startswith("<")


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        if isinstance(part, int) or _is_tag(part):
            continue
        info = model.model_fields.get(part)
        nested = _models_in(info.annotation) if info else []
        if not nested:
            return list(model.model_fields)
        model = nested[0]
    return list(model.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for inner in getattr(annotation, "__args__", ()) for m in _models_in(inner)]


def _short(value: Any, width: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= width else text[: width - 1] + "…"


def did_you_mean(name: str, known: list[str]) -> str:
    """The end of an "unknown name" message: the nearest known name if there is one, and all of them."""
    close = get_close_matches(name, known, n=1)
    guess = f"Did you mean {close[0]!r}? " if close else ""
    return f"{guess}Known: {', '.join(known) or 'none'}"


def without_passwords(text: str) -> str:
    """``text`` with user and password of every URL replaced by ``***``, and the query of a ``base_url`` cut off."""
    text = re.sub(r"(\w://)[^/\s\"'<>]+@", r"\1***@", text)
    return re.sub(r"(base_url\W+\w+://[^\s\"'?]*)\?[^\s\"'}]*", r"\1", text)


def fill_variables(values: Any, key: str = "", environment: Mapping[str, str] | None = None) -> Any:
    """Replace ``${VAR}`` in every string by the environment's value.

    Raises:
        SettingsError: a variable is not set; the message names the key and the variable.
    """
    environment = os.environ if environment is None else environment
    if isinstance(values, dict):
        return {k: fill_variables(v, f"{key}.{k}".lstrip("."), environment) for k, v in values.items()}
    if isinstance(values, list):
        return [fill_variables(v, f"{key}[{i}]", environment) for i, v in enumerate(values)]
    if not isinstance(values, str):
        return values

    def one(match: re.Match[str]) -> str:
        name = match[1]
        if not environment.get(name):
            raise SettingsError(f"{key}: the environment variable {name} is not set; export {name}=... and run again")
        return environment[name]

    return _VARIABLE.sub(one, values)
