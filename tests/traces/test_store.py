"""What is written is read back, whole, in order, and without copying the effects."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from trajkit.errors import InputError, TraceFormatError
from trajkit.traces.file import TraceFile
from trajkit.traces.schema import SCHEMA, SCHEMA_VERSION, VERSION_KEY
from trajkit.traces.store import read_traces, write_traces
from trajkit.traces.trace import OUTCOMES, Step, Trace

from .factory import assert_same, make_trace, png

GOLDEN = Path(__file__).parent / "golden" / "runs.parquet"
GOLDEN_2 = Path(__file__).parent / "golden" / "runs-2.parquet"
GOLDEN_3 = Path(__file__).parent / "golden" / "runs-3.parquet"

small = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
texts = st.text(max_size=12)
floats = st.floats(allow_nan=True, allow_infinity=False)
steps = st.builds(
    lambda text, kind, start, length, *rest: Step(text, kind, start, start + length, *rest),
    texts,
    st.sampled_from(["thinking", "answer"]),
    st.integers(0, 2**30),
    st.integers(0, 2**30 - 1),
    st.none() | st.floats(max_value=0, allow_infinity=False),
    st.none() | st.floats(min_value=0, allow_infinity=False),
    st.floats(0, 1e6),
)
json_values = st.recursive(st.none() | st.booleans() | st.integers() | texts, lambda x: st.lists(x, max_size=3))


@st.composite
def any_trace(draw: st.DrawFn) -> Trace:
    k = draw(st.integers(0, 5))
    the_steps = tuple(draw(st.lists(steps, max_size=4)))
    shape = draw(st.sampled_from([(0, 0), (1, 1), (3, 5)]))
    high = max(k, 1) if draw(st.booleans()) or k else 60_000
    outcome = draw(st.sampled_from(OUTCOMES))
    return Trace(
        transcript_id=draw(st.text(min_size=1, max_size=12)),
        model=draw(texts),
        question=draw(texts),
        steps=the_steps,
        effects=draw(npst.arrays(np.float32, (len(the_steps), k), elements=st.floats(-1e6, 1e6, width=32))),
        effects_kind=draw(st.sampled_from(["estimated", "measured", None])),
        regions=draw(npst.arrays(np.int64, shape, elements=st.integers(0, high - 1))),
        group_id=draw(texts),
        task_set=draw(texts),
        task_id=draw(texts),
        task_repeat=draw(st.integers(0, 2**40)),
        score=draw(st.none() | floats),
        success=draw(st.none() | (st.booleans() if outcome == "unknown" else st.just(outcome == "success"))),
        answer=draw(texts),
        target=draw(texts),
        outcome=outcome,
        image=draw(st.none() | st.binary(max_size=20)),
        meta=draw(st.dictionaries(texts, json_values, max_size=3)),
        tokens=draw(st.none() | npst.arrays(np.int32, st.integers(0, 4), elements=st.integers(0, 2**31 - 1))),
    )


@small
@given(
    st.lists(any_trace(), max_size=5, unique_by=lambda trace: trace.transcript_id), st.sampled_from([".parquet", ""])
)
def test_any_traces_come_back_equal_from_a_file_and_from_a_folder(
    tmp_path_factory: pytest.TempPathFactory, runs: list[Trace], ending: str
) -> None:
    path = tmp_path_factory.mktemp("store") / f"runs{ending}"
    if not runs and not ending:
        return
    write_traces(runs, path)
    back = read_traces(path)
    assert back.ids == [run.transcript_id for run in runs]
    for run, read in zip(runs, back, strict=True):
        assert_same(run, read)
    values, offsets = back.effects
    assert (values.dtype, offsets.dtype) == (np.float32, np.int64)
    for i, run in enumerate(runs):
        np.testing.assert_array_equal(values[offsets[i] : offsets[i + 1]], run.effects.ravel())


def test_effects_of_a_single_file_are_a_view_of_arrows_memory(tmp_path: Path) -> None:
    runs = [make_trace(i) for i in range(150)]  # more than two row groups
    back = read_traces(write_traces(runs, tmp_path / "runs.parquet"))
    values, offsets = back.effects
    column = back._backing.files[0]._index["effects"]
    assert column.num_chunks == 1
    assert values.__array_interface__["data"][0] == column.chunk(0).values.buffers()[1].address
    assert np.shares_memory(back[7].effects, values)
    assert len(values) == offsets[-1] == sum(run.effects.size for run in runs)


def test_the_columns_are_those_of_the_design_in_its_order_each_with_a_sentence(tmp_path: Path) -> None:
    design = [
        "transcript_id",
        "task_set",
        "task_id",
        "task_repeat",
        "model",
        "score",
        "success",
        "group_id",
        "question",
        "answer",
        "target",
        "outcome",
        "image",
        "image_sha256",
        "regions",
        "n_steps",
        "n_regions",
        "steps",
        "effects",
        "effects_kind",
        "meta",
        "half_widths",
        "hidden",
        "tokens",
    ]
    file = pq.ParquetFile(write_traces([make_trace()], tmp_path / "runs.parquet"))
    assert file.schema_arrow.names == design
    assert file.schema_arrow.metadata[VERSION_KEY] == str(SCHEMA_VERSION).encode()
    assert all(field.metadata[b"description"].endswith(b".") for field in SCHEMA)
    group = file.metadata.row_group(0)
    assert {group.column(i).compression for i in range(group.num_columns)} == {"ZSTD"}


def test_an_image_is_stored_once_a_file_and_given_to_every_run_that_has_it(tmp_path: Path) -> None:
    runs = [make_trace(i) for i in range(8)]  # two images, four runs each
    path = write_traces(runs, tmp_path / "runs.parquet")
    stored = pq.read_table(path, columns=["image"])["image"]
    assert [value.is_valid for value in stored] == [True, False, False, False] * 2
    assert [run.image for run in read_traces(path)] == [png(0)] * 4 + [png(1)] * 4


def test_an_image_is_found_when_its_first_run_came_without_the_bytes(tmp_path: Path) -> None:
    full = make_trace(1)
    bare = make_trace(0, image=None, image_sha256=full.image_sha256)
    for path in (tmp_path / "runs.parquet", tmp_path / "folder"):
        assert read_traces(write_traces([bare, full], path))[0].image == full.image


def test_an_image_that_is_not_what_its_hash_says_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="image_sha256 is not the hash"):
        write_traces([make_trace(image_sha256="0" * 64)], tmp_path / "runs.parquet")


def test_16_bit_label_maps_come_back(tmp_path: Path) -> None:
    labels = np.arange(300).reshape(15, 20)
    run = make_trace(regions=labels, effects=np.ones((3, 300), np.float32))
    back = read_traces(write_traces([run], tmp_path / "runs.parquet"))[0]
    assert back.regions.dtype == np.uint16
    np.testing.assert_array_equal(back.regions, labels)


def test_traces_are_a_sequence(tmp_path: Path) -> None:
    back = read_traces(write_traces([make_trace(i) for i in range(5)], tmp_path / "runs.parquet"))
    assert len(back) == 5
    assert back[-1].transcript_id == "run-0004"
    assert [run.transcript_id for run in back[3:0:-2]] == ["run-0003", "run-0001"]
    assert back.column("group_id") == ["scene-0"] * 4 + ["scene-1"]
    assert [run.image for run in back.without_images()] == [None] * 5
    with pytest.raises(IndexError):
        back[5]
    with pytest.raises(InputError, match="no column 'colour' that column could read"):
        back.column("colour")


def test_no_runs_make_a_file_of_no_runs(tmp_path: Path) -> None:
    back = read_traces(write_traces([], tmp_path / "none.parquet"))
    assert len(back) == 0
    assert len(back.effects[0]) == 0


def test_a_file_may_be_rewritten_from_itself(tmp_path: Path) -> None:
    path = write_traces([make_trace(i) for i in range(5)], tmp_path / "runs.parquet")
    write_traces(read_traces(path), path)
    for i, run in enumerate(read_traces(path)):
        assert_same(run, make_trace(i))


def test_the_golden_file_stays_readable() -> None:
    right, wrong, bare = read_traces(GOLDEN)
    assert [run.transcript_id for run in (right, wrong, bare)] == ["run-0000", "run-0001", "run-0007"]
    assert [run.outcome for run in (right, wrong, bare)] == ["success", "hallucination", "unknown"]
    assert [run.success for run in (right, wrong, bare)] == [True, False, None]
    assert [run.score for run in (right, wrong, bare)] == [1.0, 0.0, None]
    assert [run.effects.shape for run in (right, wrong, bare)] == [(3, 3), (4, 3), (4, 0)]
    assert [run.effects_kind for run in (right, wrong, bare)] == ["estimated", "estimated", None]
    np.testing.assert_allclose(right.effects[0], [0.12573022, -0.13210486, 0.64042264], rtol=1e-6)
    assert right.steps[1] == Step("sentence 1.", "thinking", 5, 9, -0.25, 1.5, 0.125)
    assert right.steps[2] == Step("yes", "answer", 40, 42, -0.1, 0.2)
    assert right.image is not None
    assert right.image.startswith(b"\x89PNG")
    assert wrong.image == right.image
    assert bare.image is None
    np.testing.assert_array_equal(right.regions, np.arange(480).reshape(20, 24) % 3)
    assert bare.regions.size == 0
    assert right.meta == {"temperature": 1.0, "seed": 0}
    assert (right.question, right.group_id, right.task_set, right.task_repeat) == (
        "is there a red 7?",
        "scene-0",
        "general",
        0,
    )


def test_the_golden_file_of_version_2_stays_readable_verdicts_and_half_widths_among_it() -> None:
    watched, plain = read_traces(GOLDEN_2)
    assert [(step.risk, step.alarm) for step in watched.steps] == [(0.25, False), (0.75, True), (0.75, False)]
    np.testing.assert_allclose(watched.half_widths, np.abs(watched.effects) / 2)
    assert [(step.risk, step.alarm) for step in plain.steps] == [(None, None)] * 4
    assert plain.half_widths is None
    assert plain.tokens is None


def test_files_of_version_3_are_read_with_their_tokens_and_without_what_their_source_had_not() -> None:
    whole, bare = read_traces(GOLDEN_3)
    assert whole.tokens.tolist() == list(range(42))
    assert whole.tokens.dtype == np.int32
    assert {(step.logprob, step.entropy) for step in bare.steps} == {(None, None)}
    assert (bare.effects.shape, bare.effects_kind, bare.tokens) == ((4, 0), None, None)


@pytest.mark.parametrize("tokens", [[[1, 2]], [-1], [0.5]])
def test_tokens_that_are_no_ids_are_refused(tokens) -> None:
    with pytest.raises(TraceFormatError, match=r"tokens must be \(n,\) whole numbers"):
        replace(make_trace(0), tokens=np.array(tokens))


def test_half_widths_that_do_not_fit_the_effects_are_refused(tmp_path) -> None:
    trace = make_trace(0)
    with pytest.raises(TraceFormatError, match=r"half_widths must have the shape of effects, \(3, 3\); got \(2, 3\)"):
        replace(trace, half_widths=np.zeros((2, 3), np.float32))
    with pytest.raises(TraceFormatError, match="half_widths must be finite and at least 0"):
        replace(trace, half_widths=np.full((3, 3), -1, np.float32))


def test_what_other_tools_write_without_loss_is_read(tmp_path: Path) -> None:
    """Wider numbers, other offsets, dictionaries, steps with their fields in another order."""
    runs = [make_trace(i) for i in range(3)]
    table = pq.read_table(write_traces(runs, tmp_path / "runs.parquet"))
    step = pa.struct(
        [
            pa.field("seconds", pa.float32()),
            pa.field("kind", pa.large_string()),
            pa.field("text", pa.string()),
            pa.field("entropy", pa.float64()),
            pa.field("logprob", pa.float64()),
            pa.field("token_end", pa.int64()),
            pa.field("token_start", pa.int16()),
        ]
    )
    wide = {
        "n_steps": pa.int64(),
        "n_regions": pa.uint8(),
        "task_repeat": pa.int8(),
        "question": pa.large_string(),
        "image": pa.large_binary(),
        "effects": pa.large_list(pa.float64()),
        "score": pa.float32(),
        "steps": pa.large_list(step),
    }
    for name, type_ in wide.items():
        table = table.set_column(table.column_names.index(name), name, table[name].cast(type_))
    outcome = table["outcome"].dictionary_encode()
    table = table.set_column(table.column_names.index("outcome"), "outcome", outcome)
    pq.write_table(table.select(sorted(table.column_names)), tmp_path / "other.parquet")
    for run, other in zip(runs, read_traces(tmp_path / "other.parquet"), strict=True):
        assert_same(run, other)


def test_a_whole_number_that_does_not_fit_is_refused_and_not_cut(tmp_path: Path) -> None:
    table = pq.read_table(write_traces([make_trace()], tmp_path / "runs.parquet"))
    at = table.column_names.index("n_regions")
    pq.write_table(table.set_column(at, "n_regions", pa.array([2**40])), tmp_path / "other.parquet")
    with pytest.raises(TraceFormatError, match=r"other\.parquet: damaged, cannot be read .*not in range"):
        read_traces(tmp_path / "other.parquet")


def test_a_file_that_another_tool_wrote_with_the_same_columns_is_read(tmp_path: Path) -> None:
    table = pq.read_table(GOLDEN)
    plain = pa.table({name: table[name] for name in reversed(table.column_names)} | {"extra": [1, 2, 3]})
    pq.write_table(plain, tmp_path / "other.parquet", compression="snappy")
    for one, other in zip(read_traces(GOLDEN), read_traces(tmp_path / "other.parquet"), strict=True):
        assert_same(one, other)


def test_hidden_states_come_back_and_a_file_without_their_column_is_read(tmp_path):
    plain = make_trace(0)
    kept = make_trace(1)
    states = np.random.default_rng(0).normal(size=(kept.n_steps, 5)).astype(np.float32)
    kept = replace(kept, hidden=states)
    path = write_traces([plain, kept], tmp_path / "t.parquet")
    first, second = read_traces(path)
    assert first.hidden is None
    np.testing.assert_array_equal(second.hidden, states)
    table = pq.read_table(path).drop_columns(["hidden"])
    pq.write_table(table, tmp_path / "older.parquet")
    assert [trace.hidden for trace in read_traces(tmp_path / "older.parquet")] == [None, None]


def test_hidden_states_and_images_are_those_of_their_run_in_any_row_group(tmp_path):
    runs = [
        replace(make_trace(i), hidden=None if i % 3 == 0 else np.full((make_trace(i).n_steps, 2), i)) for i in range(9)
    ]
    table = pq.read_table(write_traces(runs, tmp_path / "t.parquet"))
    pq.write_table(table.slice(1), tmp_path / "cut.parquet", row_group_size=2)
    back = read_traces(tmp_path / "cut.parquet")
    for i in reversed(range(8)):
        assert back[i].transcript_id == runs[i + 1].transcript_id
        if runs[i + 1].hidden is None:
            assert back[i].hidden is None
        else:
            np.testing.assert_array_equal(back[i].hidden, runs[i + 1].hidden)
    own = [make_trace(i, image=png(i), image_sha256="") for i in range(6)]
    table = pq.read_table(write_traces(own, tmp_path / "own.parquet"))
    pq.write_table(table, tmp_path / "groups.parquet", row_group_size=2)
    assert [run.image for run in read_traces(tmp_path / "groups.parquet")] == [png(i) for i in range(6)]


def test_hidden_states_that_do_not_fit_the_steps_are_refused(tmp_path):
    trace = make_trace(0)
    with pytest.raises(TraceFormatError, match="hidden must have one row per step"):
        replace(trace, hidden=np.zeros((trace.n_steps + 1, 4), np.float32))
    path = write_traces([trace], tmp_path / "t.parquet")
    table = pq.read_table(path)
    column = pa.array([[1.0] * (trace.n_steps + 1)], pa.list_(pa.float32()))
    at = table.schema.get_field_index("hidden")
    pq.write_table(table.set_column(at, "hidden", column), path)
    with pytest.raises(TraceFormatError, match="hidden must hold the same number of finite values"):
        read_traces(path)[0]


def test_a_file_that_is_dropped_gives_its_memory_back_at_once() -> None:
    """Not when Python next looks for cycles, which may be hundreds of files later."""
    file = TraceFile(GOLDEN)
    assert file.row(0, file.image(0)).n_steps
    gone = weakref.ref(file._parquet)
    gc.disable()
    try:
        del file
        assert gone() is None
    finally:
        gc.enable()


def test_a_folder_may_be_called_as_logs_of_other_tools_are(tmp_path):
    runs = read_traces("data/demo/traces")[:2]
    assert len(read_traces(write_traces(runs, tmp_path / "runs.eval"))) == 2
