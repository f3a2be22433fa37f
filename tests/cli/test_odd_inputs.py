"""Exit 70 is a bug by definition: no odd option, path or file ends a command with it."""

from __future__ import annotations

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
    "export": ("{traces}", "--format", "csv", "--out", "{tmp}/out"),
}
OPTIONS = {
    "stream": ("--temperature", "--max-new-tokens", "--seed"),
    "collect": ("--samples", "--temperature", "--max-new-tokens", "--seed"),
    "train-estimator": ("--masks", "--batch-size", "--temperature", "--max-new-tokens", "--seed"),
    "evaluate": ("--masks", "--batch-size", "--temperature", "--max-new-tokens", "--seed"),
    "fit": ("--alpha", "--seed"),
    "monitor": ("--list",),
    "analyze": ("--boot", "--most"),
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


OUTPUTS = {
    "report": ("{tmp}/none", "--out"),
    "export": ("{tmp}/none", "--format", "csv", "--out"),
    "analyze": ("{tmp}/none", "--report"),
    "fit": ("{tmp}/none", "--out"),
    "train-estimator": ("{questions}", "--model", "{tmp}/none", "--out"),
    "evaluate": ("{questions}", "--model", "{tmp}/none", "--out"),
    "demo": ("--out",),
}
BAD = {
    "": "is",
    ".": "is",
    "/": "is",
    "file": "file",
    "file/x": "Not a directory",
    "/dev/zero/x": "Not a directory",
    "/proc/x": "could not be written",
    "x" * 300: "name too long",
    "loop": "symbolic links",
    "loop/x": "symbolic",
    "a\x1b[2J/" + "x" * 300: "name too long",
}
"""Paths that nothing can be written to, and a word on why."""


@pytest.mark.parametrize("command", OUTPUTS)
def test_an_output_that_cannot_be_written_is_told_before_any_work(cli, given, command, monkeypatch, tmp_path):
    """The model and the traces are not there: what is told of is the output, so it was looked at first."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.setitem(COMMANDS, command, OUTPUTS[command])
    before = sorted(tmp_path.iterdir())
    for path, why in BAD.items():
        if (command, path) in (("evaluate", "file"), ("fit", ""), ("fit", ".")):
            continue  # a file is replaced, and detectors are one file in any folder
        cli(*(command, *given(command), path)).assert_one_line_error(why)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "file").read_text() == "mine"


def test_temperatures_that_no_model_can_be_run_at_are_refused(cli, given, model_and_estimator):
    for temperature in ("nan", "1e-300"):
        result = cli(
            "stream",
            *given("stream"),
            *model_and_estimator,
            "--detectors",
            "none",
            "--temperature",
            temperature,
            "--max-new-tokens",
            "4",
        )
        assert result.code != 70, result.err
