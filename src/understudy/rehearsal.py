"""What a study would ask and what that would cost: the recipes run against teachers that only render and count."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from understudy.graduates import origin_of
from understudy.lessons import Classroom, Lessons
from understudy.progress import Silent, Watch
from understudy.reading import limited, load_test, plans_of, with_labels
from understudy.recipes import open_recipe
from understudy.records import digest
from understudy.study import Link, Study
from understudy.study_file import load_study
from understudy.teachers import Ledger, Message, tell_price, usual_prompt_tokens
from understudy.workspace import Workspace

SECONDS_A_REPLY = 2.0
"""What a reply is taken to last where the time of a study is estimated."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """One step of one arm that would ask a teacher.

    Tokens and ``usd`` are of the requests that the ledger cannot answer: the prompt's are estimated at 4 bytes each,
    the answers' are the most that ``sampling.max_tokens`` allows, ``None`` where that, or the price, is not set.
    """

    arms: tuple[str, ...]
    """The arms that share the step."""
    recipe: str
    role: str
    """``judge`` where these are the requests for judging what the teacher wrote, else ``teacher``."""
    recorded: bool
    requests: int
    in_ledger: int
    prompt_tokens: int
    completion_tokens: int | None
    usd: float | None
    seconds: float
    """At 2 s a reply and the study's concurrency."""
    price: str
    """Which price was taken where the study sets none, and from where; empty where it sets one or none is known."""
    unforeseen: str
    """What these counts leave out, in words; empty where a run would ask just this."""
    prompts: tuple[Sequence[Message], ...]


def rehearse(
    study: str | Path | Mapping[str, Any] | Study,
    *,
    prompts: int = 3,
    changes: Sequence[str] = (),
    limit: int | None = None,
    watch: Watch | None = None,
) -> list[Rehearsed]:
    """Render every prompt of a study, send none, and keep the first ``prompts`` of each step.

    A step that works on what an earlier one of its chain would have made is counted on what there is without it.

    Raises:
        UnderstudyError: the same as ``run`` would, before anything is spent.
    """
    checked, _ = load_study(study, changes)
    checked = with_labels(checked)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="understudy-"))
        workspace = stack.enter_context(Workspace(Path(folder)))
        test = load_test(workspace, limited(checked.task, limit))
        ledger = stack.enter_context(Ledger.open())
        arms = plans_of(checked, limit)
        for arm in arms:
            origin_of(arm)
        classroom = Classroom(workspace, checked, test, ledger, watch or Silent(), rehearse=prompts)
        return rehearsed(stack.enter_context(classroom).lessons(arms), prompts)


def rehearsed(lessons: Sequence[Lessons], prompts: int) -> list[Rehearsed]:
    """What the steps of a classroom that rehearsed would ask, with so many prompts of each."""
    steps: dict[str, Rehearsed] = {}
    for one in lessons:
        for link, step in zip(one.arm.chain, one.steps[1:], strict=True):
            for role, rehearsal in zip(("teacher", "judge"), step.manifest.get("rehearsal", ()), strict=False):
                key = digest(step.taken.name, role, repr(rehearsal))  # arms that ask the same one the same share it
                arms = (*steps[key].arms, one.arm.name) if key in steps else (one.arm.name,)
                steps[key] = _rehearsed(link, role, arms, rehearsal, prompts)
    return list(steps.values())


def estimate(
    study: str | Path | Mapping[str, Any] | Study,
    *,
    changes: Sequence[str] = (),
    limit: int | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """The requests, tokens, money and time that a study would take, over all its steps.

    The arguments are those of ``run``. Sums are ``None`` where a part of them is not known.
    """
    return totals(rehearse(study, prompts=0, changes=changes, limit=limit, watch=watch))


def totals(steps: Sequence[Rehearsed]) -> dict[str, Any]:
    """The sums over all steps, and the steps without their prompts."""
    counts = ("requests", "in_ledger", "prompt_tokens", "completion_tokens", "usd", "seconds")
    totals = {name: _sum(getattr(step, name) for step in steps) for name in counts}
    return totals | {"steps": [{k: v for k, v in asdict(step).items() if k != "prompts"} for step in steps]}


def _rehearsed(link: Link, role: str, arms: tuple[str, ...], rehearsal: Mapping[str, Any], prompts: int) -> Rehearsed:
    teacher = link.judge if role == "judge" else link.teacher
    recorded = teacher is not None and teacher.backend == "recorded"
    concurrency = teacher.concurrency if teacher else 1
    counted = {k: rehearsal[k] for k in ("requests", "in_ledger", "prompt_tokens", "completion_tokens", "usd")}
    is_elsewhere = teacher is not None and not recorded
    seconds = (counted["requests"] - counted["in_ledger"]) * SECONDS_A_REPLY / concurrency * is_elsewhere
    return Rehearsed(
        arms=arms,
        recipe=link.recipe,
        role=role,
        recorded=recorded,
        **counted,
        seconds=seconds,
        price=tell_price(teacher) if teacher else "",
        unforeseen=open_recipe(link.recipe).unforeseen(link.settings),
        prompts=tuple(rehearsal["rendered"][:prompts]),
    )


def tell_prompts(steps: Sequence[Rehearsed]) -> str:
    """The rendered prompts for a person."""
    lines: list[str] = []
    for step in steps:
        for number, messages in enumerate(step.prompts, start=1):
            tokens = usual_prompt_tokens(messages)
            lines.append(f"=== {_name(asdict(step))}, prompt {number} of {step.requests:,}, "
                         f"about {tokens:,} tokens")  # fmt: skip
            lines += [f"[{message['role']}]\n{message['content']}\n" for message in messages]
    return "\n".join(lines) or "no step of this study asks a teacher"


def tell_estimate(total: Mapping[str, Any]) -> str:
    """An estimate for a person."""
    lines = [_line(_name(step), step) for step in total["steps"]]
    lines.append(_line("all", total))
    if total["requests"] and all(step["recorded"] for step in total["steps"]):
        lines.append("the replies are recorded: nothing is paid")
    elif total["completion_tokens"] is None:
        lines.append("answers are not counted: set teacher.sampling.max_tokens for an upper bound")
    elif total["usd"] is None:
        lines.append("money is not known: set teacher.price, e.g. price: {input: 0.15, output: 0.60}")
    lines += dict.fromkeys(step["price"] for step in total["steps"] if step["price"])
    lines += dict.fromkeys(f"{step['recipe']}: {step['unforeseen']}" for step in total["steps"] if step["unforeseen"])
    return "\n".join(lines)


def _name(step: Mapping[str, Any]) -> str:
    return f"{', '.join(step['arms'])}: {step['recipe']}" + (", the judge" if step["role"] == "judge" else "")


def _line(name: str, counted: Mapping[str, Any]) -> str:
    answers = counted["completion_tokens"]
    return (
        f"{name}: {counted['requests']:,} requests, {counted['in_ledger']:,} of them in the ledger, "
        f"about {counted['prompt_tokens']:,} prompt tokens"
        + (f", at most {answers:,} answer tokens" if answers is not None else "")
        + (f", about {_money(counted['usd'])} usd at most" if counted["usd"] is not None else "")
        + f", about {counted['seconds']:,.0f} s"
    )


def _money(usd: float) -> str:
    return f"{usd:.2f}" if usd >= 0.1 or not usd else f"{usd:.2g}"


def _sum(values: Any) -> Any:
    known = list(values)
    return None if None in known else sum(known)
