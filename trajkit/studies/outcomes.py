"""Hallucination or lost reasoning: a learned classifier, its reasons, and the paper's rule beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajkit.detection.explanation import contributions
from trajkit.detection.outcome import ABSTAIN, OutcomeClassifier
from trajkit.detection.splits import compared_outcomes
from trajkit.errors import InputError
from trajkit.judging.held_out_outcomes import ALL, TARGET_ERROR, HeldOutcomes, held_out_outcomes
from trajkit.runs.table import RunTable
from trajkit.stats.resampling import Floats
from trajkit.studies import fixation
from trajkit.studies.fixation import KINDS
from trajkit.studies.outcome_measures import Cause, Found, commonest, error_of, measure
from trajkit.studies.study import Advance, Study
from trajkit.tables import Across, Estimate, Part, Table, joined, words
from trajkit.tables.names import OUTCOME_ORDER, feature_sets, metric_name, outcome_name
from trajkit.tables.words import listed

if TYPE_CHECKING:
    import pandas as pd

EXPLAINED = 3
"""Runs of each outcome whose reasons are shown."""
MACRO = "macro"


def outcomes(runs: RunTable, n_boot: int, advance: Advance) -> Study:
    """Held-out probabilities of each outcome, by group; the plane of level and spread; agreement; reasons."""
    table = compared_outcomes(runs.table).reset_index(drop=True)
    present = set(table["outcome"]) & {"success", *KINDS}
    if len(present) < 2:
        raise InputError(
            "this tells success, hallucination and reasoning failure apart, and fewer than two of them are there: runs "
            "judged by a target alone are right or wrong and of no kind."
        )
    ends = runs.last.set_index("transcript_id").loc[table["transcript_id"]].reset_index()
    held = held_out_outcomes(ends, advance)
    table = table.set_index("transcript_id").loc[held.ends["transcript_id"]].reset_index()
    level, spread = table["hhi_level"].to_numpy(float), table["hhi_spread"].to_numpy(float)
    if held.path and np.isnan(level).all():
        raise InputError("no step of these runs is supported by any region, so there is no concentration to read.")
    found = measure(runs, held, level, spread, n_boot)
    return Study(
        "outcomes",
        "Which outcome it was",
        "At the end of thinking, can hallucination be told from lost reasoning, and does the paper's rule of two "
        "numbers do it?",
        _tables(found, n_boot),
        _pictures(held, level, spread) if held.path else {},
        _reading(found),
    )


def _pictures(held: HeldOutcomes, level: Floats, spread: Floats) -> dict[str, str]:
    border = fixation.borders(level, spread, held.labels, held.task, np.ones(len(level), bool))
    return {
        "Level and spread of concentration, less the median of successful runs of the same family and form: "
        "fixation is the lower right, wandering the upper left": fixation.plane(held.labels, level, spread, border)
    }


def _tables(found: Found, n_boot: int) -> dict[str, Table]:
    held = found.held
    tables = {
        "AUC of each outcome against the rest, and their mean (macro), on held-out groups": _areas(found.areas),
        "The same, among runs of one family and form": _areas(
            found.alike, "The task alone says the same of all runs of one family and form, and has no row."
        ),
        "Confusion: the likeliest outcome of all features (rows are what runs were)": _confusion(
            held.labels, held.answered, held.classes
        ),
        f"The same with abstention at an error of {words.promise(TARGET_ERROR)}": _confusion(
            held.labels, held.decided, [*held.classes, ABSTAIN]
        ),
        "Error among the answered, by a threshold that was chosen on other runs": _threshold_table(found),
    }
    of_families = _families(held, n_boot)
    if of_families is not None:
        tables["By task family, among runs of one form: macro AUC"] = of_families
    if found.regions:
        tables["The paper's reading: fixation and wandering against what failing runs were"] = fixation.agreement_table(
            found.regions
        )
        tables["Level and spread of concentration: AUC of hallucination against reasoning failure, by task family"] = (
            fixation.direct_table(found.families)
        )
    tables["Outcomes by task family and question form"] = _by_form(held)
    if found.causes:
        tables["What went wrong in runs of each outcome, as their judge says"] = _cause_table(found.causes)
    whole = OutcomeClassifier(held.every, target_error=None).fit(held.ends, held.labels)
    tables["What moves the classifier: mean size of each feature's part in the log-odds"] = _sizes(whole, held.ends)
    tables["Reasons of some held-out runs, the first of each outcome"] = _examples(held)
    return tables


def method_name(method: str) -> str:
    """Feature sets as people call them."""
    return "all features" if method == ALL else feature_sets(method)


def _areas(areas: pd.DataFrame, note: str = "") -> Table:
    """The mean first, then each outcome."""
    return Table(
        joined(areas, "auc"),
        {"method": "method"},
        {"auc": words.judged},
        note,
        Across("outcome", "auc", outcome_name, ("runs", lambda rows: f"{rows['n_runs'].iloc[0]:,}")),
        {"method": method_name},
    )


def _confusion(labels: NDArray[Any], said: NDArray[Any], columns: Sequence[str]) -> Table:
    import pandas as pd

    rows = []
    for name in sorted(set(labels)):
        mine = said[labels == name]
        rows += [
            {"outcome": name, "runs": len(mine), "said": c, "n": Part(int((mine == c).sum()), len(mine))}
            for c in columns
        ]
    return Table(
        pd.DataFrame(rows),
        {"outcome": "outcome", "runs": "runs"},
        across=Across("said", "n", outcome_name),
        names={"outcome": outcome_name},
    )


def _threshold_table(found: Found) -> Table:
    import pandas as pd

    rows = found.thresholds
    always = outcome_name(commonest(found.held.labels))
    return Table(
        pd.DataFrame(
            {
                "threshold_to": [row.aim for row in rows],
                "answered": [row.share for row in rows],
                "error": [row.error for row in rows],
                "error_always": [row.always for row in rows],
            }
        ),
        {
            "threshold_to": "threshold to",
            "answered": "answered",
            "error": "error",
            "error_always": f"error of always saying {always}, same runs",
        },
        {"answered": words.share},
    )


def _families(held: HeldOutcomes, n_boot: int) -> Table | None:
    """Of the families that have runs of every outcome; None where none has."""
    import pandas as pd

    families = held.ends["task_set"].astype(str).to_numpy()
    parts = []
    for family in np.unique(families):
        mine = families == family
        if set(held.labels[mine]) == set(held.classes):
            areas = held.areas(n_boot, True, _named(held), mine)
            parts.append(areas[areas["outcome"] == MACRO].assign(family=family or "(none)"))
    if not parts:
        return None
    frame = joined(pd.concat(parts, ignore_index=True), "auc")
    return Table(
        frame, {"family": "family", "n_runs": "runs"}, {"auc": words.judged}, "", Across("method", "auc", method_name)
    )


def _named(held: HeldOutcomes) -> list[str]:
    """All features, and the parts of them that are set beside each other."""
    return [name for name in dict.fromkeys((held.every, held.without, held.path)) if name]


def _by_form(held: HeldOutcomes) -> Table:
    import pandas as pd

    rows = []
    names = held.ends.reindex(columns=["task_set", "form"], fill_value="").astype(str)
    for _, part in names.groupby(["task_set", "form"]):
        family, form = part.iloc[0]
        found = held.labels[part.index]
        of = {"family": family or "(none)", "form": form or "(none)", "runs": len(found)}
        rows += [
            of | {"outcome": name, "n": Part(int((found == name).sum()), len(found))}
            for name in OUTCOME_ORDER
            if name in held.classes
        ]
    return Table(
        pd.DataFrame(rows),
        {"family": "family", "form": "form", "runs": "runs"},
        across=Across("outcome", "n", outcome_name),
    )


def _cause_table(causes: Sequence[Cause]) -> Table:
    import pandas as pd

    return Table(
        pd.DataFrame(
            {
                "outcome": [row.outcome for row in causes],
                "cause": [row.name for row in causes],
                "runs": [row.runs for row in causes],
            }
        ),
        {"outcome": "outcome", "cause": "cause", "runs": "runs (of the outcome)"},
        names={"outcome": outcome_name},
    )


def _sizes(classifier: OutcomeClassifier, ends: pd.DataFrame) -> Table:
    import pandas as pd

    parts = contributions(classifier, ends)
    size = {name: np.abs(part).mean(0) for name, part in parts.items()}
    strongest = sorted(size, key=lambda name: -size[name].sum())[:8]
    rows = [
        {"feature": name, "outcome": outcome, "size": float(size[name][i])}
        for name in strongest
        for i, outcome in enumerate(classifier.classes_)
    ]
    return Table(
        pd.DataFrame(rows),
        {"feature": "feature"},
        {"size": words.score},
        "",
        Across("outcome", "size", outcome_name),
        {"feature": metric_name},
    )


def _examples(held: HeldOutcomes) -> Table:
    import pandas as pd

    rows, answered, proba = [], held.answered, held.probabilities[held.every]
    for name in [name for name in OUTCOME_ORDER if (held.labels == name).any()]:
        for i in np.flatnonzero(held.labels == name)[:EXPLAINED]:
            said = "; ".join(r.words for r in held.reasons[i]) or "nothing speaks for it beyond how common it is"
            rows.append(
                {
                    "run": held.ends["transcript_id"][i],
                    "was": name,
                    "given": str(answered[i]),
                    "probability": float(proba[i].max()),
                    "because": said,
                }
            )
    return Table(
        pd.DataFrame(rows),
        {"run": "run", "was": "was", "given": "given", "probability": "with", "because": "because"},
        {"probability": words.share},
        names={"was": outcome_name, "given": outcome_name},
    )


def _reading(found: Found) -> tuple[str, ...]:
    said = [found.held.note] if found.held.note else []
    said += [
        _of_areas("Over all runs", found.areas, found.held),
        _of_areas("Among runs of one task family and question form", found.alike, found.held),
        _of_errors(found),
    ]
    said += fixation.reading(found.families)
    for outcome in dict.fromkeys(row.outcome for row in found.causes):
        shares = [
            f"{row.name} {words.share(row.runs.n / row.runs.of)}" for row in found.causes if row.outcome == outcome
        ]
        said.append(f"Causes of {outcome_name(outcome)}, as its judge says: {listed(shares)}.")
    if found.held.path:
        said.append(
            "Fixation is a level above the median of successful runs of the same family and form with a spread below "
            "theirs, wandering the reverse; the borders are those of other groups than the runs read by them, and of "
            f"all forms where a form has fewer than {fixation.MIN_SUCCESSES} successful runs. Where forms are not "
            "known, families stand alone."
        )
    said.append("The classifier learns its signs. Its reasons say what moved it, not what made the run fail.")
    return tuple(said)


def _of_areas(among: str, areas: pd.DataFrame, held: HeldOutcomes) -> str:
    macro = areas[areas["outcome"] == MACRO].set_index("method")
    said = {
        name: words.judged(Estimate.of(macro.loc[name, ["auc", "low", "high"]].to_numpy(float)))
        for name in _named(held)
        if name in macro.index
    }
    if held.every != ALL:
        return f"{among}, {listed([f'{feature_sets(name)} have a macro AUC of {auc}' for name, auc in said.items()])}."
    ours, base, path = said.values()
    return (
        f"{among}, all features together have a macro AUC of {ours}; uncertainty, length and task without the path "
        f"{base}; trajectory and concentration alone {path}."
    )


def _of_errors(found: Found) -> str:
    held, every = found.held, np.ones(len(found.held.labels), bool)
    most = commonest(held.labels)
    ours = error_of(held, held.answered, every, found.draws, True)
    always = error_of(held, most, every, found.draws, False)
    chosen = found.thresholds[-1]
    return (
        f"The share of runs whose likeliest outcome is wrong is {words.estimate(ours)}; always saying "
        f"{outcome_name(most)}, {words.estimate(always)}. With a threshold to err in "
        f"{words.promise(TARGET_ERROR)}, chosen on other runs, it answers {words.share(chosen.share)} of them"
        + (f", and the share wrong is {words.estimate(chosen.error)}." if chosen.share else ".")
    )
