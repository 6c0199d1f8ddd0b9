"""``sweep.json``: one study over the values of a key, the contract that scripts read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_GOLD_ROWS = re.compile(r"task\.train(\.\d+)?\.(limit|sample|per_label)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRun:
    """One run of a sweep.

    Attributes:
        values: key -> value, in the order of the keys; what is no number, truth value or null as its text.
        texts: every value as a person writes it.
        folder: the run folder, seen from the sweep's.
        report: its ``report.json``; nothing where it failed.
        error: why it failed, if it did.
    """

    values: Mapping[str, Any]
    texts: Mapping[str, str]
    folder: str
    report: Mapping[str, Any] | None = None
    error: str = ""

    @property
    def text(self) -> str:
        return ", ".join(f"{key}={text}" for key, text in self.texts.items())


def build_sweep(runs: Sequence[SweepRun], command: str = "") -> dict[str, Any]:
    """The report of a sweep as plain values: ``sweep.json`` is this dict.

    ``runs`` has every finished run: what its arms were given, learnt from, lost and scored, with the 95 % intervals of
    its own report, and each arm's difference to the first arm of the same run. ``points`` has one entry for each value
    of the first key: every arm's mean over the runs with that value and each run's own mean. Runs that differ in
    another key are no random sample of anything, so no interval is made over them. ``gold_rows`` of a point, where the
    first key sets them, is what an arm that has no ``task`` of its own was given. ``label_saving`` goes by the first
    metric, and by the points of all arms that are gold-only and train the study's student.

    Raises:
        ValueError: no run is finished.
    """
    done = [run for run in runs if run.report is not None]
    if not done:
        raise ValueError("no run of the sweep is finished")
    keys = list(runs[0].values)
    told = [_run(run) for run in done]
    texts = list(dict.fromkeys(run.texts[keys[0]] for run in runs))
    sets_gold = _GOLD_ROWS.fullmatch(keys[0]) is not None
    points = [_point(text, keys[0], [one for one in told if one["texts"][keys[0]] == text]) for text in texts]
    points = [point for point in points if point["runs"]]
    sweep = {
        "study": _study(done, command),
        "versions": dict(_report(done[0])["versions"]),
        "keys": {key: list(dict.fromkeys(run.texts[key] for run in runs)) for key in keys},
        "sets_gold_rows": sets_gold,
        "points": points,
        "runs": told,
        "failed": [{"texts": dict(run.texts), "error": run.error} for run in runs if run.report is None],
    }
    if sets_gold:
        _add_gold_rows(points)
        _add_label_saving(sweep)
    return sweep | {"notes": _notes(done, sweep)}


def _report(run: SweepRun) -> Mapping[str, Any]:
    assert run.report is not None
    return run.report


def _study(done: Sequence[SweepRun], command: str) -> dict[str, Any]:
    studies = [_report(run)["study"] for run in done]
    same = {key: studies[0][key] for key in ("name", "instruction", "kind", "metrics", "test_rows", "fair")}
    every = {key: list(dict.fromkeys(who for one in studies for who in one[key])) for key in ("teachers", "students")}
    return same | every | {"command": command}


def _run(run: SweepRun) -> dict[str, Any]:
    report = _report(run)
    arms: Mapping[str, Any] = report["arms"]
    firsts = {arm.get("equal", ""): name for name, arm in reversed([*arms.items()])}
    kept = ("chain", "overrides", "continues", "equal", "gold_rows", "training_rows", "metrics")
    return {
        "values": dict(run.values),
        "texts": dict(run.texts),
        "folder": run.folder,
        "seeds": report["study"]["seeds"],
        "arms": {
            name: {key: arm[key] for key in kept if key in arm} | {"dropped": arm["rows"]["dropped"]}
            for name, arm in arms.items()
        },
        "comparisons": [one for one in report["comparisons"] if one["b"] in firsts.values()],
    }


def _point(text: str, key: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for run in runs for name in run["arms"])
    arms = {name: [run["arms"][name] for run in runs if name in run["arms"]] for name in names}
    return {
        "value": runs[0]["values"][key] if runs else None,
        "text": text,
        "runs": len(runs),
        "arms": {name: _mean_arm(found) for name, found in arms.items()},
    }


def _mean_arm(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first = found[0]
    means = {
        metric: [one["metrics"][metric]["mean"] for one in found if metric in one["metrics"]]
        for metric in first["metrics"]
    }
    return {
        **{key: first[key] for key in ("chain", "overrides", "continues", "equal") if key in first},
        "gold_rows": round(_mean([one["gold_rows"] for one in found])),
        "training_rows": round(_mean([one["training_rows"] for one in found])),
        "metrics": {name: {"mean": round(_mean(every), 6), "per_run": every} for name, every in means.items()},
    }


def _add_gold_rows(points: Sequence[dict[str, Any]]) -> None:
    for point in points:
        arms = list(point["arms"].values())
        follow = [arm for arm in arms if "task" not in arm.get("overrides", ())] or arms
        point["gold_rows"] = next((arm for arm in follow if _is_gold_only(arm)), follow[0])["gold_rows"]


def _add_label_saving(sweep: Mapping[str, Any]) -> None:
    from understudy.evaluation.statistics import label_saving

    metric = next(iter(sweep["study"]["metrics"]), None)
    scored = [
        (arm, arm["metrics"][metric]["mean"])
        for point in sweep["points"]
        for arm in point["arms"].values()
        if metric in arm["metrics"] and "student" not in arm.get("overrides", ()) and "continues" not in arm
    ]
    for arm, mean in scored:
        gold = [(one, score) for one, score in scored if _is_gold_only(one) and one.get("equal") == arm.get("equal")]
        found = None if _is_gold_only(arm) else label_saving([(one["gold_rows"], s) for one, s in gold], mean)
        if found is not None:
            text = found.text(arm["gold_rows"])
            arm["label_saving"] = {"metric": metric, "relation": found.relation, "rows": found.rows, "text": text}


def _is_gold_only(arm: Mapping[str, Any]) -> bool:
    return arm["chain"] == ["gold"]


def _notes(done: Sequence[SweepRun], sweep: Mapping[str, Any]) -> list[str]:
    notes = [
        f"{', '.join(f'{key}={text}' for key, text in one['texts'].items())} failed, and is not shown: {one['error']}"
        for one in sweep["failed"]
    ]
    most = max(point["runs"] for point in sweep["points"])
    for point in sweep["points"]:
        if point["runs"] < most:
            notes.append(
                f"at {point['text']} only {point['runs']} of {most} runs are finished, so its means are not over the "
                "same runs as the others'."
            )
    where: dict[str, list[str]] = {}
    for run in done:
        for note in _report(run)["notes"]:
            where.setdefault(note, []).append(" ".join(run.texts.values()))
    notes += [note if len(at) == len(done) else f"at {'; '.join(at)}: {note}" for note, at in where.items()]
    return notes


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
