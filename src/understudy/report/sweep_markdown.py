"""``SWEEP.md``: a sweep as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.report.markdown import PARAGRAPH, drawn, heading, one_line
from understudy.report.sweep_tables import (
    sweep_differences,
    sweep_dropped,
    sweep_rows,
    sweep_savings,
    sweep_scores,
)
from understudy.report.tables import metric_title


def sweep_to_markdown(sweep: Mapping[str, Any], picture: str | None) -> str:
    """The whole of SWEEP.md.

    Args:
        picture: the file name of the picture, where there is one.
    """
    study = sweep["study"]
    keys = list(sweep["keys"])
    parts = [
        f"# {one_line(study['name'])} over {keys[0]}",
        f"> {one_line(study['instruction'].split(PARAGRAPH)[0])}",
        _setting(sweep),
        f"![{_pictured(sweep)}]({picture})" if picture else "",
    ]
    for metric in study["metrics"]:
        parts += [f"## {heading(metric_title(metric))}", drawn(sweep_scores(sweep, metric))]
        if (differences := sweep_differences(sweep, metric)).rows:
            parts += ["Against the first arm at the same value:", drawn(differences)]
    parts += [_reading(sweep)]
    parts += _savings(sweep)
    parts += ["## Training rows", drawn(sweep_rows(sweep))]
    dropped = sweep_dropped(sweep)
    parts += ["## Dropped rows", drawn(dropped) if dropped.rows else "No row was dropped."]
    if sweep["notes"]:
        parts += ["## Notes", "\n".join(f"- {one_line(note)}" for note in sweep["notes"])]
    if study["command"]:
        parts += ["## Make it again", f"```\n{study['command']}\n```"]
    parts += ["Every value has a run folder of its own, with its whole report, beside this file."]
    return "\n\n".join(part for part in parts if part) + "\n"


def _setting(sweep: Mapping[str, Any]) -> str:
    study, (first, *others) = sweep["study"], sweep["keys"]
    text = f"A column is a value of `{first}`" + (", with its gold rows." if sweep["sets_gold_rows"] else ".")
    for key in others:
        text += f" `{key}`: {', '.join(map(one_line, sweep['keys'][key]))}."
    text += f" {study['test_rows']:,} test rows."
    for name in ("teachers", "students"):
        if study[name]:
            text += f" {name[:-1].capitalize()}: {'; '.join(map(one_line, study[name]))}."
    return f"{text} Equal for every arm of a run: {one_line(study['fair'])}." if study["fair"] else text


def _pictured(sweep: Mapping[str, Any]) -> str:
    against = "gold rows" if sweep["sets_gold_rows"] else next(iter(sweep["keys"]))
    return f"{metric_title(sweep['study']['metrics'][0])} of every arm against {against}"


def _reading(sweep: Mapping[str, Any]) -> str:
    if max(point["runs"] for point in sweep["points"]) > 1:
        return (
            "*Scores and differences*: the mean over the runs with that value, and each run's own. Nothing says that "
            "what the runs differ in was drawn at random, so no interval is made over them. Each has its own report."
        )
    return (
        "*Scores*: mean over the seeds with a 95 % bootstrap interval over rows and seeds. *Differences*: the same "
        "rows and seeds are drawn for both arms. Of pairs that do not differ, about one in twenty still shows a "
        "difference."
    )


def _savings(sweep: Mapping[str, Any]) -> list[str]:
    table = sweep_savings(sweep)
    if not table.rows:
        return []
    return [
        "## Label saving",
        f"The student that learns from gold rows only has the same {metric_title(sweep['study']['metrics'][0])}",
        drawn(table),
        "read off straight lines over log(rows) between the means of the gold-only arms; nothing is said beyond the "
        "sizes that were measured.",
    ]
