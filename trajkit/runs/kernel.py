"""The kernel: a batch of saved runs in, a batch with a row a run out. No Python loop over runs, regions or steps.

Runs of one batch may differ in regions and in steps. Every engine runs this on the same batches of rows, and no number
of a run depends on what stands beside it, so all of them give the same to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trajkit.runs.columns import EFFECTS, HIDDEN, KEYS, METRICS, PREFIX, PREFIXES, REGIONS, SAID, outcomes
from trajkit.runs.keys import keys_of, text_keys
from trajkit.traces.meta import Meta, parse_meta
from trajkit.trajectory.prefixes import prefixes_of_terms
from trajkit.trajectory.runs import asked_of_runs, metrics_of_terms
from trajkit.trajectory.terms import Asked, Buffers, StepTerms, step_terms

_READ = (
    "transcript_id",
    "group_id",
    "task_set",
    "question",
    "model",
    "success",
    "outcome",
    "target",
    "image_sha256",
    "effects_kind",
    "n_steps",
    "n_regions",
    "steps",
    "effects",
    "meta",
)
NO_EFFECTS, NO_THINKING = "no effects", "no thinking step"


@dataclass(frozen=True)
class Wanted:
    """What to work out of each run beside what it says of itself."""

    prefixes: bool = True
    metrics: bool = True
    effects: bool = False
    hidden: bool = False
    regions: bool = False
    keys: bool = False

    def reads(self) -> tuple[str, ...]:
        """The columns of saved runs that this needs."""
        return (*_READ, *(["hidden"] if self.hidden else []), *(["regions"] if self.regions else []))

    def schema(self) -> pa.Schema:
        """Of what `rows_of` returns."""
        fields = [*SAID, *(METRICS if self.metrics else ()), *([PREFIXES] if self.prefixes else [])]
        kept = ((self.effects, EFFECTS), (self.hidden, HIDDEN), (self.regions, REGIONS), (self.keys, KEYS))
        return pa.schema([*fields, *(field for wanted, field in kept if wanted)])


def rows_of(batch: pa.RecordBatch, wanted: Wanted | None = None) -> pa.RecordBatch:
    """A row for each run of `batch`, in its order, with the columns of `wanted.schema()`.

    batch: columns `wanted.reads()` of the trace schema, checked by `traces.faults`.
    """
    wanted = wanted or Wanted()
    steps = _Steps.of(batch)
    n_regions = _numpy(batch["n_regions"]).astype(np.int64)
    with_effects = batch["effects_kind"].is_valid().to_numpy(zero_copy_only=False) & (n_regions > 0)
    used = with_effects & (steps.counts > 0)
    columns = _said(batch) | {
        "n_steps": pa.array(steps.counts, pa.int32()),
        "left_out": pa.array(np.where(used, "", np.where(with_effects, NO_THINKING, NO_EFFECTS))),
    }
    counts = np.where(used, steps.counts, 0)
    if wanted.metrics or wanted.prefixes:
        asked = asked_of_runs(int(counts.max(initial=0)), nets=True) if wanted.metrics else Asked()
        terms = _terms(batch["effects"], steps, np.flatnonzero(used), n_regions, asked)
    if wanted.metrics:
        for name, column in metrics_of_terms(terms, _ends(counts)).items():
            column[~used] = np.nan
            columns.setdefault(name, pa.array(column))  # n_steps is also of runs that are not used
    if wanted.prefixes:
        of_all = _of_all_steps(terms, steps, np.flatnonzero(used))
        found = prefixes_of_terms(of_all, steps.ends, steps.n_tokens, steps.logprob, steps.entropy)
        parts = [pa.array(found[field.name]).cast(field.type) for field in PREFIX]
        rows = pa.StructArray.from_arrays(parts, fields=list(PREFIX))
        columns["prefixes"] = pa.ListArray.from_arrays(pa.array(steps.ends, pa.int32()), rows)
    if wanted.effects or wanted.keys:
        sizes = _ends(counts * n_regions)
        kept = _kept(batch["effects"], steps, used)
    if wanted.effects:
        columns["effects"] = pa.ListArray.from_arrays(pa.array(sizes, pa.int32()), pa.array(kept))
    if wanted.keys:
        columns["keys"] = _keys(batch, kept, sizes, n_regions)
    if wanted.hidden:
        columns["hidden"] = _hidden(batch, steps)
    schema = wanted.schema()
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


@dataclass(frozen=True, eq=False)
class _Steps:
    """The thinking steps of all runs, one after another. counts: (R,); ends: (R+1,); the rest (N,). thinking: of all
    steps; starts: (R+1,) of all steps."""

    thinking: NDArray[np.bool_]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]
    ends: NDArray[np.int64]
    n_tokens: NDArray[np.float64]
    logprob: NDArray[np.float64]
    entropy: NDArray[np.float64]

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> _Steps:
        offsets = batch["steps"].offsets.to_numpy().astype(np.int64)
        said = batch["steps"].values.slice(offsets[0], offsets[-1] - offsets[0])
        starts = offsets - offsets[0]
        kind, start, end, logprob, entropy = (
            said.field(name) for name in ("kind", "token_start", "token_end", "logprob", "entropy")
        )
        thinking = pc.equal(kind, "thinking").to_numpy(zero_copy_only=False)
        before = np.concatenate([[0], np.cumsum(thinking)])
        ends = before[starts]
        tokens = np.cumsum((_numpy(end).astype(np.int64) - _numpy(start))[thinking])
        counts = np.diff(ends)
        earlier = np.repeat(np.concatenate([[0], tokens])[ends[:-1]], counts)  # of the runs before: whole numbers
        return cls(
            thinking,
            starts,
            counts,
            ends,
            (tokens - earlier).astype(float),
            _numpy(logprob)[thinking],
            _numpy(entropy)[thinking],
        )


def _said(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """What runs say of themselves, the parts of `meta` that are read among it."""
    meta = batch["meta"].dictionary_encode()
    said = [parse_meta(text) for text in meta.dictionary.to_pylist()]

    def of_meta(name: str) -> pa.Array:
        return pa.array([getattr(one, name) for one in said], pa.string()).take(meta.indices)

    own = {name: batch[name] for name in batch.schema.names if name not in ("steps", "effects", "hidden", "meta")}
    return own | {
        **{name: of_meta(name) for name in Meta._fields},
        "target": pc.not_equal(batch["target"], ""),
        "outcome": outcomes(batch),
    }


def _terms(
    column: pa.ListArray, steps: _Steps, used: NDArray[np.int64], n_regions: NDArray[np.int64], asked: Asked
) -> StepTerms:
    """Terms of the thinking steps of the runs `used`, run after run: worked out over runs of one number of regions
    together, whose rows are copied out of the batch for that and for no longer."""
    flat, offsets = _flat(column)
    counts = steps.counts[used]
    place = np.flatnonzero(steps.thinking)[_at(steps.ends, used, steps.counts)] - np.repeat(steps.starts[used], counts)
    begins = np.repeat(offsets[used], counts) + place * np.repeat(n_regions[used], counts)  # of each step, in flat
    by_width = np.argsort(n_regions[used], kind="stable")
    ends = _ends(counts[by_width])
    at = _at(_ends(counts), by_width, counts)
    begins, buffers, sorted_terms = begins[at], Buffers(), asked.empty(len(at))
    widths, firsts = np.unique(n_regions[used][by_width], return_index=True)
    for k, first, last in zip(widths.tolist(), firsts.tolist(), [*firsts[1:].tolist(), len(used)], strict=False):
        own = ends[first : last + 1]
        windows: NDArray[np.float32] = np.ndarray((flat.size - k + 1, k), flat.dtype, flat, strides=2 * flat.strides)
        rows = windows[begins[own[0] : own[-1]]]
        step_terms(rows, own - own[0], asked, buffers, sorted_terms.of(own[0], own[-1]))
    out = asked.empty(len(at))
    out.values[:, at] = sorted_terms.values
    return out


def _of_all_steps(terms: StepTerms, steps: _Steps, used: NDArray[np.int64]) -> StepTerms:
    """Terms of all thinking steps, from those of the runs that have effects; unknown ones of the others."""
    if terms.values.shape[1] == steps.ends[-1]:
        return terms
    every = terms.asked.unknown(int(steps.ends[-1]))
    every.values[:, _at(steps.ends, used, steps.counts)] = terms.values
    return every


def _flat(column: pa.ListArray) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(values, offsets): a view of Arrow's buffer."""
    offsets = column.offsets.to_numpy().astype(np.int64)
    return column.values.to_numpy(zero_copy_only=True)[offsets[0] : offsets[-1]], offsets - offsets[0]


def _kept(column: pa.ListArray, steps: _Steps, used: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The effects of the thinking steps of the runs that are used, flat and run after run."""
    flat, offsets = _flat(column)
    n_steps = np.diff(steps.starts)
    keep = steps.thinking & np.repeat(used, n_steps)
    width = np.repeat(np.diff(offsets) // np.maximum(n_steps, 1), n_steps)
    return flat if keep.all() else flat[np.repeat(keep, width)]


def _ends(counts: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _keys(
    batch: pa.RecordBatch, values: NDArray[np.float32], ends: NDArray[np.int64], n_regions: NDArray[np.int64]
) -> pa.Array:
    """A loop over runs: a hash is of one run's bytes. values: of all runs, run i from ends[i] on."""
    effects = [own.reshape(-1, max(k, 1)) for own, k in zip(np.split(values, ends[1:-1]), n_regions, strict=False)]
    said = zip(batch["image_sha256"].to_pylist(), batch["question"].to_pylist(), effects, strict=True)
    keys = [keys_of(*run) for run in said]
    bare = np.flatnonzero(batch["effects_kind"].is_null().to_numpy(zero_copy_only=False)).tolist()
    for run in bare:
        thinking = [step for step in batch["steps"][run].as_py() if step["kind"] == "thinking"]
        texts, logprobs = ([step[name] for step in thinking] for name in ("text", "logprob"))
        keys[run] += text_keys(batch["question"][run].as_py(), texts, logprobs)
    return pa.array(keys, KEYS.type)


def _hidden(batch: pa.RecordBatch, steps: _Steps) -> pa.Array:
    """The hidden states of the thinking steps, flat."""
    column = batch["hidden"]
    lengths = np.diff(column.offsets.to_numpy().astype(np.int64))
    n_steps = np.diff(steps.starts)
    width = lengths // np.maximum(n_steps, 1)
    flat = column.flatten().to_numpy(zero_copy_only=False)
    of_step = np.repeat(width, n_steps)
    keep = np.repeat(steps.thinking, of_step)
    return pa.ListArray.from_arrays(
        pa.array(_ends(width * steps.counts), pa.int32()), pa.array(flat[keep]), mask=column.is_null()
    )


def _at(ends: NDArray[np.int64], runs: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of all steps (or numbers) of `runs`, run after run, in an array where run i begins at ends[i]."""
    own = counts[runs]
    begins = np.cumsum(own) - own
    return np.arange(own.sum()) + np.repeat(ends[:-1][runs] - begins, own)


def _numpy(array: pa.Array) -> NDArray[Any]:
    return array.to_numpy(zero_copy_only=False)
