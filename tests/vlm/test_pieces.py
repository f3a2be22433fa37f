"""Pieces of text are what the whole generation says, thinking and answer apart, and are never taken back."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from trajkit.vlm.pieces import TextPieces


class Characters:
    """A tokenizer of UTF-8 bytes, in which a tag is text."""

    def decode(self, ids, skip_special_tokens=True):
        return bytes(ids).decode(errors="replace")


def pieces_of(text, vlm=None):
    vlm = vlm or SimpleNamespace(tokenizer=Characters(), think_start=None, think_end=None, end_tokens=frozenset())
    pieces = TextPieces(vlm)
    out = [piece for token in text.encode() for piece in pieces.push(token)]
    return out + pieces.finish()


def joined(pieces, kind):
    return "".join(text for one, text in pieces if one == kind)


@pytest.mark.parametrize("opening", ["", "<think>", "\n<think>\n"])
def test_tags_of_text_cut_thinking_from_answer(opening):
    found = pieces_of(f"{opening}is 1 < 2? <b>yes</b> </thin ☃ 日本</think>the answer </think> stays")
    assert joined(found, "thinking").strip() == "is 1 < 2? <b>yes</b> </thin ☃ 日本"
    assert joined(found, "answer") == "the answer </think> stays"
    assert all("�" not in text for _, text in found)


def test_what_was_held_back_comes_at_the_end():
    assert joined(pieces_of("so </thi"), "thinking") == "so </thi"
    assert joined(pieces_of("<thi"), "thinking") == "<thi"


def test_a_generation_of_the_demo(demo_vlm, scene_image):
    from trajkit.vlm.generation import Sampling, generate

    prompt = demo_vlm.prepare(scene_image, "sort row 2 down.")
    (tokens,) = generate(demo_vlm, prompt.inputs, Sampling(temperature=0.0))
    pieces = TextPieces(demo_vlm)
    out = [piece for token in tokens for piece in pieces.push(int(token))] + pieces.finish()
    at = tokens.index(demo_vlm.think_end) if demo_vlm.think_end in tokens else len(tokens)
    decode = demo_vlm.tokenizer.decode
    assert (
        joined(out, "thinking").split() == decode(tokens[:at], skip_special_tokens=True).replace("<think>", "").split()
    )
    assert joined(out, "answer").split() == decode(tokens[at + 1 :], skip_special_tokens=True).split()
