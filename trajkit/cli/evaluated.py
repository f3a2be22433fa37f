"""What `trajkit evaluate` shows and writes: tables, how to read them, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.attribution.evaluation import Scored

ESTIMATOR, RAW = "estimator", "raw attention"
REFERENCE, FLOOR = "leave-one-out (measured)", "random (floor)"
METRICS = ("path_length", "tortuosity", "mean_step", "switch_rate", "hhi_level", "hhi_spread")
"""Run metrics on the screen; the file has all."""
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
    from trajkit.attribution.evaluation import GROUNDED
    from trajkit.attribution.figures import ALL, BANDS, GROUNDED_STEPS, step_counts
    from trajkit.attribution.verdict import conclude, reliable_metrics
    from trajkit.cli.output import show_frame, stdout

    counts = step_counts(scored)
    (grounded, _), (steps, groups) = counts[GROUNDED_STEPS], counts[ALL]
    sizes = [band for band in BANDS if band not in (ALL, GROUNDED_STEPS) and counts[band][0]]
    about = f"the {grounded} of {steps} steps of {groups} images that depend on the image"
    if grounded:
        own = [(GROUNDED_STEPS, figure) for figure in ("top-1", "LDS", "r²", "drop@1", "drop@5")]
        show_frame(stdout(), wide(table, own), f"On {about} (an effect of at least {GROUNDED:g} nats)")
    of_each = ", ".join(f"{counts[band][0]} of {band}" for band in sizes)
    show_frame(
        stdout(),
        wide(table, [(band, figure) for figure in ("top-1", "r²") for band in sizes], with_band=True),
        f"By the largest effect of a step: {of_each}",
    )
    if by_family:
        title = "Steps that depend on the image, by task set: the estimator, raw attention and leave-one-out"
        show_frame(stdout(), _by_family(by_family), title)
    shown = reliability.set_index("metric").loc[list(METRICS)].reset_index()
    shown["Spearman"] = [_beside(row) for row in shown.itertuples()]
    show_frame(
        stdout(), shown[["metric", "Spearman", "runs"]], "Run metrics of estimated effects, beside those of measured"
    )
    every = [(ALL, figure) for figure in ("LDS", "ms per token", "R²", "r²")]
    show_frame(stdout(), wide(table, every), f"On all {steps} steps")
    typer.echo("top-1: share of steps whose top region is the measured one. LDS: rank correlation over random masks.")
    typer.echo("drop@n: nats a step loses when the n regions ranked first are hidden together; larger is better.")
    typer.echo("r², R²: with the measured effect of hiding each region.")
    typer.echo(_CAVEAT)
    if groups < 20:
        typer.echo(f"Only {groups} images: take the intervals with care.")
    typer.echo()
    for warning in warned:
        typer.echo(f"{warning[0].upper()}{warning[1:]}")
    typer.echo(conclude(scored, ESTIMATOR, RAW, seed=seed).text)
    if metrics := reliable_metrics(reliability, METRICS):
        typer.echo(metrics)


def wide(table: pd.DataFrame, columns: Sequence[tuple[str, str]], with_band: bool = False) -> pd.DataFrame:
    """Methods down, (band, figure) columns across, each cell a value with its interval; columns without any left out.

    with_band: headings name both.
    """
    import pandas as pd

    from trajkit.attribution.evaluation import ESTIMATED_GATE, ORACLE_GATE

    cells = {(r.band, r.figure, r.method): _cell(r) for r in table.itertuples()}
    methods = list(dict.fromkeys(table["method"]))
    first = [method for method in (ESTIMATOR, RAW, ESTIMATED_GATE, ORACLE_GATE) if method in methods]
    shown = [c for c in columns if any((*c, method) in cells for method in methods)]
    return pd.DataFrame(
        [
            {"method": method} | {", ".join((c[1], c[0])[: 1 + with_band]): cells.get((*c, method), "") for c in shown}
            for method in dict.fromkeys([*first, *methods])
        ]
    )


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


def _cell(row: Any) -> str:
    """A value above its interval: side by side they would not fit a terminal."""
    if row.figure == "ms per token":
        return f"{row.value:.2g}"
    return f"{row.value:.2f}" + (f"\n{row.low:.2f}–{row.high:.2f}" if row.low == row.low else "")


def _beside(row: Any) -> str:
    """A value and its interval, if it has one."""
    if row.value != row.value:
        return ""
    return f"{row.value:.2f}" + (f" ({row.low:.2f} to {row.high:.2f})" if row.low == row.low else "")


def _by_family(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    from trajkit.attribution.figures import GROUNDED_STEPS

    rows = []
    for family, table in tables.items():
        own = table[table["band"] == GROUNDED_STEPS]
        value = own.set_index(["method", "figure"])["value"].round(2)
        row = {"task set": family, "steps": int(own["steps"].max()) if len(own) else 0}
        for figure in ("top-1", "LDS"):
            row |= {
                figure: value.get((ESTIMATOR, figure), ""),
                f"raw attention, {figure}": value.get((RAW, figure), ""),
            }
        rows.append(row | {"leave-one-out, LDS": value.get((REFERENCE, "LDS"), "")})
    return pd.DataFrame(rows)
