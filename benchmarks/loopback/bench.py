"""The server and the measured clients as processes, and the figures that come of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
HANGS_S = 900.0  # no run takes so long

Taken = dict[str, Any]
"""What a client says that a run took, and under ``server`` what the server counted meanwhile."""


@dataclass
class Bench:
    """The server, the folder that ledgers and lines go to, and the figures so far."""

    url: str
    folder: Path
    rows: int
    repeat: int
    quick: bool
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    synced_ms: list[float] = field(default_factory=list)
    """What writes took that wait for the disk, as each commit of a ledger does; one after each client's turn."""

    def figure(self, what: str, value: float, goal: float, unit: str, *, at_most: bool = False) -> None:
        """Note a figure; it holds when it is at least, or at most, its goal."""
        holds = value <= goal if at_most else value >= goal
        self.figures[what] = {"value": round(value, 4), "goal": goal, "holds": holds, "unit": unit}
        bound = "at most" if at_most else "at least"
        print(f"  {what}: {value:,.4g} {unit}; goal {bound} {goal:,g}: {'holds' if holds else 'MISSED'}", flush=True)

    def tell(self, what: str, **values: Any) -> Taken:
        """Ask the server for its ``stats``, or ``set`` how it answers, which starts its counters again."""
        body = json.dumps(values).encode() if what == "set" else None
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/{what}", data=body), timeout=10) as reply:
            return json.load(reply)

    def fresh(self) -> Path:
        """An empty folder; those of earlier runs are cleared away."""
        for path in self.folder.iterdir():
            shutil.rmtree(path)
        return Path(tempfile.mkdtemp(dir=self.folder))

    def start(
        self, client: str, rows: int, concurrency: int, folder: Path, *extra: str, stderr: int | None = None
    ) -> subprocess.Popen[str]:
        """Start a client in a process of its own; its ledger or its lines go to ``folder``."""
        asked = {"--url": self.url, "--rows": rows, "--concurrency": concurrency, "--folder": folder}
        command = [sys.executable, str(HERE / "clients.py"), client, *(str(x) for pair in asked.items() for x in pair)]
        return subprocess.Popen(
            [*command, *extra], stdout=subprocess.PIPE, stderr=stderr, text=True, preexec_fn=_hear_ctrl_c
        )

    def measure(
        self, client: str, rows: int, concurrency: int, *, folder: Path | None = None, **behaviour: Any
    ) -> Taken:
        """Run a client to its end against a server that behaves so."""
        self.tell("set", **behaviour)
        return self.all_right(self.start(client, rows, concurrency, folder or self.fresh()), rows)

    def all_right(self, process: subprocess.Popen[str], rows: int) -> Taken:
        """What a client took: its times count only if every answer was right and none was asked for twice."""
        took = {**finished(process), "server": self.tell("stats")}
        if took["as_must_be"] != rows or took["server"]["doubles"]:
            sys.exit(f"not every answer was right, so that the times mean nothing: {process.args} {took}")
        return took


def _hear_ctrl_c() -> None:
    """Also where the benchmark runs in the background, whose programs are told to ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def finished(process: subprocess.Popen[str]) -> Taken:
    """What a client printed when it was done."""
    try:
        said, _ = process.communicate(timeout=HANGS_S)
    except subprocess.TimeoutExpired:
        process.kill()
        sys.exit(f"a client hangs: {process.args}")
    if process.returncode:
        sys.exit(f"a client failed: {process.args}")
    return json.loads(said)


@contextmanager
def served() -> Iterator[str]:
    """The server, in a process of its own; its URL."""
    command = [sys.executable, str(HERE / "server.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def time_a_synced_write(folder: Path, size: int = 65_536) -> float:
    """Milliseconds that a write of ``size`` bytes takes until the disk has it: the median of 11."""
    took = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(11):
            began = time.perf_counter()
            file.write(os.urandom(size))
            os.fsync(file.fileno())
            took.append(1000 * (time.perf_counter() - began))
    return statistics.median(took)


def others_cpu_s() -> float:
    """CPU seconds of all programs but this one and the clients that ended; 0 where the system does not say."""
    try:
        user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split()[1:11])
    except OSError:
        return 0.0
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


def stolen_cpu_s() -> float:
    """CPU seconds that the host gave to other machines; 0 where the system does not say."""
    try:
        return int(Path("/proc/stat").read_text().split()[8]) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


def beside(figure: Callable[[list[Taken]], float], runs: list[Taken], bare: list[Taken]) -> float:
    """The median over the rounds of a figure as a multiple of the bare loop's in the same round."""
    return statistics.median(figure([one]) / figure([other]) for one, other in zip(runs, bare, strict=True))


def rate(runs: list[Taken]) -> float:
    """Median rows a second."""
    return statistics.median(took["rows"] / took["seconds"] for took in runs)


def cpu_ms(runs: list[Taken]) -> float:
    """Median milliseconds of a client's CPU a row."""
    return statistics.median(1000 * took["cpu_s"] / took["rows"] for took in runs)


def server_ms(runs: list[Taken]) -> float:
    """Median milliseconds of the server's CPU a request."""
    return statistics.median(1000 * took["server"]["cpu_s"] / took["server"]["requests"] for took in runs)


def peak_mb(runs: list[Taken]) -> float:
    """Median of the most memory that a client held."""
    return statistics.median(took["peak_mb"] for took in runs)
