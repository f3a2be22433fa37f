"""The columns of a table of runs: what stands in them, in which order, and of which type."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from trajkit.trajectory.features import FEATURE_NAMES
from trajkit.trajectory.runs import RUN_METRICS

SAID: tuple[pa.Field, ...] = (
    pa.field("transcript_id", pa.string()),
    pa.field("group_id", pa.string()),
    pa.field("task_set", pa.string()),
    pa.field("form", pa.string()),
    pa.field("question", pa.string()),
    pa.field("model", pa.string()),
    pa.field("fingerprint", pa.string()),
    pa.field("success", pa.bool_()),
    pa.field("outcome", pa.string()),
    pa.field("detail", pa.string()),
    pa.field("counted_in", pa.string()),
    pa.field("entropy_is", pa.string()),
    pa.field("target", pa.bool_()),
    pa.field("image_sha256", pa.string()),
    pa.field("effects_kind", pa.string()),
    pa.field("n_regions", pa.int32()),
    pa.field("n_steps", pa.int32()),
    pa.field("left_out", pa.string()),
)
"""What a run says of itself. outcome: as saved, but `failure` for a run that is wrong (`success` is false) and of no
known kind, so that `unknown` means not judged. form: the question's (`traces.forms`). fingerprint, detail: of its
`meta`, "" where there is none: its model, and the cause of its outcome. counted_in, entropy_is: what its numbers of
tokens and entropies are (`runs.units`). target: whether the right answer is known. effects_kind: null where the source
had none. n_steps: of its thinking. left_out: why nothing is known of its path, "" where it is; the rest is known of its
steps all the same."""

METRICS: tuple[pa.Field, ...] = tuple(pa.field(name, pa.float64()) for name in RUN_METRICS if name != "n_steps")
"""Of its thinking steps, as `trajectory.run_metrics`; NaN where nothing is known of its path."""

PREFIX = pa.struct([(name, pa.int64() if name in ("step", "n_tokens") else pa.float64()) for name in FEATURE_NAMES])
"""What was known after a thinking step, as `trajectory.prefix_features`; what is about effects is NaN without them."""
PREFIXES = pa.field("prefixes", pa.list_(PREFIX))
"""Of each thinking step."""

KEYS = pa.field("keys", pa.list_(pa.binary()))
"""Hashes that runs of one image and question, or copies, share (`keys.keys_of`)."""
EFFECTS = pa.field("effects", pa.list_(pa.float32()))
"""Of its thinking steps, flat (T·K), nats."""
HIDDEN = pa.field("hidden", pa.list_(pa.float32()))
"""Hidden states of its thinking steps, flat (T·h); null where none were kept."""
REGIONS = pa.field("regions", pa.binary())
"""The label map as it was saved, a PNG; no bytes where there is none."""


def outcomes(batch: pa.RecordBatch) -> pa.Array:
    """Of each run, as `SAID` has it. batch: `outcome` and `success` of the trace schema."""
    wrong = pc.fill_null(pc.invert(batch["success"]), False)
    return pc.if_else(pc.and_(pc.equal(batch["outcome"], "unknown"), wrong), "failure", batch["outcome"])
