"""What loads when nothing is asked for: a list of modules, not a clock."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "datasets", "pyarrow", "ray", "sklearn", "numpy", "aiohttp", "pyreqwest"}


@pytest.mark.parametrize("line", ["import understudy", "import understudy.cli", "from understudy import Example, Task"])
def test_an_import_loads_nothing_heavy(line: str):
    assert loaded(line) & HEAVY == set()


def test_help_loads_nothing_heavy():
    line = (
        "import sys; sys.argv = ['understudy', '--help']\n"
        "import understudy.cli\n"
        "try: understudy.cli.main()\n"
        "except SystemExit as end: assert not end.code"
    )
    assert loaded(line) & HEAVY == set()


def test_a_study_is_read_and_checked_without_a_framework():
    assert (
        loaded("import understudy.study, understudy.teachers") & {"torch", "transformers", "datasets", "ray"} == set()
    )


def loaded(lines: str) -> set[str]:
    program = f"{lines}\nimport sys; print('LOADED', *{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("LOADED")[2].split())
