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

from trajkit.runs.columns import EFFECTS, HIDDEN, KEYS, METRICS, PREFIX, PREFIXES, REGIONS, SAID
from trajkit.runs.keys import keys_of
from trajkit.strict_json import parse_json
from trajkit.traces.forms import form_of
from trajkit.trajectory.prefixes import prefixes_of_terms, step_terms
from trajkit.trajectory.runs import run_metrics

_READ = (
    "transcript_id", "group_id", "task_set", "question", "model", "success", "outcome", "target", "image_sha256",
    "effects_kind", "n_steps", "n_regions", "steps", "effects", "meta",
)  # fmt: skip
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
    n_regions = _numpy(batch["n_regions"])
    with_effects = batch["effects_kind"].is_valid().to_numpy(zero_copy_only=False) & (n_regions > 0)
    used = with_effects & (steps.counts > 0)
    columns = _said(batch) | {
        "n_steps": pa.array(steps.counts, pa.int32()),
        "left_out": pa.array(np.where(used, "", np.where(with_effects, NO_THINKING, NO_EFFECTS))),
    }
    counts = np.where(used, steps.counts, 0)
    ends = _ends(counts)  # of the thinking steps of the runs that are used
    metrics = {field.name: np.full(len(batch), np.nan) for field in METRICS}
    by_width = np.flatnonzero(used)[np.argsort(n_regions[used], kind="stable")]
    values = _effects(batch["effects"], by_width, steps)
    widths, firsts = np.unique(n_regions[by_width], return_index=True)
    terms = np.empty((4, ends[-1]))
    at = 0
    for k, runs in zip(widths.tolist(), np.split(by_width, firsts[1:]), strict=False):  # one empty part without runs
        own = _ends(counts[runs])
        mine = values[at : at + own[-1] * k].reshape(-1, k)
        at += own[-1] * k
        if wanted.metrics:
            for name, column in run_metrics(mine, own).items():
                if name in metrics:
                    metrics[name][runs] = column
        if wanted.prefixes:
            terms[:, _at(ends, runs, counts)] = step_terms(mine, own)
    if wanted.metrics:
        columns |= {name: pa.array(column) for name, column in metrics.items()}
    if wanted.prefixes:
        known = _at(steps.ends, np.flatnonzero(used), counts)
        found = prefixes_of_terms(terms, ends, steps.n_tokens[known], steps.logprob[known], steps.entropy[known])
        parts = [pa.array(found[field.name]).cast(field.type) for field in PREFIX]
        rows = pa.StructArray.from_arrays(parts, fields=list(PREFIX))
        columns["prefixes"] = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), rows)
    if wanted.effects:
        sizes = counts * n_regions
        kept = np.empty(sizes.sum(), np.float32)
        kept[_at(_ends(sizes), by_width, sizes)] = values
        columns["effects"] = pa.ListArray.from_arrays(pa.array(_ends(sizes), pa.int32()), pa.array(kept))
    if wanted.keys:
        columns["keys"] = _keys(batch, values, by_width, counts * n_regions, n_regions)
    if wanted.hidden:
        columns["hidden"] = _hidden(batch, steps, counts)
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
            thinking, starts, counts, ends, (tokens - earlier).astype(float), _numpy(logprob)[thinking],
            _numpy(entropy)[thinking],
        )  # fmt: skip


def _said(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """What runs say of themselves, the parts of `meta` that are read among it."""
    meta = batch["meta"].dictionary_encode()
    parsed: list[Any] = [parse_json(text) for text in meta.dictionary.to_pylist()]

    def of_meta(values: list[str]) -> pa.Array:
        return pa.DictionaryArray.from_arrays(meta.indices, pa.array(values, pa.string())).dictionary_decode()

    unread = [one.get("unread") for one in parsed]
    counted = np.array([said if isinstance(said, int | float) else np.nan for said in unread], float)
    kinds = of_meta([form_of(one) for one in parsed])
    own = {name: batch[name] for name in batch.schema.names if name not in ("steps", "effects", "hidden", "meta")}
    return own | {
        "form": kinds,
        "fingerprint": of_meta([str(one.get("fingerprint") or "") for one in parsed]),
        "unread": pa.array(counted[meta.indices.to_numpy()]),
        "detail": of_meta([str(one.get("detail") or "") for one in parsed]),
        "target": pc.not_equal(batch["target"], ""),
        "outcome": pc.if_else(
            pc.and_(pc.equal(batch["outcome"], "unknown"), pc.fill_null(pc.invert(batch["success"]), False)),
            "failure",
            batch["outcome"],
        ),
    }


def _effects(column: pa.ListArray, runs: NDArray[np.int64], steps: _Steps) -> NDArray[np.float32]:
    """The effects of the thinking steps of `runs`, flat and run after run."""
    lists = column if len(runs) == len(column) and (np.diff(runs) > 0).all() else column.take(pa.array(runs))
    offsets = lists.offsets.to_numpy().astype(np.int64)
    flat = lists.values.to_numpy(zero_copy_only=True)[offsets[0] : offsets[-1]]
    counts = np.diff(steps.starts)
    thinking = steps.thinking[_at(steps.starts, runs, counts)]
    width = np.diff(offsets) // np.maximum(counts[runs], 1)
    return flat if thinking.all() else flat[np.repeat(thinking, np.repeat(width, counts[runs]))]


def _ends(counts: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _keys(
    batch: pa.RecordBatch, values: NDArray[np.float32], runs: NDArray[np.int64], sizes: NDArray[np.int64],
    n_regions: NDArray[Any],
) -> pa.Array:  # fmt: skip
    """A loop over runs: a hash is of one run's bytes. values: of `runs`, run after run."""
    effects = [np.zeros((0, 0), np.float32)] * len(batch)
    for run, own in zip(runs.tolist(), np.split(values, _ends(sizes[runs])[1:-1]), strict=False):
        effects[run] = own.reshape(-1, n_regions[run])
    said = zip(batch["image_sha256"].to_pylist(), batch["question"].to_pylist(), effects, strict=True)
    return pa.array([keys_of(*run) for run in said], KEYS.type)


def _hidden(batch: pa.RecordBatch, steps: _Steps, counts: NDArray[np.int64]) -> pa.Array:
    """The hidden states of the thinking steps that are used, flat."""
    column = batch["hidden"]
    lengths = np.diff(column.offsets.to_numpy().astype(np.int64))
    n_steps = np.diff(steps.starts)
    width = lengths // np.maximum(n_steps, 1)
    flat = column.flatten().to_numpy(zero_copy_only=False)
    of_step = np.repeat(width, n_steps)
    keep = np.repeat(steps.thinking & np.repeat(counts > 0, n_steps), of_step)
    return pa.ListArray.from_arrays(
        pa.array(_ends(width * counts), pa.int32()), pa.array(flat[keep]), mask=column.is_null()
    )


def _at(ends: NDArray[np.int64], runs: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of all steps (or numbers) of `runs`, run after run, in an array where run i begins at ends[i]."""
    own = counts[runs]
    begins = np.cumsum(own) - own
    return np.arange(own.sum()) + np.repeat(ends[:-1][runs] - begins, own)


def _numpy(array: pa.Array) -> NDArray[Any]:
    return array.to_numpy(zero_copy_only=False)
