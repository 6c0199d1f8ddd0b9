"""``REPORT.md``: the report as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.report.curves import READING_CURVES, ends_table
from understudy.report.pairs import READING_PAIRS, groups_table
from understudy.report.segments import segments_section
from understudy.report.tables import (
    TextTable,
    comparison_table,
    diversity_table,
    inference_table,
    metric_title,
    rows_table,
    score_table,
    tasks_table,
)

PARAGRAPH = "\n\n"


def to_markdown(report: Mapping[str, Any], picture: str | None = None) -> str:
    """The whole of REPORT.md.

    Args:
        picture: the file of the learning curves beside it.
    """
    study = report["study"]
    parts = [
        f"# {one_line(study['name'])}",
        f"> {one_line(study['instruction'].split(PARAGRAPH)[0])}",
        _setting(study),
        drawn(score_table(report)),
        _reading_scores(report),
        *_comparisons(report),
        *_pairs(report),
        *_curves(report, picture),
        "## Rows",
        "in + made = kept + joined + dropped.",
        drawn(rows_table(report)),
        *_diversity(report),
        *_inference(report),
        segments_section(report),
    ]
    if report["notes"]:
        parts += ["## Notes", "\n".join(f"- {one_line(note)}" for note in report["notes"])]
    parts += _again(report)
    return "\n\n".join(part for part in parts if part) + "\n"


def _setting(study: Mapping[str, Any]) -> str:
    seeds = study["seeds"]
    text = f"{study['test_rows']:,} test rows, {len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}."
    for name in ("teachers", "students"):
        if study.get(name):
            text += f" {name[:-1].capitalize()}: {'; '.join(map(one_line, study[name]))}."
    return f"{text} Equal for every arm: {one_line(study['fair'])}" if study["fair"] else text


def _reading_scores(report: Mapping[str, Any]) -> str:
    text = (
        "*Scores*: mean over the seeds with a 95 % bootstrap interval over rows and seeds. *Rows*: what a student "
        "learned from. *Teacher requests* (and their tokens, where known) and *USD*: for those rows. *Student "
        "tokens*: trained on, mean over the seeds. *At chance*: the interval holds what a guess reaches; *below "
        "chance*: all of it is lower."
    )
    if "label_saving" not in report:
        return text
    return (
        f"{text} *Equal to gold rows*: how many gold rows the gold-only student needs for the same "
        f"{metric_title(report['study']['metrics'][0])}, read off straight lines over log(rows) between the gold-only "
        "arms, and how many times the arm's own gold rows that is."
    )


def _comparisons(report: Mapping[str, Any]) -> list[str]:
    if not report["comparisons"]:
        return []
    parts = ["## Comparisons"]
    for metric in report["study"]["metrics"]:
        parts += [f"### {heading(metric_title(metric))}", drawn(comparison_table(report, metric))]
    count = len(report["comparisons"]) // max(1, len(report["study"]["metrics"]))
    caution = " Of pairs that do not differ, about one in twenty still shows a difference." if count > 1 else ""
    return [*parts, f"Paired bootstrap: the same rows and seeds are drawn for both arms; p is two-sided.{caution}"]


def _pairs(report: Mapping[str, Any]) -> list[str]:
    table = groups_table(report)
    return ["## Minimal pairs", READING_PAIRS, drawn(table)] if table.rows else []


def _curves(report: Mapping[str, Any], picture: str | None) -> list[str]:
    table = ends_table(report)
    if not table.rows:
        return []
    shown = [f"![Learning curves]({picture})"] if picture else []
    return ["## Learning curves", *shown, READING_CURVES, drawn(table)]


def _diversity(report: Mapping[str, Any]) -> list[str]:
    table = diversity_table(report)
    if not table.rows:
        return []
    text = (
        "Of the inputs that a student learned from; of texts in segments, the questions. "
        "*Unique inputs*: the share of different ones, whatever their case "
        "and punctuation. *Distinct-1, distinct-2*: different words over all words, different pairs of words over all "
        "pairs."
    )
    if "nearest" in table.headings:
        text += " *Nearest*: mean cosine to the nearest other input, among at most 1,000."
    if any(row[-1].startswith("(none)") or ", (none)" in row[-1] for row in table.rows):
        text += " *(none)*: rows that a teacher wrote, from no dataset."
    tasks = tasks_table(report)
    named = ["Rows that name the task that they are for:", drawn(tasks)] if tasks.rows else []
    return ["## Diversity", f"{text} More rows repeat more: compare arms of about equal rows.", drawn(table), *named]


def _inference(report: Mapping[str, Any]) -> list[str]:
    table = inference_table(report)
    if not table.rows:
        return []
    text = (
        "Of students that write in turns, over test rows and seeds. *Rounds*: mean. The others are shares of the rows, "
        "by why their writing ended. *Cap*: no round was left. *Marker*: the answer was there. *Stalled*: nothing more "
        "was written. *Ended*: one student of the whole text ended it without the answer, or at its longest."
    )
    return ["## How the students wrote", text, drawn(table)]


def _again(report: Mapping[str, Any]) -> list[str]:
    parts = []
    if report["study"]["command"] or report["versions"]:
        parts.append("## Make it again")
    if report["study"]["command"]:
        parts.append(f"```\n{report['study']['command']}\n```")
    if report["versions"]:
        parts.append("With " + ", ".join(f"{name} {version}" for name, version in report["versions"].items()) + ".")
    return parts


def drawn(table: TextTable) -> str:
    """A Markdown table whose source is aligned too."""
    cells = [[one_line(cell).replace("|", "\\|") for cell in row] for row in (table.headings, *table.rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(table.headings))]
    rule = ["-" * (width - 1) + ":" if i in table.right else "-" * width for i, width in enumerate(widths)]
    lines = []
    for row in (cells[0], rule, *cells[1:]):
        padded = (f"{row[i]:{'>' if i in table.right else '<'}{width}}" for i, width in enumerate(widths))
        lines.append("| " + " | ".join(padded) + " |")
    return "\n".join(lines)


def heading(text: str) -> str:
    """With a capital letter."""
    return text[:1].upper() + text[1:]


def one_line(text: str) -> str:
    """Without line breaks."""
    return " ".join(text.split())
