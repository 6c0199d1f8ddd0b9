"""Raw text of any size as shuffled groups of sentences: ``groups(shuffled(sentences(corpus), seed, folder), size)``."""

from understudy.corpus.files import content_hash
from understudy.corpus.grouping import groups
from understudy.corpus.sentences import Sentence, sentences
from understudy.corpus.settings import Corpus
from understudy.corpus.shuffle import shuffled

__all__ = ["Corpus", "Sentence", "content_hash", "groups", "sentences", "shuffled"]
