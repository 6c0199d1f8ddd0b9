"""The clients that the benchmark measures, each in a process of its own: one JSON line of what it took.

    python benchmarks/loopback/clients.py bare --url http://127.0.0.1:8000 --rows 20000 --concurrency 64 --folder out

All ask the same questions in the same words and read the same number out of every answer. ``ours`` keeps every reply
in a ledger; the others write one line of JSON a reply. Each first warms up with as many requests as may be in flight;
the clock runs from then until the last row is there, the CPU time until everything is closed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

One: TypeAlias = Callable[[dict[str, Any]], Awaitable[str]]  # posts one request: the text of its answer
Errors: TypeAlias = tuple[type[Exception], ...]
Dumps: TypeAlias = Callable[[Any], str]

MODEL = "loopback-1"
TASK = (
    "You keep the books of a small depot. Read the note about what came in, write two or three plain sentences about "
    "it that someone who was not there can understand, and repeat the number of the item in the last of them, so that "
    "your answer can be filed under it later.\n\nNote: "
)
ALWAYS = {"impossible": (400, "bad_request"), "hopeless": (500, "server_error")}
"""A word in a note -> the status that it always meets, and the reason with which our engine has to drop the row."""

UNREADABLE = ("cut_off", "not_json", "not_the_form")
"""Why ours drops a row whose answer under a schema was unreadable, and that to the repair too."""

_NUMBER = re.compile(r"under its number, which is (\d+)\.")


def note(number: int, always: int) -> str:
    """The text of a row; one of ``always`` rows can never be answered (0: all can)."""
    words = ""
    if always and number % always == always - 1:
        words = " It is impossible." if number // always % 2 else " It is hopeless."
    return f"item {number} came in at the back door.{words}"


def must_be(number: int, always: int) -> str:
    """What has to become of a row: ``right``, or the reason for which it is dropped."""
    text = note(number, always)
    return next((reason for word, (_, reason) in ALWAYS.items() if word in text), "right")


def warm_up(told: argparse.Namespace) -> range:
    """The rows before those that count."""
    return range(told.rows, told.rows + told.concurrency)


def number_in(reply: str) -> int | None:
    """The number that an answer names."""
    found = _NUMBER.search(reply)
    return int(found[1]) if found else None


@dataclass
class Taken:
    """What a run took and what came of it."""

    always: int
    outcomes: Counter[str] = field(default_factory=Counter)  # "right", "wrong", or the reason of a drop
    as_must_be: int = 0  # rows that are right, or dropped with the very reason that they have to have
    last: int = -1
    undurable: int = 0  # the most replies that were ever here and not durable, where they were counted
    disordered: int = 0  # rows that came twice or out of order; only ours promises an order
    seconds: float = 0.0
    cpu_s: float = 0.0
    began: tuple[float, float] = (0.0, 0.0)

    def begin(self) -> None:
        """Warmed up: start the clocks."""
        self.began = (time.perf_counter(), _cpu_s())

    def row(self, number: int, outcome: str) -> None:
        self.outcomes[outcome] += 1
        must = must_be(number, self.always) if self.always else "right"
        self.as_must_be += outcome == must or (must == "right" and outcome in UNREADABLE)
        self.disordered += number <= self.last
        self.last = number

    def all_here(self) -> None:
        """The last row came."""
        self.seconds = time.perf_counter() - self.began[0]

    def closed(self) -> None:
        self.cpu_s = _cpu_s() - self.began[1]


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak_mb() -> float:
    """The most memory that this process held. What getrusage says would count the parent's before exec too."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def count_undurable(taken: Taken) -> None:
    """Have the replies of ours counted that are here, to the last byte, and not durable yet."""
    from understudy.teachers.backends.connection import Connection
    from understudy.teachers.engine.keeper import Keeper

    now, complete, keep = 0, Connection.on_message_complete, Keeper.keep

    def count(more: int) -> None:
        nonlocal now
        now += more
        taken.undurable = max(taken.undurable, now)

    def counted(connection: Any) -> None:
        count(1)
        complete(connection)

    def kept(keeper: Any, write: Any) -> Any:
        durable = keep(keeper, write)
        durable.add_done_callback(lambda _: count(-1))
        return durable

    setattr(Connection, "on_message_complete", counted)  # noqa: B010  pyright would have the very names of arguments
    setattr(Keeper, "keep", kept)  # noqa: B010


def ours(told: argparse.Namespace, taken: Taken) -> None:
    from pydantic import BaseModel

    from understudy.errors import ParseError
    from understudy.prompts import Prompt
    from understudy.records import Dropped, Example
    from understudy.teachers import Ledger, ask, open_teacher

    def examples(numbers: range, always: int) -> Iterator[Example]:
        return (Example(id=str(number), input=note(number, always)) for number in numbers)

    class Item(BaseModel):
        number: int
        text: str

    def parse(example: Example, reply: str) -> Example:
        number = number_in(reply)
        if number is None:
            raise ParseError("no_number", reply)
        return example.replace(target=str(number))

    def take(example: Example, item: Item) -> Example:
        return example.replace(target=str(item.number))

    prompt = Prompt("bench", TASK + "{{ example.input }}").bind()
    settings: dict[str, Any] = {
        "model": MODEL,
        "base_url": f"{told.url}/v1",
        "concurrency": told.concurrency,
        "timeout_s": told.timeout_s,
    }
    if told.count_undurable:
        count_undurable(taken)
    if told.retries is not None:
        settings["retries"] = told.retries
    with Ledger.open(told.folder / "ledger.sqlite3") as ledger, open_teacher(settings, ledger) as teacher:
        for _ in ask(teacher, examples(warm_up(told), 0), prompt, parse):
            pass
        taken.begin()
        rows = examples(range(told.rows), told.always)
        asked = ask(teacher, rows, prompt, take, form=Item) if told.form else ask(teacher, rows, prompt, parse)
        for row in asked:
            if isinstance(row, Dropped):
                taken.row(int(row.example.id), row.reason)
            else:
                taken.row(int(row.id), "right" if row.id == row.target else "wrong")
        taken.all_here()
    taken.closed()


def question(number: int, always: int) -> dict[str, Any]:
    """The body of a request of the others."""
    return {"model": MODEL, "messages": [{"role": "user", "content": f"{TASK}{note(number, always)}"}]}


async def take(told: argparse.Namespace, taken: Taken, one: One, errors: Errors, dumps: Dumps) -> None:
    """Ask with ``one`` from as many workers as may be in flight, and write a line a reply."""
    numbers = iter(range(told.rows))

    async def work() -> None:
        for number in numbers:
            try:
                reply = await one(question(number, told.always))
            except errors as error:
                taken.row(number, type(error).__name__)
                continue
            lines.write(dumps({"id": number, "input": note(number, told.always), "reply": reply}) + "\n")
            taken.row(number, "right" if number_in(reply) == number else "wrong")

    with (told.folder / "replies.jsonl").open("w", encoding="utf-8") as lines:
        await asyncio.gather(*(one(question(number, 0)) for number in warm_up(told)), return_exceptions=True)
        taken.begin()
        await asyncio.gather(*(work() for _ in range(told.concurrency)))
    taken.all_here()


async def _bare(told: argparse.Namespace, taken: Taken, dumps: Dumps, loads: Callable[[Any], Any]) -> None:
    import aiohttp

    url = f"{told.url}/v1/chat/completions"

    async def one(asked: dict[str, Any]) -> str:
        async with session.post(url, json=asked) as response:
            response.raise_for_status()
            return (await response.json(loads=loads))["choices"][0]["message"]["content"]

    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=told.timeout_s),
        json_serialize=dumps,
    ) as session:
        await take(told, taken, one, (aiohttp.ClientError, TimeoutError, ValueError), dumps)
    taken.closed()


def bare(told: argparse.Namespace, taken: Taken) -> None:
    asyncio.run(_bare(told, taken, json.dumps, json.loads))


def bare_uvloop(told: argparse.Namespace, taken: Taken) -> None:
    import orjson
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_bare(told, taken, lambda value: orjson.dumps(value).decode(), orjson.loads))


async def _openai(told: argparse.Namespace, taken: Taken) -> None:
    from openai import AsyncOpenAI, DefaultAioHttpClient, OpenAIError

    async def one(asked: dict[str, Any]) -> str:
        completion = await client.chat.completions.create(**asked)
        return completion.choices[0].message.content or ""

    async with AsyncOpenAI(
        base_url=f"{told.url}/v1", api_key="none", timeout=told.timeout_s, http_client=DefaultAioHttpClient()
    ) as client:
        await take(told, taken, one, (OpenAIError, ValueError), json.dumps)
    taken.closed()


def openai(told: argparse.Namespace, taken: Taken) -> None:
    asyncio.run(_openai(told, taken))


CLIENTS = {"ours": ours, "bare": bare, "bare_uvloop": bare_uvloop, "openai": openai}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("--url", required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="where the ledger or the lines go")
    parser.add_argument("--timeout-s", type=float, default=120.0)
    parser.add_argument("--retries", type=int, help="of ours; by default its own default")
    parser.add_argument("--form", action="store_true", help="ours: ask for replies under a schema")
    parser.add_argument("--count-undurable", action="store_true", help="ours: count what is here and not durable")
    parser.add_argument("--always", type=int, default=0, help="one of so many rows can never be answered")
    told = parser.parse_args()
    taken = Taken(told.always)
    CLIENTS[told.client](told, taken)
    print(
        json.dumps(
            {
                "rows": taken.outcomes.total(),
                "as_must_be": taken.as_must_be,
                "disordered": taken.disordered,
                "undurable": taken.undurable,
                "outcomes": dict(taken.outcomes),
                "seconds": taken.seconds,
                "cpu_s": taken.cpu_s,
                "peak_mb": _peak_mb(),
            }
        )
    )


if __name__ == "__main__":
    main()
