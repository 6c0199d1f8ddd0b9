"""Files and hub datasets as streams of rows and examples."""

from understudy.sources.loading import content_hash, labels_in, load, read, read_as, validate_source
from understudy.sources.source import Source, selection

__all__ = ["Source", "content_hash", "labels_in", "load", "read", "read_as", "selection", "validate_source"]
