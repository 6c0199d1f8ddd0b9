"""Lines of text through sentences, shuffle and groups: what it takes in memory when the corpus grows tenfold.

No rival: a shuffle in memory cannot take what this is for. A file of generated lines (one sentence each, some two) is
read, split, shuffled on disk and grouped by fives, once with N lines and once with ten times as many, each in a process
of its own, whose peak of resident memory counts. Each process checks that every sentence came out once.

    python benchmarks/corpus.py [--quick] [--lines 1000000] [--folder /a/disk/with/room]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from understudy.corpus import groups, sentences, shuffled
from understudy.records import Example

GROWTH_GOAL = 1.1
TIMES = 10


def write(file: Path, lines: int) -> int:
    """How many sentences there are in the lines."""
    draw = random.Random(0)
    words = ["".join(draw.choices("aeioubdklmnrst", k=draw.randint(2, 9))) for _ in range(5000)]
    some = [" ".join(draw.choices(words, k=draw.randint(4, 30))).capitalize() for _ in range(20_000)]
    two = 0
    with file.open("w", encoding="utf-8") as stream:
        for number in range(lines):
            stream.write(f"{some[number % len(some)]} {number}.")
            if number % 4 == 0:
                stream.write(" And so on.")
                two += 1
            stream.write("\n")
    return lines + two


def stream(file: Path, folder: Path) -> dict[str, float]:
    """Seconds, sentences, and the peak of resident memory in MiB."""
    began = time.perf_counter()
    rows = (row for row in groups(shuffled(sentences(file), 0, folder)) if isinstance(row, Example))
    seen = sum(len(row.parents) for row in rows)
    return {"seconds": time.perf_counter() - began, "sentences": seen, "peak": peak_mib()}


def peak_mib() -> float:
    """Of this process alone: the other figure also counts what its parent held when it began."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def measured(lines: int, folder: Path) -> float:
    """Print a line of the table; the peak in MiB."""
    file = folder / "lines.txt"
    expected = write(file, lines)
    command = [sys.executable, __file__, "--stream", str(file), "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    file.unlink()
    if done.returncode:
        raise SystemExit(done.stderr)
    told = json.loads(done.stdout)
    assert told["sentences"] == expected, f"{told['sentences']} of {expected} sentences came out"
    print(f"{lines:12,} {expected:12,} {lines / told['seconds']:15,.0f} {told['peak']:15.1f}", flush=True)
    return told["peak"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100,000 lines and a million: about a minute")
    parser.add_argument("--lines", type=int, default=1_000_000, help="and then ten times as many (1,000,000)")
    parser.add_argument("--folder", type=Path, help="where lines and buckets lie: 350 bytes a line (a temporary one)")
    parser.add_argument("--stream", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.stream:
        print(json.dumps(stream(told.stream, told.folder)))
        return
    lines = 100_000 if told.quick else told.lines
    print(f"Python {platform.python_version()}, sentencex {version('sentencex')}; load {os.getloadavg()[0]:.1f} before")
    print(f"{'lines':>12} {'sentences':>12} {'lines a second':>15} {'peak, MiB':>15}", flush=True)
    with tempfile.TemporaryDirectory(dir=told.folder) as folder:
        small, large = (measured(count, Path(folder)) for count in (lines, TIMES * lines))
    growth = large / small
    print(json.dumps({"figures": {"peak memory, ten times the lines": {
        "value": round(growth, 3), "goal": GROWTH_GOAL, "holds": growth <= GROWTH_GOAL, "unit": "x that of N lines",
    }}}))  # fmt: skip


if __name__ == "__main__":
    main()
