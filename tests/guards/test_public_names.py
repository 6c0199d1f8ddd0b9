"""The public surface: every name is there, documented, and listed in order."""

import inspect

import pytest

import understudy


def test_the_list_is_sorted_and_each_name_has_one_home():
    assert understudy.__all__ == sorted(understudy.__all__)
    assert set(understudy.__all__) == set(understudy._HOMES)


@pytest.mark.parametrize("name", understudy.__all__)
def test_a_public_name_is_there_and_documented(name: str):
    thing = getattr(understudy, name)
    assert inspect.isclass(thing) or inspect.isfunction(thing)
    assert inspect.getdoc(thing)
    assert thing.__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="teach"):
        understudy.teach  # noqa: B018
