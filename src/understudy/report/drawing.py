"""How every picture of a report looks. Pictures alone need matplotlib."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

from understudy.errors import MissingPackage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart, without their yellow, which is pale on white. Markers
# and dashes say the same again, for print without colour.
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "os^DvPX*"
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1)))
_LONGEST_NAME = 30
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "understudy",  # or ids are drawn at random
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def picture_of(
    draw: Callable[[Figure], None],
    title: str,
    format: str = "svg",
    size_inches: tuple[float, float] = (7.2, 3.8),
) -> bytes:
    """A picture; the same drawing gives the same bytes.

    Args:
        format: any that matplotlib writes.

    Raises:
        MissingPackage: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackage(f"the picture needs {error.name}: pip install 'understudy[pictures]'") from error

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever the user's own style is
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=size_inches, layout="constrained")
        draw(figure)
        image = BytesIO()
        metadata = {"Date": None, "Title": title} if format == "svg" else {}
        figure.savefig(image, format=format, metadata=metadata, dpi=150)
    return image.getvalue()


def shortened(text: str) -> str:
    """A name as it stands in a picture."""
    short = text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"
    return short.replace("$", r"\$")  # or what stands between two of them is set as mathematics
