"""Which of vSTREAM's claims hold: at shares of the final length, beside length alone, and at absolute steps.

python -m analyses.claims                    # minutes; writes reports/claims.md and its picture
python -m analyses.claims FOLDER             # other runs of the demo's world
python -m analyses.claims --measured 0       # without the reliability of measures, which needs measured effects
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyses.claimed import CLAIMS, SHARES, STEPS, SURE, VERDICTS, Verdict, estimate, put_to_runs, verdict
from analyses.common import arguments_of_traces, generated, subjects, table_of, write
from analyses.demo_model import lengths, outcomes
from analyses.pictures import panels, save
from trajkit.attribution.reliability import Effects, metric_reliability
from trajkit.attribution.verdict import RELIABLE
from trajkit.demo import paths
from trajkit.demo.questions import FAMILIES
from trajkit.plots.style import ACCENT, MUTED
from trajkit.progress import progress
from trajkit.runs.kernel import Wanted
from trajkit.runs.table import RunTable, run_table
from trajkit.studies.fixation import KINDS
from trajkit.tables import joined, words
from trajkit.tables.names import metric_name, outcome_name
from trajkit.tables.render import markdown
from trajkit.tables.words import listed

OVER = {"all pairs": False, "within form": True}
"""Which pairs of runs are compared → whether of one form of question alone."""
MEASURES = {
    "path_length": "path_length",
    "tortuosity": "tortuosity",
    "concentration_mean": "hhi_level",
    "concentration_sd": "hhi_spread",
}
"""A prefix feature of CLAIMS → the run metric that it is of a whole run."""
ASKED, IN_FAMILIES = 300, 4
"""Failing runs of a kind, and families that have some, for a claim about it to be worth a test."""


def main(argv: list[str] | None = None) -> None:
    measured = (80, "test runs that reliability is measured on")
    args = arguments_of_traces(__doc__, "reports/claims.md", argv, boot=1000, measured=measured)
    runs = run_table(args.traces, Wanted(metrics=False)).usable().known()
    reliability = reliability_of(*_effects(args.measured), args.boot // 2) if args.measured else pd.DataFrame()
    with progress("claims", total=len(OVER)) as bar:
        found = {}
        for name, within_form in OVER.items():
            found[name] = put_to_runs(runs.frame, within_form, args.boot)
            bar.advance(name)
    report(args.out, args.command, runs, found, reliability)


def _effects(n: int) -> tuple[Effects, Effects, list[str]]:
    """Estimated and measured effects of the thinking steps of n test runs of the demo's model, and their scenes."""
    (subject,) = subjects(paths.MODELS[:1])
    estimated, measured, groups = [], [], []
    for run, found in generated(subject, n):
        thinking = np.array([span.kind == "thinking" for span in run.spans], bool)
        estimated.append(subject.network.predict(found.features)[thinking])
        measured.append(found.single.T[thinking])
        groups.append(found.group_id)
    return estimated, measured, groups


def reliability_of(estimated: Effects, measured: Effects, groups: Sequence[str], n_boot: int) -> pd.DataFrame:
    """A row a measure of MEASURES and place of a run: `metric_reliability` of the runs so far.

    Columns: measure, test ("share" or "step") and at, as by `put_to_runs`; value, low, high, runs.
    """
    rows = []
    ends = np.array([len(run) for run in measured])
    places = [("share", share, np.maximum(1, np.ceil(share * ends - 1e-9)).astype(int)) for share in SHARES]
    places += [("step", step, np.where(ends >= step, step, 0)) for step in STEPS]
    for test, at, length in places:
        here = np.flatnonzero(length)
        ours, theirs = ([effects[i][: length[i]] for i in here] for effects in (estimated, measured))
        table = metric_reliability(ours, theirs, [groups[i] for i in here], n_boot=n_boot).set_index("metric")
        for measure, metric in MEASURES.items():
            rows.append({"measure": measure, "test": test, "at": at} | table.loc[metric].to_dict())
    return pd.DataFrame(rows)


def report(
    out: Path, command: str, runs: RunTable, found: Mapping[str, pd.DataFrame], reliability: pd.DataFrame
) -> None:
    """Write the page and its picture.

    command: what makes it again. found: a name of OVER → as by `put_to_runs`. reliability: as by `reliability_of`.
    """
    judged = {
        name: [verdict(each[each["claim"] == i], claim) for i, claim in enumerate(CLAIMS)]
        for name, each in found.items()
    }
    sections = [f"## Verdicts\n\n{_RULE}\n\n{markdown(table_of(_verdicts(found, judged, reliability), _SAID))}"]
    for name, each in found.items():
        sections.append(f"## By share of the final length, {name}\n\n{_LOOKS_AHEAD}\n\n{markdown(_at_shares(each))}")
    for name, each in found.items():
        sections.append(f"## At absolute steps, {name}\n\n{_AT_STEPS}\n\n{markdown(_at_steps(each))}")
    if len(reliability):
        sections.append(f"## Reliability\n\n{_RELIABILITY}\n\n{markdown(_reliability_table(reliability))}")
    ends = runs.table.assign(sentences=runs.table["n_steps"], family=runs.table["task_set"])
    ends["outcome"] = ends["outcome"].replace("failure", "unknown")  # of no known kind
    sections.append(f"## Runs\n\n{counted(ends)}\n\n{markdown(outcomes(ends))}")
    scenes = words.count(len(runs.values("group_id")), "scene")
    text = (
        f"# Which of the paper's claims hold\n\nRegenerate: `{command}`. {words.count(len(runs), 'run')} of {scenes}."
        f"\n\n{_INTRODUCTION}\n\n{_summary(judged, reliability)}\n\n"
    )
    picture = save(_picture(found), out)
    image = f"![which claims hold]({picture.name})\n\n{_PICTURE}\n\n"
    last = "\nSentences of thinking a run: median, and from the 10 % to the 90 % quantile."
    write(out, text + image + "\n".join(sections) + last, lengths(ends), _READING)


def counted(ends: pd.DataFrame) -> str:
    """Whether failing runs of each kind are as many as ASKED, in IN_FAMILIES families."""
    said = []
    for kind in KINDS:
        own = ends.loc[ends["outcome"] == kind, "task_set"]
        families = own.nunique()
        enough = len(own) >= ASKED and families >= IN_FAMILIES
        said.append(
            f"{words.count(len(own), outcome_name(kind) + ' run')} in {families} of {len(FAMILIES)} families "
            f"({'enough' if enough else 'too few'} for the {ASKED} in {IN_FAMILIES} that were asked for)"
        )
    return words.sentence(listed(said)) + "."


def _summary(judged: Mapping[str, Sequence[Verdict]], reliability: pd.DataFrame) -> str:
    """How many claims have which verdict, and which nulls are of measures that are known well."""
    said = []
    for name, verdicts in judged.items():
        counts = [f"{verdicts.count(each)} {each}" for each in VERDICTS if each in verdicts]
        said.append(f"Of {len(CLAIMS)} claims, {name}: {'; '.join(counts)}.")
    nulls = {claim.measure for claim, each in zip(CLAIMS, judged["within form"], strict=True) if each == "null"}
    if len(reliability) and nulls:
        low = reliability[reliability["test"] == "step"].groupby("measure")["low"].min()
        known = [metric_name(measure) for measure in MEASURES if measure in nulls and low[measure] >= RELIABLE]
        other = [metric_name(measure) for measure in MEASURES if measure in nulls and not low[measure] >= RELIABLE]
        if known:
            said.append(f"Nulls of {listed(known)} are not noise: reliability is above {RELIABLE} at every step.")
        if other:
            known_to = f"is not shown to be above {RELIABLE} at every step: a null may be noise"
            said.append(f"The reliability of {listed(other)} {known_to}.")
    return "\n\n".join(said)


_SAID: dict[str, Any] = {**{f"AUC, {name}": words.auc for name in OVER}, "reliability there": words.estimate}


def _verdicts(
    found: Mapping[str, pd.DataFrame], judged: Mapping[str, Sequence[Verdict]], reliability: pd.DataFrame
) -> list[dict[str, Any]]:
    rows = []
    for i, claim in enumerate(CLAIMS):
        row: dict[str, Any] = {"claim": claim.words, "the paper": claim.paper}
        for name, each in found.items():
            at = _cells(each, i)["share", claim.share]
            row["runs"] = f"{at['n_more']:,}, {at['n_less']:,}"
            row["medians"] = f"{words.metric(at['median_more'])}, {words.metric(at['median_less'])}"
            row |= {f"AUC, {name}": estimate(at), name: judged[name][i]}
        if len(reliability):
            place = (reliability["measure"] == claim.measure) & (reliability["test"] == "share")
            (known,) = joined(reliability[place & (reliability["at"] == claim.share)], "value")["value"]
            row["reliability there"] = known
        rows.append(row)
    return rows


def _cells(each: pd.DataFrame, claim: int) -> dict[tuple[str, float], dict[str, Any]]:
    """(test, at) → the row of one claim."""
    own = each[each["claim"] == claim]
    return {(row["test"], float(row["at"])): row for row in own.to_dict("records")}


def _at_shares(each: pd.DataFrame) -> Any:
    rows = []
    for i, claim in enumerate(CLAIMS):
        cells = _cells(each, i)
        row: dict[str, Any] = {"claim": claim.words, "length alone": estimate(cells["length", 1.0])}
        for share in SHARES:
            row[words.promise(share)] = estimate(cells["share", share])
            row[f"{words.promise(share)}, equal lengths"] = estimate(cells["matched", share])
        rows.append(row)
    return table_of(rows, {name: words.auc for name in rows[0] if name != "claim"})


def _at_steps(each: pd.DataFrame) -> Any:
    rows = []
    for i, claim in enumerate(CLAIMS):
        row: dict[str, Any] = {"claim": claim.words}
        for step in STEPS:
            at = _cells(each, i)["step", float(step)]
            row |= {f"step {step}": estimate(at), f"p, {step}": at["p_corrected"]}
            row[f"runs, {step}"] = f"{at['n_more']:,}, {at['n_less']:,}"
        rows.append(row)
    formats: dict[str, Any] = {f"step {step}": words.auc for step in STEPS}
    return table_of(rows, formats | {f"p, {step}": words.p_value for step in STEPS})


def _reliability_table(reliability: pd.DataFrame) -> Any:
    known = joined(reliability, "value")
    place = np.where(known["test"] == "step", "step ", "") + [
        words.promise(at) if test == "share" else f"{at:.0f}"
        for test, at in zip(known["test"], known["at"], strict=True)
    ]
    rows = []
    for measure in MEASURES:
        mine = (known["measure"] == measure).to_numpy()
        cells = dict(zip(place[mine], known["value"][mine], strict=True))
        rows.append({"measure": metric_name(measure), **cells})
    runs = dict(zip(place, known["runs"], strict=True))
    rows.append({"measure": "runs"} | {name: str(int(n)) for name, n in runs.items()})
    return table_of(rows, dict.fromkeys(runs, words.estimate))


_MARKS: tuple[tuple[str, str, str, str], ...] = (
    ("share", "o", ACCENT, "at the paper's share of the run"),
    ("matched", "s", "#3f8f9b", "the same, runs of equal length"),
    ("length", "x", MUTED, "length alone"),
)
_STEP_COLOURS = ("#e6b98a", "#d98b3a", "#a65a0a")


def _picture(found: Mapping[str, pd.DataFrame]) -> Any:
    """A row a claim: its AUC by every test, with intervals."""
    figure, axes = panels(len(found), 5.2, 7.6, sharex=True, sharey=True)
    for ax, (name, each) in zip(axes, found.items(), strict=True):
        for i, claim in enumerate(CLAIMS):
            cells = _cells(each, i)
            drawn = [(cells[test, 1.0 if test == "length" else claim.share], *how) for test, *how in _MARKS]
            drawn += [
                (cells["step", float(step)], "d", colour, f"step {step}")
                for step, colour in zip(STEPS, _STEP_COLOURS, strict=True)
            ]
            for j, (row, mark, colour, label) in enumerate(drawn):
                y = i + (j - 2.5) * 0.13
                if not math.isnan(row["low"]):
                    ax.plot([row["low"], row["high"]], [y, y], color=colour, lw=1.2)
                ax.plot(row["auc"], y, mark, color=colour, ms=4.5, label=label if i == 0 else None)
            if i % 2:
                ax.axhspan(i - 0.5, i + 0.5, color="#f4f6f8", lw=0, zorder=0)
        ax.axvline(0.5, color=MUTED, lw=1, ls=":")
        ax.set(title=name, xlabel="AUC; right of 0.5, as the paper says", ylim=(len(CLAIMS) - 0.5, -0.5))
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(CLAIMS)), [claim.words.replace(": ", ":\n") for claim in CLAIMS], fontsize=8)
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=9, loc="outside lower center", ncols=3)
    return figure


_INTRODUCTION = """\
Each claim says that runs which ended in one way have more of a measure than runs which ended in another; its AUC is
the chance that a run of the first kind has the higher value, so that above 0.5 is as the paper says. *Failing* are runs
of whatever failure. *All pairs* are those of any two runs; *within form*, of two runs about questions of one form, as
forms differ in length and in how often they fail. 95 % intervals resample scenes. Measures are of the effects of all
regions, in nats; the paper's are of the 32 largest on three axes of the run, which [trajectories](trajectories.md) sets
beside them."""
_RULE = f"""\
Told is what has p < {SURE} after Holm's correction: over the {len(CLAIMS)} claims at a share of the run, and over all
claims and steps together at the {len(STEPS)} steps.

- *holds*: told at the paper's share of the run, and at a step.
- *holds, by length*: told at that share, at no step, and among runs of equal length the interval, not corrected, is not
  above 0.5, while the number of sentences alone tells the two apart.
- *not at a step*: told at that share and at no step, and length alone does not explain it.
- *at a step alone*: told at a step and not at that share. *differs by step*: told at one, its reverse at another.
- *turns round*: told at that share, and its reverse at a step.
- *the other way round*: the reverse is told at a step and the claim is not at that share, or the reverse is told there
  and nothing at steps.
- *null*: nothing is told.

Runs are those of the first kind and of the second; medians likewise, at the paper's share of the run."""
_LOOKS_AHEAD = """\
A share of the final length is known when a run has ended: these look ahead. *Length alone*: by the final number of
sentences. *Equal lengths*: over pairs of runs of as many sentences."""
_AT_STEPS = """\
Among the runs that have come so far, from what was known then. p is corrected over claims and steps. Runs are those of
the first kind and of the second."""
_RELIABILITY = """\
Spearman correlation over runs between a measure of estimated effects and the same measure of effects that were measured
by hiding regions, on test runs of the same model (runs below; intervals resample scenes). At 1 a measure is known as
well as if it had been measured; near 0 it is noise, and nothing could be told by it. What is told of concentration
hangs on how small effects are estimated, as a step's shares are made of these too: they are taken for nothing below a
tenth of the largest, and measured ones are not."""
_PICTURE = "The AUC of each claim by each test; whiskers are 95 % intervals, not corrected."
_READING = """\
Two more of the paper's figures have pages of their own: whether estimates fit less well late in wrong chains
([elapsed](elapsed.md)), and whether they do in long ones ([length](length.md)). What a fitted detector makes of all
measures together is in [early_failure](early_failure.md), and its rule of level and spread in
[outcomes](outcomes.md)."""


if __name__ == "__main__":
    main()
