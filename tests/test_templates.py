"""Templates: what is wrong with one is said in one line."""

from __future__ import annotations

import pytest

from understudy.errors import SettingsError
from understudy.templates import compile_template, variables_of


@pytest.mark.parametrize("text", ["{{ a", "{% if a %}", "{{ a | shout }}", "{{ a is loud }}", "{% shout %}"])
def test_a_broken_template_is_a_mistake_in_the_settings(text: str):
    for read in (compile_template, variables_of):
        with pytest.raises(SettingsError, match="line 1: "):
            read(text)


def test_the_names_that_a_template_reads():
    assert variables_of("{{ a }}{% for x in b %}{{ x | tojson }}{% endfor %}") == {"a", "b"}
