"""Bills: what budgets have counted for requests that are answered when their run may be over.

While its run goes on, what a request can cost is reserved. What is still out when the run ends is counted as spent, at
its upper bound; the run that fetches the answer sets that right.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace

from understudy.teachers.budget import NOTHING, Budget, Spending, priced, spending_of
from understudy.teachers.request import Reply, TryAgain
from understudy.teachers.settings import Price


@dataclass(slots=True)
class Bill:
    """What one request can cost."""

    budget: Budget
    most: Spending
    price: Price | None
    is_left: bool  # by an earlier run, so that it is counted as spent and not reserved
    is_out: bool  # in a batch, and not just waiting to be put into one
    is_alone: bool = True  # no other back end of this budget has a bill for the same request

    def settle(self, spent: Spending) -> None:
        """Have the budget count what it came to."""
        if self.is_left:
            self.budget.settle(NOTHING, spent - self.most)
        else:
            self.budget.settle(self.most, spent)


class Bills:
    """The bills of one back end, by the request's key; each is settled once."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._bills: dict[str, Bill] = {}

    def take_up(self, budget: Budget, price: Price | None, left: Mapping[str, Spending]) -> None:
        """Those that earlier runs of this budget have left."""
        for key, most in left.items():
            if key not in self._bills and budget.take_up(self._place + key):
                self._bills[key] = Bill(budget, most, price, is_left=True, is_out=True)

    def are_left(self, budget: Budget) -> bool:
        """Whether an earlier run's requests are out, which may turn out cheaper than they are counted."""
        return any(bill.is_left and bill.is_out and bill.budget is budget for bill in self._bills.values())

    def reserve(self, key: str, budget: Budget, most: Spending, price: Price | None) -> bool:
        """Set aside what a request can cost, unless that was done; what ``Budget.reserve`` gives and raises."""
        if key not in self._bills:
            if not budget.reserve(most):
                return False
            is_alone = budget.take_up(self._place + key)  # else another would take it for one that was left
            self._bills[key] = Bill(budget, most, price, is_left=False, is_out=False, is_alone=is_alone)
        return True

    def forget(self, keys: Iterable[str]) -> None:
        """Take back what was taken up and is another's."""
        for key in keys:
            if (bill := self._bills.get(key)) is not None and bill.is_left:
                del self._bills[key]
                bill.budget.let_go(self._place + key)

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

    def drop(self, keys: Iterable[str], waiting: Container[str]) -> None:
        """Requests were not taken, and those that nobody waits for will not be sent again."""
        self.move(keys, out=False)
        for key in keys:
            if key not in waiting:
                self._end(key, NOTHING)

    def settle(self, key: str, outcome: Reply | Exception) -> None:
        """A request is over. Where it was in no batch of ours, another run has paid for the answer."""
        bill = self._bills.get(key)
        if bill is None:
            return
        spent = Spending(requests=1)
        if not bill.is_out:
            spent = NOTHING
        elif isinstance(outcome, Reply):
            spent = _spent(outcome, bill)
        elif isinstance(outcome, TryAgain) and outcome.may_cost:
            spent = bill.most
        self._end(key, spent)

    def close(self) -> None:
        """What is still out counts as spent, at its upper bound, until a later run settles it."""
        for key, bill in list(self._bills.items()):
            self._end(key, bill.most if bill.is_out else NOTHING)

    def _end(self, key: str, spent: Spending) -> None:
        bill = self._bills.pop(key, None)
        if bill is not None:
            bill.settle(spent)
            if bill.is_alone:
                bill.budget.let_go(self._place + key)


def _spent(reply: Reply, bill: Bill) -> Spending:
    """What a reply cost; money that nobody can work out at its upper bound."""
    (reply,) = priced([reply], bill.price)
    spent = spending_of([reply], bill.most)
    return spent if reply.usd is not None else replace(spent, usd=bill.most.usd)
