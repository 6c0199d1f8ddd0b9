"""Blocks of text in a reply: between tags that are named like fields, or after lines that begin with a field's name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from understudy.errors import ParseError
from understudy.prompts.loose_json import short

_LISTED = re.compile(r"[-\d]|\*[ \t]")
_SOMETHING = re.compile(r"\S")


def plain(name: str) -> str:
    """A field's name without case, spaces and signs."""
    return re.sub(r"[\W_]+", "", name).casefold()


@lru_cache(maxsize=256)
def signs(names: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What finds the tags, and what the lines that begin with a name. Both stay on their line."""
    words = "|".join(
        r"[ _-]?".join(map(re.escape, re.split(r"[ _-]", name))) for name in sorted(names, key=len, reverse=True)
    )
    tag = re.compile(rf"<(?P<end>/?) ?(?P<name>{words})(?: [^<>\n]*)?(?P<empty>/?)>", re.IGNORECASE)
    heading = re.compile(
        rf"^(?P<before>[ \t>#*_\-\d.)]*+)(?P<name>{words})[*_]*[ \t]*(?P<colon>:?)(?:\*\*|__)?[ \t]*(?P<end>$)?",
        re.IGNORECASE | re.MULTILINE,
    )
    return tag, heading


def tagged(text: str, is_tag: re.Pattern[str]) -> dict[str, list[str]]:
    """What stands between tags, by plain name. A block that is not closed ends where the next one begins.

    Raises:
        ParseError: ``cut_off`` where the last block has no end.
    """
    blocks: dict[str, list[str]] = {}
    tags = list(is_tag.finditer(text))
    following: dict[str, re.Match[str]] = {}  # the next tag of each name
    ends: list[re.Match[str] | None] = []
    for place in reversed(range(len(tags))):
        name = plain(tags[place]["name"])
        same, after = following.get(name), tags[place + 1] if place + 1 < len(tags) else None
        ends.append(same if same and same["end"] else after)
        following[name] = tags[place]
    position = 0
    for tag, end in zip(tags, reversed(ends), strict=True):
        if tag["end"] or tag.start() < position:
            continue
        name = plain(tag["name"])
        if tag["empty"]:
            blocks.setdefault(name, []).append("")
            continue
        if end is None:
            raise ParseError("cut_off", f"<{tag['name']}> has no end: {short(text[tag.start() :])}")
        blocks.setdefault(name, []).append(text[tag.end() : end.start()].strip())
        position = end.start()
    return blocks


def headed(text: str, is_heading: re.Pattern[str]) -> dict[str, list[str]]:
    """What follows lines that begin with a name and a colon, or are a name and marked as a heading, by plain name."""
    blocks: dict[str, list[str]] = {}
    headings = _headings(text, is_heading)
    ends = [*(heading.start() for heading in headings), len(text)][1:]
    for heading, end in zip(headings, ends, strict=True):
        blocks.setdefault(plain(heading["name"]), []).append(text[heading.end() : end].strip())
    return blocks


def read_blocks(text: str, names: tuple[str, ...]) -> dict[str, str]:
    """The text after each of several headings that stand in the order of ``names``; the texts may hold the same words.

    Headings with a line to themselves are looked for first, then those at the beginning of any line, then those in a
    list. Of several second names the last counts that the others follow, and what stands before it belongs to the first
    name: a draft may go through all names.

    Raises:
        ParseError: ``no_blocks`` where there is none at all, else ``no_<name>`` for the first that is missing, empty or
            before one that it should follow.
    """
    is_heading = signs(names)[1]
    headings = _headings(text, is_heading)
    alone = [one for one in headings if one["end"] is not None]
    unlisted = [one for one in headings if one["end"] is not None or not _LISTED.search(one["before"])]
    for some in (alone, unlisted, headings):
        if blocks := _in_order(text, some, names):
            return blocks
    found = headed(text, is_heading)
    lacking = [name for name in names if not any(found.get(plain(name), ()))]
    lacking = lacking or [name for place, name in enumerate(names) if not _in_order(text, headings, names[: place + 1])]
    reason = "no_blocks" if len(lacking) == len(names) else f"no_{lacking[0]}"
    raise ParseError(reason, f"{lacking[0]} is not where it should be in {short(text)}")


def _headings(text: str, is_heading: re.Pattern[str]) -> list[re.Match[str]]:
    return [
        found
        for found in is_heading.finditer(text)
        if found["colon"] or (found["end"] is not None and ("#" in found["before"] or "**" in found["before"]))
    ]


def _in_order(text: str, headings: Sequence[re.Match[str]], names: Sequence[str]) -> dict[str, str]:
    """The blocks of headings that follow one another, none of them empty; nothing where there are none."""
    places = {plain(name): place for place, name in enumerate(names)}
    runs: dict[int, list[re.Match[str]]] = {}  # by place: from a heading with this name to one with the last name
    for heading in reversed(headings):
        place = places.get(plain(heading["name"]), -1)
        after = runs.get(place + 1, [])
        is_next = place > 1 or (
            place >= 0 and place not in runs
        )  # the nearest one, but of the first two names the last
        is_run = is_next and (after or place == len(names) - 1)
        if is_run and _SOMETHING.search(text, heading.end(), after[0].start() if after else len(text)):
            runs[place] = [heading, *after]
    run = runs.get(0, [])
    ends = [*(heading.start() for heading in run), len(text)][1:]
    return {name: text[one.end() : end].strip() for name, one, end in zip(names, run, ends, strict=False)}
