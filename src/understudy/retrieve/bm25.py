"""Stores without vectors: texts compared by the words that they share, BM25 in place of the cosine.

BM25 as the package bm25s computes it, Lucene's variant: k1 = 1.5, b = 0.75, a word is a run of letters and digits in
lower case, not stemmed, and none is left out as a stop word ("no" and "not" are answers). The parts of a row's score:

    input         the highest, over the row's cells, of: the mean over the examples of BM25(example's input, cell)
    output        the same with the examples' outputs
    description   BM25(instruction, description of the row's dataset)

Each part is divided by its largest value in the store, so that the parts weigh alike, and is 0 where no word is shared.
That is our choice: BM25 has no upper bound, and long queries have higher values. How rare a word is, and those largest
values, go by all texts (and all descriptions) of the store, those of datasets that a search leaves out too; a text
counts once for each dataset that holds it. So a row's score does not depend on what is left out.

Nothing is kept on the disk: each search reads all texts. The query's words are told apart, all others are one.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from understudy.errors import MissingPackage
from understudy.records import digest
from understudy.retrieve.store_files import distinct_texts

if TYPE_CHECKING:
    from understudy.retrieve.datastore import Dataset, Datastore
    from understudy.retrieve.search import Query

BM25 = "bm25"
VARIANT, K1, B = "lucene", 1.5, 0.75
WORD = r"\w+"
OTHER = ""  # what bm25s calls no word, here any that the query has not; its number is 0


@dataclass(frozen=True)
class NoVectors:
    """The ``Encoder`` of stores that are searched by words."""

    name: str = BM25
    identity: str = digest(BM25, VARIANT, str(K1), str(B), WORD, "lower case", "no stemmer", "no stop words")
    width: int = 0

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> np.ndarray:
        """Nothing: float32 (texts, 0)."""
        return np.empty((len(texts), 0), np.float32)


def open_bm25() -> NoVectors:
    """What stands in an encoder's place.

    Raises:
        MissingPackage: bm25s is not installed.
    """
    try:
        import bm25s  # noqa: F401
    except ImportError as error:
        raise MissingPackage(f"encoder {BM25!r} needs {error.name}: pip install 'understudy[retrieve]'") from error
    return NoVectors()


@dataclass(frozen=True)
class Matches:
    """A ``Scorer`` by words: what was found for each dataset's name."""

    of_texts: Mapping[str, np.ndarray]
    """float64 (texts, 2)."""
    of_description: Mapping[str, float]

    def texts(self, dataset: Dataset) -> np.ndarray:
        """See ``Scorer``."""
        return self.of_texts[dataset.name].astype(np.float32)

    def exactly(self, dataset: Dataset, texts: np.ndarray) -> np.ndarray:
        """See ``Scorer``."""
        return self.of_texts[dataset.name][texts]

    def description(self, dataset: Dataset) -> float:
        """See ``Scorer``."""
        return self.of_description[dataset.name]


def matches_of(store: Datastore, query: Query) -> Matches:
    """Score every text of the store; meanwhile some 100 bytes a text and 4 a word are in memory, then 16 a text."""
    names = [dataset.name for dataset in store.datasets]
    inputs, outputs = zip(*query.examples, strict=True)
    texts = (text for dataset in store.datasets for _, text in distinct_texts(dataset.folder))
    scores = shares_of_best((inputs, outputs), texts)
    ends = np.cumsum([dataset.summary.texts for dataset in store.datasets])
    descriptions = shares_of_best(((query.instruction,),), (dataset.description for dataset in store.datasets))
    return Matches(
        dict(zip(names, np.split(scores, ends[:-1]), strict=False)),  # no dataset is still one part
        dict(zip(names, descriptions[:, 0].tolist(), strict=True)),
    )


def shares_of_best(queries: Sequence[Sequence[str]], texts: Iterable[str]) -> np.ndarray:
    """float64 (texts, queries): the mean over a query's parts of BM25(part, text), as a share of the largest one."""
    import bm25s
    from bm25s.tokenization import Tokenized, Tokenizer

    split = re.compile(WORD).findall
    asked = {word for query in queries for part in query for word in split(part.lower())}
    tokenizer = Tokenizer(
        splitter=lambda text: [word if word in asked else OTHER for word in split(text)], stopwords=[]
    )
    words = [[number for part in tokenizer.streaming_tokenize(list(query)) for number in part] for query in queries]
    tokens = [array("i", text) for text in tokenizer.streaming_tokenize(texts)]  # pyright: ignore
    if not tokens:
        return np.zeros((0, len(queries)))
    index = bm25s.BM25(k1=K1, b=B, method=VARIANT, dtype="float64")
    index.index(Tokenized(tokens, tokenizer.get_vocab_dict()), show_progress=False)  # pyright: ignore
    sums = [index.get_scores_from_ids([number for number in query if number]) for query in words]
    means = np.stack([total / len(query) for total, query in zip(sums, queries, strict=True)], axis=1)
    largest = means.max(axis=0)
    return means / np.where(largest > 0, largest, 1)
