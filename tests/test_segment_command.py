"""`understudy segment`: what a person sees of a file's reasoning."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from reasoning import problem, write_reasoner
from toys import write_jsonl
from typer.testing import CliRunner

from understudy.cli import app
from understudy.errors import DataError, SettingsError

ROWS = [problem(number) for number in range(12)]


def command(*arguments: str | Path) -> tuple[str, str]:
    """Stdout and stderr; errors of ours pass through."""
    done = CliRunner().invoke(app, ["segment", *map(str, arguments)], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    assert not done.exit_code
    return done.stdout, done.stderr


def as_json(*arguments: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in command(*arguments, "--json")[0].splitlines()]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "rows.jsonl", ROWS)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_reasoner(tmp_path_factory.mktemp("reasoner") / "model")


def test_pieces_with_scores_tags_and_the_threshold(file: Path):
    out, err = command(file, "--limit", "1", "--score", "location")
    assert err == ""
    assert out.splitlines() == [
        "Tom has 2 apples. Tom buys 3 more apples. How many apples are there?",
        "   1 es 0.000 | Tom has 2 apples.",
        "   2 as 1.000 | Tom buys 3 more apples.",
        "   3 es 0.000 | So that makes 2 + 3 = 5 in all.",
        "     threshold 0.467, 1.4 x the mean",
        "",
        "1 row, 3 pieces, 33% of them abstractive",
    ]


def test_the_answer_is_added_as_in_a_study(tmp_path: Path):
    file = write_jsonl(tmp_path / "rows.jsonl", [ROWS[0] | {"answer": 5}, ROWS[1] | {"rationale": "So it is 7."}])
    (first,) = as_json(file, "--limit", "1", "--score", "location", "--answer", "answer", "--phrase", "It comes to")
    assert [piece["text"] for piece in first["pieces"]][-1] == "It comes to 5."
    with pytest.raises(DataError, match="'answer'"):
        as_json(file, "--score", "location", "--answer", "answer")


def test_neighbours_of_one_tag_are_one_segment_unless_told_otherwise(file: Path):
    similar = ("--score", "rouge_l", "--beta", "1", "--limit", "1")
    numbers = [[piece["segment"] for piece in row["pieces"]] for row in as_json(file, *similar)]
    assert numbers == [[1, 1, 2]]
    assert [line[:8] for line in command(file, *similar)[0].splitlines()[1:4]] == ["   1 as ", "     as ", "   2 es "]
    (row,) = as_json(file, *similar, "--no-merge")
    assert [piece["segment"] for piece in row["pieces"]] == [1, 2, 3]
    (row,) = as_json(file, *similar, "--reverse")
    assert [piece["tag"] for piece in row["pieces"]] == ["es", "es", "as"]


def test_json_has_a_line_a_row_and_the_count_apart(file: Path):
    out, err = command(file, "--json", "--score", "location", "--limit", "0")
    told = [json.loads(line) for line in out.splitlines()]
    assert [one["question"] for one in told] == [row["question"] for row in ROWS]
    assert ["".join(piece["text"] for piece in one["pieces"]) for one in told] == [row["rationale"] for row in ROWS]
    assert list(told[0]["pieces"][0]) == ["text", "score", "ratio", "tag", "segment"]
    assert err == "12 rows, 36 pieces, 33% of them abstractive\n"
    assert len(as_json(file)) == 10


def test_tags_have_colours_on_a_terminal(file: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    out, _ = command(file, "--limit", "1", "--score", "location")
    assert "\x1b[36mes 0.000 | Tom has 2 apples.\x1b[0m" in out
    assert "\x1b[1;33mas 1.000 | Tom buys 3 more apples.\x1b[0m" in out


def test_every_kind_of_file_and_a_template_for_the_question(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"Body": row["question"], "Hint": "Think.", "why": row["rationale"]} for row in ROWS]
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    cells = [",".join(f'"{cell}"' for cell in row.values()) for row in rows]
    (tmp_path / "rows.csv").write_text("\n".join(["Body,Hint,why", *cells]) + "\n")
    options = ("--question", "{{ Hint }} {{ Body }}", "--text", "why", "--score", "bleu")
    found = [as_json(tmp_path / name, *options) for name in ("rows.jsonl.gz", "rows.parquet", "rows.csv")]
    assert found[0] == found[1] == found[2]
    assert found[0][0]["question"] == f"Think. {ROWS[0]['question']}"


@pytest.mark.slow
def test_a_trained_student_scores(file: Path, student: str):
    sums, means = as_json(file, "--scorer", student), as_json(file, "--scorer", student, "--average")
    assert len(sums) == 10
    assert all(0 < mean["score"] < total["score"]
               for one, other in zip(sums, means, strict=True)
               for total, mean in zip(one["pieces"], other["pieces"], strict=True))  # fmt: skip
    assert as_json(file, "--scorer", student, "--score", "loss") != sums
    assert as_json(file, "--scorer", student, "--sees", "earlier") != sums
    few = as_json(file, "--scorer", student, "--limit", "2")
    assert [[piece["tag"] for piece in row["pieces"]] for row in few] == [
        [piece["tag"] for piece in row["pieces"]] for row in sums[:2]
    ]


def test_rows_without_a_text_are_told_and_counted(tmp_path: Path):
    rows = [ROWS[0], {"question": "Why?", "rationale": None}, {"question": "How?", "rationale": " \n"}, ROWS[1]]
    file = write_jsonl(tmp_path / "rows.jsonl", rows)
    out, _ = command(file, "--score", "location")
    assert "\nWhy?\n     no pieces\n" in out
    assert out.endswith("\n4 rows, 6 pieces, 33% of them abstractive; 2 without a piece\n")
    assert [len(one["pieces"]) for one in as_json(file)] == [3, 0, 0, 3]
    only = write_jsonl(tmp_path / "only.jsonl", rows[1:2])
    assert command(only)[0].endswith("\n1 row, 0 pieces; 1 without a piece\n")


def test_what_a_terminal_would_obey_is_not_printed(tmp_path: Path):
    bad = {"question": "[red]A\x1b[2Jb[/red]", "rationale": "One\rtwo\x07 three\tfour :smile: five."}
    out, _ = command(write_jsonl(tmp_path / "rows.jsonl", [bad]), "--score", "location")
    assert out.startswith("[red]A[2Jb[/red]\n   1 es 0.000 | One two three four :smile: five.\n")


def test_wrong_options_are_one_clear_line(file: Path, student: str, tmp_path: Path):
    for arguments, said in {
        ("--score", "entropi"): r"^score: .*'entropy', 'loss', 'bleu', .*got 'entropi'",
        ("--score", "loss"): r"--score loss is that of a trained student: name its folder with --scorer",
        ("--score", "bleu", "--average"): r"go with --score entropy or loss, not with bleu",
        ("--short", "cut"): r"^short: .*'merge', 'drop' or 'keep' .*got 'cut'",
        ("--sees", "all", "--scorer", student): r"^sees: .*'question' or 'earlier' .*got 'all'",
        ("--text", "rational"): r"--text: .* has no column 'rational'. Did you mean 'rationale'\? Known: question, rat",
        ("--question", "{{ Body }}"): r"--question: .* has no column 'Body'. Known: question, rationale",
        ("--question", "{{ question"): r"template '{{ question', line 1",
    }.items():
        with pytest.raises(SettingsError, match=said):
            command(file, *arguments)
    for path, said in {"nothing.jsonl": "there is no such file", "rows.odd": "says nothing about the format"}.items():
        with pytest.raises(DataError, match=said):
            command(tmp_path / path)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match="holds no rows"):
        command(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match="there is no folder"):
        command(file, "--scorer", tmp_path / "nowhere")


@pytest.mark.slow
def test_a_student_that_reads_another_prompt_is_no_scorer(file: Path, tmp_path: Path):
    other = write_reasoner(tmp_path / "model", prompt="question", steps=1)
    with pytest.raises(DataError, match="has not learnt to write reasoning"):
        command(file, "--scorer", other)


@pytest.mark.slow
def test_an_error_is_one_line_and_exit_code_2(file: Path):
    call = [sys.executable, "-m", "understudy", "segment", str(file), "--score", "entropy"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: --score entropy is that of a trained student")
