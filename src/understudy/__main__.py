"""``python -m understudy``: the same commands."""

from understudy.cli import main

main()
