"""What a study would cost, said before a cent is spent."""

from __future__ import annotations

from toys import Toy

import understudy
from understudy.rehearsal import tell_estimate


def test_an_estimate_says_which_price_it_took_how_old_it_is_and_from_where(toy: Toy):
    toy.study["teacher"] = {"model": "gpt-4o-mini", "sampling": {"max_tokens": 100}}
    toy.study["budget"] = {"usd": 0.01}
    toy.save()
    total = understudy.estimate(toy.path)
    assert total["usd"] == (total["prompt_tokens"] * 0.15 + total["completion_tokens"] * 0.60) / 1e6
    *_, last = tell_estimate(total).splitlines()
    assert last.startswith("price of gpt-4o-mini as of 2026-03-01, https://")
    assert last.endswith("set teacher.price if it changed")
    own = understudy.estimate(toy.path, changes=["teacher.price={input: 1.0, output: 1.0}"])
    assert "price of" not in tell_estimate(own)
