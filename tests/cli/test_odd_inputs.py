"""Exit 70 is a bug by definition: no odd option, path or file ends a command with it."""

from __future__ import annotations

import os

import pytest

NUMBERS = ("1e23", "9" * 30, "-1", "nan", "inf", "1e-300", "0x10", "", "\x1b[2J", "9" * 5000)
COMMANDS = {
    "stream": ("{picture}", "?"),
    "collect": ("{questions}", "--out", "{tmp}/out"),
    "train-estimator": ("{questions}", "--out", "{tmp}/out"),
    "evaluate": ("{questions}",),
    "fit": ("{traces}", "--out", "{tmp}/out"),
    "monitor": ("{traces}", "--detectors", "{tmp}/none"),
    "analyze": ("{traces}", "--report", "{tmp}/out"),
    "report": ("{traces}", "--out", "{tmp}/out"),
}
OPTIONS = {
    "stream": ("--temperature", "--max-new-tokens", "--seed"),
    "collect": ("--samples", "--temperature", "--max-new-tokens", "--seed"),
    "train-estimator": ("--masks", "--batch-size", "--temperature", "--max-new-tokens", "--seed"),
    "evaluate": ("--masks", "--batch-size", "--temperature", "--max-new-tokens", "--seed"),
    "fit": ("--alpha", "--seed"),
    "monitor": ("--list",),
    "analyze": ("--boot",),
}
PATHS = ("", ".", "/", "/dev/null", "/dev/zero/x", "x" * 300, "a\x1b[2J", "half \udcff", "~root/x", "/proc/self/mem")


@pytest.fixture
def given(picture, questions, traces, tmp_path):
    fill = {"picture": picture, "questions": questions(1), "traces": traces, "tmp": tmp_path}
    return lambda command: [part.format(**fill) for part in COMMANDS[command]]


@pytest.mark.parametrize("command", OPTIONS)
def test_no_number_is_a_bug(cli, given, command, monkeypatch, tmp_path):
    """The model and the traces are not there, so that what passes the options stops at once."""
    model = [] if command in ("fit", "monitor", "analyze") else ["--model", tmp_path / "none"]
    monkeypatch.setitem(COMMANDS, command, [part.replace("{traces}", "{tmp}/none") for part in COMMANDS[command]])
    for option in OPTIONS[command]:
        for number in NUMBERS:
            result = cli(command, *given(command), *model, option, number)
            assert result.code in (1, 2), f"{option} {number[:30]}: {result.code}: {result.err}"
            assert "Traceback" not in result.err


@pytest.mark.parametrize("command", COMMANDS)
def test_no_path_is_a_bug(cli, given, command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for path in PATHS:
        rest = given(command)[1:]
        result = cli(command, path, *rest)
        assert result.code in (1, 2), f"{command} {path!r}: {result.code}: {result.err}"
        assert "Traceback" not in result.err


@pytest.mark.parametrize("command", ["report", "analyze"])
def test_no_output_path_is_a_bug(cli, traces, command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    option = {"report": "--out", "analyze": "--report"}[command]
    for path in (*PATHS[:7], "file", "file/x"):
        result = cli(command, traces.parent / "none.parquet", option, path)
        assert result.code in (1, 2), f"{path!r}: {result.code}: {result.err}"
    assert (tmp_path / "file").read_text() == "mine"
    assert os.stat("/dev/null").st_rdev


def test_temperatures_that_no_model_can_be_run_at_are_refused(cli, given, model_and_estimator):
    for temperature in ("nan", "1e-300"):
        result = cli("stream", *given("stream"), *model_and_estimator, "--detectors", "none", "--temperature",
                     temperature, "--max-new-tokens", "4")  # fmt: skip
        assert result.code != 70, result.err
