"""Bad input at the command line: one line that says what to do, a non-zero exit code, no traceback."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from trajkit.attribution.estimator import Binding
from trajkit.attribution.linear import LinearEstimator


@pytest.fixture
def ask(cli, model_and_estimator):
    """`trajkit stream IMAGE` with a fitting model and estimator."""
    return lambda image, *more: cli(
        "stream", image, "how many red in row 1 to row 3?", *model_and_estimator, "--detectors", "none", *more
    )


def test_a_missing_image(ask, tmp_path):
    ask(tmp_path / "nowhere.png").assert_one_line_error("nowhere.png", "does not exist")


def test_a_corrupt_image(ask, tmp_path, picture):
    bad = tmp_path / "cut.png"
    bad.write_bytes(picture.read_bytes()[:400])
    ask(bad).assert_one_line_error("cut.png", "damaged")


def test_a_text_file_as_image(ask, tmp_path):
    bad = tmp_path / "text.png"
    bad.write_text("no picture")
    ask(bad).assert_one_line_error("text.png", "not an image")


def test_a_one_pixel_image(ask, tmp_path):
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    ask(tmp_path / "dot.png").assert_one_line_error("1 x 1")


def test_a_fifty_megapixel_image(ask, tmp_path):
    Image.new("L", (10_000, 5_000)).save(tmp_path / "wall.png", compress_level=1)
    ask(tmp_path / "wall.png").assert_one_line_error("50 million", "Resize")


def test_no_such_model(cli, picture, tmp_path):
    cli("stream", picture, "?", "--model", tmp_path / "none").assert_one_line_error("no model at", "config.json")


@pytest.mark.parametrize(("offline", "words"), [("0", "the hub cannot be reached"), ("1", "HF_HUB_OFFLINE is set")])
def test_a_hub_id_that_cannot_be_had_is_one_line_at_once(picture, offline, words, tmp_path):
    hub = {"HF_HUB_OFFLINE": offline, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    counted = "import sys, time; slept = []; time.sleep = slept.append\nfrom trajkit.cli.main import main\n"
    counted += "try: main(sys.argv[1:])\nfinally: print('slept', sum(slept))"
    done = subprocess.run(
        [sys.executable, "-c", counted, "stream", picture, "?", "--model", "nobody/no-such-model"],
        capture_output=True,
        text=True,
        env=os.environ | hub,
    )
    assert done.returncode == 1
    *doing, error = done.stderr.splitlines()
    assert all(line.startswith("loading ") and line.endswith(" …") for line in doing), done.stderr
    assert words in error
    assert "pass a checkpoint folder" in done.stderr
    assert float(done.stdout.split()[-1]) < 2  # six tries would wait for 23 s between them


def test_a_model_type_that_is_not_supported(cli, picture, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    cli("stream", picture, "?", "--model", tmp_path).assert_one_line_error("'bert' is not supported", "qwen3_vl")


def test_an_estimator_of_another_model(cli, picture, tmp_path, demo_vlm, model_and_estimator):
    own = LinearEstimator.load(model_and_estimator[-1])
    LinearEstimator(own.arrays, Binding("0123456789abcdef", "other/model", None, "vision", "sum", "mean")).save(
        tmp_path
    )
    result = cli(
        "stream", picture, "how many red in row 1 to row 3?", "--model", demo_vlm.name, "--estimator", tmp_path
    )
    result.assert_one_line_error("other/model", "does not fit", "train-estimator")


def test_no_estimator(cli, picture, tmp_path, demo_vlm):
    result = cli("stream", picture, "?", "--model", demo_vlm.name, "--estimator", tmp_path)
    result.assert_one_line_error("no estimator in", "Train one")


def test_no_detectors(ask, picture, tmp_path):
    ask(picture, "--detectors", tmp_path).assert_one_line_error("no detectors in", "trajkit fit")


def test_an_empty_question(cli, picture, model_and_estimator):
    result = cli("stream", picture, "  ", *model_and_estimator, "--detectors", "none")
    result.assert_one_line_error("question is empty")


@pytest.mark.parametrize(
    "command",
    [
        ["analyze"],
        ["fit", "--out", "d"],
        ["monitor", "--detectors", "d"],
        ["report", "--out", "r"],
        ["export", "--out", "r.jsonl"],
    ],
)
def test_a_file_that_is_no_parquet(cli, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    Path("bad.parquet").write_bytes(b"PAR1 this is not Parquet")
    if command[0] == "monitor":
        monkeypatch.setattr("trajkit.detection.store.load_detectors", lambda folder: None)
    cli(command[0], "bad.parquet", *command[1:]).assert_one_line_error("bad.parquet", "Parquet")


def test_a_parquet_file_with_other_columns(cli, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    cli("analyze", tmp_path / "other.parquet").assert_one_line_error("missing or repeated columns")


def test_no_such_traces(cli, tmp_path):
    cli("analyze", tmp_path / "none").assert_one_line_error("does not exist")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_output_that_was_closed_from_the_start_goes_nowhere(closed):
    line = f'exec "{sys.executable}" -m trajkit.cli.main --version {closed}'
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_while_writing_to_stdout():
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "trajkit.cli.main", "--version"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


def test_a_closed_pipe_ends_quietly(picture):
    line = f"{sys.executable} -m trajkit.cli.main --help | true"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_an_os_error_is_one_line(cli, traces, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/somewhere/runs")

    monkeypatch.setattr("trajkit.runs.table.run_table", full)
    cli("analyze", traces).assert_one_line_error("No space left on device", "/somewhere/runs")


def test_a_bug_is_one_line_and_says_how_to_see_more(cli, traces, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise KeyError("a\x1b[31m\nb")

    monkeypatch.setattr("trajkit.runs.table.run_table", broken)
    result = cli("analyze", traces)
    assert result.code == 70
    assert result.err.count("\n") == 1
    assert "--debug" in result.err


def test_debug_shows_the_traceback_cleaned_of_what_a_terminal_would_obey(tmp_path, capfd):
    from trajkit.cli.main import main

    (tmp_path / "\x1b]0;TITLE\x07\x1b[2Jx.parquet").write_bytes(b"damaged")
    with pytest.raises(SystemExit, match="1"):
        main(["--debug", "analyze", str(tmp_path)])
    said = capfd.readouterr().err
    assert "Traceback (most recent call last)" in said
    assert "TraceFormatError" in said
    assert "\x1b" not in said


def test_ctrl_c_is_one_line(cli, traces, monkeypatch):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trajkit.runs.table.run_table", stop)
    result = cli("analyze", traces)
    result.assert_one_line_error("stopped")
    assert result.code == 130


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_stops_every_command_in_one_line(cli, traces, monkeypatch, name, code):
    monkeypatch.setattr("trajkit.runs.table.run_table", lambda *_, **__: signal.raise_signal(getattr(signal, name)))
    before = signal.getsignal(getattr(signal, name))
    result = cli("analyze", traces)
    result.assert_one_line_error("stopped")
    assert result.code == code
    assert signal.getsignal(getattr(signal, name)) == before


def test_a_second_signal_stops_at_once_but_for_one_that_comes_with_the_first():
    script = (
        "import os, signal, time\nfrom trajkit.cli import main\n"
        "def busy(arguments):\n"
        "    try:\n        os.kill(os.getpid(), signal.SIGTERM)\n        time.sleep(60)\n"
        "    finally:\n        os.kill(os.getpid(), signal.SIGHUP)\n        time.sleep(1.1)\n"  # one of the first
        "        print('saved', flush=True)\n        os.kill(os.getpid(), signal.SIGTERM)\n        time.sleep(60)\n"
        "main._run = busy\nmain.main([])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "saved\n")


def test_a_signal_that_is_ignored_stays_so():
    script = (
        "import os, signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\nfrom trajkit.cli import main\n"
        "main._run = lambda arguments: os.kill(os.getpid(), signal.SIGHUP) or 0\nmain.main([])"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=30).returncode == 0


def test_no_memory_left_is_one_line(cli, traces, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr("trajkit.runs.table.run_table", full)
    cli("analyze", traces).assert_one_line_error("not enough memory")
