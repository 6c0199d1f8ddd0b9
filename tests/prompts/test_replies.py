"""Reading what a teacher wrote."""

import pytest

from understudy.errors import ParseError
from understudy.prompts.replies import read_json_list, read_label, read_labels, read_score, split_answer

LABELS = ("rent_payment", "moving_out", "Pests")


@pytest.mark.parametrize(
    "text", ["rent_payment", " Rent payment.", '"rent_payment"', "RENT-PAYMENT", "**rent_payment**"]
)
def test_a_label_is_read_whatever_its_case_and_quotes(text: str):
    assert read_label(text, LABELS) == "rent_payment"


@pytest.mark.parametrize(
    ("text", "labels", "reason"),
    [
        ("rent", LABELS, "not_a_label"),
        ("rent_payment or pests", LABELS, "not_a_label"),
        ("c++.", ("C++", "C"), "ambiguous_label"),
    ],
)
def test_what_is_no_label_is_refused(text: str, labels: tuple[str, ...], reason: str):
    with pytest.raises(ParseError) as caught:
        read_label(text, labels)
    assert caught.value.reason == reason


def test_labels_that_differ_only_by_signs_are_told_apart_where_they_stand_exactly():
    assert [read_label(text, ("-1", "0", "1")) for text in ("-1", " 0", "1 ")] == ["-1", "0", "1"]
    assert read_label("C++", ("C++", "C")) == "C++"
    assert read_label("+", ("+", "-")) == "+"


def test_several_labels_come_in_the_tasks_order():
    assert read_labels("pests, Rent payment", LABELS) == ("rent_payment", "Pests")
    with pytest.raises(ParseError, match="not_a_label"):
        read_labels("", LABELS)


def test_the_last_answer_line_counts_and_what_stands_before_it_is_the_reasoning():
    text = "Premise says so.\nAnswer: maybe\nOn reflection it must.\n**Answer: yes**"
    assert split_answer(text) == ("Premise says so.\nAnswer: maybe\nOn reflection it must.", "yes")
    with pytest.raises(ParseError, match="no_answer"):
        split_answer("I cannot say.")


@pytest.mark.parametrize(
    "text", ['["a", "b"]', 'Here you are:\n```json\n["a",\n "b"]\n```\nEnjoy!', 'Sure! ["a", "b"] and that is all.']
)
def test_a_list_is_read_through_fences_and_prose(text: str):
    assert read_json_list(text) == ["a", "b"]


@pytest.mark.parametrize(("text", "reason"), [("no list", "not_a_list"), ('["a", ', "not_a_list"), ("[a]", "not_json")])
def test_what_is_no_list_is_refused(text: str, reason: str):
    with pytest.raises(ParseError) as caught:
        read_json_list(text)
    assert caught.value.reason == reason


@pytest.mark.parametrize("text", ['["\\ud83d"]', "[" * 100_000 + "]", f"[{'9' * 5000}]", '["\ud83d"]'])
def test_a_list_that_could_be_kept_nowhere_is_refused(text: str):
    with pytest.raises(ParseError) as caught:
        read_json_list(text)
    assert caught.value.reason == "not_json"
    str(caught.value).encode()


@pytest.mark.parametrize("text", ["\n" * 300_000, " _\n" * 100_000, "answer" + ": " * 100_000, "answer\n" * 100_000])
def test_an_answer_is_looked_for_in_linear_time(text: str):
    assert split_answer(f"{text}x\nAnswer: a{' ' * 300_000}b")[1].startswith("a ")
    with pytest.raises(ParseError, match="no_answer"):
        split_answer(text.replace(":", ""))


@pytest.mark.parametrize("line", ["__Answer__: *yes*", "> Answer: yes ", "Answer:\n\nyes", "- **ANSWER**:\tyes\r"])
def test_an_answer_is_read_through_its_decoration(line: str):
    assert split_answer(f"Because.\n\n{line}") == ("Because.", "yes")


@pytest.mark.parametrize(
    "closing",
    [
        "So the coherency score is 8.",
        "**So the coherency score is: 8**",
        "So the coherency score is therefore 8.",
        "So the coherency score is an 8!",
        "So the coherency score is thus a 8/10.",
        "So the coherency score is\n\n*8*.\n",
        'It says: "So the coherency score is 8." ',
    ],
)
def test_a_score_is_read_from_the_last_sentence(closing: str):
    assert read_score(f"A low score is 3 or below. It reads well.\n\n{closing}") == 8


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A low score is 3 or below. This is better, I give it a 9.", "no_closing"),
        ("So the score is 8.\nNo, it is less.", "no_closing"),
        ("So the coherency score is out of 10.", "no_closing"),
        ("So the coherency score is eight.", "no_closing"),
        ("So the coherency score is 8.5.", "score_out_of_range"),
        ("So the coherency score is an 11.", "score_out_of_range"),
    ],
)
def test_what_is_no_score_is_refused(text: str, reason: str):
    with pytest.raises(ParseError) as caught:
        read_score(text)
    assert caught.value.reason == reason


def test_a_score_is_looked_for_in_linear_time():
    assert read_score("score is a b " * 100_000 + "\n" * 100_000 + "score is 7" + "." * 100_000) == 7
