"""How the pictures of reports are drawn: quiet axes, the colours of trajkit, SVG without a date in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

from trajkit.files import replacing
from trajkit.studies.pictures import STYLE
from trajkit.studies.pictures import panels as panels

COLOURS = {"qwen3_vl": "#23527c", "qwen2_5_vl": "#d1590b", "glm4v": "#1b8a6b"}
"""A colour for each demo model."""
COUNTS = mpl.colors.LinearSegmentedColormap.from_list("counts", ["#a9c6e3", "#23527c", "#0a1f33"])
"""For counts: one is seen on white, too."""

mpl.rcParams.update(STYLE)


def interval(ax: Any, x: Any, table: Any, colour: str, label: str, style: str = "-") -> None:
    """A line through `value` with a band from `low` to `high`."""
    ax.plot(x, table["value"], style, marker="o", ms=4, color=colour, label=label)
    ax.fill_between(x, table["low"], table["high"], color=colour, alpha=0.13, lw=0)


def save(figure: Any, out: Path, suffix: str = ".svg") -> Path:
    """Write the picture beside the report `out`, under its name; returns where."""
    path = out.with_suffix(suffix)
    with replacing(path) as stream:
        figure.savefig(stream, format=suffix[1:], metadata={"Date": None} if suffix == ".svg" else None)
    return path
