"""``report.json``: the contract that scripts read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from understudy.errors import DataError, RowsLost
from understudy.evaluation import RATIONALE, scored
from understudy.records import Example, Prediction, Target
from understudy.report.pairs import beside_chance, interval_values, scores_by_group
from understudy.report.results import ArmResult, RunResults, StudentUse
from understudy.task import CHOOSING_KINDS, Task
from understudy.workspace import Taken

PAIRS_UP_TO = 6
"""Up to so many arms every two are compared; with more, each only with the first."""


def build(results: RunResults) -> dict[str, Any]:
    """The report as plain values: ``report.json`` is this dict.

    A score is ``at_chance`` where its 95 % interval holds ``chance``, what a guess reaches, and ``below_chance``
    where all of the interval is lower. In ``comparisons``, ``a`` is the later arm of the study, ``b`` the earlier
    one, ``difference`` is a less b. ``rows`` of an arm sums its steps: ``in`` of the first, ``kept`` of the last, the
    rest added up. ``diversity`` is that of the inputs of an arm's training rows: ``{unique, distinct_1, distinct_2,
    nearest, datasets: {name: share}}``, as ``curate.diversity`` says; ``nearest`` is null where the encoder is not
    installed, and ``tasks`` is there where rows name some. ``student`` is a mean over the seeds. Arms of students that
    write in turns have ``segments``, what they learnt: ``{beta, score, questions, pieces, share_as, sample:
    [{question, pieces: [{text, score, ratio, tag}]}], histogram: {edges, counts: {es: [n], as: [n]}}}``, and
    ``inference``, how they wrote the answers to the test rows: ``{rounds: mean, stopped: {marker: n, cap: n,
    stalled: n}, share_capped}``, over the seeds. Under kind pretraining arms have ``groups``, ``over_paradigms`` and
    ``ties``, as ``scores_by_group`` says, and where they were measured ``curves``, ``{seed: [{step, tokens, loss,
    accuracy}]}``, the loss in nats a word, and ``perplexity_a_word``, ``{seed: x}``. ``label_saving`` goes by the first
    metric; it is there for arms that are not gold-only themselves and train the study's student, where gold-only arms
    of two sizes trained under the same entry of ``equal``.

    Raises:
        DataError: there are no arms, or they were not all predicted with the same seeds and rows.
        RowsLost: an arm's steps do not add up.
    """
    seeds = _seeds(results.arms)
    report = {
        "study": {
            "name": results.study,
            "instruction": results.task.instruction,
            "kind": results.task.kind,
            "metrics": list(results.task.metric_names),
            "seeds": seeds,
            "test_rows": len(results.test),
            "fair": results.fair,
            "command": results.command,
            "teachers": list(results.teachers),
            "students": list(results.students),
        },
        "versions": dict(sorted(results.versions.items())),
        "arms": {arm.name: _arm(arm, results, seeds) for arm in results.arms},
        "comparisons": _comparisons(results, seeds),
    }
    saving = _label_saving(results.arms, report)
    if saving:
        report["label_saving"] = saving
    report["notes"] = list(dict.fromkeys([*results.notes, *_notes(results, report)]))
    return report


def _seeds(arms: Sequence[ArmResult]) -> list[int]:
    if not arms:
        raise DataError("the study has no arm with results; run it first")
    seeds = sorted(arms[0].predictions)
    for arm in arms:
        if sorted(arm.predictions) != seeds or not seeds:
            raise DataError(
                f"arm {arm.name!r} was predicted with seeds {sorted(arm.predictions)}, arm {arms[0].name!r} with "
                f"{seeds}; a comparison needs the same seeds: run the study again to add the missing ones"
            )
    return seeds


def _arm(arm: ArmResult, results: RunResults, seeds: list[int]) -> dict[str, Any]:
    teacher = arm.teacher
    return {
        "chain": list(arm.chain),
        **({"overrides": list(arm.overrides)} if arm.overrides else {}),
        **({"continues": arm.continues} if arm.continues else {}),
        **({"equal": arm.equal} if arm.equal else {}),
        "gold_rows": arm.gold_rows,
        "training_rows": arm.training_rows,
        "metrics": metrics_of(results.task, results.test, [arm.predictions[seed] for seed in seeds]),
        **(_of_pretraining(arm, results, seeds) if results.task.kind == "pretraining" else {}),
        "rows": _rows_of_arm(arm),
        "steps": [{"name": step.name, **_rows_of_step(step)} for step in arm.steps],
        **({"unlabelled": _rows_of_step(arm.unlabelled)} if arm.unlabelled else {}),
        **({"diversity": dict(arm.diversity)} if arm.diversity else {}),
        **({"segments": dict(arm.segments)} if arm.segments else {}),
        **({"inference": dict(arm.inference)} if arm.inference else {}),
        "teacher": {
            "requests": teacher.requests,
            "from_ledger": teacher.from_ledger,
            "prompt_tokens": teacher.prompt_tokens,
            "completion_tokens": teacher.completion_tokens,
            "usd": teacher.usd,
            **({"written": dict(sorted(teacher.written.items()))} if teacher.written else {}),
        },
        "student": _student(list(arm.students.values())),
    }


def metrics_of(task: Task, test: Sequence[Example], runs: Sequence[Sequence[Prediction]]) -> dict[str, Any]:
    """Each metric of the task over runs on the same test rows, one a seed.

    Returns:
        Metric -> ``{mean, low, high, per_seed, chance, at_chance, below_chance}``.

    Raises:
        DataError: there are no rows or runs, or a run has another number of rows.
    """
    from understudy.evaluation.statistics import chance, interval

    told = {}
    for name in task.metric_names:
        gold, answers = _scored(name, task, test, runs)
        found = interval(name, gold, answers)
        is_choice = task.kind in CHOOSING_KINDS and not name.startswith(RATIONALE)
        by_chance = chance(name, gold, [row.choices for row in test] if is_choice else ())
        told[name] = {
            **interval_values(found),
            "chance": None if by_chance is None else _rounded(by_chance),
            **beside_chance(found, by_chance),
        }
    return told


def _scored(
    metric: str, task: Task, test: Sequence[Example], runs: Sequence[Sequence[Prediction]]
) -> tuple[Sequence[Target], list[Sequence[Target]]]:
    """What the metric compares: the gold answers, and those of each seed.

    Of a minimal pair it is which of the two it is, not the sentence: rows that are alike are counted once, and BLiMP
    has 67,000 different ones.
    """
    if task.kind == "pretraining":
        return ["good"] * len(test), [_sides(test, answers) for answers in runs]
    found = [scored(metric, test, answers) for answers in runs]
    return found[0][0], [answers for _, answers in found]


def _sides(test: Sequence[Example], answers: Sequence[Prediction]) -> list[Target]:
    if len(answers) != len(test):
        raise DataError(f"{len(answers)} predictions for {len(test)} test rows; predict the whole test split again")
    sides = ("good" if one.output == row.target else "bad" for row, one in zip(test, answers, strict=True))
    return list(sides)


def _of_pretraining(arm: ArmResult, results: RunResults, seeds: list[int]) -> dict[str, Any]:
    by = results.task.pairs.groups if results.task.pairs else ()
    curves = {str(seed): [*map(dict, arm.students[seed].curve)] for seed in seeds if arm.students[seed].curve}
    perplexity = {str(seed): x for seed in seeds if (x := arm.students[seed].perplexity_a_word) is not None}
    return {
        **scores_by_group(results.test, [arm.predictions[seed] for seed in seeds], by),
        **({"curves": curves} if curves else {}),
        **({"perplexity_a_word": perplexity} if perplexity else {}),
    }


def _rows_of_step(step: Taken) -> dict[str, Any]:
    return {
        "in": step.rows_in,
        "made": step.made,
        "kept": step.kept,
        "joined": step.joined,
        "dropped": dict(sorted(step.dropped.items())),
    }


def _rows_of_arm(arm: ArmResult) -> dict[str, Any]:
    if not arm.steps:
        raise DataError(f"arm {arm.name!r} has no steps; every arm starts with one")
    dropped: Counter[str] = Counter()
    for step in arm.steps:
        dropped.update(step.dropped)
    rows = Taken(
        name=arm.name,
        rows_in=arm.steps[0].rows_in,
        made=sum(step.made for step in arm.steps),
        kept=arm.steps[-1].kept,
        joined=sum(step.joined for step in arm.steps),
        dropped=dropped,
    )
    for part in (*arm.steps, rows):
        lost = part.rows_in + part.made - part.kept - part.joined - sum(part.dropped.values())
        if lost:
            where = "all steps" if part is rows else f"step {part.name!r}"
            raise RowsLost(
                f"arm {arm.name!r}, {where}: {part.rows_in} in + {part.made} made is not {part.kept} kept + "
                f"{sum(part.dropped.values())} dropped + {part.joined} joined; this is a bug, please report it"
            )
    return _rows_of_step(rows)


def _student(students: Sequence[StudentUse]) -> dict[str, Any]:
    count = max(1, len(students))
    return {
        "steps": round(sum(s.steps for s in students) / count),
        "tokens": round(sum(s.tokens for s in students) / count),
        "seconds": round(sum(s.seconds for s in students) / count, 1),
        "parameters": max((s.parameters for s in students), default=0),
        **({"students": several} if (several := max((s.students for s in students), default=1)) > 1 else {}),
    }


def _comparisons(results: RunResults, seeds: list[int]) -> list[dict[str, Any]]:
    from understudy.evaluation.statistics import paired

    pairs: list[tuple[ArmResult, ArmResult]] = []
    for arms in _groups(results):
        pairs += combinations(arms, 2) if len(arms) <= PAIRS_UP_TO else [(arms[0], arm) for arm in arms[1:]]
    comparisons = []
    for metric in results.task.metric_names:
        for b, a in pairs:
            (gold, runs_a), (_, runs_b) = (
                _scored(metric, results.task, results.test, [arm.predictions[seed] for seed in seeds]) for arm in (a, b)
            )
            found = paired(metric, gold, runs_a, runs_b)
            comparisons.append(
                {
                    "metric": metric,
                    "a": a.name,
                    "b": b.name,
                    "difference": _rounded(found.difference),
                    "low": _rounded(found.low),
                    "high": _rounded(found.high),
                    "p": _rounded(found.p),
                }
            )
    return comparisons


def _label_saving(arms: Sequence[ArmResult], report: Mapping[str, Any]) -> dict[str, Any]:
    from understudy.evaluation.statistics import label_saving

    metrics = report["study"]["metrics"]
    if not metrics:
        return {}
    mean = {arm.name: report["arms"][arm.name]["metrics"][metrics[0]]["mean"] for arm in arms}
    comparable = [arm for arm in arms if "student" not in arm.overrides and not arm.continues]
    saving = {}
    for arm in comparable:
        curve = [(a.gold_rows, mean[a.name]) for a in comparable if _gold_only(a) and a.equal == arm.equal]
        found = None if _gold_only(arm) else label_saving(curve, mean[arm.name])
        if found is not None:
            saving[arm.name] = {
                "metric": metrics[0],
                "relation": found.relation,
                "rows": found.rows,
                "gold_rows": arm.gold_rows,
                "text": found.text(arm.gold_rows),
            }
    return saving


def _gold_only(arm: ArmResult) -> bool:
    return list(arm.chain) == ["gold"]


def _notes(results: RunResults, report: Mapping[str, Any]) -> list[str]:
    notes = [f"{arm.name}: {note}" for arm in results.arms for note in arm.notes]
    arms = report["arms"]
    unpriced = [name for name, arm in arms.items() if arm["teacher"]["usd"] is None]
    if unpriced:
        notes.append(f"{_listed(unpriced)}: the money is not known, because the teacher's price is not set.")
    blind = "the best answer that is the same for every test row"
    if results.task.kind in CHOOSING_KINDS:
        blind = "a guess among each test row's choices"
    for metric in report["study"]["metrics"]:
        scores = {name: arm["metrics"][metric] for name, arm in arms.items()}
        for mark, said in (("at_chance", "not shown to be above"), ("below_chance", "shown to be under")):
            if names := [name for name, score in scores.items() if score[mark]]:
                by_chance = f"{scores[names[0]]['chance']:.3f}, which {blind} reaches"
                notes.append(f"{_listed(names)}: {metric} is {mark.replace('_', ' ')}: {said} {by_chance}.")
    for name, arm in arms.items():
        if arm.get("ties"):
            judged = len(results.test) * len(report["study"]["seeds"])
            notes.append(f"{name}: {arm['ties']:,} of {judged:,} choices were ties, which count wrong.")
    for arm in results.arms:
        if "student" in arm.overrides:
            notes.append(f"{arm.name}: sets its own student, so a difference to other arms may come from that.")
        if several := max((use.students for use in arm.students.values()), default=1) - 1:
            notes.append(
                f"{arm.name}: {several + 1} students answer together, each trained as long as the one of other arms; "
                "steps, tokens, seconds and parameters are their sums."
            )
        if arm.continues:
            notes.append(f"{arm.name}: goes on from {arm.continues}, so it learnt that arm's rows too, before its own.")
    if len(report["study"]["seeds"]) == 1:
        notes.append("One seed: the intervals do not know how much training itself varies.")
    if firsts := [group[0].name for group in _groups(results) if len(group) > PAIRS_UP_TO]:
        notes.append(f"More than {PAIRS_UP_TO} arms: each is compared with {' or '.join(firsts)} only.")
    return notes


def _groups(results: RunResults) -> list[list[ArmResult]]:
    """The arms that are compared with one another: those that were made equal in the same way."""
    entries = dict.fromkeys(arm.equal for arm in results.arms)
    return [[arm for arm in results.arms if arm.equal == entry] for entry in entries]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _rounded(value: float) -> float:
    return round(value, 6)
