"""What detectors take from traces or their feature frame: runs told apart by group, and the one model behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trajkit.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.traces.trace import Trace


def decoded(traces: Sequence[Trace] | pd.DataFrame) -> Sequence[Trace] | pd.DataFrame:
    """The traces without their images, in memory: a file of them is read once and not by each who asks."""
    from trajkit.traces.store import Traces

    return list(traces.without_images()) if isinstance(traces, Traces) else traces


def frame_of(traces: Sequence[Trace] | pd.DataFrame) -> pd.DataFrame:
    """The feature frame of those traces; a frame is returned as it is."""
    import pandas as pd

    if isinstance(traces, pd.DataFrame):
        return traces
    from trajkit.runs.features import features

    return features(traces)


def model_of(traces: Sequence[Trace] | pd.DataFrame) -> str:
    """The one model that made those traces; "" for a frame or no traces. Raises InputError on several."""
    import pandas as pd

    if isinstance(traces, pd.DataFrame):
        return ""
    from trajkit.traces.store import Traces

    names = sorted(set(traces.column("model") if isinstance(traces, Traces) else (trace.model for trace in traces)))
    if len(names) > 1:
        raise InputError(f"detectors are made for one model; these traces come from {', '.join(names)}. Split them.")
    return names[0] if names else ""


def fingerprint_of(traces: Sequence[Trace] | pd.DataFrame) -> str:
    """The hash of the one model that made those traces; "" where they do not know it. Raises InputError on several."""
    import pandas as pd

    if isinstance(traces, pd.DataFrame):
        return ""
    from trajkit.traces.store import Traces

    light = traces.without_images() if isinstance(traces, Traces) else traces
    found = sorted({str(trace.meta.get("fingerprint", "")) for trace in light})
    if len(found) > 1:
        raise InputError(
            f"these traces come from {len(found)} versions of the model (weights {', '.join(found)}); split them."
        )
    return found[0] if found else ""


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
