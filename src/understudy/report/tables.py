"""The report's tables as text in cells; REPORT.md and the terminal only draw them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

METRIC_TITLES: Mapping[str, str] = {
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "mcc": "MCC",
    "f1": "F1",
    "numeric_accuracy": "numeric accuracy",
    "exact_text": "exact text",
    "exact_match": "exact match",
    "token_f1": "token F1",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
    "chrf": "chrF",
    "rationale_rouge_l": "reasoning ROUGE-L",
    "rationale_bleu": "reasoning BLEU",
}


@dataclass(frozen=True, slots=True)
class TextTable:
    """Headings, cells, and which columns hold numbers and stand to the right.

    A line break in a cell is a place where a narrow table may break it; a wide one puts a space there.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[int]


def score_table(report: Mapping[str, Any]) -> TextTable:
    """One line an arm: its rows, its scores, and beside them what it cost. Columns that say nothing are left out."""
    arms: Mapping[str, Any] = report["arms"]
    saving: Mapping[str, Any] = report.get("label_saving", {})
    digits = 2 if any((arm["teacher"]["usd"] or 0) >= 1 for arm in arms.values()) else 4
    columns = {"arm": list(arms)}
    if any(arm["chain"] != [name] for name, arm in arms.items()):
        columns["chain"] = [" > ".join(arm["chain"]) for arm in arms.values()]
    columns["rows"] = [f"{arm['training_rows']:,}" for arm in arms.values()]
    for metric in report["study"]["metrics"]:
        columns[metric_title(metric)] = [with_interval(arm["metrics"][metric]) for arm in arms.values()]
    if saving:
        columns["equal to\ngold rows"] = [_saving(saving.get(name)) for name in arms]
    if any(arm["teacher"]["requests"] for arm in arms.values()):
        columns["teacher\nrequests"] = [_asked(arm["teacher"]) for arm in arms.values()]
        columns["USD"] = [_usd(arm["teacher"], digits) for arm in arms.values()]
    columns["student\ntokens"] = [_trained(arm["student"]) for arm in arms.values()]
    right = {"rows", "teacher\nrequests", "USD", "student\ntokens"}
    return TextTable(
        headings=list(columns),
        rows=list(zip(*columns.values(), strict=True)),
        right=frozenset(i for i, heading in enumerate(columns) if heading in right),
    )


def comparison_table(report: Mapping[str, Any], metric: str) -> TextTable:
    """One line a pair of arms under one metric, with what it says in words."""
    rows = [
        (c["a"], c["b"], signed_text(c["difference"]), _range(c, signed_text), score_text(c["p"]), verdict(c))
        for c in report["comparisons"]
        if c["metric"] == metric
    ]
    return TextTable(("arm", "against", "difference", "95 %", "p", "verdict"), rows, frozenset({2, 4}))


def rows_table(report: Mapping[str, Any]) -> TextTable:
    """One line an arm, and below an arm of several steps one line a step."""
    rows = []
    for name, arm in report["arms"].items():
        rows.append((name, *_row_counts(arm["rows"])))
        if len(arm["steps"]) > 1:
            rows += [(f"{name}: {step['name']}", *_row_counts(step)) for step in arm["steps"]]
    return TextTable(("arm", "in", "made", "kept", "joined", "dropped"), rows, frozenset({1, 2, 3, 4}))


def diversity_table(report: Mapping[str, Any]) -> TextTable:
    """One line an arm whose rows were looked at; no line at all in reports of before that was done."""
    found = {name: arm["diversity"] for name, arm in report["arms"].items() if "diversity" in arm}
    figures = {"unique": "unique inputs", "distinct_1": "distinct-1", "distinct_2": "distinct-2", "nearest": "nearest"}
    shown = [key for key in figures if any(arm[key] is not None for arm in found.values())]
    rows = [
        (name, *("-" if arm[key] is None else score_text(arm[key]) for key in shown), _datasets(arm["datasets"]))
        for name, arm in found.items()
    ]
    headings = ("arm", *(figures[key] for key in shown), "rows come from")
    return TextTable(headings, rows, frozenset(range(1, len(shown) + 1)))


def tasks_table(report: Mapping[str, Any]) -> TextTable:
    """One line an arm whose rows name tasks of their own: how many, and the most frequent names."""
    rows = []
    for name, arm in report["arms"].items():
        if found := arm.get("diversity", {}).get("tasks"):
            most = ", ".join(f"{task} {count:,}" for task, count in found["most"].items())
            rows.append((name, f"{found['rows']:,}", f"{found['names']:,}", most))
    return TextTable(("arm", "rows", "different tasks", "the most frequent"), rows, frozenset({1, 2}))


def inference_table(report: Mapping[str, Any]) -> TextTable:
    """One line an arm whose students write in turns: how many, and why they stopped."""
    found = {name: arm["inference"] for name, arm in report["arms"].items() if "inference" in arm}
    others = list(dict.fromkeys(why for arm in found.values() for why in arm["stopped"] if why != "cap"))
    rows = []
    for name, arm in found.items():
        total = max(1, sum(arm["stopped"].values()))
        shares = (score_text(arm["stopped"].get(why, 0) / total) for why in others)
        rows.append((name, f"{arm['rounds']:.2f}", score_text(arm["share_capped"]), *shares))
    headings = ("arm", "rounds", "cap", *others)
    return TextTable(headings, rows, frozenset(range(1, len(headings))))


def verdict(comparison: Mapping[str, Any]) -> str:
    """``higher`` or ``lower`` where the 95 % interval leaves out no difference."""
    if comparison["low"] > 0:
        return "higher"
    return "lower" if comparison["high"] < 0 else "no difference shown"


def metric_title(metric: str) -> str:
    """A metric's name as a person writes it."""
    return METRIC_TITLES.get(metric, metric)


def score_text(score: float) -> str:
    """``.884``, ``1.000``, ``-.012``."""
    text = f"{score:.3f}"
    return ".000" if text == "-0.000" else text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


def signed_text(score: float) -> str:
    """``+.072``, ``-.012``, ``.000``."""
    text = score_text(score)
    return text if text == ".000" or text.startswith("-") else f"+{text}"


def short_number(count: int) -> str:
    """``812``, ``12.3k``, ``1.2M``: three digits are enough beside a score."""
    for size, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return str(count)


def with_interval(metric: Mapping[str, Any]) -> str:
    """A score, its interval, and whether that holds chance or lies below it."""
    mark = "\nat chance" if metric["at_chance"] else "\nbelow chance" if metric.get("below_chance") else ""
    return f"{score_text(metric['mean'])}\n{_range(metric, score_text)}{mark}"


def _range(found: Mapping[str, Any], text: Callable[[float], str]) -> str:
    return f"[{text(found['low'])}, {text(found['high'])}]"


def _saving(saving: Mapping[str, Any] | None) -> str:
    if saving is None:
        return "-"
    bound = "" if saving["relation"] == "=" else saving["relation"] + " "
    times = f"\n({saving['rows'] / saving['gold_rows']:.1f} x {saving['gold_rows']:,})" if saving["gold_rows"] else ""
    return f"{bound}{saving['rows']:,}{times}"


def _asked(teacher: Mapping[str, Any]) -> str:
    if not teacher["requests"]:
        return "-"
    tokens = (teacher["prompt_tokens"] or 0) + (teacher["completion_tokens"] or 0)
    return f"{teacher['requests']:,}" + (f"\n({short_number(tokens)})" if tokens else "")


def _usd(teacher: Mapping[str, Any], digits: int) -> str:
    if not teacher["requests"]:
        return "-"
    return "no price" if teacher["usd"] is None else f"{teacher['usd']:,.{digits}f}"


def _trained(student: Mapping[str, Any]) -> str:
    return f"{short_number(student['tokens'])}\nin {student['seconds']:,.0f} s"


def _datasets(shares: Mapping[str, float]) -> str:
    """The three largest, and how many more there are."""
    told = [f"{name} {share:.0%}" for name, share in list(shares.items())[:3]]
    return ", ".join(told + [f"{len(shares) - 3:,} more"] * (len(shares) > 3)) or "-"


def _row_counts(rows: Mapping[str, Any]) -> list[str]:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in rows["dropped"].items())
    return [f"{rows[name]:,}" for name in ("in", "made", "kept", "joined")] + [reasons or "-"]
