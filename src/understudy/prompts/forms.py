"""Reading a reply into a pydantic model: from JSON, else from tagged blocks, else from lines with headings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from understudy.errors import ParseError
from understudy.prompts.blocks import headed, plain, signs, tagged
from understudy.prompts.loose_json import json_values, short
from understudy.prompts.replies import read_label

M = TypeVar("M", bound=BaseModel)

_THINK, _END_OF_THINK = "<think>", "</think>"
_ANSWER_STARTS = ("{", "[", "<", "`")
_PLACEHOLDERS = ("...", "…")
_BULLET = re.compile(r"(?:[-*•]|\d+[.)])[ \t]+(\S.*)")
_MOST_PROBLEMS = 3  # that an error names


def read_form(text: str, model: type[M]) -> M:
    """The instance of ``model`` that a reply holds; of several the last one that fits.

    Read are JSON with faults and prose around it, also a bare list for a model with one list field; blocks in tags
    named like the fields; lines that begin with a field's name. What a model thinks in <think> is passed over. Choices
    count whatever their case; what is null or left empty and has a default takes that.

    Raises:
        ParseError: ``not_json``: nothing can be read; ``not_the_form``: fields are missing or of the wrong type;
            ``cut_off``: the reply broke off.
    """
    schema = _schema(model)
    try:
        return _read(_after_thinking(text) if "think" not in schema["properties"] else text, model, schema)
    except RecursionError:
        raise ParseError("not_json", f"nested too deep in {short(text)}") from None


def _read(text: str, model: type[M], schema: Mapping[str, Any]) -> M:
    is_tag, is_heading = signs(tuple(schema["properties"]))
    first_tag, first_brace = is_tag.search(text), text.find("{")
    if first_tag and (first_brace < 0 or first_tag.start() < first_brace):
        return _of_blocks(tagged(text, is_tag), model, schema)
    objects = json_values(text)
    if candidates := [value for value in objects if _has_field(value, schema)]:
        return _best(candidates, model, schema)
    if name := _only_list(schema):
        lists = json_values(text, "[") or ([objects] if objects else [])
        if lists:
            return _best([{name: items} for items in lists], model, schema)
    blocks = tagged(text, is_tag) if first_tag else headed(text, is_heading)
    if blocks:
        return _of_blocks(blocks, model, schema)
    if objects:
        raise ParseError("not_the_form", f"none of the fields {', '.join(schema['properties'])} in {short(text)}")
    raise ParseError("not_json", f"no JSON, tags or headings in {short(text)}")


def _after_thinking(text: str) -> str:
    start = text.lstrip()
    if start.startswith(_THINK):
        _, ended, rest = start.partition(_END_OF_THINK)
        if not ended:
            raise ParseError("cut_off", f"the thinking has no end: {short(text)}")
        return rest
    # a server may have put the opening tag into the prompt
    return text if start.startswith(_ANSWER_STARTS) else text.rpartition(_END_OF_THINK)[2]


@lru_cache(maxsize=256)
def _schema(model: type[BaseModel]) -> Mapping[str, Any]:
    """The model's own schema with its root in place: what is a choice, a list, has a default."""
    schema = model.model_json_schema()
    root = schema["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return {"properties": {}, **root, "$defs": schema.get("$defs", {})}


def _only_list(schema: Mapping[str, Any]) -> str | None:
    """The one field that a bare list can be."""
    lists = [name for name, part in schema["properties"].items() if _resolved(part, schema).get("type") == "array"]
    return lists[0] if len(lists) == 1 and set(schema.get("required", ())) <= set(lists) else None


def _resolved(part: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of a field, without a reference or a null that may stand in its place."""
    while True:
        choices = [choice for choice in part.get("anyOf", ()) if choice.get("type") != "null"]
        if "$ref" in part:
            part = root["$defs"][part["$ref"].rpartition("/")[2]]
        elif len(choices) == 1:
            part = choices[0]
        else:
            return part


def _may_be_null(part: Mapping[str, Any]) -> bool:
    return part.get("type") == "null" or any(map(_may_be_null, part.get("anyOf", ())))


def _has_field(value: Any, schema: Mapping[str, Any]) -> bool:
    names = _by_plain_name(tuple(schema["properties"]))
    return isinstance(value, dict) and any(plain(key) in names for key in value)


def _best(candidates: Sequence[Any], model: type[M], schema: Mapping[str, Any]) -> M:
    """The last candidate that fits.

    Raises:
        ParseError: ``not_the_form``, with what is wrong with the last one.
    """
    problem: ValidationError | None = None
    for value in reversed(candidates):
        try:
            return model.model_validate(_fitted(value, schema, schema))
        except ValidationError as error:
            problem = problem or error
    assert problem is not None
    raise ParseError("not_the_form", "; ".join(_explained(problem))) from None


def _explained(problem: ValidationError) -> Iterator[str]:
    for error in problem.errors(include_url=False)[:_MOST_PROBLEMS]:
        place = ".".join(map(str, error["loc"])) or "the whole"
        if error["type"] == "missing":
            yield f"{short(place)[1:-1]}: this field is missing"
        else:
            value = repr(error["input"])
            value = value if len(value) <= 60 else value[:59] + "…"
            yield f"{short(place)[1:-1]}: {error['msg'].removeprefix('Value error, ')} (got {value})"


def _fitted(value: Any, part: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """``value`` with names, choices and nulls as the model has them, where there is no doubt what is meant."""
    part = _resolved(part, root)
    options = part.get("enum") or ([part["const"]] if "const" in part else [])
    if options:
        return _choice(value, options)
    if isinstance(value, dict) and "properties" in part:
        return _fitted_fields(value, part, root)
    if isinstance(value, list) and isinstance(part.get("items"), dict):
        return [_fitted(item, part["items"], root) for item in value]
    if part.get("type") == "string" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


def _fitted_fields(value: dict[str, Any], part: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    properties, needed = part["properties"], part.get("required", ())
    names = _by_plain_name(tuple(properties))
    fitted = {}
    for key, item in value.items():
        name = key if key in properties else names.get(plain(key), key)
        if name != key and (name in value or name in fitted):
            name = key
        field = properties.get(name)
        if field is None:
            fitted[name] = item
        elif item is not None or name in needed or _may_be_null(field):
            fitted[name] = _fitted(item, field, root)
    return fitted


def _choice(value: Any, options: Sequence[Any]) -> Any:
    if not isinstance(value, str) or value in options:
        return value
    names = {str(option): option for option in options}
    if len(value) > 2 * max(map(len, names)) + 20:
        return value
    try:
        return names[read_label(value, list(names))]
    except ParseError:
        return value


@lru_cache(maxsize=256)
def _by_plain_name(names: tuple[str, ...]) -> Mapping[str, str]:
    return {plain(name): name for name in names}


def _of_blocks(blocks: Mapping[str, list[str]], model: type[M], schema: Mapping[str, Any]) -> M:
    texts = [text for found in blocks.values() for text in found]
    if len(texts) == 1 and texts[0].startswith(("{", "```")):  # all of it as JSON in tags such as <answer>
        with suppress(ParseError):
            if candidates := [value for value in json_values(texts[0]) if _has_field(value, schema)]:
                return _best(candidates, model, schema)
    values = {}
    for name, part in schema["properties"].items():
        if found := blocks.get(plain(name)):
            try:
                values |= _of_texts(name, found, part, schema)
            except ParseError as error:
                raise ParseError("not_the_form", f"{name}: {error.detail}") from None
    return _best([values], model, schema)


def _of_texts(name: str, texts: Sequence[str], part: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """The field and its value; nothing where the blocks hold nothing or the dots that they were asked for with."""
    resolved = _resolved(part, root)
    given = [text for text in texts if text and text not in _PLACEHOLDERS]
    if resolved.get("type") == "array" and (given or "" in texts):
        return {name: _items(given, resolved, root)}
    if given and not (given[-1] == "null" and _may_be_null(part)):
        return {name: _of_text(given[-1], resolved)}
    return {name: None} if _may_be_null(part) else {}


def _items(texts: Sequence[str], part: Mapping[str, Any], root: Mapping[str, Any]) -> list[Any]:
    """The items of a list: one in each block, or all in one block as JSON, with bullets or parted by commas."""
    item = _resolved(part.get("items") or {}, root)
    if len(texts) == 1:
        if texts[0].startswith("[") and (lists := json_values(texts[0], "[")):
            return lists[-1]
        bullets = [_BULLET.fullmatch(line.strip()) for line in texts[0].splitlines() if line.strip()]
        if all(bullets):
            texts = [bullet[1] for bullet in bullets if bullet]
        elif "enum" in item or item.get("type") in ("integer", "number", "boolean"):
            texts = [text.strip() for text in texts[0].split(",")]
    return [_of_text(text, item) for text in texts]


def _of_text(text: str, part: Mapping[str, Any]) -> Any:
    opening = {"object": "{", "array": "["}.get(part.get("type", ""))
    if "anyOf" in part or "oneOf" in part:
        opening = text[0] if text[0] in "{[" else None
    found = json_values(text, opening) if opening in ("{", "[") else []
    return found[-1] if found else text
