"""Search: the published score, by hand and beside a plain reading of its formula, and which rows are taken."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.errors import DataError, SettingsError
from understudy.retrieve import cosine
from understudy.retrieve.building import build
from understudy.retrieve.datastore import Datastore
from understudy.retrieve.search import Query, search
from understudy.retrieve.tables import DatasetSource

Row = dict[str, str]
COMPASS = {"east": (1, 0, 0), "north": (0, 1, 0), "up": (0, 0, 1), "north-east": (0.6, 0.8, 0), "west": (-1, 0, 0)}
TASK = Query("east", (("east", "north"), ("east", "up")))


@dataclass
class Drawn:
    """A vector for each text: the one it was told, else a random one that the text decides."""

    known: Mapping[str, Sequence[float]] = field(default_factory=dict)
    width: int = 3
    name: str = "drawn"

    @property
    def identity(self) -> str:
        return f"the vectors of {self.name}"

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> np.ndarray:
        vectors = np.array([self.known.get(text) or self._drawn(text) for text in texts], np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def _drawn(self, text: str) -> Sequence[float]:
        seed = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
        return np.random.default_rng(seed).normal(size=self.width).tolist()


DRAWN = Drawn(COMPASS)


def stored(folder: Path, datasets: Mapping[str, Sequence[Row]], encoder: Drawn = DRAWN, **about: str) -> Datastore:
    """A store of the datasets, added in the order given; ``about`` holds descriptions."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = []
    for name, rows in datasets.items():
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        sources.append(DatasetSource(path=str(path), name=name, description=about.get(name, "up"), licence="CC0"))
    report = build(folder / "store", sources, encoder=encoder)
    assert not report.skipped
    return Datastore.open(folder / "store")


def test_the_score_by_hand(tmp_path: Path):
    """Both best cells of a row, its dataset's description, and the mean of the three."""
    store = stored(tmp_path, {"winds": [{"from": "north-east", "to": "north"}, {"to": "west"}]}, winds="north-east")
    first, second = search(store, DRAWN, TASK, 5)
    assert first.cells == (("from", "north-east"), ("to", "north"))
    assert first.parts == pytest.approx((0.6, 0.5, 0.6), abs=1e-3)  # north-east itself has 0.4 as an output
    assert first.score == pytest.approx(1.7 / 3, abs=1e-3)
    assert (first.input_column, first.output_column) == ("from", "to")
    assert (first.dataset, first.description, first.licence, first.row) == ("winds", "north-east", "CC0", 0)
    assert second.parts == pytest.approx((-1, 0, 0.6), abs=1e-3)
    assert (second.row, second.input_column, second.output_column) == (1, "to", "to")


def test_weights_decide_what_counts(tmp_path: Path):
    store = stored(tmp_path, {"a": [{"x": "east"}], "b": [{"x": "north"}]}, a="west", b="east")
    best = {
        weights: search(store, DRAWN, TASK, 1, weights=weights)[0]
        for weights in [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (2.0, 2.0, 0.0)]
    }
    assert [(one.dataset, one.score) for one in best.values()] == [("a", 1), ("b", 1), ("a", 0.5)]


texts = st.integers(0, 40).map(lambda number: f"text {number}")
rows = st.lists(st.dictionaries(st.sampled_from("pqrs"), texts, min_size=1), min_size=1, max_size=8)
queries = st.builds(
    Query, texts, st.lists(st.tuples(texts, texts), min_size=1, max_size=10).map(lambda pairs: tuple(pairs))
)


@pytest.mark.slow
@settings(max_examples=40)
@given(
    st.dictionaries(st.sampled_from(["one", "two", "three"]), rows, min_size=1),
    queries,
    st.integers(1, 20),
    st.tuples(st.integers(1, 3), st.integers(0, 3), st.integers(0, 3)),
)
def test_the_score_is_the_formula_on_random_data(
    datasets: dict[str, list[Row]], query: Query, k: int, weights: tuple[int, int, int]
):
    encoder = Drawn(width=24)
    with TemporaryDirectory() as folder:
        found = search(stored(Path(folder), datasets, encoder), encoder, query, k, weights=weights)
    truth = {
        (name, number): plain_score(encoder, query, "up", list(row.values()), weights)
        for name, rows in datasets.items()
        for number, row in enumerate(rows)
    }
    assert len(found) == min(k, len(truth))
    assert [one.score for one in found] == pytest.approx([truth[one.dataset, one.row] for one in found], abs=1e-3)
    ranked = sorted(truth, key=lambda place: -truth[place])
    for one, place in zip(found, ranked, strict=False):
        assert (one.dataset, one.row) == place or truth[one.dataset, one.row] == pytest.approx(truth[place], abs=2e-3)
    for one, after in pairwise(found):
        assert (-one.score, one.dataset, one.row) < (-after.score, after.dataset, after.row)


def plain_score(encoder: Drawn, query: Query, description: str, cells: list[str], weights: Sequence[float]) -> float:
    """The formula as it is published, one cosine at a time."""

    def cos(a: str, b: str) -> float:
        x, y = encoder.encode([a, b]).astype(np.float64)
        return float(x @ y / np.sqrt(x @ x * (y @ y)))

    best_input = max(float(np.mean([cos(wanted, cell) for wanted, _ in query.examples])) for cell in cells)
    best_output = max(float(np.mean([cos(wanted, cell) for _, wanted in query.examples])) for cell in cells)
    return float(np.average([best_input, best_output, cos(query.instruction, description)], weights=weights))


def test_equal_rows_come_by_dataset_then_row_however_many_there_are(tmp_path: Path):
    """Equal rows tie though they lie in datasets of different sizes, at different places."""
    encoder = Drawn(width=384)
    same = {"q": "the same", "a": "everywhere"}
    sizes = {"c": 700, "a": 3, "b": 41}
    rows = {name: [{"q": f"{name} {i}"} for i in range(size)] + [same] * 4 for name, size in sizes.items()}
    query = Query("any", (("the same", "everywhere"), ("one", "two"), ("three", "four")))
    store = stored(tmp_path, rows, encoder)
    expected = [(name, size + i) for name, size in sorted(sizes.items()) for i in range(4)]
    for k in (1, 5, 12):
        assert [(one.dataset, one.row) for one in search(store, encoder, query, k)] == expected[:k]


def test_the_order_of_adding_does_not_matter(tmp_path: Path):
    rows = {name: [{"q": f"{name} {i}", "a": f"answer {i % 3}"} for i in range(20)] for name in "abc"}
    there = search(stored(tmp_path / "1", rows), DRAWN, TASK, 30)
    back = search(stored(tmp_path / "2", dict(reversed(rows.items()))), DRAWN, TASK, 30)
    assert there == back


def test_blocks_smaller_than_a_dataset_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = stored(tmp_path, {"a": [{"q": f"question {i}", "a": f"answer {i}"} for i in range(50)]})
    whole = search(store, DRAWN, TASK, 50)
    monkeypatch.setattr(cosine, "BLOCK", 7)
    assert search(store, DRAWN, TASK, 50) == whole


def test_at_most_so_many_rows_of_a_dataset_and_none_of_some(tmp_path: Path):
    rows = {name: [{"q": f"{name} {i}"} for i in range(20)] for name in "abc"}
    store = stored(tmp_path, rows, a="east", b="north-east", c="west")
    ranked = search(store, DRAWN, TASK, 60, weights=(1, 1, 9))
    capped = search(store, DRAWN, TASK, 8, weights=(1, 1, 9), per_dataset=3)
    assert capped == [one for name in "abc" for one in [one for one in ranked if one.dataset == name][:3]][:8]
    assert len(search(store, DRAWN, TASK, 60, per_dataset=3)) == 9
    without = search(store, DRAWN, TASK, 60, weights=(1, 1, 9), exclude=["a", "c"])
    assert without == [one for one in ranked if one.dataset == "b"]
    with pytest.raises(SettingsError, match="exclude: no dataset of .* is left"):
        search(store, DRAWN, TASK, 60, exclude=["a", "b", "c"])


@pytest.fixture(scope="module")
def store_of_three(tmp_path_factory: pytest.TempPathFactory) -> Datastore:
    rows = {name: [{"q": f"{name} {i}", "a": f"answer {i % 4}"} for i in range(12)] for name in "abc"}
    return stored(tmp_path_factory.mktemp("three"), rows)


@pytest.mark.slow
@given(st.data())
def test_rows_that_leak_are_passed_over(store_of_three: Datastore, data: st.DataObject):
    """Whatever leaks, and whatever the cap: the same rows as one takes from the whole ranking one by one."""
    ranked = search(store_of_three, DRAWN, TASK, 36)
    leaking = data.draw(st.sets(st.sampled_from([text for one in ranked for _, text in one.cells])))
    cap, k = data.draw(st.none() | st.integers(1, 5)), data.draw(st.integers(1, 40))
    expected = []
    for one in ranked:
        full = cap and sum(other.dataset == one.dataset for other in expected) == cap
        if len(expected) < k and not full and not any(text in leaking for _, text in one.cells):
            expected.append(one)
    assert search(store_of_three, DRAWN, TASK, k, per_dataset=cap, leaks=leaking.__contains__) == expected


def test_where_the_best_rows_leak_their_datasets_next_ones_come_before_worse_ones(tmp_path: Path):
    rows = {"a": [{"q": "east"}, {"q": "north-east"}], "b": [{"q": "north"}], "c": [{"q": "west"}]}
    store = stored(tmp_path, rows)
    found = search(store, DRAWN, TASK, 2, weights=(1, 0, 0), per_dataset=1, leaks=lambda text: text == "east")
    assert [(one.dataset, one.row) for one in found] == [("a", 1), ("b", 0)]


def test_cells_that_leak_only_together(store_of_three: Datastore):
    (first, *_) = ranked = search(store_of_three, DRAWN, TASK, 5)
    together = "\n".join(text for _, text in first.cells)
    assert len(first.cells) > 1
    found = search(store_of_three, DRAWN, TASK, 4, leaks=lambda text: text == together)
    assert found == ranked[1:]


def test_what_cannot_be_searched_is_refused_in_a_line(store_of_three: Datastore):
    with pytest.raises(DataError, match=r"built by the encoder 'drawn' .* which is not 'other'"):
        search(store_of_three, Drawn(name="other"), TASK, 3)
    with pytest.raises(SettingsError, match=r"no dataset 'd' in \S+/store\. Known: a, b, c"):
        search(store_of_three, DRAWN, TASK, 3, exclude=["a", "d"])
    with pytest.raises(SettingsError, match="one example at least"):
        search(store_of_three, DRAWN, Query("instruction only", ()), 3)
    with pytest.raises(SettingsError, match=r"weights: .* \(1, -1, 1\)"):
        search(store_of_three, DRAWN, TASK, 3, weights=(1, -1, 1))
    with pytest.raises(SettingsError, match="not 3 and 0"):
        search(store_of_three, DRAWN, TASK, 3, per_dataset=0)
