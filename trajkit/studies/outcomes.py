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
from trajkit.judging.held_out_outcomes import ALL, FOLDS, PATH, TARGET_ERROR, WITHOUT, HeldOutcomes, held_out_outcomes
from trajkit.plots.style import OUTCOME_COLOURS, outcome_name
from trajkit.runs.table import RunTable
from trajkit.stats.cross_validation import refitted
from trajkit.stats.resampling import Draws, group_draws, interval, weighted_mean
from trajkit.studies import fixation
from trajkit.studies.fixation import KINDS
from trajkit.studies.study import Advance, Study
from trajkit.studies.words import listed, spread

if TYPE_CHECKING:
    import pandas as pd

EXPLAINED = 3
"""Runs of each outcome whose reasons are shown."""
UNREAD = "never read some cell that the question is about"


def outcomes(runs: RunTable, n_boot: int, advance: Advance) -> Study:
    """Held-out probabilities of each outcome, by group; the plane of level and spread; agreement; reasons."""
    import pandas as pd

    table = compared_outcomes(runs.table).reset_index(drop=True)
    present = set(table["outcome"]) & {"success", *KINDS}
    if len(present) < 2:
        raise InputError(
            "This tells success, hallucination and reasoning failure apart, and fewer than two of them are there: runs "
            "judged by a target alone are right or wrong and of no kind."
        )
    level, spread_ = table["hhi_level"].to_numpy(float), table["hhi_spread"].to_numpy(float)
    if np.isnan(level).all():
        raise InputError("no step of these runs is supported by any region, so there is no concentration to read.")
    ends = runs.last.set_index("transcript_id").loc[table["transcript_id"]].reset_index()
    held = held_out_outcomes(ends, advance)
    areas, within = (held.areas(n_boot, within_task) for within_task in (False, True))
    tables = _of_classifier(held, areas, within, n_boot)
    direct: list[dict[str, Any]] = []
    if set(KINDS) <= present:
        place = fixation.places(level, spread_, fixation.held_out_borders(level, spread_, held))
        tables["The paper's reading: fixation and wandering against what failing runs were"] = fixation.agreement(
            held.labels, place, held.task, group_draws(ends["group_id"], n_boot, 0)
        )
        direct = fixation.direct(held, level, spread_, n_boot)
        tables["Level and spread of concentration: AUC of hallucination against reasoning failure, by task family"] = (
            direct
        )
    tables["Outcomes by task family and question form"] = _by_form(held)
    causes = _causes(runs.table)
    if causes:
        tables["What went wrong in runs of each outcome, as their judge says"] = causes
    tables |= _of_reasons(held)
    border = fixation.borders(level, spread_, held.labels, held.task, np.ones(len(level), bool))
    return Study(
        "outcomes",
        "Which outcome it was",
        "At the end of thinking, can hallucination be told from lost reasoning, and does the paper's rule of two "
        "numbers do it?",
        {title: frame if isinstance(frame, pd.DataFrame) else pd.DataFrame(frame) for title, frame in tables.items()},
        {
            "Level and spread of concentration, less the median of successful runs of the same family and form: "
            "fixation is the lower right, wandering the upper left": fixation.plane(held.labels, level, spread_, border)
        },
        _reading(held, areas, within, direct, causes, runs.table, n_boot),
    )


def _of_classifier(held: HeldOutcomes, areas: pd.DataFrame, within: pd.DataFrame, n_boot: int) -> dict[str, Any]:
    labels, draws = held.labels, group_draws(held.ends["group_id"], n_boot, 0)
    return {
        "AUC of each outcome against the rest, and their mean (macro), on held-out groups": _areas(areas),
        "The same, among runs of one family and form": _areas(within),
        "Confusion: the likeliest outcome of all features (rows are what runs were)": _confusion(
            labels, held.answered, held.classes
        ),
        f"The same with abstention at an error of {TARGET_ERROR:.0%}": _confusion(
            labels, held.decided, [*held.classes, ABSTAIN]
        ),
        "Error among the answered, by a threshold that was chosen on other runs": _coverage(held, draws),
        "By task family, among runs of one form: macro AUC of all features, and of the baselines together": _families(
            held, n_boot
        ),
    }


def _of_reasons(held: HeldOutcomes) -> dict[str, Any]:
    whole = OutcomeClassifier(ALL, target_error=None).fit(held.ends, held.labels)
    return {
        "What moves the classifier: mean size of each feature's part in the log-odds": _sizes(whole, held.ends),
        "Reasons of some held-out runs, the first of each outcome": _examples(held),
    }


def _by_form(held: HeldOutcomes) -> list[dict[str, Any]]:
    rows = []
    names = held.ends.reindex(columns=["task_set", "form"], fill_value="").astype(str)
    for _, part in names.groupby(["task_set", "form"]):
        family, form = part.iloc[0]
        found = held.labels[part.index]
        counts = {name: int((found == name).sum()) for name in OUTCOME_COLOURS if name in held.classes}
        rows.append(
            {"family": family or "(none)", "form": form or "(none)", "runs": len(found)}
            | {outcome_name(name): f"{n} ({n / len(found):.0%})" for name, n in counts.items()}
        )
    return rows


def _causes(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A row an outcome and cause, where judges gave any; last a column of cells left unread, where judges counted."""
    rows = []
    for outcome in OUTCOME_COLOURS:
        mine = table[table["outcome"] == outcome]
        for cause, n in mine.loc[mine["detail"] != "", "detail"].value_counts().items():
            share = f"{n / len(mine):.0%}"
            row = {"outcome": outcome_name(outcome), "cause": cause, "runs": n, "share of the outcome": share}
            rows.append(row | _unread(mine[mine["detail"] == cause]))
    return rows


def _unread(runs: pd.DataFrame) -> dict[str, str]:
    """How many of some runs left unread a cell that the question is about; empty where no judge counted."""
    counted = runs["unread"].dropna()
    return {UNREAD: f"{(counted > 0).mean():.0%}"} if len(counted) else {}


def _areas(areas: pd.DataFrame) -> pd.DataFrame:
    shown = areas.assign(cell=[spread(*v) for v in areas[["auc", "low", "high"]].to_numpy()])
    order = list(dict.fromkeys(shown["method"]))
    table = shown.pivot(index="method", columns="outcome", values="cell").loc[order]
    table = table[["macro", *[name for name in table if name != "macro"]]]
    table.index = [str(name).replace("+", " + ") for name in table.index]
    return table.rename(columns=outcome_name).rename_axis(index="method", columns=None).reset_index()


def _confusion(labels: NDArray[Any], said: NDArray[Any], columns: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for name in sorted(set(labels)):
        mine = said[labels == name]
        counts = {outcome_name(c): f"{int((mine == c).sum())} ({(mine == c).mean():.0%})" for c in columns}
        rows.append({"outcome": outcome_name(name), "runs": len(mine)} | counts)
    return rows


def _coverage(held: HeldOutcomes, draws: Draws) -> list[dict[str, Any]]:
    """Thresholds by how sure the classifier is, as each fold's training runs set them."""
    answering = {f"answer {share:.0%}": held.sureness >= 1 - share for share in (0.25, 0.5, 0.75, 1.0)}
    answering[f"err in {TARGET_ERROR:.0%}"] = held.decided != ABSTAIN
    always = f"error of always saying {outcome_name(_commonest(held.labels))}, same runs"
    return [
        {"threshold to": aim, "answered": f"{mine.mean():.0%}"}
        | dict(zip(("error", always), _errors(held, mine, draws), strict=True))
        for aim, mine in answering.items()
    ]


def _errors(held: HeldOutcomes, mine: NDArray[np.bool_], draws: Draws) -> tuple[str, str]:
    """The share of some runs whose likeliest outcome is wrong, whose models another sample would refit; and of always
    saying the commonest."""
    ours, always = (
        weighted_mean(np.asarray(said != held.labels, float)[mine], draws.of(mine))
        for said in (held.answered, _commonest(held.labels))
    )
    return spread(*interval(refitted(ours[None], FOLDS, (0, 1)))), spread(*interval(always))


def _commonest(labels: NDArray[Any]) -> str:
    names, counts = np.unique(labels, return_counts=True)
    return str(names[counts.argmax()])


def _families(held: HeldOutcomes, n_boot: int) -> list[dict[str, Any]]:
    rows = []
    families = held.ends["task_set"].astype(str).to_numpy()
    chosen = (ALL, WITHOUT, "task", PATH)
    for family in np.unique(families):
        mine = families == family
        if set(held.labels[mine]) != set(held.classes):
            continue
        areas = held.areas(n_boot, True, chosen, mine)
        macro = areas[areas["outcome"] == "macro"].set_index("method")
        rows.append(
            {"family": family or "(none)", "runs": int(mine.sum())}
            | {n.replace("+", " + "): spread(*macro.loc[n, ["auc", "low", "high"]]) for n in chosen}
        )
    return rows


def _sizes(classifier: OutcomeClassifier, ends: pd.DataFrame) -> list[dict[str, Any]]:
    parts = contributions(classifier, ends)
    size = {name: np.abs(part).mean(0) for name, part in parts.items()}
    strongest = sorted(size, key=lambda name: -size[name].sum())[:8]
    return [
        {"feature": name.replace("_", " ")}
        | {outcome_name(c): f"{size[name][i]:.2f}" for i, c in enumerate(classifier.classes_)}
        for name in strongest
    ]


def _examples(held: HeldOutcomes) -> list[dict[str, Any]]:
    rows, answered, proba = [], held.answered, held.probabilities[ALL]
    for name in [name for name in OUTCOME_COLOURS if (held.labels == name).any()]:
        for i in np.flatnonzero(held.labels == name)[:EXPLAINED]:
            said = "; ".join(r.words for r in held.reasons[i]) or "nothing speaks for it beyond how common it is"
            rows.append({
                "run": held.ends["transcript_id"][i], "was": outcome_name(name),
                "given": f"{outcome_name(answered[i])} ({proba[i].max():.0%})", "because": said,
            })  # fmt: skip
    return rows


def _reading(
    held: HeldOutcomes, areas: pd.DataFrame, within: pd.DataFrame, direct: list[dict[str, Any]],
    causes: list[dict[str, Any]], table: pd.DataFrame, n_boot: int,
) -> tuple[str, ...]:  # fmt: skip
    said = []
    for among, found in (("Over all runs", areas), ("Among runs of one task family and question form", within)):
        macro = found[found["outcome"] == "macro"].set_index("method")
        ours, base, path = (spread(*macro.loc[name, ["auc", "low", "high"]]) for name in (ALL, WITHOUT, PATH))
        said.append(
            f"{among}, all features together have a macro AUC of {ours}; uncertainty, length and task without the path "
            f"{base}; trajectory and concentration alone {path}."
        )
    draws, decided = group_draws(held.ends["group_id"], n_boot, 0), held.decided != ABSTAIN
    ours, always = _errors(held, np.ones(len(decided), bool), draws)
    said.append(
        f"The share of runs whose likeliest outcome is wrong is {ours}; always saying "
        f"{outcome_name(_commonest(held.labels))}, {always}. With a threshold to err in {TARGET_ERROR:.0%}, chosen on "
        f"other runs, it answers {decided.mean():.0%} of them"
        + (f", and the share wrong is {_errors(held, decided, draws)[0]}." if decided.any() else ".")
    )
    said += fixation.reading(direct)
    for outcome in dict.fromkeys(row["outcome"] for row in causes):
        mine = [f"{row['cause']} {row['share of the outcome']}" for row in causes if row["outcome"] == outcome]
        said.append(f"Causes of {outcome}, as its judge says: {listed(mine)}.")
    if unread := _unread(table[table["outcome"] == "reasoning_failure"]):
        said.append(f"Whatever went wrong first, {unread[UNREAD]} of reasoning failures {UNREAD}.")
    said.append(
        "Fixation is a level above the median of successful runs of the same family and form with a spread below "
        "theirs, wandering the reverse; the borders are those of other groups than the runs read by them, and of all "
        f"forms where a form has fewer than {fixation.MIN_SUCCESSES} successful runs. Where forms are not known, "
        "families stand alone. The classifier learns its signs. Its reasons say what moved it, not what made the run "
        "fail."
    )
    return tuple(said)
