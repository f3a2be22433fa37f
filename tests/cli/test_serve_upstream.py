"""`trajkit serve --upstream`: what it refuses, and another server that is not there."""

from __future__ import annotations


def test_weights_are_checked_of_another_server_only(cli):
    result = cli("serve", "--check-logprobs")
    assert result.code == 2
    assert "name it with --upstream" in result.err


def test_a_server_that_is_not_there_is_said(cli):
    result = cli("serve", "--upstream", "http://127.0.0.1:9/v1", "--port", "0")
    assert result.code == 1
    assert "is the server up?" in result.err
