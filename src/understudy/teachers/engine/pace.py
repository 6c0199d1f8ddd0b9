"""How fast an endpoint may be asked: how many at once, how many a minute, and when not at all.

One ``Pace`` belongs to one model at one endpoint. It is told what is sent and how each attempt ended, and says whether
the next request may go. Times are monotonic seconds.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field

from understudy.errors import TeacherError
from understudy.teachers.engine.jobs import Say
from understudy.teachers.request import TryAgain

_CUT = 0.75  # of the concurrency that is left when the endpoint asks us to slow down
_COOL_S = 2.0  # in which one cut is enough: what was in flight then will be told the same
_STEP = 25  # answers after which one more may be in flight again
_TRIPS = 16  # so many rows fail at their first attempt, and none is answered: the endpoint is down, not the rows
_FIRST_REST_S, _LONGEST_REST_S = 5.0, 60.0
_DOUBT_S = 120.0  # after which it may be the rows all the same, where what fails is not the connection
_PATIENCE_S = 600.0  # how long an endpoint may answer nothing
_WORTH_SAYING_S = 5.0
_BURST_S = 1.0  # how far ahead of an even flow requests may be where there is a limit a minute


@dataclass(slots=True)
class _PerMinute:
    """An even flow of at most ``limit`` units a minute."""

    limit: float | None
    due: float = 0.0  # when all that was sent would have been sent evenly

    def wait_s(self, now: float) -> float:
        return 0.0 if self.limit is None else max(0.0, self.due - now)

    def take(self, units: float, now: float) -> None:
        if self.limit is not None:
            self.due = max(self.due, now - _BURST_S) + units * 60 / self.limit


@dataclass(slots=True, eq=False)
class Pace:
    """The limits of one model at one endpoint, and what they are at the moment."""

    name: str  # of the place, for people
    concurrency: int  # the most that may be in flight
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    limit: float = 0.0  # what may be in flight now
    in_flight: int = 0
    last_fault: str = ""
    _requests: _PerMinute = field(init=False)
    _tokens: _PerMinute = field(init=False)
    _is_limited: bool = False  # by the minute
    _may_wait: bool = False
    _not_before: float = 0.0  # it told us to wait until then
    _cut_at: float = 0.0
    _since_step: int = 0  # answers
    _silent_since: float | None = None  # it has answered nothing since
    _first_failures: int = 0  # rows that failed at their first attempt since it answered
    _rest_s: float = 0.0  # how long the last rest was; 0: it works
    _said_until: float = 0.0  # the pause that a person was told of ends then

    def __post_init__(self) -> None:
        self.limit = float(self.concurrency)
        self._requests, self._tokens = _PerMinute(self.requests_per_minute), _PerMinute(self.tokens_per_minute)
        self._is_limited = self._may_wait = bool(self.requests_per_minute or self.tokens_per_minute)

    @property
    def is_down(self) -> bool:
        """Whether it answers nothing; then one request at a time tries it."""
        return self._rest_s > 0

    def has_room(self) -> bool:
        """Whether one more may be in flight."""
        return self.in_flight < (1 if self.is_down else int(self.limit))

    def wait_s(self) -> float:
        """How long the next request has to wait, in seconds."""
        if not self._may_wait:
            return 0.0
        now = time.monotonic()
        wait_s = max(0.0, self._not_before - now, self._requests.wait_s(now), self._tokens.wait_s(now))
        self._may_wait = wait_s > 0 or self._is_limited
        return wait_s

    def sent(self, tokens: int) -> None:
        """One request goes; ``tokens`` is what it is taken to use."""
        self.in_flight += 1
        if self._is_limited:
            now = time.monotonic()
            self._requests.take(1, now)
            self._tokens.take(tokens, now)

    def unsent(self, tokens: int) -> None:
        """A request that was told as ``sent`` does not go after all."""
        self.in_flight -= 1
        if self._is_limited:
            now = time.monotonic()
            self._requests.take(-1, now)
            self._tokens.take(-tokens, now)

    def answered(self, tokens_more: int = 0) -> None:
        """A request was answered, if only by a refusal; it used ``tokens_more`` than it was taken to."""
        if self._tokens.limit is not None:
            self._tokens.take(tokens_more, time.monotonic())
        self._silent_since, self._first_failures, self._rest_s = None, 0, 0.0
        if self.limit < self.concurrency:
            self._since_step += 1
            if self._since_step >= _STEP:
                self.limit, self._since_step = min(self.concurrency, self.limit + 1), 0

    def hold(self, for_s: float) -> None:
        """Send nothing for so long, or a minute: the endpoint says that its limit is used up."""
        self._wait(min(for_s, _LONGEST_REST_S))

    def _wait(self, for_s: float) -> None:
        self._not_before = max(self._not_before, time.monotonic() + for_s)
        self._may_wait = True

    def faulted(self, fault: TryAgain, *, is_first: bool, began: float, say: Say) -> bool:
        """Take note of a fault; whether it is the endpoint's, so that it does not count against its row.

        Args:
            is_first: whether it was its row's first attempt.
            began: when the attempt began.

        Raises:
            TeacherError: the endpoint has answered nothing for longer than is sensible, or wants us to wait so long.
        """
        if fault.otherwise:
            return True
        now = time.monotonic()
        self.last_fault = fault.detail or fault.reason
        since = self._silent_since = self._silent_since if self._silent_since is not None else now
        if fault.overloaded and began >= self._cut_at and now - self._cut_at > _COOL_S:
            self.limit, self._since_step, self._cut_at = max(1.0, self.limit * _CUT), 0, now
        self._first_failures += is_first or fault.unreachable
        is_doubtful = not fault.unreachable and now - since > _DOUBT_S
        is_down = not (fault.overloaded or is_doubtful) and (self.is_down or self._first_failures >= _TRIPS)
        is_its = fault.overloaded or (is_down and (is_first or fault.unreachable))
        if is_doubtful:
            self.nothing_new()
        if (is_its or fault.after_s) and now + (fault.after_s or 0.0) - since > _PATIENCE_S:
            raise TeacherError(_gave_up(fault, self.name, now - since))
        if fault.after_s:
            self._wait(fault.after_s)
            self._tell(f"the endpoint {self.name} asks us to wait {fault.after_s:.0f} s", fault.after_s, say)
        elif is_down and now >= self._not_before:
            self._rest_s = min(_LONGEST_REST_S, 2 * self._rest_s or _FIRST_REST_S)
            self.hold(self._rest_s)
            self._tell(
                f"the endpoint {self.name} answers nothing ({self.last_fault}); trying again in {self._rest_s:.0f} s",
                self._rest_s + _WORTH_SAYING_S,
                say,
            )
        return is_its

    def idle(self) -> None:
        """Nothing is asked for now, so that no answer tells nothing."""
        self._silent_since = None

    def nothing_new(self) -> None:
        """What fails now may well be the rows' own fault: take the endpoint for up."""
        self._rest_s, self._first_failures = 0.0, 0

    def _tell(self, text: str, for_s: float, say: Say) -> None:
        until = time.monotonic() + for_s
        if for_s > _WORTH_SAYING_S and until > self._said_until + _WORTH_SAYING_S:  # not for each one in flight
            self._said_until = until
            with suppress(Exception):  # nobody may be there any more to hear it
                say(text)


def _gave_up(fault: TryAgain, name: str, for_s: float) -> str:
    wish = f"wants {fault.after_s:.0f} s more" if fault.after_s else "still does"
    does = "put us off" if fault.overloaded else "answered nothing"
    return (
        f"the endpoint {name} has {does} for {for_s:.0f} s and {wish} ({fault.detail}); {_PATIENCE_S:.0f} s is the "
        "most that is waited. Every reply is kept: run the same command later, or lower teacher.concurrency"
    )
