"""The key of a request: its content, all of it, and nothing else."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from understudy.teachers import Request, Sampling

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
messages = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["system", "user"]), "content": texts}), max_size=3)
parameters = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0.1, 1),
        "max_tokens": st.integers(1, 999),
        "stop": st.lists(texts, max_size=2),
    },
)


def turned(value: Any) -> Any:
    """The same JSON with the keys of every object in the opposite order."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return [turned(item) for item in value] if isinstance(value, list) else value


@given(messages, parameters, st.integers(0, 9))
def test_the_order_of_keys_does_not_matter(said: list[Any], sampling: dict[str, Any], sample: int):
    one = Request("t", "m", said, sampling, sample)
    other = Request("t", "m", turned(said), turned(sampling), sample)
    assert one.key == other.key
    assert one.key.startswith("b2:")


@given(messages, parameters, st.integers(0, 9), texts, st.floats(2.1, 3))
def test_everything_in_it_matters(
    said: list[Any], sampling: dict[str, Any], sample: int, text: str, temperature: float
):
    requests = [
        Request("t", "m", said, sampling, sample),
        Request("t", "m", said, sampling, sample + 1),
        Request("u", "m", said, sampling, sample),
        Request("t", "n", said, sampling, sample),
        Request("t", "m", said, {**sampling, "temperature": temperature}, sample),
        Request("t", "m", [*said, {"role": "user", "content": text}], sampling, sample),
        Request("t", "m", said, sampling, sample, {"type": "object"}),
    ]
    assert len({request.key for request in requests}) == len(requests)


def test_a_number_is_a_number_however_it_is_written():
    assert Sampling.model_validate({"temperature": 1}).parameters() == Sampling(temperature=1.0).parameters()
    assert Sampling(stop=("a",)).parameters() == Sampling.model_validate({"stop": "a"}).parameters() == {"stop": ["a"]}


def test_the_key_of_a_request_is_the_same_in_every_version():
    request = Request("gpt-4o-mini", "gpt-4o-mini", [{"role": "user", "content": "Grüße"}], {"temperature": 0.0}, 2)
    assert request.key == "b2:5b87ec44a324f78253a6fb51cd8c057a", (
        "a change here makes every ledger in the world worthless"
    )
