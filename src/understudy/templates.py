"""Jinja2 as everything here uses it: sandboxed, strict about unknown names, nothing escaped."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from understudy.errors import SettingsError

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import SandboxedEnvironment


def is_template(text: str) -> bool:
    """Whether ``text`` is a jinja2 template and not the name of a column."""
    return "{{" in text or "{%" in text


@lru_cache
def _environment() -> SandboxedEnvironment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    def as_json(value: Any) -> str:
        import orjson

        return orjson.dumps(value).decode()

    environment = SandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False
    )
    environment.filters["tojson"] = as_json  # jinja2's own escapes <, > and & for HTML
    return environment


@lru_cache(maxsize=256)
def compile_template(text: str) -> Template:
    """The compiled template.

    Raises:
        SettingsError: the text is no valid template, or names a filter or test that there is none of.
    """
    from jinja2 import TemplateSyntaxError

    try:
        template = _environment().from_string(text)
    except TemplateSyntaxError as error:
        raise SettingsError(f"template {text!r}, line {error.lineno}: {error.message}") from None
    template.globals = dict(template.globals)  # a ChainMap, which each rendering would walk through
    return template


@lru_cache(maxsize=256)
def variables_of(text: str) -> frozenset[str]:
    """The names that a template reads from outside.

    Raises:
        SettingsError: as ``compile_template``.
    """
    from jinja2 import meta

    compile_template(text)  # knows the filters too
    return frozenset(meta.find_undeclared_variables(_environment().parse(text)))
