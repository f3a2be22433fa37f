"""`trajkit serve --upstream`: what it refuses, and another server that is not there."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("option", ["--check-logprobs", "--upstream-model=m", "--upstream-stall=3"])
def test_what_is_about_another_server_needs_one(cli, option):
    result = cli("serve", option)
    assert result.code == 2
    assert f"{option.partition('=')[0]} is about another server; name it with --upstream" in result.err


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://here/v1", "http://"])
def test_an_address_that_is_none_is_refused_before_anything_is_loaded(cli, address):
    result = cli("serve", "--upstream", address)
    assert result.code == 2
    assert f"such as http://localhost:8000/v1; got '{address}'" in result.err
    assert "loading" not in result.err


def test_a_server_that_is_not_there_is_said(cli):
    result = cli("serve", "--upstream", "http://127.0.0.1:9/v1", "--port", "0")
    assert result.code == 1
    assert "is the server up?" in result.err
