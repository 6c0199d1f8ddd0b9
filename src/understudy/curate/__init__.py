"""Which rows may stay, and how diverse those that did are."""

from understudy.curate.decontaminate import TestSplit, screen
from understudy.curate.diversity import diversity
from understudy.curate.validators import Check, checks_of, noted, validated

__all__ = ["Check", "TestSplit", "checks_of", "diversity", "noted", "screen", "validated"]
