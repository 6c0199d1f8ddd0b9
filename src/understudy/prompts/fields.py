"""A row as a tuned teacher reads and writes it: task tag, input, output, end.

Nothing about the form is known from the paper. With this one a single model does both jobs: it annotates by going on
from an input, and generates by going on from the tag, or from a label.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from understudy.errors import ParseError
from understudy.prompts.loose_json import short
from understudy.records import Example

TASK, INPUT, OUTPUT = "### Task: {}\n", "### Input:\n", "### Output:\n"
MARKS = TASK + INPUT + OUTPUT
"""Where they change, other models are trained and other replies are asked for."""


@dataclass(frozen=True)
class Form:
    """The texts of one task, by what the teacher is to do with it."""

    tag: str
    """What tells the task from others."""
    annotates: bool
    starts_at: str | None
    """Where it generates from, ``tag`` or ``label``; ``None`` where it does not."""
    is_multilabel: bool = False
    """Whether the answers of a row are one output, not several references."""

    def to_annotate(self, input: str) -> str:
        """What an output follows."""
        return TASK.format(self.tag) + INPUT + f"{input}\n" + OUTPUT

    def to_generate(self, label: str | None = None) -> str:
        """What an input of this label follows; without one, an input and then its output."""
        return TASK.format(self.tag) + (INPUT if label is None else OUTPUT + f"{label}\n" + INPUT)

    def lessons(self, rows: Iterable[Example]) -> Iterator[Example]:
        """What a causal language model learns of solved rows: the input is what stands before, the target what follows.

        From the tag it learns to annotate too.
        """
        for row in rows:
            for output in (", ".join(row.answers),) if self.is_multilabel else row.answers:
                if self.starts_at == "tag":
                    yield Example(id=row.id, input=self.to_generate(), target=f"{row.input}\n{OUTPUT}{output}")
                    continue
                if self.annotates:
                    yield Example(id=row.id, input=self.to_annotate(row.input), target=output)
                if self.starts_at == "label":
                    yield Example(id=row.id, input=self.to_generate(output), target=row.input)

    def told(self) -> str:
        """The texts that it learns, for a model card."""
        texts = self.lessons([Example(id="", input="<input>", target="<output>")])
        return " and ".join(f"`{one.input}{one.target}`".replace("\n", r"\n") for one in texts)


def read_pair(text: str) -> tuple[str, str]:
    """Input and output of what follows the tag alone.

    Raises:
        ParseError: ``not_the_form``: there is not just one mark between them.
    """
    parts = text.split("\n" + OUTPUT)
    if len(parts) != 2:
        raise ParseError("not_the_form", f"{OUTPUT.strip()!r} stands {len(parts) - 1} times in {short(text)}")
    return parts[0], parts[1]
