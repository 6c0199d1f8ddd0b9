"""Files and folders of text come out as sentences with their places; what is left out says why."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from understudy.corpus import Corpus, Sentence, content_hash, sentences
from understudy.corpus.sentences import _split
from understudy.errors import DataError, SettingsError
from understudy.records import Dropped


def read(*paths: Path, **settings: object) -> tuple[list[Sentence], list[Dropped]]:
    found = list(sentences(Corpus.model_validate({"paths": [str(path) for path in paths], **settings})))
    return [one for one in found if isinstance(one, Sentence)], [one for one in found if isinstance(one, Dropped)]


def reasons(left_out: list[Dropped]) -> dict[str, str]:
    return {one.example.id: one.reason for one in left_out}


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path):
    folder = tmp_path / "corpus"
    (folder / "talk").mkdir(parents=True)
    (folder / "b.txt").write_text("One line. It has two sentences.\n\nMr. Smith saw Dr. Jones.\n")
    with gzip.open(folder / "talk" / "a.jsonl.gz", "wt") as file:
        file.write(json.dumps({"text": "A title\nIt rained\u00a0 all day. We stayed in.", "year": float("nan")}) + "\n")
    pq.write_table(pa.table({"text": ["From a table. And more."], "id": [7]}), folder / "c.parquet")
    found, left_out = read(folder)
    assert found == [
        Sentence("One line.", "corpus/b.txt", 0, 0),
        Sentence("It has two sentences.", "corpus/b.txt", 0, 1),
        Sentence("Mr. Smith saw Dr. Jones.", "corpus/b.txt", 2, 0),
        Sentence("From a table.", "corpus/c.parquet", 0, 0),
        Sentence("And more.", "corpus/c.parquet", 0, 1),
        Sentence("A title", "corpus/talk/a.jsonl.gz", 0, 0),
        Sentence("It rained all day.", "corpus/talk/a.jsonl.gz", 0, 1),
        Sentence("We stayed in.", "corpus/talk/a.jsonl.gz", 0, 2),
    ]
    assert not left_out
    assert found[1].id == "corpus/b.txt:0.1"


def test_a_plain_path_is_a_corpus(tmp_path: Path):
    (tmp_path / "a.txt").write_text("Only one sentence")
    assert [one.text for one in sentences(tmp_path) if isinstance(one, Sentence)] == ["Only one sentence"]
    single = list(sentences(str(tmp_path / "a.txt")))
    assert single == [Sentence("Only one sentence", f"{tmp_path.name}/a.txt", 0, 0)]


def test_wrapped_lines_are_joined_to_paragraphs(tmp_path: Path):
    (tmp_path / "a.txt").write_text("\r\nThe rain fell on\r\nthe roof. It\r\nstopped.\r\n \r\nThen came\r\nthe sun.")
    found, _ = read(tmp_path, wrapped=True)
    assert [(one.text, one.document) for one in found] == [
        ("The rain fell on the roof.", 1),
        ("It stopped.", 1),
        ("Then came the sun.", 5),
    ]
    (tmp_path / "a.txt").unlink()
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "One\ntwo.\n\nThree\nfour."}))
    found, _ = read(tmp_path, wrapped=True)
    assert [(one.text, one.number) for one in found] == [("One two.", 0), ("Three four.", 1)]


def test_files_that_are_no_text_are_dropped_with_a_reason(tmp_path: Path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "good.txt").write_text("A good sentence.")
    (folder / "notes.md").write_text("# Notes")
    (folder / "picture.txt").write_bytes(b"\x89PNG\0\0\0")
    (folder / "nothing.txt").write_bytes(b"\n \n")
    (folder / "cut.txt.gz").write_bytes(gzip.compress(b"Before the cut.\n" + bytes(range(32, 127)) * 99, 0)[:2000])
    (folder / "table.parquet").write_bytes(b"no table")
    pq.write_table(pa.table({"body": ["Text."]}), folder / "other.parquet")
    (folder / "loop").symlink_to(folder)
    found, left_out = read(folder)
    assert [one.text for one in found if one.file != "corpus/cut.txt.gz"] == ["A good sentence."]
    assert reasons(left_out) == {
        "corpus/cut.txt.gz": "unreadable_file",
        "corpus/loop": "unreadable_file",
        "corpus/nothing.txt": "empty_file",
        "corpus/notes.md": "unknown_format",
        "corpus/other.parquet": "no_text",
        "corpus/picture.txt": "binary_file",
        "corpus/table.parquet": "unreadable_file",
    }
    assert not any(str(tmp_path) in one.detail for one in left_out)
    assert next(one for one in left_out if "other" in one.example.id).detail == "there is no column 'text', but body"


def test_documents_that_are_no_text_are_dropped_with_a_reason(tmp_path: Path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    rows = [
        b'{"text": "A good sentence."}',
        b'{"text": "broken',
        b"\xff\xfe",
        b'{"text": null}',
        b'{"\\ud800": 1}',
        b'["text"]',
        b'{"text": "  \\n "}',
        b'{"text": "nul \\u0000 character"}',
        b'{"text": "half \\ud800 a pair"}',
        b"",
        b'{"text": "The last one."}',
    ]
    (folder / "a.jsonl").write_bytes(b"\n".join(rows))
    found, left_out = read(folder)
    assert [(one.text, one.document) for one in found] == [("A good sentence.", 0), ("The last one.", 10)]
    assert [(one.example.fields["document"], one.reason) for one in left_out] == [
        (1, "broken_json"),
        (2, "not_utf8"),
        (3, "no_text"),
        (4, "no_text"),
        (5, "no_text"),
        (6, "empty_document"),
        (7, "nul_character"),
        (8, "unsplittable"),
    ]
    for one in left_out:
        f"{one.example.input}{one.detail}".encode()  # it can be written


def test_rows_of_a_table_that_are_no_text_are_dropped_with_a_reason(tmp_path: Path):
    values = pa.array([b"Text as bytes.", b"\xff", None, b"The last row."])
    pq.write_table(pa.table({"text": values}), tmp_path / "a.parquet")
    buffers = pa.array([b"It is text.", b"\xff"]).buffers()
    pq.write_table(pa.table({"text": pa.Array.from_buffers(pa.string(), 2, buffers)}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"text": [1]}), tmp_path / "c.parquet")
    found, left_out = read(tmp_path)
    assert [one.text for one in found] == ["Text as bytes.", "The last row.", "It is text."]
    assert [(one.example.fields["document"], one.reason) for one in left_out] == [
        (1, "not_utf8"),
        (2, "no_text"),
        (1, "not_utf8"),
        (0, "no_text"),
    ]


def test_sentences_that_are_too_short_or_too_long_are_dropped_with_a_reason(tmp_path: Path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_text('"Alas!"\n* * *\nIt fits well. ' + "much " * 500 + "too long.\nNo one-word line.\n")
    found, left_out = read(folder)
    assert [(one.text, one.document, one.number) for one in found] == [
        ("It fits well.", 2, 0),
        ("No one-word line.", 3, 0),
    ]
    assert [(one.example.id, one.reason, one.detail) for one in left_out] == [
        ("corpus/a.txt:0.0", "short_sentence", "7 characters"),
        ("corpus/a.txt:1.0", "short_sentence", "5 characters"),
        ("corpus/a.txt:2.1", "long_sentence", "2509 characters"),
    ]
    assert left_out[2].example.input == ("much " * 500)[:200]
    assert len(read(folder, min_words=0, max_characters=10_000)[1]) == 0


def test_lines_of_megabytes_are_dropped_and_never_whole_in_memory(tmp_path: Path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    with gzip.open(folder / "a.txt.gz", "wb", compresslevel=1) as file:
        file.write(b"Before it.\n" + b"a " * 700_000 + b"\n")
        for _ in range(40):
            file.write(b"b " * 500_000)
        file.write(b"\nAfter it.\n")
    found, left_out = read(folder)
    assert [(one.text, one.document) for one in found] == [("Before it.", 0), ("After it.", 3)]
    assert [(one.reason, one.example.input[:3]) for one in left_out] == [
        ("long_paragraph", "a a"),
        ("long_document", "b b"),
    ]
    with pytest.raises(DataError, match=r"no sentence in it \(long_document 1\)"):
        read(folder, wrapped=True)  # one paragraph of 41 MB


def test_a_panic_of_the_splitter_does_not_end_the_run():
    text = "A\u2028. b"  # sentencex 1.0.32 panics on it
    assert _split(text, "en") in (None, [text])


def test_a_corpus_that_is_not_there_or_says_nothing_is_a_clear_error(tmp_path: Path):
    with pytest.raises(DataError, match="there is no such file"):
        list(sentences(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match="colum.*Did you mean 'column'"):
        list(sentences({"paths": "a", "colum": "text"}))  # type: ignore[arg-type]
    (tmp_path / "a.jsonl").write_text('{"body": "A sentence."}\n{"body": "Another one."}')
    with pytest.raises(DataError, match=r"no sentence in it \(no_text 2\); look at format and column"):
        list(sentences(tmp_path))


def test_a_file_may_not_be_in_a_corpus_twice(tmp_path: Path):
    (tmp_path / "a" / "x").mkdir(parents=True)
    (tmp_path / "b" / "x").mkdir(parents=True)
    (tmp_path / "a" / "x" / "1.txt").write_text("A sentence.")
    for other in (tmp_path / "b" / "x", tmp_path / "a" / "x" / "1.txt"):
        with pytest.raises(DataError, match="would both be 'x'"):
            read(tmp_path / "a" / "x", other)


def test_the_hash_is_of_names_and_content(tmp_path: Path):
    for place in ("a", "b"):
        (tmp_path / place / "x").mkdir(parents=True)
        (tmp_path / place / "x" / "1.txt").write_text("A sentence.")
    here, there = (Corpus(paths=(str(tmp_path / place / "x"),)) for place in ("a", "b"))
    assert content_hash(here) == content_hash(there)
    (tmp_path / "b" / "x" / "1.txt").rename(tmp_path / "b" / "x" / "2.txt")
    assert content_hash(here) != content_hash(there)
