"""The page on serving, made with two servers of trajkit, one of which generates; what vLLM gives is in the report."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import trajkit as tk
from analyses import serving
from tests.analyses.test_reports import committed, headings
from tests.live.conftest import MODEL, listening
from trajkit.attribution.explainer import Watching
from trajkit.demo import paths
from trajkit.detection.store import load_detectors
from trajkit.live.app import Limits, Server
from trajkit.live.local import LocalEngine
from trajkit.live.metrics import Metrics
from trajkit.live.upstream import UpstreamEngine


@pytest.fixture(scope="module")
def page(demo_vlm, demo_estimator, tmp_path_factory):
    """The page over few scenes."""
    out = tmp_path_factory.mktemp("serving") / "page.md"
    monitor = load_detectors(paths.DETECTORS).monitor
    own = Watching(tk.load_vlm(paths.MODEL), demo_estimator, monitor)
    with listening(Server(LocalEngine(own, MODEL), Limits(runs=2))) as direct:
        engine = UpstreamEngine(f"{direct}/v1", MODEL, Watching(demo_vlm, demo_estimator, monitor))
        with listening(Server(engine, Limits(runs=2))) as through, ThreadPoolExecutor(1) as pool:
            urls = ["--direct", f"{direct}/v1", "--through", f"{through}/v1"]
            few = ["--scenes", "2", "--rounds", "1", "--clients", "1", "--out", str(out)]
            pool.submit(serving.main, [*urls, *few]).result()
    return out.read_text(encoding="utf-8")


def test_tokens_pass_unchanged_and_steps_are_those_of_a_stream(page):
    assert "4 of 4 answers (2 scenes" in page
    assert "2 of 2 are those of `tk.stream`" in page


def test_the_page_is_laid_out_as_the_committed_one(page):
    assert "`python -m analyses.serving --direct" in page
    assert headings(page)[:2] == committed("serving")[:2]


def test_what_a_server_of_trajkit_has_written_is_read_from_its_own_metrics():
    metrics = Metrics()
    metrics.tokens.inc(7)
    metrics.running.set(2)
    text = metrics.text().decode()
    assert (serving._summed(text, serving._WRITTEN), serving._summed(text, serving._RUNNING)) == (7, 2)


def test_what_the_rows_of_the_page_are_of_is_said_as_in_the_committed_one():
    page = (Path(serving.__file__).parents[1] / "reports" / "serving.md").read_text(encoding="utf-8")
    assert serving.said_of_loads(1).strip() in page
    assert serving.said_of_weights().strip() in page
    assert "3 rounds that begin with either in turn" in serving.said_of_loads(3)


def test_scenes_count_once_with_an_exact_interval():
    assert serving.odd_scenes([True] * 100) == "0 of 50 scenes differ, 0.0 % (0.0–7.1 %)"
    assert serving.odd_scenes([True, False, True, True, False, True]).startswith("1 of 3 scenes differ, 33 % (1–91 %)")
