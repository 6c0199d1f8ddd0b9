"""The teacher engine beside a bare aiohttp loop and the openai client, against one loopback server, in one run.

The bare loop is what one writes in an afternoon: one session, as many workers as may be in flight, one line of JSON a
reply, no retries. The openai client runs on aiohttp, its fastest way. Every measured client is a process of its own;
they take turns, and medians count. Ours keeps every reply in a fresh ledger and holds a slot until it is durable there.

    python benchmarks/engine.py [--quick] [--only speed durable stop start memory ledger faults]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from loopback.bench import (
    Bench,
    Taken,
    beside,
    cpu_ms,
    finished,
    others_cpu_s,
    peak_mb,
    rate,
    served,
    server_ms,
    stolen_cpu_s,
    time_a_synced_write,
)
from loopback.clients import ALWAYS

NAMES = {"ours": "ours", "bare": "bare aiohttp", "bare_uvloop": "aiohttp, uvloop, orjson", "openai": "openai client"}
FEWER = {"openai": 10}  # it gets this part of the rows: its rate is the same and the run shorter
FAULTS = {  # shares of the requests
    "too_many": 0.015, "too_many_wait": 0.005, "error": 0.015, "dropped": 0.015,
    "cut_off": 0.05, "no_json": 0.01, "silent": 0.01, "drip": 0.005, "drip_s": 0.001,
}  # fmt: skip
NEVER = 67  # one of so many rows can never be answered


def take_turns(
    bench: Bench, clients: Sequence[str], rows: int, concurrency: int, latency_ms: float
) -> dict[str, list[Taken]]:
    """Measure each client ``bench.repeat`` times, in turns and every other round the other way around."""
    took: dict[str, list[Taken]] = {client: [] for client in clients}
    for number in range(bench.repeat):
        for client in clients if number % 2 == 0 else reversed(clients):
            some = max(concurrency * 2, rows // FEWER.get(client, 1))
            took[client].append(bench.measure(client, some, concurrency, latency_ms=latency_ms))
            bench.synced_ms.append(time_a_synced_write(bench.folder))
    return took


def speed(bench: Bench) -> None:
    """Rows a second and CPU a row with the ledger on."""
    for latency_ms, concurrency, goal in ((0, 64, 0.6), (50, 256, 0.8)):
        at = f"at {latency_ms} ms, {concurrency} in flight"
        print(
            f"\nRows a second {at}, {bench.rows} rows, median of {bench.repeat}; ratios are the medians of each round's"
        )
        began, busy, stolen = time.monotonic(), others_cpu_s(), stolen_cpu_s()
        took = take_turns(bench, list(NAMES), bench.rows, concurrency, latency_ms)
        others = others_cpu_s() - busy - sum(one["server"]["cpu_s"] for runs in took.values() for one in runs)
        print("                            rows/s   x bare   CPU ms a row   x bare   server's CPU ms a row")
        faster = {client: beside(rate, runs, took["bare"]) for client, runs in took.items()}
        dearer = {client: beside(cpu_ms, runs, took["bare"]) for client, runs in took.items()}
        for client, runs in took.items():
            a, b, c = rate(runs), cpu_ms(runs), server_ms(runs)
            print(f"  {NAMES[client]:24} {a:7.0f} {faster[client]:8.3f} {b:14.3f} {dearer[client]:8.2f} {c:23.3f}")
        share, host = others / (time.monotonic() - began), (stolen_cpu_s() - stolen) / (time.monotonic() - began)
        print(
            f"  other programs had {share:.2f} CPUs meanwhile, other machines on the same host {host:.2f}"
            + "; rates mean little where they disturb" * (share + host > 0.2)
        )
        bench.figure(f"rows a second {at}", faster["ours"], goal, "x bare aiohttp")
        if latency_ms:
            bench.figure(f"CPU a row {at}", dearer["ours"], 1.4, "x bare aiohttp", at_most=True)
        else:
            bench.figure(f"CPU a row {at}", cpu_ms(took["ours"]), 0.25, "ms", at_most=True)
        lead = min(cpu_ms(took[client]) / server_ms(took[client]) for client in ("ours", "bare"))
        bench.figure(f"CPU a row over the server's {at}", lead, 4, "x")
    patience(bench)
    least, middle, most = min(bench.synced_ms), statistics.median(bench.synced_ms), max(bench.synced_ms)
    print(f"  a synced write of 64 kB took {middle:.1f} ms in the median, {least:.1f} to {most:.1f} between the turns")


def patience(bench: Bench) -> None:
    """How much of concurrency/latency is reached where the answers take long."""
    latency_ms, concurrency, waves = 500, 256, 10 if bench.quick else 20
    at = f"at {latency_ms} ms, {concurrency} in flight"
    print(f"\nRows a second {at}, {waves * concurrency} rows, median of {bench.repeat}")
    took = take_turns(
        bench, ["ours"] if bench.quick else ["ours", "bare"], waves * concurrency, concurrency, latency_ms
    )
    shares = {client: rate(runs) * latency_ms / 1000 / concurrency for client, runs in took.items()}
    for client, runs in took.items():
        print(f"  {NAMES[client]:24} {rate(runs):7.0f} {shares[client]:8.3f} of concurrency/latency")
    bench.figure(f"rows a second {at}", shares["ours"], 0.95, "of concurrency/latency")


def durable(bench: Bench) -> None:
    """The most replies that were received and not durable, counted in our own process at both ends."""
    concurrency = 256
    print(f"\nReplies that were received and not durable, at 50 ms, {concurrency} in flight, {bench.rows} rows")
    bench.tell("set", latency_ms=50)
    took = bench.all_right(bench.start("ours", bench.rows, concurrency, bench.fresh(), "--count-undurable"), bench.rows)
    bench.figure("most replies received and not durable", took["undurable"], concurrency, "replies", at_most=True)


def stop(bench: Bench) -> None:
    """Ctrl-C, once and twice, while everything in flight hangs: the worst of several times, and what is kept."""
    times, concurrency = 3 if bench.quick else 10, 64
    print(f"\nSeconds from Ctrl-C to the end of the process, {concurrency} in flight that never come, worst of {times}")
    for what, presses, goal in (("once", 1, 2.0), ("twice, from the second", 2, 1.0)):
        took = []
        for _ in range(times):
            folder = bench.fresh()
            bench.tell("set", latency_ms=20)
            client = bench.start("ours", 100_000, concurrency, folder, stderr=subprocess.DEVNULL)
            while bench.tell("stats")["answered"] < 10 * concurrency:
                time.sleep(0.02)
            bench.tell("set", silent=1.0)  # whatever is asked from now on
            time.sleep(0.5)
            kept = in_ledger(folder)
            if presses == 2:
                client.send_signal(signal.SIGINT)
                time.sleep(0.5)
            began = time.monotonic()
            client.send_signal(signal.SIGINT)
            client.wait(timeout=60)
            took.append(time.monotonic() - began)
            if client.returncode == 0 or in_ledger(folder) != kept:
                raise SystemExit(f"Ctrl-C {what}: {client.returncode}, {in_ledger(folder)} of {kept} replies are kept")
        print(f"  {what}: median {statistics.median(took):.2f}, worst {max(took):.2f}")
        bench.figure(f"Ctrl-C {what}", max(took), goal, "s", at_most=True)


def in_ledger(folder: Path) -> int:
    """The replies in the ledger as another process sees them."""
    with closing(sqlite3.connect(f"file:{folder / 'ledger.sqlite3'}?mode=ro", uri=True)) as ledger:
        return ledger.execute("SELECT count(*) FROM replies").fetchone()[0]


def start(bench: Bench) -> None:
    """Seconds from the start of the process to the first request at the server."""
    rounds = 2 if bench.quick else 2 * bench.repeat + 1
    print(f"\nSeconds to the first request, median of {rounds}")
    seconds: dict[str, list[float]] = {"ours": [], "bare": [], "openai": []}
    for _ in range(rounds):
        for client, runs in seconds.items():
            folder = bench.fresh()
            began = time.time()
            took = bench.measure(client, 1, 1, folder=folder)
            runs.append(took["server"]["first_request"] - began)
    for client, runs in seconds.items():
        print(f"  {NAMES[client]:24} {statistics.median(runs):7.2f}")
    bench.figure("start to the first request", statistics.median(seconds["ours"]), 0.6, "s", at_most=True)


def memory(bench: Bench) -> None:
    """Peak memory and CPU a row as rows become more."""
    sizes = (1_000, 5_000) if bench.quick else (1_000, 10_000, 100_000)
    print(f"\nPeak memory and CPU a row at 0 ms, 64 in flight, median of {bench.repeat}")
    took: dict[int, list[Taken]] = {rows: [] for rows in sizes}
    for _ in range(bench.repeat):
        for rows, runs in took.items():
            runs.append(bench.measure("ours", rows, 64))
    few, many = sizes[0], sizes[-1]
    for rows, runs in took.items():
        print(f"  {NAMES['ours']:12} {rows:7} rows: {peak_mb(runs):6.1f} MB, {cpu_ms(runs):.3f} ms a row")
    rivals = [bench.measure("bare", many, 64)]
    print(f"  {NAMES['bare']:12} {many:7} rows: {peak_mb(rivals):6.1f} MB, {cpu_ms(rivals):.3f} ms a row")
    more = peak_mb(took[many]) - peak_mb(took[few])
    bench.figure(f"peak memory at {many} rows over that at {few}", more, 40, "MB", at_most=True)
    for rows in sizes[:-1]:
        ratio = cpu_ms(took[many]) / cpu_ms(took[rows])
        bench.figure(f"CPU a row at {many} rows over that at {rows}", ratio, 1.15, "x", at_most=True)


def ledger(bench: Bench) -> None:
    """Everything from the ledger, the prompts rendered again."""
    print(f"\nEverything from the ledger, {bench.rows} rows, median of {bench.repeat}; the others would ask again")
    folder = bench.fresh()
    bench.measure("ours", bench.rows, 64, folder=folder)
    runs = [bench.measure("ours", bench.rows, 64, folder=folder) for _ in range(bench.repeat)]
    if asked := sum(took["server"]["requests"] for took in runs):
        raise SystemExit(f"{asked} rows were asked again that are in the ledger")
    print(f"  {rate(runs):.0f} rows a second, {cpu_ms(runs):.3f} ms of CPU a row, {peak_mb(runs):.0f} MB")
    bench.figure("rows a second from the ledger", rate(runs), 20_000, "rows/s")


def faults(bench: Bench) -> None:
    """Every row right, or dropped with the reason that it must have, and none twice or paid twice."""
    rows = 500 if bench.quick else 3_000
    can = rows - rows // NEVER
    print(f"\nFaults, {rows} rows, of which {can} can be answered, 64 in flight; shares of the requests: {FAULTS}")
    runs = {"ours": ["ours"], "ours, schema": ["ours"], "two of ours": ["ours", "ours"],
            "two of ours, schema": ["ours", "ours"], "bare aiohttp": ["bare"], "openai client": ["openai"]}  # fmt: skip
    if bench.quick:
        del runs["ours"], runs["bare aiohttp"]  # the others say most
    for name, clients in runs.items():
        has_schema = name.endswith("schema")
        broken = {"broken_content": 0.05} if has_schema else {}  # half of the JSON, in a body that is whole
        bench.tell("set", always={word: status for word, (status, _) in ALWAYS.items()}, **FAULTS, **broken)
        folder = bench.fresh()
        extra = ["--always", str(NEVER), "--timeout-s", "3", *(["--retries", "3"] if bench.quick else [])]
        extra += ["--form"] if has_schema else []
        processes = [bench.start(client, rows, 64, folder, *extra) for client in clients]
        took = [finished(process) for process in processes]
        twice = bench.tell("stats")["doubles"]
        for one in took:  # both of two have all rows
            right, others = one["outcomes"].pop("right"), [f"{n} {what}" for what, n in one["outcomes"].items()]
            print(f"  {name:19} {right:5} right, {can - right:4} lost, {twice:4} paid twice, {one['seconds']:5.1f} s; "
                  f"others: {', '.join(others)}", flush=True)  # fmt: skip
        if clients[0] == "ours":
            share = min((one["as_must_be"] - one["disordered"]) / rows for one in took)
            what = "under faults" + name.removeprefix("ours").replace("two of ours", ", two processes on one ledger")
            what += " and 5 % malformed JSON under it" * has_schema
            bench.figure(f"right or dropped with the right reason {what}", share, 1.0, "of all rows")
            bench.figure(f"paid twice {what}", twice, 0, "rows", at_most=True)


PARTS = {
    "speed": speed, "durable": durable, "stop": stop, "start": start, "memory": memory, "ledger": ledger,
    "faults": faults,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rows, one round: under a minute")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts")
    parser.add_argument("--rows", type=int, help="rows of a run (20000; 2000 with --quick)")
    parser.add_argument("--repeat", type=int, help="rounds (3; 1 with --quick)")
    told = parser.parse_args()
    rows, repeat = (2_000, 1) if told.quick else (20_000, 3)
    versions = ", ".join(f"{name} {version(name)}" for name in ("aiohttp", "openai", "uvloop", "orjson"))
    print(
        f"Python {platform.python_version()}, {versions}; {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} before"
    )
    with tempfile.TemporaryDirectory() as folder, served() as url:
        bench = Bench(url, Path(folder), told.rows or rows, told.repeat or repeat, told.quick)
        for name in told.only:
            began = time.monotonic()
            PARTS[name](bench)
            print(f"  ({name}: {time.monotonic() - began:.0f} s)", flush=True)
    print(json.dumps({"figures": bench.figures}))


if __name__ == "__main__":
    main()
