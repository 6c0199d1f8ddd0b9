"""The run folder: one process at a time, steps made once, one test split for good."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from understudy.errors import WorkspaceError
from understudy.records import Example
from understudy.workspace import Workspace


def rows(*texts: str) -> list[Example]:
    return [Example(id=text, input=text, target="x") for text in texts]


def test_a_second_process_is_refused_and_a_dead_ones_lock_is_taken_over(tmp_path: Path):
    program = (
        "import sys, time; from pathlib import Path; from understudy.workspace import Workspace\n"
        f"w = Workspace(Path({str(tmp_path)!r})); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(WorkspaceError, match=rf"in use by process {other.pid}.*--folder"):
            Workspace(tmp_path)
        other.kill()
    with Workspace(tmp_path):
        pass


def test_a_step_is_made_once_however_many_ask(tmp_path: Path):
    made = []

    def make():
        made.append(1)
        time.sleep(0.2)  # time for the others to come
        yield from rows("a")

    with Workspace(tmp_path) as workspace:
        threads = [threading.Thread(target=workspace.step, args=("key", "s", make)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with Workspace(tmp_path) as workspace:
        assert [row.id for row in workspace.step("key", "s", make)] == ["a"]
    assert len(made) == 1


def test_another_test_split_is_refused(tmp_path: Path):
    with Workspace(tmp_path) as workspace:
        workspace.fix_test_split(workspace.step("one", "test", lambda: rows("a", "b")))
        workspace.fix_test_split(workspace.step("same rows", "test", lambda: rows("a", "b")))
        scores = tmp_path / "arms" / "gold" / "seed-0" / "scores.json"
        scores.parent.mkdir(parents=True)
        scores.write_text("{}")
        with pytest.raises(WorkspaceError, match="test split has changed.*2 test rows.*now has 1"):
            workspace.fix_test_split(workspace.step("two", "test", lambda: rows("a")))


def test_another_choice_of_a_test_row_is_another_test_split(tmp_path: Path):
    def pairs(*bad: str) -> list[Example]:
        return [Example(id="a", input="It rains.", target="It rains.", choices=("It rains.", one)) for one in bad]

    with Workspace(tmp_path) as workspace:
        digests = {
            workspace.fix_test_split(workspace.step(one, "test", lambda one=one: pairs(one)))
            for one in ("It rain.", "Rain it.")
        }
    assert len(digests) == 2


def test_a_changed_study_says_what_differs(tmp_path: Path):
    study = {"name": "s", "student": {"steps": 4, "base": "m"}, "arms": {"gold": {"chain": ["gold"]}}}
    changed = {"name": "s", "student": {"steps": 5, "base": "m"}, "arms": {"answers": {"chain": ["answers"]}}}
    with Workspace(tmp_path) as workspace:
        assert workspace.keep_study(study) == []
        assert workspace.keep_study(study) == []
        assert workspace.keep_study(changed) == [
            "student.steps: 4 -> 5",
            "arms.gold.chain: [gold] -> not set",
            "arms.answers.chain: not set -> [answers]",
        ]


def test_a_file_in_the_way_is_one_clear_line(tmp_path: Path):
    (tmp_path / "run").write_text("")
    with pytest.raises(WorkspaceError, match="is a file; name another run folder"):
        Workspace(tmp_path / "run")
