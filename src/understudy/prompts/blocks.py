"""Blocks of text in a reply: between tags that are named like fields, or after lines that begin with a field's name."""

from __future__ import annotations

import re
from functools import lru_cache

from understudy.errors import ParseError
from understudy.prompts.loose_json import short


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
    headings = [
        found
        for found in is_heading.finditer(text)
        if found["colon"] or (found["end"] is not None and ("#" in found["before"] or "**" in found["before"]))
    ]
    ends = [*(heading.start() for heading in headings), len(text)][1:]
    for heading, end in zip(headings, ends, strict=True):
        blocks.setdefault(plain(heading["name"]), []).append(text[heading.end() : end].strip())
    return blocks


def read_blocks(text: str, names: tuple[str, ...]) -> dict[str, str]:
    """The text after each heading, by name; of several blocks with one heading the last that holds something.

    Raises:
        ParseError: ``no_blocks`` where there is none at all, else ``no_<name>`` for the first that is missing or empty.
    """
    found = headed(text, signs(names)[1])
    blocks = {name: next(filter(None, reversed(found.get(plain(name), ()))), "") for name in names}
    if lacking := [name for name in names if not blocks[name]]:
        reason = "no_blocks" if len(lacking) == len(names) else f"no_{lacking[0]}"
        raise ParseError(reason, f"{', '.join(lacking)} missing in {short(text)}")
    return blocks
