"""Any number of texts as groups of sentences in a random order: ``grouped``, or its parts alone."""

from understudy.corpus.grouping import grouped
from understudy.corpus.sentences import Sentence, sentences
from understudy.corpus.shuffle import shuffled

__all__ = ["Sentence", "grouped", "sentences", "shuffled"]
