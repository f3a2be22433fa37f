"""Hidden states are those of the model, taken where a step's last token is predicted."""

from __future__ import annotations

import torch

from trajkit.attribution.hidden import MOST, shortened
from trajkit.attribution.regions import segment
from trajkit.attribution.replay import replay
from trajkit.vlm.sentences import split_steps


def test_a_step_has_the_state_its_last_token_was_predicted_from(demo_vlm, prompt, generated):
    spans, _, _ = split_steps(generated.tolist(), demo_vlm)
    regions = segment(prompt.canvas.images, "blocks", (16, 16))
    kept = replay(demo_vlm, prompt, generated, spans, regions, "sum", keep_hidden=True)
    with torch.inference_mode():
        output = demo_vlm.model(**prompt.followed_by(generated), output_hidden_states=True)
    rows = [span.end + prompt.length - 2 for span in spans]
    torch.testing.assert_close(
        demo_vlm.model.lm_head(torch.from_numpy(kept.hidden)), output.logits[0, rows].float(), atol=1e-4, rtol=1e-4
    )
    assert replay(demo_vlm, prompt, generated, spans, regions, "sum").hidden is None


def test_wide_states_are_projected_alike_every_time_and_keep_their_distances():
    states = torch.randn(40, 4096, generator=torch.Generator().manual_seed(0))
    short = shortened(states)
    assert short.shape == (40, MOST)
    assert torch.equal(short, shortened(states))
    ratio = torch.pdist(short) / torch.pdist(states)
    assert ratio.min() > 0.7
    assert ratio.max() < 1.3
    narrow = torch.randn(3, 96)
    assert torch.equal(shortened(narrow), narrow)
