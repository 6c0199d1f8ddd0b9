"""Splitting: worked examples, and what holds for any text."""

from __future__ import annotations

import re
import time
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.segment import count_words, split

ENGLISH = "Tom has 3 1,000 3.5 Mr. U.S. e.g. p.m. J. No. 1. x=2 f(2,3) <<4/2=2>> answer"
OTHERS = "苹果 有 りんご แอปเปิล تفاحة सेब яблоко é e\u0301 😀 \u200d \x00"
SIGNS = '. , ; : ? ! ... … 。 ， 、 ؟ ، । - “ ” " » 」 ( ) [ ] << >> （ ）'
SPACES = [" ", " ", " ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u2028", "\u3000"]
FRAGMENTS = [*ENGLISH.split(), *OTHERS.split(), *SIGNS.split(), "f(2, 3)", ". . .", *SPACES]
texts = st.one_of(st.text(), st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join))
few = st.integers(min_value=0, max_value=5)
ANSWER = re.compile("answer")

ALONE = {  # a bar stands where a piece ends, with nothing merged
    "numbers": "It is 3.5 kg, |or .5 more. |He paid 1,000 for it. |5 came. |1, |2, |3",
    "a listing": "Three things: |a pen, |ink; |and paper",
    "times": "She left at 10:30. |He came at 5 p.m. and ate. |At 7 A.M. |She woke, |at 6:15 p.m. |He did.",
    "titles": "Mr. Lee, |Mrs. Ray and Dr. Wu met St. John vs. Tom. |All won.",
    "for instance": "Fruit, |e.g. figs, |or e.g., plums, |i.e. two. |Yes",
    "before a number": "In No. 5 and Fig. 3, |see p. 7 of Jan. 2. |No. |It is not so.",
    "and more": "Pens, |ink, |etc. were sold. |He had pens, |etc. |Then he left. |It is 3 ft. tall, |5 sq. ft. wide.",
    "capitals": "The U.S. Army came. |He is in the U.S. |He likes it. |See D. C. Lee.",
    "initials": "J. K. Rowling wrote it. |Harry S. Truman read it.",
    "options": "The answer is B. |So it is. |It is 68 F. |5 of them.",
    "species": "It is E. coli, |they say.",
    "equations": "3 + 4 = 7, |x = 2; |f(2, 3) = [1, 2], |{a: b} is not {c; d}",
    "calculations": "He sold 48/2 = <<48/2=24>>24 clips, |then 3, |<<a, b; c>>",
    "addresses": "See https://a.org/x,y;z?q=1.5:2, |then data.csv, |not a.b.txt. |Yes!",
    "ellipses": "Wait... what is it? |Hm... |Then he left… and . . . came. |See 33.333...%, |2, ..., |10",
    "quotes": "\"He left.\" |Then she said \"Come!\" |'No.' |It ended.",
    "a sentence goes on after a quote": "\"Who?\" he asked. |\"I,\" |she said.",
    "other quotes": "„Er ging.“ |Dann kam sie. |« Il part. » |Puis rien. |“Yes.” |He did.",
    "brackets": "(He left. She stayed, too.) |Then (at 5, or so) it ended. |a) one; |b) two",
    "brackets that do not close": "It is a ( b, |c. |d ] e, |f",
    "a bracket over lines": "f(2, |3\n|4, |5)",
    "line breaks": "one\r\n|two, \n\n|three\u2028|four\n",
    "labels": "1. First, |we add. |2. Then we stop.\n|B. So.\n|**Step 3.** Done, |yes.",
    "signs together": "He left?! |No way!!! |Yes.",
    "signs alone": "- one\n---\n|two, - , |three ...",
    "signs first": "...\n- , one, |two",
    "a ratio": "It is 2 : 3, |so: |five",
    "a space before the stop": "a man sleeps . |he is tired .",
    "Chinese": "他有5个苹果，|又买3个。|有8个！|对吗？|是：|八、|九；|十",
    "Chinese numbers": "价格是1，000元，|10：30开始",
    "Chinese quotes": "他说：|“走。”|然后他走了（三点，他说）。|好",
    "Chinese with other signs": "今天,|天气很好.|我们走!|好",
    "Japanese": "「はい。」|そうです。|ええ｡|はい",
    "Arabic": "كان لديه خمسة، |ثم ثلاثة؛ |كم؟ |ثمانية،|نعم",
    "Devanagari": "उसके पास पाँच हैं। |अब आठ हैं।|हाँ॥ |ठीक",
    "Russian": "Он ушёл. |А. С. Пушкин, |да!",
    "Greek and Urdu": "ναι, |όχι. |ہاں۔ |نہیں",
}  # fmt: skip

MERGED = {
    "short clauses go to the following ones": "So, in all, he now has 8 apples. |Then, he ate half of them.",
    "the last one to the one before": "He had red apples left, of course. |Then she gave him a pear.",
    "a short sentence to the one before": "He had five apples. Yes. |Then she gave him two.",
    "the first one to the one after": "Yes. Then she gave him two. |They went home at five.",
    "short sentences to one another": "She gave him many pears. |He ate. She slept. |Then they all went home.",
    "line breaks are no hindrance": "He sold 24 clips in May.\n#### 24",
    "an equation is as long as it looks": "He had 84 of them. |84 / 2 = 42.",
    "all are short": "Burn, right arm.",
    "ideographs count": "他有五个苹果，|对，又买了三个。好。",
}


@pytest.mark.parametrize("marked", ALONE.values(), ids=ALONE.keys())
def test_where_pieces_end(marked: str):
    assert split(marked.replace("|", ""), short="keep") == marked.split("|")


@pytest.mark.parametrize("marked", MERGED.values(), ids=MERGED.keys())
def test_short_pieces_are_merged(marked: str):
    assert split(marked.replace("|", "")) == marked.split("|")


def test_short_pieces_are_dropped_at_will():
    text = "So, in all, he now has 8 apples. Yes. The answer is 8."
    assert split(text, short="drop") == ["he now has 8 apples. ", "The answer is 8."]
    assert split(text, short="drop", short_words=4, whole=re.compile("Yes")) == ["he now has 8 apples. ", "Yes. "]
    assert split("...\n", short="drop", short_words=0) == []


def test_the_sentence_with_the_answer_is_whole():
    before, answer, after = "He has 5. ", "So the answer is 1,000, I think. ", "Yes, it is."
    assert split(before + answer + after, whole=re.compile("answer is")) == [before, answer, after]
    assert split(answer + "He has 5. Yes.", whole=re.compile("answer is")) == [answer, "He has 5. Yes."]
    assert split("Answer 5. Answer 6.", whole=re.compile("Answer")) == ["Answer 5. ", "Answer 6."]


@pytest.mark.parametrize(
    ("pattern", "pieces"),
    [
        (r"\s*####", ["So it is 5, then.\n", "#### 5\n", "Answer:\n7"]),
        (r"Answer:\s*\d", ["So it is 5, then.\n#### 5\n", "Answer:\n7"]),
        (r"$", ["So it is 5, then.\n#### 5\nAnswer:\n", "7"]),
        (r"\n", ["So it is 5, then.\n", "#### 5\n", "Answer:\n", "7"]),
        (r"is|5\s+Answer", ["So it is 5, then.\n", "#### 5\nAnswer:\n", "7"]),
        (r"(?s).*", ["So it is 5, then.\n#### 5\nAnswer:\n7"]),
    ],
)
def test_what_is_whole_follows_the_match(pattern: str, pieces: list[str]):
    assert split("So it is 5, then.\n#### 5\nAnswer:\n7", whole=re.compile(pattern)) == pieces


@given(texts, few, st.sampled_from(["merge", "keep"]), st.sampled_from([None, ANSWER, re.compile("")]))
def test_joined_pieces_are_the_text(
    text: str, short_words: int, short: Literal["merge", "keep"], whole: re.Pattern[str]
):
    pieces = split(text, short_words=short_words, short=short, whole=whole)
    assert "".join(pieces) == text
    assert all(pieces)
    if any(map(str.isalnum, text)):
        assert all(any(map(str.isalnum, piece)) for piece in pieces)


@given(texts, few)
def test_short_pieces_stay_only_where_there_is_nothing_to_merge_with(text: str, short_words: int):
    pieces = split(text, short_words=short_words)
    assert len(pieces) <= 1 or min(map(count_words, pieces)) > short_words
    around = ["answer", *split(text, short_words=short_words, whole=ANSWER), "answer"]
    for (before, piece), (_, after) in pairwise(pairwise(around)):
        is_short = "answer" not in piece and count_words(piece) <= short_words
        assert not is_short or ("answer" in before and "answer" in after)


@given(texts, few)
def test_merging_and_dropping_only_take_ends_and_pieces_away(text: str, short_words: int):
    alone = split(text, short="keep", short_words=short_words)
    assert split(text, short="merge", short_words=0) == alone or not any(map(count_words, alone))
    assert split(text, short="drop", short_words=short_words) == [p for p in alone if count_words(p) > short_words]
    for pieces in (split(text, short_words=short_words), split(text, short="keep", whole=ANSWER)):
        assert ends_of(pieces) <= ends_of(alone)


def ends_of(pieces: list[str]) -> set[int]:
    return {sum(map(len, pieces[: place + 1])) for place in range(len(pieces))}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *[("8 / 2 = 4", 4), ("a - b, (c) d.", 4), ("it's 3.5", 2), ("x=2", 1), ("- , 😀 _", 0), ("", 0)],
        *[("三个 3个", 4), ("りんごは", 4), ("ไก่1", 3), ("사과 둘", 2), ("ab،cd", 2), ("हैं।अब", 2)],
    ],
)
def test_words_are_counted(text: str, words: int):
    assert count_words(text) == words


PATHOLOGICAL = [
    *[",", ", ", "a, ", "(", "(. ", "(a, b) ", "<<", "x", ".", ". ", "A. ", "Mr. ", "1. ", " ", "\n"],
    *["(\n", '."', "字，", "字.", "。'", "e.g., ", "a.", " .", " »", "😀", "1 : ", "[(])"],
    "Then he had 3.5 apples, and it was 10:30. ",
]


@pytest.mark.slow
@pytest.mark.parametrize("unit", PATHOLOGICAL)
def test_the_time_is_linear_in_the_text(unit: str):
    def seconds(characters: int, short_words: int) -> float:
        text, times = unit * (characters // len(unit)), []
        for _ in range(2):
            start = time.process_time()
            assert "".join(split(text, short_words=short_words, whole=ANSWER)) == text
            times.append(time.process_time() - start)
        return min(times)

    for words in (3, 10**9):
        assert seconds(32_000, words) < 4 * 8 * seconds(4_000, words) + 0.05  # 64 times, were it the square
