"""Prompts are files beside this one; a prompt bound to its constants turns an example into messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from understudy.errors import DataError, SettingsError
from understudy.records import Example
from understudy.templates import compile_template, variables_of


@dataclass(frozen=True)
class Prompt:
    """The text of one user message, as a jinja2 template.

    The template may read ``example`` and the constants that ``bind`` names; nothing else, and all of them.
    """

    name: str
    text: str

    def bind(self, **constants: Any) -> Callable[[Example], list[dict[str, str]]]:
        """A function from an example to the messages that are sent.

        Raises:
            SettingsError: a constant is missing, or one is given that the prompt never reads.
        """
        read = variables_of(self.text) - {"example"}
        if wrong := sorted(read ^ constants.keys()):
            problem = "is never given" if wrong[0] in read else "is never read"
            raise SettingsError(f"prompt {self.name!r}: the variable {wrong[0]!r} {problem}")
        template = compile_template(self.text)

        def render(example: Example) -> list[dict[str, str]]:
            try:
                return [{"role": "user", "content": template.render(example=example, **constants).strip()}]
            except Exception as error:  # whatever an expression in a template can raise
                raise DataError(f"prompt {self.name!r} cannot be rendered for row {example.id!r}: {error}") from None

        return render


@lru_cache
def load_prompt(name: str) -> Prompt:
    """The prompt in the file ``<name>.md`` of this package."""
    return Prompt(name, (files("understudy.prompts") / f"{name}.md").read_text(encoding="utf-8"))
