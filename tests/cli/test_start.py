"""Starting the command line: fast, light, and it teaches."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

COMMANDS = ("demo", "collect", "stream", "analyze", "fit", "monitor", "report", "doctor")
HEAVY = (
    "torch",
    "sklearn",
    "statsmodels",
    "plotly",
    "matplotlib",
    "pandas",
    "transformers",
    "scipy",
    "pyarrow",
    "numpy",
    "asyncio",
    "starlette",
    "httpx",
)


def test_help_loads_no_heavy_library():
    code = (
        "import sys\nfrom trajkit.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit as done: assert not done.code\n"
        f"print('loaded:', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("loaded: []")


@pytest.mark.alone
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
    command = f"trajkit {arguments[0]}" if arguments[0] in COMMANDS else "trajkit"
    result.assert_one_line_error(f"See {command} --help.")


def test_a_command_alone_shows_its_help_and_no_error(cli):
    result = cli("fit")
    assert result.code == 2
    assert "Usage: trajkit fit" in result.out + result.err
    assert "trajkit: " not in result.err


@pytest.mark.parametrize("command", COMMANDS)
def test_paragraphs_of_the_help_are_wrapped_by_the_terminal_alone(cli, command, monkeypatch):
    """A line of the text that ends early is followed by a word that would not have fitted, or ends its paragraph."""
    monkeypatch.setenv("COLUMNS", "80")
    result = cli(command, "--help")
    text = [line.strip() for line in result.out.partition("╭")[0].splitlines()[3:]]
    for line, following in pairwise(text):
        if line and following and not line.startswith("trajkit"):
            assert len(line) + 1 + len(following.split()[0]) > 78, (line, following)


def test_a_flag_shows_no_type(cli):
    for arguments in (("--help",), ("stream", "--help"), ("monitor", "--help")):
        assert "<bool>" not in cli(*arguments).out


def test_the_help_of_collect_and_fit_says_what_is_so(cli):
    assert "as below" not in cli("collect", "--help").out
    fit = cli("fit", "--help").out
    assert "same runs" not in fit
    assert "same split" in fit


def test_the_help_of_collect_names_every_field_of_a_line_on_a_line_of_its_own(cli, monkeypatch):
    from trajkit.traces.fields import FIELDS

    monkeypatch.setenv("COLUMNS", "80")
    lines = [line.strip() for line in cli("collect", "--help").out.splitlines()]
    for name, meaning in FIELDS.items():
        assert f"{name:<9} {meaning}" in lines


def test_doctor_looks_for_every_package_that_trajkit_needs():
    from trajkit.cli.doctor import NEEDED

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {re.split(r"[><=\[]", line)[0] for line in project["dependencies"]} == set(NEEDED)


def test_every_package_that_trajkit_needs_is_imported_somewhere():
    modules = {"scikit-learn": "sklearn", "pillow": "PIL"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "trajkit").rglob("*.py"))
    for line in project["dependencies"]:
        name = re.split(r"[><=\[]", line)[0]
        assert re.search(rf"^\s*(import|from) {modules.get(name, name)}\b", source, re.M), name
