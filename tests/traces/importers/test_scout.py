"""Transcripts of inspect_scout, as the real tool wrote them, say what the log says that it read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import trajkit as tk
from trajkit.errors import InputError

GOLDEN = Path(__file__).parent / "golden"
(FILE,) = (GOLDEN / "scout").glob("*.parquet")


def imported(path: Path, **options):
    aside: dict[str, str] = {}
    with pytest.warns(UserWarning, match="redacted"):
        found = tk.import_traces(path, set_aside=lambda run, error: aside.update({run: str(error)}), **options)
    return found, aside


def test_a_database_says_what_its_log_says():
    found, aside = imported(GOLDEN / "scout")
    log, log_aside = imported(GOLDEN / "inspect" / "shapes.eval")
    assert len(aside) == len(log_aside) == 2
    assert any("the sandbox is gone" in reason for reason in aside.values())
    same = {run.task_id: run for run in log}
    assert {run.task_id for run in found} == same.keys()
    for run in found:
        expected = same[run.task_id]
        assert run.steps == expected.steps
        assert run.image == expected.image
        for name in ("question", "answer", "target", "score", "outcome", "task_repeat", "model"):
            assert getattr(run, name) == getattr(expected, name), (run.task_id, name)
        for name in ("targets", "messages", "system", "cut", "written", "temperature"):
            assert run.meta.get(name) == expected.meta.get(name), (run.task_id, name)


def test_ids_are_those_of_the_transcripts_in_a_file_and_in_a_folder():
    ids = set(pq.read_table(FILE, columns=["transcript_id"])["transcript_id"].to_pylist())
    for path in (FILE, FILE.parent):
        found, aside = imported(path)
        assert {*found.ids, *aside} == ids


def test_transcripts_without_events_are_read_from_their_messages(tmp_path):
    table = pq.read_table(FILE).drop_columns(["events", "events_data", "scores", "sample_metadata"])
    pq.write_table(table, tmp_path / "t.parquet")
    found, _ = imported(tmp_path / "t.parquet")
    run = next(run for run in found if run.task_id == "reasoning")
    assert [step.text for step in run.steps] == ["There is one there.", "And one here.", "2"]
    assert {step.logprob for step in run.steps} == {None}
    assert (run.score, run.outcome, run.image is not None) == (1.0, "success", True)
    unscored = next(run for run in found if run.task_id == "unscored")
    assert (unscored.score, unscored.success) == (None, None)


def test_traces_of_our_own_are_no_transcripts():
    from trajkit.demo import paths
    from trajkit.traces.importers.formats import read_head
    from trajkit.traces.importers.scout import IMPORTER

    own = sorted(paths.TRACES.glob("*.parquet"))[0]
    assert not IMPORTER.recognises(own, read_head(own))


def test_a_damaged_file_is_an_error_of_one_line(tmp_path):
    shutil.copy(FILE, tmp_path / "t.parquet")
    data = bytearray(FILE.read_bytes())
    data[2_000:30_000] = bytes(28_000)
    (tmp_path / "t.parquet").write_bytes(bytes(data))
    with pytest.raises(InputError) as error:
        tk.import_traces(tmp_path / "t.parquet")
    assert "\n" not in str(error.value)


def test_an_error_without_words_leaves_out_its_run_alone(tmp_path):
    table = pq.read_table(FILE)
    table = table.set_column(table.schema.get_field_index("error"), "error", [[" \n"] + [None] * (len(table) - 1)])
    pq.write_table(table, tmp_path / "t.parquet")
    found, aside = imported(tmp_path / "t.parquet")
    assert len(found) > 2
    assert "the sample failed: no reason is told." in aside.values()
