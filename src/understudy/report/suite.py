"""``table.json`` and ``table.md``: models fine-tuned on the tasks of a folder, a line a task, a column a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from understudy.report.markdown import drawn, one_line
from understudy.report.tables import TextTable, metric_title, score_text, signed_text, verdict, with_interval
from understudy.workspace.files import write_atomically


def build_suite(
    name: str, models: Sequence[str], runs: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str], command: str
) -> dict[str, Any]:
    """The table as plain values: ``table.json`` is this dict.

    Args:
        runs: task -> ``{report, split, steps, folder, notes, truncated: {model: n}, heads: {model: n}}``.
        failed: task -> why its run failed.

    Returns:
        ``{suite, models, seeds, command, tasks, mean, differences, failed, notes}``. ``tasks.<task>`` has ``metric``
        (the one of the table), ``metrics.<model>.<metric>`` and ``differences.<model>`` (to the first model, paired) as
        in ``report.json``; ``heads`` says of how many seeds the head alone was kept. ``mean`` and ``differences`` are
        over the tasks.
    """
    tasks = {task: _task(told, models) for task, told in runs.items()}
    mean = {
        model: _mean([task["metrics"][model][task["metric"]]["mean"] for task in tasks.values()]) for model in models
    }
    seeds = next(iter(runs.values()))["report"]["study"]["seeds"]
    return {
        "suite": name,
        "models": list(models),
        "seeds": seeds,
        "command": command,
        "tasks": tasks,
        "mean": mean,
        "differences": {model: round(mean[model] - mean[models[0]], 6) for model in models[1:]},
        "failed": dict(failed),
        "notes": _notes(runs, failed, seeds),
    }


def _task(told: Mapping[str, Any], models: Sequence[str]) -> dict[str, Any]:
    report = told["report"]
    metric = next(iter(report["study"]["metrics"]))
    arms = {model: report["arms"][model] for model in models}
    return {
        "metric": metric,
        "training_rows": arms[models[0]]["training_rows"],
        "test_rows": report["study"]["test_rows"],
        "split": told["split"],
        "steps": told["steps"],
        "folder": told["folder"],
        "metrics": {model: arm["metrics"] for model, arm in arms.items()},
        "differences": {
            one["a"]: {key: one[key] for key in ("difference", "low", "high", "p")}
            for one in report["comparisons"]
            if (one["metric"], one["b"]) == (metric, models[0])
        },
        "heads": told["heads"],
    }


def _notes(runs: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str], seeds: Sequence[int]) -> list[str]:
    notes = [f"{task} failed, and is not in the mean: {error}" for task, error in failed.items()]
    for task, told in runs.items():
        notes += [f"{task}: {note}" for note in told["notes"]]
        rows = told["report"]["study"]["test_rows"]
        for model, count in told["truncated"].items():
            if count:
                notes.append(f"{task}: {model} cuts {count:,} of {rows:,} test inputs (student.max_length).")
        for arm in list(told["report"]["arms"].values())[:1]:  # all models learn the same rows
            if dropped := arm["rows"]["dropped"]:
                reasons = ", ".join(f"{n:,} {why}" for why, n in dropped.items())
                notes.append(f"{task}: training rows dropped: {reasons}.")
    if len(seeds) == 1:
        notes.append("One seed: the intervals do not know how much training itself varies.")
    return notes


def suite_table(told: Mapping[str, Any]) -> TextTable:
    """One line a task, and the mean over tasks as the last."""
    models = told["models"]
    shown = {
        "task": [*told["tasks"], "mean"],
        "train rows": [f"{task['training_rows']:,}" for task in told["tasks"].values()] + [""],
        "scored on": [f"{task['test_rows']:,} {task['split']}" for task in told["tasks"].values()] + [""],
        "metric": [metric_title(task["metric"]) for task in told["tasks"].values()] + [""],
        "chance": [_chance(task, models[0]) for task in told["tasks"].values()] + [""],
    }
    for model in models:
        cells = [_score(task, model, len(told["seeds"])) for task in told["tasks"].values()]
        shown[model] = [*cells, score_text(told["mean"][model])]
    right = frozenset(i for i, heading in enumerate(shown) if heading in ("train rows", "chance"))
    return TextTable(list(shown), list(zip(*shown.values(), strict=True)), right)


def _chance(task: Mapping[str, Any], model: str) -> str:
    chance = task["metrics"][model][task["metric"]]["chance"]
    return "-" if chance is None else score_text(chance)


def _score(task: Mapping[str, Any], model: str, seeds: int) -> str:
    """The score, its interval, where it stands to chance, and in how many seeds the head alone was kept."""
    text = with_interval(task["metrics"][model][task["metric"]])
    return text + (f"\nhead {task['heads'][model]}/{seeds}" if task["heads"][model] else "")


def suite_differences(told: Mapping[str, Any]) -> TextTable:
    """What every later model scores more than the first, and what that says in words; no line where there is one."""
    first, *others = told["models"]
    rows = [
        (name, *(_difference(task["differences"][model]) for model in others)) for name, task in told["tasks"].items()
    ]
    rows.append(("mean", *(signed_text(told["differences"][model]) for model in others)))
    return TextTable((f"against {first}", *others), rows if others else [], frozenset())


def _difference(found: Mapping[str, Any]) -> str:
    """The difference, its interval and the verdict."""
    between = f"[{signed_text(found['low'])}, {signed_text(found['high'])}]"
    return f"{signed_text(found['difference'])}\n{between}\n{verdict(found)}"


def suite_to_markdown(told: Mapping[str, Any]) -> str:
    """The whole of table.md."""
    tasks, seeds = len(told["tasks"]), len(told["seeds"])
    parts = [
        f"# Fine-tuned on {one_line(told['suite'])}",
        f"{tasks} {'task' if tasks == 1 else 'tasks'}, {seeds} {'seed' if seeds == 1 else 'seeds'}.",
        drawn(suite_table(told)),
        "*Scores*: mean over the seeds with a 95 % bootstrap interval over rows and seeds. *Chance*: the best answer "
        "that is the same for every row. *head n/m*: in so many seeds the tuned network was not better on rows held "
        "back than a head on the untouched encoder, which was kept. *Mean*: of the tasks' metrics, each counted once.",
    ]
    if len(told["models"]) > 1:
        parts += [
            drawn(suite_differences(told)),
            "*Differences*: paired, the same rows and seeds are drawn for both models. Of pairs that do not differ, "
            "about one in twenty still shows a difference.",
        ]
    if told["notes"]:
        parts += ["## Notes", "\n".join(f"- {one_line(note)}" for note in told["notes"])]
    if told["command"]:
        parts += ["## Make it again", f"```\n{told['command']}\n```"]
    parts.append("Every task has a run folder of its own, with its whole report, beside this file.")
    return "\n\n".join(parts) + "\n"


def write_suite(folder: str | Path, told: Mapping[str, Any]) -> None:
    """Write ``table.json`` and ``table.md``, each whole or not at all."""
    folder = Path(folder)
    content = orjson.dumps(dict(told), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    write_atomically(folder / "table.json", content)
    write_atomically(folder / "table.md", suite_to_markdown(told).encode())


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 6)
