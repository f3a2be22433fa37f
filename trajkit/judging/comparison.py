"""Every comparison of runs by how they ended: one set of metrics, one correction, one p that every page prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trajkit.detection.splits import compared_outcomes
from trajkit.errors import InputError
from trajkit.runs.said import of_draw
from trajkit.stats.compare import PERMUTATIONS, TASK, compare
from trajkit.stats.resampling import MIN_GROUPS
from trajkit.tables import Across, Estimate, Table, words
from trajkit.tables.names import OUTCOME_ORDER, metric_name, outcome_name
from trajkit.tables.table import Format

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.runs.source import Source
    from trajkit.runs.table import RunTable

METRICS = (
    "n_steps",
    "n_tokens",
    "path_length",
    "mean_step",
    "tortuosity",
    "straightness",
    "mean_cosine",
    "turning_entropy",
    "sinuosity",
    "msd_exponent",
    "switch_rate",
    "revisit_rate",
    "dwell_time",
    "recurrence_rate",
    "hhi_level",
    "hhi_slope",
    "hhi_spread",
    "logprob_mean",
    "entropy_mean",
)
"""Columns of `RunTable.table`, each read at the end of a run's thinking."""
DRAWS = 1000
"""Of groups, behind each interval of δ."""
LEVEL = 0.05
SHOWN = {
    "metric": "metric",
    "a": "a",
    "b": "b",
    "n_a": "runs a",
    "n_b": "runs b",
    "delta": "Cliff's δ (95 %)",
    "delta_tested": "δ tested",
    "p_corrected": "p",
    "verdict": "verdict",
}
"""Columns that people read, and their headings."""
_FORMATS: dict[str, Format] = {
    "delta": words.difference,
    "delta_tested": words.signed,
    "p_corrected": words.p_value,
    "p_permutation": words.p_value,
    "p_mannwhitney": words.p_value,
    "p_group_means": words.p_value,
}


@dataclass(frozen=True)
class Difference:
    """A metric between runs that ended in `a` and runs that ended in `b`, as `stats.compare` says each number.

    n_a, n_b: runs where the metric is finite; left_out: those where it is not, or that ended otherwise than can be
    compared. delta: Cliff's δ within task family and question form, > 0 where a is higher, with its 95 % interval.
    delta_tested: the part of it that p_permutation tests; p_corrected: by Holm over the whole family of `Comparison`.
    """

    metric: str
    a: str
    b: str
    n_a: int
    n_b: int
    left_out: int
    mean_a: float
    mean_b: float
    median_a: float
    median_b: float
    delta: Estimate
    delta_tested: float
    p_mannwhitney: float
    p_group_means: float
    p_permutation: float
    p_corrected: float

    @property
    def tested(self) -> bool:
        """Whether any label could be exchanged within task."""
        return bool(np.isfinite(self.p_corrected))

    @property
    def told_apart(self) -> bool:
        return self.p_corrected < LEVEL

    @property
    def signs_differ(self) -> bool:
        """δ and the part of it that is tested point in different directions, as they are written with two decimals:
        then none is to be read."""
        return round(self.delta.value, 2) * round(self.delta_tested, 2) < 0

    @property
    def verdict(self) -> str:
        """In words: a higher, b higher, not told apart, not tested; and that signs differ where they do."""
        if not self.tested:
            return "not tested"
        if self.told_apart and not self.signs_differ:
            return "a higher" if self.delta_tested > 0 else "b higher"
        return ("differ" if self.told_apart else "not told apart") + (", signs differ" if self.signs_differ else "")


@dataclass(frozen=True)
class Comparison:
    """All differences of a table of runs, a metric and pair each; the family that p is corrected over.

    drawn: of how many runs these were drawn, and how, where not all were compared.

    Terminal, report, studies and files read this one result, so that a metric and pair have the same numbers in all.

    See also: `compare_runs`, `Table`.

    >>> found = tk.judging.compare_runs(runs, draws=200)
    >>> len(found.metrics), found.pairs
    (19, (('hallucination', 'reasoning_failure'), ('hallucination', 'success'), ('reasoning_failure', 'success')))
    >>> table = found.table(["path_length"], ("hallucination", "success"))
    >>> table.plain()[["metric", "a", "b", "delta", "p_corrected"]].round(2)
            metric              a        b  delta  p_corrected
    0  path_length  hallucination  success  -0.14          1.0
    >>> print(found.family)
    p by permutation (10,000 shuffles that keep groups together), corrected by Holm over 57 tests: 19 ...
    """

    differences: tuple[Difference, ...]
    shuffles: int
    draws: int
    drawn: str = ""

    def __repr__(self) -> str:
        apart = sum(one.told_apart for one in self.differences)
        return f"Comparison({apart} of {words.count(len(self.differences), 'difference')} told apart; print it for all)"

    def _repr_html_(self) -> str:
        from trajkit.notebook.results import comparison_html

        return comparison_html(self)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those that are compared, in the order of METRICS."""
        return tuple(dict.fromkeys(one.metric for one in self.differences))

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Outcomes that are compared with each other."""
        return tuple(dict.fromkeys((one.a, one.b) for one in self.differences))

    def of(self, metrics: Sequence[str] = (), pair: tuple[str, str] | None = None) -> tuple[Difference, ...]:
        """The differences in some metrics, or all; between one pair of outcomes, or all."""
        return tuple(
            one
            for one in self.differences
            if (not metrics or one.metric in metrics) and (pair is None or (one.a, one.b) == pair)
        )

    @property
    def family(self) -> str:
        """What Holm runs over, and what else p is: a sentence for beside a table."""
        tests = sum(one.tested for one in self.differences)
        made = f"{words.count(len(self.metrics), 'metric')} between {words.count(len(self.pairs), 'pair')} of outcomes"
        if not tests:
            return f"Nothing could be tested of {made}: too few runs, or no task with runs of both outcomes."
        return (
            f"p by permutation ({self.shuffles:,} shuffles that keep groups together), corrected by Holm over "
            f"{words.count(tests, 'test')}: {made}, as far as they can be tested."
        )

    def table(
        self, metrics: Sequence[str] = (), pair: tuple[str, str] | None = None, shown: Sequence[str] = tuple(SHOWN)
    ) -> Table:
        """A row a difference (`of`); a file has all columns with all digits.

        shown: columns that people read, of SHOWN or the fields of Difference.
        """
        import pandas as pd

        some = self.of(metrics, pair)
        frame = pd.DataFrame([vars(one) | {"verdict": one.verdict} for one in some], columns=_COLUMNS)
        headings = {name: SHOWN.get(name, _HEADINGS.get(name, name)) for name in shown}
        return Table(frame, headings, _FORMATS, self.note(some), names=_NAMES)

    def note(self, some: Sequence[Difference]) -> str:
        """What is to be known of the numbers in a table of some differences."""
        said = [f"{self.family} {self.drawn}".rstrip()]
        if len(some) < len(self.differences):
            said[0] += " Only a part of them is shown here."
        said.append(
            "δ compares runs of one task family and question form, and is > 0 where a is higher; its interval "
            "resamples groups and is not corrected. p is of “δ tested”: what is left of δ when labels are exchanged "
            "only among groups of as many runs, since large groups may both end otherwise and have other values."
        )
        if any(one.signs_differ for one in some):
            said.append("Signs differ where δ and its tested part do: no direction is to be read there.")
        if any(not one.delta.has_interval for one in some):
            said.append(
                f"No interval: a side has runs of under {MIN_GROUPS} groups (a δ of 1 or −1 has an exact bound all the "
                "same), all runs are tied, or no task has runs of both outcomes; read p with care there."
            )
        return " ".join(said)

    def __str__(self) -> str:
        from trajkit.tables.render import text

        return text(self.table())


_COLUMNS = [*Difference.__dataclass_fields__, "verdict"]
_HEADINGS = {
    "median_a": "median a",
    "median_b": "median b",
    "p_mannwhitney": "p, Mann-Whitney",
    "p_permutation": "p, permutation",
}
_NAMES = {"metric": metric_name, "a": outcome_name, "b": outcome_name}


def medians(runs: pd.DataFrame) -> Table:
    """Runs and groups of each outcome, and the median of each of METRICS at the end of thinking, outcomes side by side.

    runs: as `RunTable.table`. Infinite values (a path back to its start) count, NaN do not; a metric that no run has is
    left out, and one that some runs lack says of how many it is.
    """
    import pandas as pd

    by = runs.groupby("outcome")
    told = [name for name in METRICS if runs[name].notna().any()]
    columns = {"runs": by.size(), "groups": by["group_id"].nunique()} | {name: by[name].median() for name in told}
    order = [name for name in OUTCOME_ORDER if name in by.groups]
    frame = pd.DataFrame(
        [{"metric": name, "outcome": one, "value": values[one]} for name, values in columns.items() for one in order]
    )
    has, n = int(runs["path_length"].notna().sum()), len(runs)
    said = f"What is about effects is of the {has:,} of {words.count(n, 'run')} that have them." if 0 < has < n else ""
    return Table(
        frame,
        {"metric": "runs, groups, and median of"},
        {"value": words.metric},
        said,
        across=Across("outcome", "value", outcome_name),
        names={"metric": metric_name},
    )


def compare_runs(runs: RunTable | Source, draws: int = DRAWS) -> Comparison:
    """Compare METRICS between every two outcomes of some runs, within task family and question form.

    runs: their path, themselves, or a table of them that was read with metrics and prefix features; those without a
    path are left out, and of very many some are drawn (`RunTable.drawn`). A metric takes part where it is finite in
    runs of two outcomes and not the same in all. draws: of groups, behind each interval. Raises InputError where fewer
    than two known outcomes are there, no metric can be compared, or the table was read without them.

    See also: `Comparison`, `compare`, `run_table`.

    >>> found = tk.judging.compare_runs(runs, draws=200)
    >>> one = found.of(["entropy_mean"], ("hallucination", "success"))[0]
    >>> round(one.delta.value, 2), one.verdict
    (0.74, 'a higher')
    """
    from trajkit.runs.table import RunTable, run_table

    some = (runs if isinstance(runs, RunTable) else run_table(runs)).usable().drawn()
    table = some.table
    if not set(METRICS) <= set(table):
        raise InputError("comparing needs runs that were read with metrics and prefix features: run_table(traces).")
    known = compared_outcomes(table)
    if known["outcome"].nunique() < 2:
        raise InputError("Fewer than two known outcomes have runs here, so there is nothing to compare.")
    metrics = []
    for name in METRICS:
        values = known[name].to_numpy(float)
        finite = np.isfinite(values)
        if known["outcome"][finite].nunique() > 1 and len(np.unique(values[finite])) > 1:
            metrics.append(name)
    if not metrics:
        raise InputError("No metric is defined and varies in runs of two outcomes, so there is nothing to compare.")
    found = compare(known, metrics, strata=TASK, n_resamples=PERMUTATIONS, n_boot=draws)
    found["left_out"] += len(table) - len(known)
    fields = [name for name in Difference.__dataclass_fields__ if name != "delta"]
    return Comparison(
        tuple(
            Difference(
                **{name: row[name] for name in fields},
                delta=Estimate(row["cliffs_delta"], row["delta_low"], row["delta_high"]),
            )
            for row in found.to_dict("records")
        ),
        PERMUTATIONS,
        draws,
        of_draw(some),
    )
