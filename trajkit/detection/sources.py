"""What detectors take from traces or their feature frame: runs told apart by group, and the one model behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from trajkit.detection.copies import Keyed, keyed
from trajkit.errors import InputError
from trajkit.fingerprints import ModelId

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.runs.source import Source
    from trajkit.runs.table import RunTable


@dataclass(frozen=True, eq=False)
class Sourced:
    """frame: prefix features. model, fingerprint: the one model that made the runs, "" where they do not say. keys: of
    each run (`copies.keyed`); none where copies are of one group already. regions: image regions of each run by its
    transcript_id; None of a feature frame, which does not say. units: what their lengths and entropies are, for a card
    and in words."""

    frame: pd.DataFrame
    model: str
    fingerprint: str
    keys: Keyed
    regions: Mapping[str, int] | None = None
    units: tuple[Mapping[str, Any], str] = (MappingProxyType({}), "")

    def regions_of(self, frame: pd.DataFrame) -> tuple[int, int] | None:
        """Fewest and most image regions of the runs in a frame that have some; None where that is not known."""
        if self.regions is None:
            return None
        found = [n for name in frame["transcript_id"].unique() if (n := self.regions[name])]
        return (min(found), max(found)) if found else None


def sourced(runs: Source | RunTable | pd.DataFrame | Sourced, owner: str) -> Sourced:
    """What detectors take from traces (read once), a table of them, or a feature frame, which knows no model; what was
    taken already stays as it is.

    Raises InputError on runs of several models, or of no group; it names `owner`.
    """
    import pandas as pd

    if isinstance(runs, Sourced):
        return runs
    if isinstance(runs, pd.DataFrame):
        require_runs(runs, owner)
        return Sourced(runs, "", "", keyed(runs))
    from trajkit.runs.kernel import Wanted
    from trajkit.runs.table import RunTable, run_table
    from trajkit.runs.units import of_units, units_of

    table = runs if isinstance(runs, RunTable) else run_table(runs, Wanted(metrics=False, keys=True))
    model = _one_model(table.models)
    regions = dict(zip(*(table.rows[name].to_pylist() for name in ("transcript_id", "n_regions")), strict=True))
    units = units_of(table).card, of_units(table)
    return Sourced(table.frame, model.name, model.fingerprint, keyed(table), regions, units)


def _one_model(models: list[ModelId]) -> ModelId:
    """What is known of the one model that some runs come from. Raises InputError where they come from several."""
    known = [model for model in models if any(model)]
    names = list(dict.fromkeys(model.name for model in known if model.name))
    weights = list(dict.fromkeys(model.fingerprint for model in known if model.fingerprint))
    if len(weights) > 1 and len(names) < 2:
        raise InputError(
            f"these traces come from {len(weights)} versions of the model (weights {', '.join(weights)}); split them."
        )
    if any(not one.is_same(other) for one, other in combinations(known, 2)):
        raise InputError(
            f"detectors are made for one model; these traces come from {', '.join(names)}. Split them; or, "
            "where it is one by several names, import the logs with --model NAME."
        )
    return ModelId(next(iter(names), ""), next(iter(weights), ""))


def require_runs(frame: pd.DataFrame, owner: str) -> None:
    """Raises InputError where a frame does not say of each row which run it is of, and of each run which one group."""
    absent = [column for column in ("transcript_id", "group_id") if column not in frame]
    if absent:
        raise InputError(
            f"{owner} needs a frame with the columns transcript_id and group_id, as `trajkit.features(traces)` gives; "
            f"its missing columns: {', '.join(absent)}. Runs of one image or question share a group_id."
        )
    ids = frame[["transcript_id", "group_id"]]
    unknown = ids.isna().any(axis=1)
    if unknown.any():
        raise InputError(
            f"{owner} needs a transcript_id and a group_id in every row; {int(unknown.sum())} of {len(ids)} rows lack "
            f"one, the first with transcript_id {str(ids.loc[unknown, 'transcript_id'].iloc[0])!r}. Give every run the "
            "id of its image or question."
        )
    pairs = ids.astype(str).drop_duplicates()
    twice = pairs[pairs["transcript_id"].duplicated(keep=False)]
    if len(twice):
        name = str(twice["transcript_id"].iloc[0])
        groups = sorted(twice.loc[twice["transcript_id"] == name, "group_id"])
        raise InputError(
            f"{owner} needs one group for each run; run {name!r} is of the groups {', '.join(map(repr, groups))}. "
            "Two runs must not share a transcript_id: rename one."
        )
