"""The number in an answer."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.evaluation import score
from understudy.evaluation.numbers import Number, last_number, same_number
from understudy.task import Task

SUM = Task(instruction="How many?", kind="numeric")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("72", "72"),
        ("She sold 48 in April and 24 in May, so 48 + 24 = 72.", "72"),
        ("#### 1,234", "1234"),
        ("It costs $1,234,567.89.", "1234567.89"),
        ("1, 2 and 3", "3"),
        ("1,5", "5"),
        ("1,23456", "23456"),
        ("-3", "-3"),
        ("−3 degrees", "-3"),
        ("x = +3", "3"),
        ("a loss of -$5", "-5"),
        ("a loss of $-5", "-5"),
        ("between 5-10", "10"),
        ("10-5", "5"),
        ("10 -5", "-5"),
        ("(2)-3", "3"),
        ("- 4 apples", "4"),
        (".5", "0.5"),
        ("0.50", "0.5"),
        ("1.5e3 J", "1500"),
        ("3/4", "0.75"),
        ("1 3/4 cups", "1.75"),
        ("-1 3/4", "-1.75"),
        ("3 / 4", "0.75"),
        ("5 km", "5"),
        ("5kg", "5"),
        ("the 2nd", "2"),
        ("US$5", "5"),
        ("5 m^2", "5"),
        ("12 g of CO2", "12"),
        ("room m25 has 4", "4"),
        (r"\boxed{42}", "42"),
        ("**42**", "42"),
        ("10:30", "30"),
        ("1" * 5000, "1" * 5000),
    ],
)
def test_the_last_number_is_read_as_people_write_it(text: str, value: str):
    assert last_number(text) == Number(Decimal(value), percent=False)


@pytest.mark.parametrize("text", ["", "five", "CO2", "step_2", "1/0", "100 %, or 1/0", "e5", "."])
def test_what_is_no_number(text: str):
    assert last_number(text) is None


@pytest.mark.parametrize("text", ["25%", "25 %", "25 percent", "25 per cent", "25.0%"])
def test_a_percentage_is_both_its_number_and_its_hundredth(text: str):
    assert last_number(text) == Number(Decimal(25), percent=True)
    for other in ("25", "0.25", "1/4", "25 %"):
        assert score("numeric_accuracy", SUM, [other], [text]) == 1
        assert score("numeric_accuracy", SUM, [text], [other]) == 1
    assert score("numeric_accuracy", SUM, ["0.25 %", "2500"], [text, text]) == 0


@pytest.mark.parametrize(
    ("gold", "predicted", "right"),
    [
        ("0.3", "0.30000000000000004", True),
        ("2/3", "0.6666666666667", True),
        ("2/3", "0.67", False),
        ("1000000", "1000000.5", False),
        ("12345678901", "12345678902", False),
        ("1" * 5000, "1" * 4999 + "2", False),
        ("1e999", "1e998", False),
        ("7", "7.0", True),
        ("0", "-0", True),
        ("1.5", "15", False),
        ("5", "-5", False),
        ("5", "I do not know", False),
        ("5", None, False),
        ("no solution", "No solution!", True),
        ("no solution", "5", False),
        (("5", "five"), "Five.", True),
        (("5", "five"), "4", False),
    ],
)
def test_when_an_answer_is_right(gold: str | tuple[str, ...], predicted: str | None, right: bool):
    assert score("numeric_accuracy", SUM, [gold], [predicted]) == right


def test_the_exact_text_allows_for_white_space_only():
    assert score("exact_text", SUM, ["1.5", "1.5", "1,000"], [" 1.5\n", "15", "1000"]) == pytest.approx(1 / 3)


@given(st.integers(-(10**12), 10**12), st.sampled_from(["{:,}", "${:,}.", "the answer is {} km", "= {}.00", "{:+}"]))
def test_a_whole_number_is_read_back_however_it_is_written(number: int, form: str):
    assert last_number("12 then " + form.format(number)) == Number(Decimal(number), percent=False)


@given(st.text(alphabet="0123456789,.-+/%$eE^ xX(", max_size=60))
def test_any_text_is_read_and_is_the_same_as_itself(text: str):
    found = last_number(text)
    assert found is None or same_number(found, found)


@pytest.mark.slow
def test_a_long_text_takes_no_longer_than_its_length():
    for piece in ("1", "1,", "1 ", "1,111", "1/", "-$", ".1", "1 1/", "9" * 1000 + "e"):
        last_number(piece * (200_000 // len(piece)))  # would take hours if the rule were quadratic
