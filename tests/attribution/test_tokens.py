"""Token ids made from the text of real generations, tags of the thinking span among them."""

from __future__ import annotations

import pytest

import trajkit as tk
from trajkit.attribution.tokens import Tokens, TokensError, logprob_difference, model_doubt, opens_thinking
from trajkit.demo.items import demo_items
from trajkit.vlm.pieces import TextPieces
from trajkit.vlm.sentences import split_steps


@pytest.fixture(scope="module")
def generations(demo_vlm, demo_estimator):
    """Tokens of sampled runs, some so hot that they say odd things."""
    runs = []
    for seed, item in enumerate(demo_items("test", 6, seed=3)):
        hot = 1.0 + 0.4 * (seed % 2)
        run = tk.stream(demo_vlm, item.image, item.question, estimator=demo_estimator, temperature=hot, seed=seed)
        list(run)
        runs.append(run.tokens)
    return runs


def choices_of(tokens, vlm, at_once=1):
    """(thinking, text) of chunks, as a server that cuts thinking from answer sends them."""
    pieces, out, held = TextPieces(vlm), [], []
    for number, token in enumerate(tokens, 1):
        held += pieces.push(token)
        if number % at_once == 0:
            out, held = [*out, held], []
    out.append([*held, *pieces.finish()])
    return [
        tuple("".join(text for kind, text in chunk if kind == side) for side in ("thinking", "answer")) for chunk in out
    ]


@pytest.mark.parametrize("at_once", [1, 5])
def test_made_ids_are_those_written_at_every_prefix(at_once, generations, demo_vlm):
    for written in generations:
        tokens, made = Tokens(demo_vlm, opened=True), []
        for thinking, text in choices_of(written, demo_vlm, at_once):
            made += tokens.of({}, thinking, text)
            assert made == written[: len(made)]
        assert tokens.doubt(len(written), "stop", stops=False) is None
        assert split_steps(made, demo_vlm)[:2] == split_steps(written, demo_vlm)[:2]


def test_a_server_that_cuts_nothing_writes_the_tags_itself(generations, demo_vlm):
    written = generations[0]
    assert demo_vlm.think_end in written
    text = demo_vlm.tokenizer.decode(written, skip_special_tokens=True)
    tokens = Tokens(demo_vlm, opened=True)
    made = [one for word in text.split(" ") for one in tokens.of({}, "", " " + word)]
    assert made == [token for token in written if token not in demo_vlm.end_tokens]


def test_an_opening_tag_that_the_prompt_lacks_was_written_and_cut_out(demo_vlm):
    assert opens_thinking(demo_vlm)
    assert Tokens(demo_vlm, opened=False).of({}, " row", "")[0] == demo_vlm.think_start
    assert Tokens(demo_vlm, opened=True).of({}, " row", "") == demo_vlm.tokenizer.encode(" row")


def test_tokens_that_text_does_not_show_are_taken_from_their_names(demo_vlm):
    tokens = Tokens(demo_vlm, opened=True)

    def named(*names):
        return {"logprobs": {"content": [{"token": name, "logprob": -0.1} for name in names]}}

    made = tokens.of(named("row"), " row", "")
    made += tokens.of(named("</think>"), "", "")
    made += tokens.of(named("4"), "", " 4")
    made += tokens.of(named("<|im_end|>"), "", "")
    end = demo_vlm.tokenizer.convert_tokens_to_ids("<|im_end|>")
    encode = demo_vlm.tokenizer.encode
    assert made == [*encode(" row"), demo_vlm.think_end, *encode(" 4"), end]
    assert tokens.doubt(None, "stop", stops=False) is None
    assert tokens.source(None) == "made"


@pytest.mark.parametrize(
    ("told", "reason", "stops", "right"),
    [
        (4, "stop", False, True),  # the end of the answer is not counted
        (5, "stop", False, True),
        (6, "stop", False, False),
        (3, "stop", False, False),
        (9, "stop", True, True),  # a stop string's tokens are counted
        (3, "stop", True, False),
        (4, "length", False, True),
        (5, "length", False, False),
        (None, "stop", False, True),
    ],
)
def test_counts_that_fit(told, reason, stops, right, demo_vlm):
    tokens = Tokens(demo_vlm, opened=True)
    assert len(tokens.of({}, " row 4", "") + tokens.of({}, "", " 4")) == 4
    assert (tokens.doubt(told, reason, stops) is None) == right


def test_text_without_tokens_is_refused(demo_vlm):
    with pytest.raises(TokensError, match="no tokens of this model"):
        Tokens(demo_vlm, opened=True).of({}, " turquoise", "")


def test_log_probabilities_are_held_against_those_of_the_model_here(generations, demo_vlm, demo_estimator):
    item = next(iter(demo_items("test", 1, seed=3)))
    follower = tk.follow(demo_vlm, item.image, item.question, estimator=demo_estimator)
    tokens = Tokens(demo_vlm, opened=True)
    follower.push(generations[0])
    follower.finish()
    assert logprob_difference(tokens, follower) == (0.0, 0)
    own = [follower.logprobs.get(at, 0.0) for at in range(len(generations[0]))]
    tokens.logprobs = [one - 0.25 for one in own]
    tokens.logprobs[0] = -9999.0  # told in place of minus infinity
    difference, n = logprob_difference(tokens, follower)
    assert n == len(follower.logprobs) - 1
    assert difference == pytest.approx(0.25)
    assert model_doubt(difference, n, 0.3) is None
    assert "0.25 nats a token" in (model_doubt(difference, n, 0.2) or "")
    assert model_doubt(difference, 3, 0.2) is None
