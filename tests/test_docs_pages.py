"""What the tutorial and the how-tos show is what comes out; what the explanations name is there."""

from __future__ import annotations

import contextlib
import io
import re
import shlex

import pytest

from tests.shown import difference
from trajkit.demo import paths

DOCS = paths.ROOT / "docs"
RUN = ["tutorial.md", *(f"howto/{name}.md" for name in ("own-traces", "own-model", "study", "take-back", "production"))]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_the_blocks_of_a_page_run_in_order_and_print_what_it_shows(name, tmp_path, monkeypatch):
    for folder in ("data", "reports"):
        (tmp_path / folder).symlink_to(paths.ROOT / folder)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    said, compared = "", 0
    for language, block in re.findall(r"^```(python|text)\n(.*?)^```", (DOCS / name).read_text("utf-8"), re.M | re.S):
        if language == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(block, name, "exec"), names)
            said = out.getvalue()
        else:
            assert difference(said, block) == "", said
            compared += 1
    assert compared >= 1


def test_numbers_that_differ_by_more_than_rounding_are_told():
    assert difference("AUC 0.70 of 1,234", "AUC  0.71 of 1,234\n") == ""
    for said, shown in (("0.70", "0.75"), ("12 runs", "13 runs"), ("12 runs", "12 steps"), ("a 1", "a 1 2")):
        assert difference(said, shown)


def test_every_test_and_file_that_the_method_names_is_there():
    text = (DOCS / "explanation" / "method.md").read_text("utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 20
    for path, test in named:
        assert f"def {test}(" in (paths.ROOT / path).read_text("utf-8") if test else (paths.ROOT / path).exists(), test
    for path in re.findall(r"`((?:trajkit|analyses)/[\w/]+\.py)`", text):
        assert (paths.ROOT / path).exists(), path


def test_constants_in_the_explanations_are_those_of_the_code():
    from trajkit import detection
    from trajkit.attribution import evaluation, network
    from trajkit.detection import design, drift
    from trajkit.stats import resampling
    from trajkit.trajectory import geometry

    numbers, method = ((DOCS / "explanation" / f"{name}.md").read_text("utf-8") for name in ("numbers", "method"))
    assert f"Below **{evaluation.GROUNDED} nats**" in numbers
    assert f"`{evaluation.EDGES[0]} to {evaluation.EDGES[1]:g}` nats" in numbers
    assert f"fewer than {resampling.MIN_GROUPS} groups" in numbers
    assert network.COVERAGE == 0.9
    assert "about nine times in ten" in numbers
    assert rf"\cdot {network.COVERAGE} \rceil" in method
    assert f"$B = {geometry.ANGLE_BINS}$" in method
    assert f"{detection.runs_needed(0.1)} at $\\alpha = 0.1$, {detection.runs_needed(0.05)} at $0.05$" in method
    assert f"$J = {drift._JUMP}$" in method
    assert rf"W_n \ge {drift.WARN_AT:g})" in method
    assert f"$C = {detection.EarlyFailurePredictor().C}$" in method
    assert design.Z_CAP == 5
    assert "cut at five standard deviations" in method


def test_every_metric_of_a_path_and_measure_of_concentration_has_its_formula():
    from typing import get_args

    from trajkit import trajectory
    from trajkit.trajectory.concentration import Measure

    text = (DOCS / "explanation" / "method.md").read_text("utf-8")
    formulas = set(re.findall(r"^\| `(\w+)` \|", text, re.M))
    known = {name for name in trajectory.RUN_METRICS if name in trajectory.__all__}
    assert {*known, *get_args(Measure)} <= formulas


def test_the_requests_of_the_reference_are_those_that_are_served():
    from trajkit.live.app import Server

    page = (DOCS / "reference" / "http.md").read_text("utf-8")
    shown = {tuple(pair) for pair in re.findall(r"^\| `(GET|POST|PUT) (\S+)` \|", page, re.M)}
    routes = Server(engine=None).app()._app.routes
    served = {(method, route.path.replace(":path", "")) for route in routes for method in route.methods - {"HEAD"}}
    assert shown == served


def command_lines() -> list[tuple[str, list[str]]]:
    """(page, words) of every `trajkit …` line in a block of shell."""
    found = []
    for page in (paths.ROOT / "README.md", *sorted(DOCS.rglob("*.md"))):
        for block in re.findall(r"^```(?:sh|bash)?\n(.*?)^```", page.read_text("utf-8"), re.M | re.S):
            for line in re.split(r"\n|\|(?= )", block.replace("\\\n", " ")):
                if line.strip().startswith("trajkit "):
                    found.append((page.name, shlex.split(line, comments=True)[1:]))
    return found


def test_every_command_and_option_that_a_page_shows_is_there():
    import typer

    from trajkit.cli.main import app

    commands = typer.main.get_command(app).commands
    lines = command_lines()
    assert {page for page, _ in lines} >= {"README.md", "tutorial.md", "your-logs.md", "production.md"}
    for page, (name, *words) in lines:
        assert name in commands, f"{page}: {name}"
        known = {option for param in commands[name].params for option in param.opts} | {"--help"}
        shown = [word.partition("=")[0] for word in words if word.startswith("--")]
        assert [option for option in shown if option not in known] == [], f"{page}: {name}"
