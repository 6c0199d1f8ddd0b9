"""Which rows may stay, and how diverse those that did are."""

from understudy.curate.decontaminate import TestSplit, screen
from understudy.curate.diversity import diversity
from understudy.curate.scores import best, scored
from understudy.curate.shots import draw_shots, shots_by_label, solved
from understudy.curate.validators import Check, checks_of, checks_of_kind, is_no_copy, noted, validated
from understudy.curate.votes import elected, quotas

__all__ = [
    "Check",
    "TestSplit",
    "best",
    "checks_of",
    "checks_of_kind",
    "diversity",
    "draw_shots",
    "elected",
    "is_no_copy",
    "noted",
    "quotas",
    "scored",
    "screen",
    "shots_by_label",
    "solved",
    "validated",
]
