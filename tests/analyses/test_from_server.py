"""The page on runs of a server, made with one of trajkit; what vLLM gives is in the report."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from analyses import from_server
from tests.live.conftest import MODEL, listening
from trajkit.attribution.explainer import Watching
from trajkit.live.app import Limits, Server
from trajkit.live.local import LocalEngine


@pytest.fixture(scope="module")
def page(demo_vlm, demo_estimator, tmp_path_factory):
    """The page over few scenes."""
    out = tmp_path_factory.mktemp("server") / "page.md"
    server = Server(LocalEngine(Watching(demo_vlm, demo_estimator), MODEL), Limits(runs=4))
    with listening(server) as address, ThreadPoolExecutor(1) as pool:
        few = ["--runs=3", "--timed=2", "--rounds=1", "--concurrency", "2", "--out", str(out)]
        pool.submit(from_server.main, ["--server", f"{address}/v1", *few]).result()
    return out.read_text(encoding="utf-8")


def test_runs_are_those_made_here(page):
    assert "owned_by trajkit" in page
    assert page.count("| 3 of 3 |") == 5
    assert "Token ids are told." in page
    assert "Of 2 sampled runs, two of each of 1 scene, 2 have the same tokens" in page
    assert "and 2 when token ids are made of the text" in page


def test_the_page_says_how_to_make_it_again_and_is_laid_out_as_the_committed_one(page):
    from tests.analyses.test_reports import committed, headings

    assert "Regenerate: `python -m analyses.from_server --server http" in page
    assert headings(page) == committed("from_server")
