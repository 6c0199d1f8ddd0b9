"""Files, hub datasets and corpora of raw text as streams of rows and examples."""

from understudy.sources.corpus import cannot_be_read, load_corpus
from understudy.sources.loading import content_hash, labels_in, load, read, validate_source
from understudy.sources.source import Source, read_as, selection

__all__ = [
    "Source",
    "cannot_be_read",
    "content_hash",
    "labels_in",
    "load",
    "load_corpus",
    "read",
    "read_as",
    "selection",
    "validate_source",
]
