"""All studies of a folder of traces, by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module

from trajkit.errors import InputError
from trajkit.runs.said import of_draw, of_effects
from trajkit.runs.table import RunTable
from trajkit.runs.units import of_units
from trajkit.studies.study import Advance, Make, Study
from trajkit.tables.names import feature_sets

STUDIES = {
    "trajectories": "The path of grounding",
    "metric_distributions": "Metrics by outcome",
    "concentration": "Concentration",
    "early_failure": "Failure, early",
    "outcomes": "Which outcome it was",
}
"""name → title, in the order of the report."""
N_BOOT = 1000


def check_names(names: Iterable[str]) -> list[str]:
    """The names, each once. Raises InputError where one is of no study."""
    found = list(dict.fromkeys(names))
    for name in found:
        if name not in STUDIES:
            raise InputError(f"there is no study {name!r}; there are: {', '.join(STUDIES)}.")
    return found


def make(name: str) -> Make:
    """The function that makes a study. Raises InputError for another name."""
    check_names([name])
    function: Make = getattr(import_module(f"trajkit.studies.{name}"), name)
    return function


def make_all(
    runs: RunTable, names: Sequence[str] = tuple(STUDIES), n_boot: int = N_BOOT, advance: Advance = lambda note: None
) -> tuple[list[Study], dict[str, str]]:
    """The studies that these runs allow; and for the others, their title and why not."""
    made, left_out = [], {}
    for name in names:
        work = make(name)
        try:
            study = work(runs, n_boot, partial(_advance, advance, name))
            said = filter(None, (of_draw(runs), of_effects(runs) if runs.used.any() else "", of_units(runs)))
            made.append(replace(study, reading=(*said, *study.reading)))
        except InputError as error:
            left_out[STUDIES[name]] = str(error)
    return made, left_out


def _advance(advance: Advance, name: str, note: str) -> None:
    advance(f"{STUDIES[name]}: {feature_sets(note)}")
