"""Hallucination or lost reasoning: a learned classifier, its reasons, and the paper's rule beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajkit.detection.evaluation import outcome_auc
from trajkit.detection.explanation import contributions, explain
from trajkit.detection.outcome import ABSTAIN, OutcomeClassifier, last_steps
from trajkit.detection.splits import group_folds
from trajkit.errors import InputError
from trajkit.plots.style import MUTED, OUTCOME_COLOURS, outcome_name
from trajkit.stats.resampling import Draws, Floats, auc_within, group_draws, interval, numbered, weighted_mean
from trajkit.studies.pictures import panels, quiet_style, svg
from trajkit.studies.runs import Runs
from trajkit.studies.study import Advance, Study
from trajkit.studies.words import above, listed, spread

if TYPE_CHECKING:
    import pandas as pd

ALL = "trajectory+concentration+uncertainty+length+task"
SETS = ("trajectory+concentration", "uncertainty", "length", "task", "uncertainty+length+task", ALL)
KINDS = ("hallucination", "reasoning_failure")
FOLDS = 5
TARGET_ERROR = 0.2
EXPLAINED = 3
"""Runs of each outcome whose reasons are shown."""


def outcomes(runs: Runs, n_boot: int, advance: Advance) -> Study:
    """Held-out probabilities of each outcome, by group; the plane of level and spread; agreement; reasons."""
    import pandas as pd

    table = runs.table[runs.table["outcome"] != "unknown"].reset_index(drop=True)
    present = [name for name in ("success", *KINDS) if (table["outcome"] == name).any()]
    if len(present) < 2:
        raise InputError(
            "this tells success, hallucination and reasoning failure apart, and fewer than two of them are there: runs "
            "judged by a target alone are right or wrong and of no kind."
        )
    ends = last_steps(runs.frame).set_index("transcript_id").loc[table["transcript_id"]].reset_index()
    labels, groups = ends["outcome"].to_numpy(str), ends["group_id"].to_numpy(str)
    classes = sorted(present)
    probabilities = {name: np.zeros((len(ends), len(classes))) for name in SETS}
    probabilities["chance"] = np.random.default_rng(0).random((len(ends), len(classes)))
    decided = np.full(len(ends), ABSTAIN, object)
    rule = np.full(len(ends), "", object)
    reasons: list[Any] = [()] * len(ends)
    level, spread_ = table["hhi_level"].to_numpy(float), table["hhi_spread"].to_numpy(float)
    fold = np.zeros(len(ends), int)
    if np.isnan(level).all():
        raise InputError("no step of these runs is supported by any region, so there is no concentration to read.")
    for number, (fit, test) in enumerate(group_folds(labels, groups, FOLDS, 0)):
        fold[test] = number
        for name in SETS:
            target = TARGET_ERROR if name == ALL else None
            classifier = OutcomeClassifier(name, target_error=target).fit(ends.iloc[fit], labels[fit])
            proba = classifier.predict_proba(ends.iloc[test])
            probabilities[name][test] = proba
            if name == ALL:
                decided[test] = classifier.decide(proba)
                for i, found in zip(test, explain(classifier, ends.iloc[test]), strict=True):
                    reasons[i] = found
            advance(name)
        borders = _borders(level[fit], spread_[fit], labels[fit])
        rule[test] = _rule(level[test], spread_[test], borders)
    draws = group_draws(groups, n_boot, 0)
    areas = outcome_auc(labels, probabilities, classes, groups, n_boot, strata=fold)
    best = probabilities[ALL]
    answered = np.array(classes)[best.argmax(1)]
    tables: dict[str, Any] = {
        "AUC of each outcome against the rest, and their mean (macro), on held-out groups": _areas(areas),
        "Confusion: the likeliest outcome of all features (rows are what runs were)": _confusion(
            labels, answered, classes
        ),
        f"The same with abstention at an error of {TARGET_ERROR:.0%}": _confusion(labels, decided, [*classes, ABSTAIN]),
        "Error among the answered, against the share answered": _coverage(labels, answered, best.max(1), draws),
        "By task family: macro AUC of all features, and of the baselines together": _families(
            ends, labels, probabilities, classes, fold, n_boot
        ),
    }  # fmt: skip
    direct: list[dict[str, Any]] = []
    failing = [name for name in KINDS if name in present]
    if len(failing) == 2:
        tables["The paper's reading: fixation and wandering against what failing runs were"] = _agreement(
            labels, rule, draws
        )
        direct = _direct(labels, level, spread_, ends, n_boot)
        tables["Level and spread of concentration: AUC of hallucination against reasoning failure, by task family"] = (
            direct
        )
    tables["What moves the classifier: mean size of each feature's part in the log-odds"] = _sizes(
        OutcomeClassifier(ALL, target_error=None).fit(ends, labels), ends
    )
    tables["Reasons of some held-out runs, the first of each outcome"] = _examples(
        ends, labels, answered, best, reasons
    )
    whole = _borders(level, spread_, labels)
    return Study(
        "outcomes",
        "Which outcome it was",
        "At the end of thinking, can hallucination be told from lost reasoning, and does the paper's rule of two "
        "numbers do it?",
        {title: frame if isinstance(frame, pd.DataFrame) else pd.DataFrame(frame) for title, frame in tables.items()},
        {"Level and spread of concentration: fixation is the lower right, wandering the upper left": _plane(
            labels, level, spread_, whole
        )},
        _reading(areas, labels, float((answered != labels).mean()), direct),
    )  # fmt: skip


def _borders(level: Floats, spread_: Floats, labels: NDArray[Any]) -> tuple[float, float]:
    """Medians of level and spread over successful runs (over all, where none was)."""
    mine = labels == "success" if (labels == "success").any() else np.ones(len(labels), bool)
    return float(np.nanmedian(level[mine])), float(np.nanmedian(spread_[mine]))


def _rule(level: Floats, spread_: Floats, borders: tuple[float, float]) -> NDArray[Any]:
    """fixation: level above its border and spread below; wandering: the reverse; else nothing."""
    with np.errstate(invalid="ignore"):
        fixed = (level > borders[0]) & (spread_ < borders[1])
        wandering = (level < borders[0]) & (spread_ > borders[1])
    return np.select([fixed, wandering], ["fixation", "wandering"], "neither").astype(object)


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


def _coverage(labels: NDArray[Any], answered: NDArray[Any], sure: Floats, draws: Draws) -> list[dict[str, Any]]:
    order = np.argsort(-sure, kind="stable")
    wrong = (answered != labels).astype(float)
    always = (labels != _commonest(labels)).astype(float)
    rows = []
    for share in (0.25, 0.5, 0.75, 1.0):
        rows_in = order[: max(1, round(share * len(order)))]
        rows.append({
            "share answered": f"{share:.0%}",
            "error": spread(*interval(weighted_mean(wrong[rows_in], draws.of(rows_in)))),
            f"error of always saying {outcome_name(_commonest(labels))}, same runs": f"{always[rows_in].mean():.2f}",
        })  # fmt: skip
    return rows


def _commonest(labels: NDArray[Any]) -> str:
    names, counts = np.unique(labels, return_counts=True)
    return str(names[counts.argmax()])


def _families(
    ends: pd.DataFrame,
    labels: NDArray[Any],
    probabilities: dict[str, Floats],
    classes: list[str],
    fold: NDArray[Any],
    n_boot: int,
) -> list[dict[str, Any]]:
    rows = []
    for family in sorted(ends["task_set"].astype(str).unique()):
        mine = (ends["task_set"] == family).to_numpy()
        if set(labels[mine]) != set(classes):
            continue
        chosen = {name: probabilities[name][mine] for name in (ALL, "uncertainty+length+task", SETS[0])}
        areas = outcome_auc(labels[mine], chosen, classes, ends["group_id"][mine], n_boot, strata=fold[mine])
        macro = areas[areas["outcome"] == "macro"].set_index("method")
        rows.append(
            {"family": family or "(none)", "runs": int(mine.sum())}
            | {n.replace("+", " + "): spread(*macro.loc[n, ["auc", "low", "high"]]) for n in chosen}
        )
    return rows


def _agreement(labels: NDArray[Any], rule: NDArray[Any], draws: Draws) -> list[dict[str, Any]]:
    rows = []
    for place, kind in (("fixation", "hallucination"), ("wandering", "reasoning_failure"), ("neither", None)):
        here = rule == place
        row: dict[str, Any] = {"region": place, "the paper's reading": outcome_name(kind) if kind else "–"}
        for name in ("success", *KINDS):
            mine = labels == name
            if mine.any():
                share = interval(weighted_mean(here[mine].astype(float), draws.of(mine)))
                row[f"share of {outcome_name(name)}"] = spread(*share)
        failing = here & np.isin(labels, KINDS)
        if kind and failing.any():
            right = (labels[failing] == kind).astype(float)
            row["of failing runs here, share that was it"] = spread(*interval(weighted_mean(right, draws.of(failing))))
            row["share of it among all failing runs"] = f"{(labels[np.isin(labels, KINDS)] == kind).mean():.2f}"
        rows.append(row)
    return [{column: row.get(column, "–") for column in rows[0]} for row in rows]


EXPECTED = {"level": "above", "spread": "below"}
"""Side of 0.5 that the paper's reading puts the AUC of hallucination against reasoning failure on."""


def _direct(
    labels: NDArray[Any], level: Floats, spread_: Floats, ends: pd.DataFrame, n_boot: int
) -> list[dict[str, Any]]:  # fmt: skip
    """A row for all families together, compared within them, and one for each."""
    families = ends["task_set"].astype(str).to_numpy()
    stratum = numbered(families)
    rows = []
    for family in [None, *np.unique(families)] if len(np.unique(families)) > 1 else [None]:
        mine = np.isin(labels, KINDS) & (family is None or families == family)
        row: dict[str, Any] = {"family": "all, within families" if family is None else family or "(none)"}
        row["runs"] = " / ".join(str(int((labels[mine] == kind).sum())) for kind in KINDS)
        for word, value in (("level", level), ("spread", spread_)):
            has = mine & ~np.isnan(value)
            draws = group_draws(ends["group_id"][has], n_boot, 0)
            y = (labels[has] == KINDS[0]).astype(float)
            area = interval(auc_within(y, value[has], stratum[has], draws))
            found = above(*area[1:], 0.5)
            row[f"{word} (the paper: {EXPECTED[word]} 0.5)"] = spread(*area)
            answers = {"above": "no, reversed", "below": "no, reversed", "no interval": "–"} | {EXPECTED[word]: "yes"}
            row[f"{word} agrees"] = answers.get(found, "not told")
        rows.append(row)
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


def _examples(
    ends: pd.DataFrame, labels: NDArray[Any], answered: NDArray[Any], proba: Floats, reasons: list[Any]
) -> list[dict[str, Any]]:
    rows = []
    for name in [name for name in OUTCOME_COLOURS if (labels == name).any()]:
        for i in np.flatnonzero(labels == name)[:EXPLAINED]:
            said = "; ".join(reason.words for reason in reasons[i]) or "nothing speaks for it beyond how common it is"
            rows.append({
                "run": ends["transcript_id"][i], "was": outcome_name(name),
                "given": f"{outcome_name(answered[i])} ({proba[i].max():.0%})", "because": said,
            })  # fmt: skip
    return rows


def _verdict(agrees: str) -> str:
    return {"yes": "as the paper reads it", "no, reversed": "the other way round"}.get(agrees, "not told apart")


def _reading(
    areas: pd.DataFrame, labels: NDArray[Any], wrong: float, direct: list[dict[str, Any]]
) -> tuple[str, ...]:  # fmt: skip
    macro = areas[areas["outcome"] == "macro"].set_index("method")
    ours, base = (macro.loc[name, ["auc", "low", "high"]] for name in (ALL, "uncertainty+length+task"))
    path = macro.loc["trajectory+concentration", ["auc", "low", "high"]]
    said = [
        f"All features together have a macro AUC of {spread(*ours)}; uncertainty, length and task without the path "
        f"{spread(*base)}; trajectory and concentration alone {spread(*path)}.",
        f"Its likeliest outcome is wrong in {wrong:.0%} of runs; always saying {outcome_name(_commonest(labels))} is "
        f"wrong in {(labels != _commonest(labels)).mean():.0%}.",
    ]
    for word in EXPECTED if direct else ():
        by = {answer: [row["family"] for row in direct[1:] if row[f"{word} agrees"] == answer] for answer in (
            "yes", "no, reversed")}  # fmt: skip
        parts = [
            f"the {word} of concentration is {_verdict(direct[0][f'{word} agrees'])} over all "
            f"({direct[0][f'{word} (the paper: {EXPECTED[word]} 0.5)']}, compared within task families)"
        ]
        parts += [f"as the paper reads it in {listed(by['yes'])}"] if by["yes"] else []
        parts += [f"the other way round in {listed(by['no, reversed'])}"] if by["no, reversed"] else []
        if by["yes"] and by["no, reversed"]:
            parts.append("so families disagree, and what holds over all holds of none")
        said.append(f"Hallucination against reasoning failure: {'; '.join(parts)}. Not corrected for being many.")
    said.append(
        "Fixation is a level above the median of successful runs with a spread below theirs, wandering the reverse; "
        "the borders are those of other groups than the runs read by them. The classifier learns its signs. Its "
        "reasons say what moved it, not what made the run fail."
    )
    return tuple(said)


def _plane(labels: NDArray[Any], level: Floats, spread_: Floats, borders: tuple[float, float]) -> str:
    with quiet_style():
        names = [name for name in OUTCOME_COLOURS if (labels == name).any()]
        figure, axes = panels(len(names), 3.7, 3.7, sharex=True, sharey=True)
        has = ~np.isnan(level) & ~np.isnan(spread_)
        right, top = float(level[has].max()) * 1.03, float(spread_[has].max()) * 1.05
        for ax, name in zip(axes, names, strict=True):
            mine = has & (labels == name)
            ax.fill_between([borders[0], right], 0, borders[1], color="#d1590b", alpha=0.08, lw=0)
            ax.fill_between([0, borders[0]], borders[1], top, color="#7a57b0", alpha=0.08, lw=0)
            ax.plot(level[mine], spread_[mine], "o", ms=3, alpha=0.35, color=OUTCOME_COLOURS[name], mew=0)
            ax.plot(np.median(level[mine]), np.median(spread_[mine]), "+", ms=14, mew=2.5, color="#1f2933")
            ax.text(right, 0.005, "fixation", ha="right", va="bottom", color="#d1590b", fontsize=9)
            ax.text(0.005, top, "wandering", ha="left", va="top", color="#7a57b0", fontsize=9)
            ax.set(title=f"{outcome_name(name)} ({int(mine.sum())})", xlabel="level: mean concentration")
            ax.set(xlim=(0, right), ylim=(0, top))
        axes[0].set_ylabel("spread: sd of concentration")
        axes[0].text(0.98, 0.9, "+ median", transform=axes[0].transAxes, ha="right", color=MUTED, fontsize=9)
    return svg(figure)
