"""JSON as models write it: prose around it, trailing commas, single quotes, comments, quotes and line ends unescaped.

One pass over the text finds where a value and each text in it begin and end, so that what broke off is known, and mends
what models do most. What is still no JSON then goes to json-repair. By itself that would close whatever is open, and so
make a whole value of half a sentence; and the time that it takes can grow with the square of what it reads.
"""

from __future__ import annotations

import json
import re
from string import whitespace
from typing import Any, Literal

from understudy.errors import ParseError

_MAX_DEPTH = 50
_REPAIRABLE = 10_000  # characters a text that json-repair may read

_DECODER = json.JSONDecoder(strict=False)  # line ends need no escape
_PYTHON = {"True": "true", "False": "false", "None": "null"}
_LITERALS = "|".join(("true", "false", "null", *_PYTHON))
_OPENINGS = {
    "{": re.compile(r"""\{(?=\s*+(?:["'“}#]|//|/\*|[^\W\d][\w-]*+\s*+:))"""),
    "[": re.compile(rf"""\[(?=\s*+(?:["'“{{\[\]#\d-]|//|/\*|(?:{_LITERALS})\b))"""),
}
"""What opens a value, and not a remark [such as this one] or a set {1, 2}."""
_CLOSING = {"{": "}", "[": "]"}
_TOKEN = re.compile(r"//|/\*|\.\.\.|[^\W\d]\w*+|\S")
_SIGN_IN_STRING = {quote: re.compile(rf"\\.|{closing}", re.DOTALL) for quote, closing in ('""', "''", "“”")}
_AFTER_KEY = re.compile(r"\s*+:")
_AFTER_VALUE = re.compile(
    rf"""\s*+(?:\Z | [}}\]] | (?:\#|//)[^\n"]*+(?:\n|\Z) | /\*)
    | \s*+,\s*+(?:\Z | ["'“{{\[}}\]\d#…-] | // | /\* | \.\.\. | (?:{_LITERALS})\b | [^\W\d]\w*+\s*+:)
    | \s++["'“]
    | \s*+"\w++"\s*+:""",
    re.VERBOSE,
)
"""What follows a quote that ends a text; before anything else it stands unescaped within the text."""
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_MARK = "\ue000"
_STRAY = re.compile(r"""["'“”`()\\]""")
_TO_ESCAPE = re.compile(r"""\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})|\\'|["\\\x00-\x1f]""")


def json_values(text: str, opening: Literal["{", "["] = "{") -> list[Any]:
    """Every JSON object in ``text``, or with ``[`` every list, that does not stand within another one.

    Raises:
        ParseError: ``cut_off`` where a value never ends; ``not_json`` where quotes or brackets do not match, or where
            none of the values can be read: because of numbers, nesting or characters beyond use, or because some of it
            is only hinted at with "...".
    """
    if not _encodes(text):
        raise ParseError("not_json", f"broken characters in {short(text)}")
    values, position, is_broken, repairable, problem = [], 0, False, _REPAIRABLE, ""
    has_escapes = "\\u" in text
    while start := _OPENINGS[opening].search(text, position):
        value, wrong = None, ""
        try:
            if not is_broken:  # after the first error no more, as each one counts the lines before it
                value, position = _DECODER.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            is_broken = True
        if is_broken:
            source, position, wrong = _mended(text, start.start())
            value, wrong, read = (None, wrong, 0) if wrong else _repaired(source, repairable)
            repairable -= read
        if not wrong and has_escapes:
            wrong = _broken_within(value)
        if wrong:
            problem = f"{wrong} in {short(text[start.start() : position])}"
        else:
            values.append(value)
    if problem and not values:
        raise ParseError("not_json", problem)
    return values


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which could be written nowhere
        return False
    return True


def _broken_within(value: Any) -> str:
    try:
        return "" if _encodes(json.dumps(value, ensure_ascii=False)) else "half a character"
    except RecursionError:
        return "nested too deep"


def _repaired(source: str, repairable: int) -> tuple[Any, str, int]:
    """The value, what is wrong with it, and how many characters json-repair read.

    It sees a mark in place of each text, as it would trim or leave out some; it must not lose a mark.
    """
    import json_repair

    try:
        return _DECODER.decode(source), "", 0
    except json.JSONDecodeError as error:
        texts = {f"{_MARK}{i}": _DECODER.decode(text) for i, text in enumerate(_STRING.findall(source))}
        marks = iter(list(texts))
        skeleton = _STRING.sub(lambda _: f'"{next(marks)}"', source)
        if stray := _STRAY.search(_STRING.sub("", source)):
            return None, f"a stray {stray[0]!r}", 0
        if len(skeleton) > repairable:
            return None, str(error), 0
        value = _unmarked(json_repair.loads(skeleton), texts)
        return value, f"{short(next(iter(texts.values())))} is out of place" if texts else "", len(skeleton)
    except ValueError as error:  # a number of thousands of digits
        return None, str(error), 0


def _unmarked(value: Any, texts: dict[str, str]) -> Any:
    if isinstance(value, str):
        return texts.pop(value, value)
    if isinstance(value, list):
        return [_unmarked(item, texts) for item in value]
    if isinstance(value, dict):
        return {_unmarked(key, texts): _unmarked(item, texts) for key, item in value.items()}
    return value


def _mended(text: str, start: int) -> tuple[str, int, str]:
    """The value that begins at ``start`` with its texts and brackets as JSON has them, its end, and what spoils it.

    Raises:
        ParseError: as ``_endless`` says.
    """
    stack: list[str] = []
    parts: list[str] = []
    done, position, last, comma, wrong = start, start, "", 0, ""
    while token := _TOKEN.search(text, position):
        sign, position, new = token[0], token.end(), None
        if sign in _SIGN_IN_STRING and (sign != "'" or last in ("{", "[", ",", ":")):
            new, position = _string(text, position, sign, is_key=stack[-1] == "{" and last != ":")
        elif sign in _CLOSING:
            wrong = wrong or ("a name is missing" if stack[-1:] == ["{"] and last != ":" else "")
            stack.append(sign)
            wrong = wrong or ("nested too deep" if len(stack) > _MAX_DEPTH else "")
        elif sign in ("}", "]"):
            if last == ",":
                parts[comma] = ""
            new = _close(stack, sign)
            wrong = wrong or ("a value is missing" if last == ":" else "")
        elif sign in ("//", "/*") or (sign == "#" and last != ":"):
            new, position, sign = " ", _end_of_comment(text, position, sign), last
        elif sign in ("...", "…"):
            wrong = wrong or 'something is left out with "..."'
        elif sign == ",":
            new, comma = sign, len(parts) + 1
            wrong = wrong or ("a value is missing" if last == ":" else "")
        elif sign in _PYTHON and last in ("[", ",", ":"):
            new = _PYTHON[sign]
        elif sign[0].isalpha() and stack[-1] == "[" and last in ("[", ",") and sign not in _LITERALS.split("|"):
            wrong = wrong or f"{short(sign)} stands without quotes"
        if new is not None:
            parts += text[done : token.start()], new
            done = position
        if not stack:
            return "".join(parts) + text[done:position], position, wrong
        last = sign
    raise _endless(text, start)


def _endless(text: str, start: int) -> ParseError:
    """``cut_off``, or ``not_json`` where the text ends in a bracket: then it is rather the quotes that do not match."""
    broke_off = not text.rstrip("`" + whitespace).endswith(("}", "]"))
    return ParseError("cut_off" if broke_off else "not_json", f"JSON without an end: {short(text[start:])}")


def _close(stack: list[str], sign: str) -> str:
    """What closes as far as ``sign`` does: also brackets forgotten within; nothing where it closes nothing."""
    opening = "{" if sign == "}" else "["
    if opening not in stack[-3:]:
        return ""
    closing = ""
    while not closing.endswith(sign):
        closing += _CLOSING[stack.pop()]
    return closing


def _string(text: str, start: int, quote: str, *, is_key: bool) -> tuple[str, int]:
    """The text whose first character stands at ``start``, as a JSON string, and where it ends.

    Raises:
        ParseError: as ``_endless`` says.
    """
    after = _AFTER_KEY if is_key else _AFTER_VALUE
    for sign in _SIGN_IN_STRING[quote].finditer(text, start):
        if sign[0][0] != "\\" and after.match(text, sign.end()):
            return f'"{_TO_ESCAPE.sub(_escaped, text[start : sign.start()])}"', sign.end()
    raise _endless(text, start - 1)


def _escaped(match: re.Match[str]) -> str:
    sign = match[0]
    if sign == "\\'":
        return "'"
    return sign if len(sign) > 1 else json.dumps(sign)[1:-1]


def _end_of_comment(text: str, position: int, sign: str) -> int:
    end = text.find("*/" if sign == "/*" else "\n", position)
    return len(text) if end < 0 else end + (2 if sign == "/*" else 0)


def short(text: str, width: int = 60) -> str:
    """``text`` on one line in quotes, cut to ``width``: what an error shows of a reply."""
    text = " ".join(text[: 20 * width].split())
    return repr(text if len(text) <= width else text[: width - 1] + "…")
