"""A corpus through a study's steps: read, split into sentences, shuffled on disk, grouped by fives.

No rival: a shuffle in memory cannot take what this is for. A folder of generated lines (one sentence each, some two) is
read and grouped, both as steps of a run folder, once with a tenth of the lines and once with all, each in a process of
its own, whose peak of resident memory counts; how many sentences came out is checked. One more run of the tenth is
killed while it reads, while it splits and while it writes groups, each time begun again in the same folder; in the end
its files must be those of the run that was left alone.

    python benchmarks/corpus.py [--quick] [--lines 10000000] [--folder /a/disk/with/room]
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
from collections.abc import Mapping
from hashlib import file_digest
from importlib.metadata import version
from pathlib import Path
from shutil import rmtree

from understudy.corpus import grouped
from understudy.sources import Source, content_hash, load_corpus
from understudy.task import Fields, Task
from understudy.workspace import Workspace

GROWTH_GOAL = 1.1
TIMES = 10
KILLS = 3
QUICK_LINES = 600_000
FILES = 10
SIZE = 5
TASK = Task(instruction="Write.", kind="pretraining", fields=Fields(input="text", target=None))


def write(folder: Path, lines: int) -> int:
    """How many sentences there are in the lines."""
    draw = random.Random(0)
    words = ["".join(draw.choices("aeioubdklmnrst", k=draw.randint(2, 9))) for _ in range(5000)]
    some = [" ".join(draw.choices(words, k=draw.randint(4, 30))).capitalize() for _ in range(20_000)]
    two = 0
    folder.mkdir()
    for file in range(FILES):
        with (folder / f"{file}.txt").open("w", encoding="utf-8") as stream:
            for number in range(file * lines // FILES, (file + 1) * lines // FILES):
                stream.write(f"{some[number % len(some)]} {number}.")
                if number % 4 == 0:
                    stream.write(" And so on.")
                    two += 1
                stream.write("\n")
    return lines + two


def work(corpus: Path, run: Path) -> Mapping[str, float]:
    """The two steps: seconds of each, rows, sentences, and the peak of resident memory in MiB."""
    source = Source(corpus=(str(corpus),))
    began = time.perf_counter()
    with Workspace(run) as workspace:
        key = content_hash(source)
        read = workspace.step(key, "train", lambda: load_corpus(source, TASK))
        halfway = time.perf_counter()
        groups = workspace.step(
            f"{key}-grouped", "grouped", lambda: grouped(read, size=SIZE, seed=0, folder=run), incoming=read
        )
    ended = time.perf_counter()
    told = {"reading": halfway - began, "grouping": ended - halfway, "rows": len(read), "peak": peak_mib()}
    return told | {
        "sentences": sum(len(row.fields["sentences"]) for row in groups),
        "dropped": sum(groups.taken.dropped.values()),
    }


def peak_mib() -> float:
    """Of this process alone: the other figure also counts what its parent held when it began."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def command(corpus: Path, run: Path) -> list[str]:
    return [sys.executable, __file__, "--work", str(corpus), "--folder", str(run)]


def measured(corpus: Path, run: Path, lines: int, sentences: int) -> float:
    """Print a line of the table; the peak in MiB."""
    done = subprocess.run(command(corpus, run), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    told = json.loads(done.stdout)
    assert told["sentences"] == sentences, f"{told['sentences']} of {sentences} sentences came out"
    speeds = f"{lines / told['reading']:15,.0f} {lines / told['grouping']:15,.0f}"
    print(f"{lines:12,} {told['rows']:10,} {sentences:12,} {speeds} {told['peak']:10.1f}", flush=True)
    return told["peak"]


def killed(corpus: Path, run: Path) -> int:
    """Run to the end, killed at three moments on the way; how many of them did not come too late."""
    in_time = 0
    for moment in ("steps/*.partial", "shuffle/*", "steps/*-grouped.partial/part-*"):
        with subprocess.Popen(command(corpus, run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and not any(run.glob(moment)):
                time.sleep(0.002)
            process.kill()
        in_time += process.returncode != 0
    subprocess.run(command(corpus, run), check=True, stdout=subprocess.DEVNULL)
    return in_time


def rows_of(run: Path) -> dict[str, str]:
    """The digest of every file of rows."""
    found = {}
    for file in sorted(run.glob("steps/*/*.parquet")):
        with file.open("rb") as stream:
            found[str(file.relative_to(run))] = file_digest(stream, "sha256").hexdigest()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="600,000 lines: under a minute")
    parser.add_argument("--lines", type=int, default=10_000_000, help="and a tenth of them before (10,000,000)")
    parser.add_argument("--folder", type=Path, help="where all lies: 1 kB a line (a temporary one)")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.work:
        print(json.dumps(work(told.work, told.folder)))
        return
    lines = QUICK_LINES if told.quick else told.lines
    print(f"Python {platform.python_version()}, sentencex {version('sentencex')}; load {os.getloadavg()[0]:.1f} before")
    print(
        f"{'lines':>12} {'rows':>10} {'sentences':>12} {'read a second':>15} {'grouped':>15} {'peak, MiB':>10}",
        flush=True,
    )
    with tempfile.TemporaryDirectory(dir=told.folder) as name:
        corpus, run, again = (Path(name, part) for part in ("corpus", "run", "again"))
        small = measured(corpus, run, lines // TIMES, write(corpus, lines // TIMES))
        in_time = killed(corpus, again)
        is_same = rows_of(again) == rows_of(run)
        files = f"{len(rows_of(run))} files"
        print(
            f"killed {in_time} times and begun again: {files}, {'the same' if is_same else 'NOT the same'}", flush=True
        )
        for folder in (corpus, run, again):
            rmtree(folder)
        growth = measured(corpus, run, lines, write(corpus, lines)) / small
    print(json.dumps({"figures": {
        "peak memory, ten times the lines": {
            "value": round(growth, 3), "goal": GROWTH_GOAL, "holds": growth <= GROWTH_GOAL, "unit": "x that of a tenth",
        },
        "kills after which the run went on to the same files": {
            "value": in_time * is_same, "goal": KILLS, "holds": is_same and in_time >= KILLS, "unit": "kills",
        },
    }}))  # fmt: skip


if __name__ == "__main__":
    main()
