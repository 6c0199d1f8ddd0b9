"""The form of a reply: a pydantic model as the schema that is sent, or as words where an endpoint knows no schemas.

``read_form`` reads what comes back, whichever way it was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from understudy.errors import ParseError, SettingsError
from understudy.prompts.forms import read_form
from understudy.prompts.loose_json import json_values
from understudy.teachers.request import Message

__all__ = [
    "PROBE_MESSAGES",
    "PROBE_SCHEMA",
    "Form",
    "form_of",
    "in_blocks",
    "obeys",
    "read_form",
    "repair",
    "response_format",
]

M = TypeVar("M", bound=BaseModel)

_DEFINITION = "#/$defs/"
_IN_WORDS = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "uniqueItems": "no item twice",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "pattern": "must match {}",
    "format": "format: {}",
}
"""Limits that one strict server or another refuses: they stand in the description, and pydantic checks them after."""

_KINDS = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}

PROBE_MESSAGES: list[Message] = [{"role": "user", "content": "Say hello to me in one short sentence."}]
"""A request that no answer in the form of ``PROBE_SCHEMA`` comes to by its words alone."""
PROBE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["heliotrope"]}},
    "required": ["colour"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Form(Generic[M]):
    """What every reply must be. Made by ``form_of``."""

    schema: Mapping[str, Any]
    """As it is sent and as it stands in the ledger's key: strict, self-contained, the same for the same model."""
    model: type[M]


@lru_cache(maxsize=256)
def form_of(model: type[M]) -> Form[M]:
    """The form of a model's instances.

    Every property is required and no other is allowed; what the model has a default for may be null; definitions are
    inlined, but for those that contain themselves; limits of length and size stand in the descriptions.

    Raises:
        SettingsError: the model has a field that no strict schema can say, or no fields.
    """
    raw = model.model_json_schema()
    definitions, kept = raw.get("$defs", {}), {}
    schema = _strict(raw, model.__name__, definitions, kept)
    if "$ref" in schema:  # a model that contains itself: what is sent must be an object at its root all the same
        schema = kept[schema["$ref"].removeprefix(_DEFINITION)]
    if not schema.get("properties"):
        raise SettingsError(f"form: {model.__name__} has no fields; declare a model with at least one")
    return Form({**schema, "$defs": kept} if kept else schema, model)


def _strict(raw: Mapping[str, Any], place: str, definitions: Mapping[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    """``raw`` as strict servers take it; definitions that contain themselves go into ``kept``."""

    def inner(part: Mapping[str, Any], name: str = "") -> dict[str, Any]:
        return _strict(part, f"{place}.{name}" if name else place, definitions, kept)

    if reference := raw.get("$ref"):
        name = reference.removeprefix(_DEFINITION)
        if name not in kept and not _contains_itself(name, definitions):
            return inner({**definitions[name], **{key: raw[key] for key in raw if key != "$ref"}})
        if name not in kept:
            kept[name] = {}
            kept[name] = inner(definitions[name])
        return {"$ref": reference}  # strict servers let nothing stand beside it
    about = _description(raw)
    kind = raw.get("type")
    if choices := raw.get("anyOf") or raw.get("oneOf"):
        return {"anyOf": [inner(choice) for choice in choices], **about}
    if "enum" in raw or "const" in raw:
        return {**({"type": kind} if kind else {}), "enum": list(raw.get("enum") or [raw["const"]]), **about}
    if kind == "array":
        items = [inner(item, "[]") for item in raw.get("prefixItems") or [raw.get("items", {})]]
        return {"type": kind, "items": items[0] if items == items[:1] * len(items) else {"anyOf": items}, **about}
    if kind == "object" and "properties" in raw:
        needed = raw.get("required", ())
        properties = {
            name: inner(part, name) if name in needed else _or_null(inner(part, name))
            for name, part in raw["properties"].items()
        }
        closed = {"required": list(properties), "additionalProperties": False}
        return {"type": kind, **about, "properties": properties, **closed}
    if kind in ("string", "integer", "number", "boolean", "null"):
        return {"type": kind, **about}
    raise SettingsError(
        f"form: {place} takes anything, or a dict with any keys, which no strict schema can say; "
        "declare a model with the keys that are wanted, or a list of such models"
    )


def _contains_itself(name: str, definitions: Mapping[str, Any]) -> bool:
    seen: set[str] = set()
    waiting: list[Any] = [definitions[name]]
    while waiting:
        part = waiting.pop()
        waiting += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        other = part.get("$ref") if isinstance(part, dict) else None
        if isinstance(other, str) and other not in seen:
            seen.add(other)
            waiting.append(definitions[other.removeprefix(_DEFINITION)])
    return _DEFINITION + name in seen


def _description(raw: Mapping[str, Any]) -> dict[str, str]:
    limits = [words.format(raw[key]) for key, words in _IN_WORDS.items() if key in raw]
    text = " ".join(raw.get("description", "").split())
    words = f"{text} ({', '.join(limits)})".strip() if limits else text
    return {"description": words} if words else {}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    choices = schema.get("anyOf", [{key: value for key, value in schema.items() if key != "description"}])
    if {"type": "null"} not in choices:
        choices = [*choices, {"type": "null"}]
    return {"anyOf": choices, **{key: value for key, value in schema.items() if key == "description"}}


def response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The request's parameter that asks an endpoint for ``schema``."""
    return {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": schema}}


def in_blocks(messages: Sequence[Message], schema: Mapping[str, Any]) -> list[Message]:
    """The messages with the form said in words at the end of the last user message, for ``read_form`` to read."""
    tags: list[str] = []
    lines: list[str] = []
    for name, part in schema["properties"].items():
        tags += [f"<{name}>...</{name}>"] * (1 + (_inner(part).get("type") == "array"))
        if words := _words(part, in_json=False):
            lines.append(f"{name}: {words}")
    text = "\n".join(["Write your answer in these tags, in place of the dots, and nothing else:", "", *tags])
    if lines:
        text = "\n".join([text, "", "What goes into the tags:", *lines])
    asked = [dict(message) for message in messages]
    for message in reversed(asked):
        if message["role"] == "user":
            message["content"] += f"\n\n{text}"
            return asked
    return [*asked, {"role": "user", "content": text}]


def _inner(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema without the null that may stand in its place."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    return choices[0] if len(choices) == 1 else schema


def _words(schema: Mapping[str, Any], *, in_json: bool) -> str:
    """What goes into a field, and into a JSON object always something."""
    inner = _inner(schema)
    kind = "object" if "$ref" in inner else inner.get("type")
    said = [schema.get("description") or inner.get("description", "")]
    if "enum" in inner:
        said.append(f"one of: {', '.join(map(str, inner['enum']))}")
    elif kind == "array":
        said.append(_words(inner["items"], in_json=in_json))
        said.append("a list" if in_json else "one in each pair of tags, with more pairs for more")
    elif kind == "object":
        said.append(f"JSON like {json.dumps(_like(inner), ensure_ascii=False)}" if "properties" in inner else "JSON")
    elif kind in _KINDS:
        said.append(_KINDS[kind])
    if inner is not schema:
        said.append("null if there is none" if in_json else "empty if there is none")
    return "; ".join(part for part in said if part) or ("text" if in_json else "")


def _like(schema: Mapping[str, Any]) -> dict[str, Any]:
    """An object with words for what belongs in each place."""
    parts = {name: (part, _inner(part)) for name, part in schema["properties"].items()}
    return {
        name: _like(inner) if "properties" in inner else _words(part, in_json=True)
        for name, (part, inner) in parts.items()
    }


def repair(messages: Sequence[Message], reply: str, error: ParseError) -> list[Message]:
    """The same conversation with the reply, what is wrong with it, and the request to write all of it again."""
    wrong = error.detail or error.reason.replace("_", " ")
    text = (
        f"Your answer cannot be read: {wrong}\n"
        "Write the whole answer again, in exactly the form that was asked for, and nothing else."
    )
    return [*messages, {"role": "assistant", "content": reply}, {"role": "user", "content": text}]


def obeys(text: str) -> bool:
    """Whether the answer to ``PROBE_MESSAGES`` keeps to ``PROBE_SCHEMA``, so that the endpoint heeds schemas."""
    try:
        return {"colour": "heliotrope"} in json_values(text)
    except ParseError:
        return False
