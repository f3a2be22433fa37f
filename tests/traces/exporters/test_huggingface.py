"""The folder that `datasets.load_dataset` opens.

`datasets` is not installed here: what its files say of their features is held against what its 5.2 read them as when it
loaded the demo's runs (reports/exporting.md). `python -m analyses.exporting --tools PYTHON` has it load them again.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from trajkit.traces.exporters import export_traces, huggingface
from trajkit.traces.exporters.card import card
from trajkit.traces.schema import SCHEMA

from ..factory import make_trace, png
from .samples import samples

GOLDEN = Path(__file__).parent / "golden" / "card.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return export_traces(samples(), tmp_path / "data set", format="hf")


def test_features_are_in_the_files_so_that_pictures_are_pictures(folder: Path) -> None:
    schema = pq.read_schema(folder / "data" / "train-00000.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == schema.names == [name for name in SCHEMA.names if name != "hidden"]
    assert features["image"] == features["regions"] == {"_type": "Image"}
    assert features["score"] == {"_type": "Value", "dtype": "float64"}
    assert features["task_repeat"] == {"_type": "Value", "dtype": "int64"}
    numbers = {"_type": "List", "feature": {"_type": "Value", "dtype": "float32"}}
    assert features["effects"] == {"_type": "List", "feature": numbers}
    assert features["steps"]["feature"]["alarm"] == {"_type": "Value", "dtype": "bool"}
    assert str(schema.field("image").type) == "struct<bytes: binary, path: string>"


def test_every_row_has_its_picture_and_effects_as_a_matrix(folder: Path) -> None:
    rows = pq.read_table(folder / "data" / "train-00000.parquet").to_pylist()
    for row, trace in zip(rows, samples(), strict=True):
        assert row["image"] == (None if trace.image is None else {"bytes": trace.image, "path": None})
        if trace.effects_kind is None:
            assert (row["effects"], row["regions"]) == (None, None)
        else:
            np.testing.assert_array_equal(np.float32(row["effects"]), trace.effects)
            labels = np.array(Image.open(io.BytesIO(row["regions"]["bytes"])))
            np.testing.assert_array_equal(labels, trace.regions)
        assert [step["text"] for step in row["steps"]] == [step.text for step in trace.steps]
    assert rows[0]["tokens"] == list(range(42))


def test_a_picture_that_runs_share_is_in_each_row_and_once_in_the_file(tmp_path: Path) -> None:
    pictures = [png(i, (200, 200)) for i in range(16)]
    runs = [make_trace(i, image=pictures[i % 16]) for i in range(48)]
    (file,) = (export_traces(runs, tmp_path / "set", format="hf") / "data").iterdir()
    assert [row["bytes"] for row in pq.read_table(file)["image"].to_pylist()] == pictures * 3
    assert file.stat().st_size < 1.1 * sum(map(len, pictures))


def test_a_large_set_is_several_files_that_hold_each_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "SHARD", 10_000)
    monkeypatch.setattr(huggingface, "ROW_GROUP", 2)
    runs = [make_trace(4 * i) for i in range(11)]
    folder = export_traces(runs, tmp_path / "set", format="hf") / "data"
    files = sorted(folder.iterdir())
    assert len(files) > 2
    found = [name for file in files for name in pq.read_table(file)["transcript_id"].to_pylist()]
    assert found == [run.transcript_id for run in runs]


def test_the_card_is_that_of_the_golden_file(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")
    assert "license:" not in [line for line in text.splitlines() if not line.startswith("#")]
    for field in SCHEMA:
        assert (f"| `{field.name}` |" in text) == (field.name != "hidden")


def test_names_in_a_card_are_text() -> None:
    counts = huggingface.Counts()
    counts.add(make_trace(0, model="`x`\n# <b>", task_set="a | b"))
    lines = card(counts, "---\n# <script>|").splitlines()
    assert lines.count("---") == 2
    assert not [line for line in lines if line.startswith("# <")]
    assert "<script>" not in [line for line in lines if not line.startswith("pretty_name")]
