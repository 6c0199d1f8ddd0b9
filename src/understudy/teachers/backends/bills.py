"""Bills: what budgets have set aside for requests that are answered when their run may be over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from understudy.teachers.budget import NOTHING, Budget, Spending, spending_of
from understudy.teachers.request import Reply, TryAgain


@dataclass(slots=True)
class Bill:
    """What one request can cost."""

    budget: Budget
    most: Spending
    is_out: bool = False  # in a batch, and not just waiting to be put into one


class Bills:
    """The bills of one back end, by the request's key; each is settled once."""

    def __init__(self) -> None:
        self._bills: dict[str, Bill] = {}

    def take_up(self, budget: Budget, left: Mapping[str, Spending]) -> None:
        """Those that earlier runs of this budget have left, and counted as spent."""
        for key, most in left.items():
            if key not in self._bills:
                budget.take_up(most)
                self._bills[key] = Bill(budget, most, is_out=True)

    def reserve(self, key: str, budget: Budget, most: Spending) -> bool:
        """Set aside what a request can cost, unless that was done; what ``Budget.reserve`` gives and raises."""
        if key not in self._bills:
            if not budget.reserve(most):
                return False
            self._bills[key] = Bill(budget, most)
        return True

    def told(self, key: str) -> tuple[str, Spending] | None:
        """Whose money it is and how much; ``None`` where there is no budget."""
        bill = self._bills.get(key)
        return (bill.budget.payer, bill.most) if bill else None

    def out(self, keys: Iterable[str]) -> set[str]:
        """Those of the requests that are in a batch."""
        return {key for key in keys if key in self._bills and self._bills[key].is_out}

    def move(self, keys: Iterable[str], *, out: bool) -> None:
        """Requests are in a batch now, or in none any more though they wait for one."""
        for key in keys:
            if key in self._bills:
                self._bills[key].is_out = out

    def settle(self, key: str, outcome: Reply | Exception) -> None:
        """A request is over. Where it was in no batch of ours, another run has paid for the answer."""
        bill = self._bills.pop(key, None)
        if bill is None:
            return
        spent = Spending(requests=1)
        if not bill.is_out:
            spent = NOTHING
        elif isinstance(outcome, Reply):
            spent = spending_of([outcome], bill.most)
        elif isinstance(outcome, TryAgain) and outcome.may_cost:
            spent = bill.most
        bill.budget.settle(bill.most, spent)

    def close(self) -> None:
        """What is still out counts as spent, at its upper bound, until a later run takes it up."""
        for bill in self._bills.values():
            bill.budget.settle(bill.most, bill.most if bill.is_out else NOTHING)
        self._bills.clear()
