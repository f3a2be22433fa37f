"""Starting the command line: fast, light, and it teaches."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

COMMANDS = ("demo", "collect", "stream", "analyze", "fit", "monitor", "report", "doctor")
HEAVY = ("torch", "sklearn", "statsmodels", "plotly", "pandas", "transformers", "scipy", "pyarrow")


def test_help_loads_no_heavy_library():
    code = (
        "import sys\nfrom trajkit.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit as done: assert not done.code\n"
        f"print('loaded:', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("loaded: []")


def test_help_takes_less_than_half_a_second():
    def seconds() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "trajkit.cli.main", "--help"], capture_output=True, check=True)
        return time.perf_counter() - began

    assert min(seconds() for _ in range(4)) < 0.5


def test_help_names_every_command_and_shows_how_to_begin(cli):
    result = cli("--help")
    assert result.code == 0
    for command in COMMANDS:
        assert f" {command} " in result.out
    assert "trajkit demo" in result.out
    assert "trajkit collect questions.jsonl --out traces" in result.out


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself_with_an_example(cli, command):
    result = cli(command, "--help")
    assert result.code == 0
    assert "Example" in result.out
    assert result.out.count(f"trajkit {command}") >= 2


def test_version_is_that_of_the_package(cli):
    from importlib.metadata import version

    assert cli("--version").out.strip() == f"trajkit {version('trajkit')}"


@pytest.mark.parametrize(
    "arguments", [("strem",), ("stream", "only-an-image.png"), ("fit", "t", "--out", "d", "--alpha", "2")]
)
def test_wrong_usage_exits_with_2_and_no_traceback(cli, arguments):
    result = cli(*arguments)
    assert result.code == 2
    assert result.err.strip()
    assert "Traceback" not in result.err
