"""What `trajkit evaluate` shows and writes: tables, how to read them, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.attribution.evaluation import Scored
    from trajkit.tables import Estimate, Table

ESTIMATOR, RAW = "estimator", "raw attention"
REFERENCE, FLOOR = "leave-one-out (measured)", "random (floor)"
METRICS = ("path_length", "tortuosity", "mean_step", "switch_rate", "hhi_level", "hhi_spread")
"""Run metrics on the screen; the file has all."""
MILLISECONDS = "ms per token"
_CAVEAT = (
    "Over all steps r² and R² are about a few large ones, and reward knowing how much a step depends on the image: "
    "compare with raw attention's top region × one number a step (its measured size: nobody has it)."
)


def show_evaluation(
    scored: Sequence[Scored],
    table: pd.DataFrame,
    by_family: Mapping[str, pd.DataFrame],
    reliability: pd.DataFrame,
    warned: Sequence[str],
    seed: int = 0,
) -> None:
    """Tables and a conclusion on stdout. table, by_family: as by `band_table`; reliability: as by
    `metric_reliability`; warned: sentences about the images."""
    from trajkit.attribution.faithfulness import GROUNDED
    from trajkit.attribution.figures import ALL, BANDS, GROUNDED_STEPS, step_counts
    from trajkit.attribution.verdict import conclude, reliable_metrics
    from trajkit.cli.output import stdout
    from trajkit.tables import Table, joined
    from trajkit.tables.render import show
    from trajkit.tables.words import count, estimate

    counts = step_counts(scored)
    (grounded, _), (steps, groups) = counts[GROUNDED_STEPS], counts[ALL]
    sizes = [band for band in BANDS if band not in (ALL, GROUNDED_STEPS) and counts[band][0]]
    about = f"the {grounded:,} of {count(steps, 'step')} of {count(groups, 'image')} that depend on the image"
    screen = stdout()
    if grounded:
        own = [(GROUNDED_STEPS, figure) for figure in ("top-1", "LDS", "r²", "drop@1", "drop@5")]
        show(screen, side_by_side(table, own), f"On {about} (an effect of at least {GROUNDED:g} nats)")
    of_each = ", ".join(f"{counts[band][0]:,} of {band}" for band in sizes)
    of_sizes = [(band, figure) for figure in ("top-1", "r²") for band in sizes]
    show(screen, side_by_side(table, of_sizes), f"By the largest effect of a step: {of_each}")
    if by_family:
        title = "Steps that depend on the image, by task set: the estimator, raw attention and leave-one-out"
        show(screen, family_table(by_family), title)
    shown = joined(reliability.set_index("metric").loc[list(METRICS)].reset_index(), "value")
    of_metrics = Table(shown, {"metric": "metric", "value": "Spearman", "runs": "runs"}, {"value": estimate})
    show(screen, of_metrics, "Run metrics of estimated effects, beside those of measured")
    every = [(ALL, figure) for figure in ("LDS", MILLISECONDS, "R²", "r²")]
    show(screen, side_by_side(table, every), f"On all {count(steps, 'step')}")

    def say(text: str) -> None:
        screen.print(text, soft_wrap=not screen.is_terminal)

    say("top-1: share of steps whose top region is the measured one. LDS: rank correlation over random masks.")
    say("drop@n: nats a step loses when the n regions ranked first are hidden together; larger is better.")
    say("r², R²: with the measured effect of hiding each region.")
    say(_CAVEAT)
    if groups < 20:
        say(f"Only {count(groups, 'image')}: take the intervals with care.")
    screen.print()
    for warning in warned:
        say(f"{warning[0].upper()}{warning[1:]}")
    say(conclude(scored, ESTIMATOR, RAW, seed=seed).text)
    if metrics := reliable_metrics(reliability, METRICS):
        say(metrics)


def side_by_side(table: pd.DataFrame, columns: Sequence[tuple[str, str]]) -> Table:
    """Methods down, (band, figure) columns across, each cell an `Estimate`; columns that no method has left out.

    table: as by `band_table`. Headings name the band too where the columns are of several.
    """
    from trajkit.attribution.evaluation import ESTIMATED_GATE, ORACLE_GATE

    several = len({band for band, _ in columns}) > 1
    headings = [f"{figure}, {band}" if several else figure for band, figure in columns]
    first = [ESTIMATOR, RAW, ESTIMATED_GATE, ORACLE_GATE]
    methods = list(dict.fromkeys([*first, *table["method"]]))
    rows = _placed(table, [(band, figure) for band, figure in columns], ["band", "figure"])
    rows = rows.sort_values(["method", "place"], key=lambda c: c.map(methods.index) if c.name == "method" else c)
    return _across(rows, "method", headings)


def family_table(tables: Mapping[str, pd.DataFrame]) -> Table:
    """Task sets down, how well methods do on their grounded steps across. tables: by task set, as by `band_table`."""
    import pandas as pd

    from trajkit.attribution.figures import GROUNDED_STEPS

    columns = [(method, figure) for figure in ("top-1", "LDS") for method in (ESTIMATOR, RAW)] + [(REFERENCE, "LDS")]
    headings = ["top-1", "raw attention, top-1", "LDS", "raw attention, LDS", "leave-one-out, LDS"]
    parts = [own[own["band"] == GROUNDED_STEPS].assign(task_set=family) for family, own in tables.items()]
    return _across(_placed(pd.concat(parts), columns, ["method", "figure"]), "task_set", headings, steps="steps")


def _placed(table: pd.DataFrame, places: Sequence[tuple[str, str]], by: list[str]) -> pd.DataFrame:
    """The rows whose columns `by` name one of `places`, with its number as `place` and an `Estimate` as `value`; one of
    time has no interval."""
    from trajkit.tables import joined

    number = {place: i for i, place in enumerate(places)}
    place = [number.get((row[by[0]], row[by[1]]), -1) for row in table.to_dict("records")]
    rows = joined(table.assign(place=place).query("place >= 0"), "value")
    rows["value"] = [
        cell.value if figure == MILLISECONDS else cell
        for cell, figure in zip(rows["value"], rows["figure"], strict=True)
    ]
    return rows.sort_values("place", kind="stable")


def _across(rows: pd.DataFrame, down: str, headings: Sequence[str], **more: str) -> Table:
    from trajkit.tables import Across, Table

    across = Across("place", "value", lambda place: headings[place])
    return Table(rows, {down: down.replace("_", " ")} | more, {"value": _said}, across=across)


def _said(cell: Estimate | float) -> str:
    from trajkit.tables import Estimate
    from trajkit.tables.words import estimate, metric

    return estimate(cell) if isinstance(cell, Estimate) else metric(cell)


def check_table(path: Path) -> None:
    """Raise InputError, before any work, where a table cannot be written to `path`, or where another file is: only the
    table of an earlier evaluation is replaced."""
    from trajkit.errors import InputError
    from trajkit.files import check_file

    check_file(path)
    if not path.is_file() or path.stat().st_size == 0:
        return
    with open(path, "rb") as file:
        ours = file.read(len(_FIRST)) == _FIRST
    if not ours:
        raise InputError(f"{path} is there and is no table of an evaluation; --out would replace it: name a new file.")


def write_tables(
    table: pd.DataFrame, by_family: Mapping[str, pd.DataFrame], reliability: pd.DataFrame, path: Path
) -> None:
    """All tables as one CSV file; the column task_set is empty where it is about all runs.

    Reliability of run metrics stands in rows of the estimator whose band is empty, with runs for steps.
    """
    import pandas as pd

    from trajkit.files import write_text
    from trajkit.text import for_spreadsheet

    metrics = reliability.rename(columns={"runs": "steps"}).assign(
        method=ESTIMATOR, figure="Spearman of " + reliability["metric"], band=""
    )
    parts = [table.assign(task_set=""), metrics.drop(columns="metric").assign(task_set="")]
    parts += [own.assign(task_set=family) for family, own in by_family.items()]
    write_text(path, for_spreadsheet(pd.concat(parts)))


_FIRST = b"method,figure,value,"
"""How the CSV file begins."""
