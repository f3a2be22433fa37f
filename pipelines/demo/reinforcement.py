"""The last stage of training: reinforcement on right answers, by group-relative policy gradient (GRPO, Shao et al.
2024, arXiv 2402.03300).

Each update draws questions, samples several runs of each, and makes the tokens of runs that were right likelier than
those of runs on the same question that were wrong. What is left out of GRPO as it is used on large models, and why:

- advantages are not divided by the group's standard deviation: that weighs questions that are nearly always, or nearly
  never, answered more than those in between (Liu et al. 2025, arXiv 2503.20783);
- runs are not weighed by one over their length, for the same paper's reason: a wrong run would pay less for being long.
  The loss is a sum over tokens, divided by the tokens of all runs that were drawn;
- no reward for form: the model has learned its form before, and a run that has none is not right;
- nothing is estimated that can be counted: with some hundred words, divergence and entropy are sums over all of them.

A group that agrees, all right or all wrong, has no advantages and is not read again.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.demo.model import LONGEST
from pipelines.demo.rollouts import Reading, Rollout, pad_runs, roll_out
from pipelines.demo.state import load_state, save_state
from trajkit.attribution.item import Item, Judge
from trajkit.demo.evaluation import said
from trajkit.errors import InputError
from trajkit.files import write_text
from trajkit.vlm.model import VLM

Questions = Callable[[int], Iterator[Item]]
"""The questions of an update, by its number: at least as many as the plan takes, the same ones each time."""
Scored = tuple[Rollout, float]
"""A run with its advantage."""
TOKENS_AT_ONCE = 4096
"""Tokens that are read together, padding included, prompts not."""


@dataclass(frozen=True)
class Plan:
    """What an update is made of.

    questions, samples: how many, and runs of each, two or more. passes: steps of the optimiser on the same runs. clip:
    how far a token's probability may move from that it was drawn with, as a ratio, before its gradient is cut off; it
    can only from the second pass on. kl: weight of the divergence from the checkpoint that training began from, nats a
    token. longest: tokens of a run, at most; one that has not ended by then earns nothing.
    """

    questions: int = 16
    samples: int = 8
    passes: int = 1
    rate: float = 1e-4
    clip: float = 0.2
    kl: float = 0.01
    longest: int = LONGEST
    warm_up: int = 5
    seed: int = 0


@dataclass(frozen=True)
class Update:
    """What one update saw. reward: share of runs that were right. disagree: share of questions with runs of both kinds.
    length: tokens of a run, mean. entropy: nats a token, of what was drawn. kl: nats a token from the beginning, of the
    runs that were learned from, before the update; None where there were none. seconds: by part."""

    number: int
    reward: float
    disagree: float
    length: float
    entropy: float
    kl: float | None
    seconds: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        kl = "–" if self.kl is None else f"{self.kl:.4f}"
        return (
            f"reward {self.reward:.2f} disagree {self.disagree:.2f} length {self.length:.0f} "
            f"entropy {self.entropy:.3f} kl {kl}"
        )


class Reinforcement:
    """A model that is reinforced, what it was in the beginning, optimiser and place; saved to and resumed from
    `folder`/state.safetensors, with every update in `folder`/updates.jsonl."""

    def __init__(self, vlm: VLM, questions: Questions, judge: Judge, folder: Path, plan: Plan) -> None:
        """vlm: as loaded; its model is trained in place. Raises InputError for fewer than two samples."""
        if plan.samples < 2:
            raise InputError(
                f"samples must be 2 or more, as runs of a question are held against each other; got {plan.samples}."
            )
        self.vlm, self.folder, self.plan = vlm, folder, plan
        self._questions, self._judge = questions, judge
        self._began_as = vlm.fingerprint
        self._reference = copy.deepcopy(vlm.model).eval().requires_grad_(False)
        self.model = vlm.model.eval().requires_grad_(True)
        self.parameters = list(self.model.parameters())
        self.optimiser = torch.optim.AdamW(self.parameters, lr=plan.rate, betas=(0.9, 0.95), weight_decay=0.0)
        self.updates: list[Update] = []

    @property
    def state_file(self) -> Path:
        return self.folder / "state.safetensors"

    def plan_text(self) -> str:
        """What this run does, and from which weights: a state of another is not resumed."""
        return json.dumps([asdict(self.plan), self._began_as])

    def save(self) -> None:
        """Write the state, whole or not at all, and the updates. Raises WriteError when it cannot be written."""
        lines = [json.dumps(asdict(update)) for update in self.updates]
        place = {"updates": json.dumps(lines)}
        save_state(self.state_file, {"model": self.model}, {"optimiser": self.optimiser}, self.plan_text(), place)
        write_text(self.folder / "updates.jsonl", "".join(f"{line}\n" for line in lines))

    def resume(self) -> bool:
        """Continue from the saved state, when there is one of the same plan. Raises ValueError for another plan."""
        place = load_state(self.state_file, {"model": self.model}, {"optimiser": self.optimiser}, self.plan_text())
        if place is not None:
            self.updates = [Update(**json.loads(line)) for line in json.loads(place["updates"])]
        return place is not None

    def run(self, updates: int, report: Callable[[Update], None], save_every: int = 20) -> None:
        """Go on until there have been so many updates, calling `report` after each."""
        while (number := len(self.updates)) < updates:
            self.updates.append(self._update(number))
            report(self.updates[-1])
            if (number + 1) % save_every == 0:
                self.save()
        self.save()

    def _update(self, number: int) -> Update:
        watch = _Watch()
        items = list(islice(self._questions(number), self.plan.questions))
        seed = int(np.random.SeedSequence([self.plan.seed, number]).generate_state(1)[0])
        groups = roll_out(self.vlm, items, self.plan.samples, self.plan.longest, seed)
        watch.lap("generation")
        rewards = [[self._reward(run) for run in runs] for runs in groups]
        watch.lap("judging")
        advantages = [np.array(row) - np.mean(row) for row in rewards]
        chosen = [(runs, a) for runs, a in zip(groups, advantages, strict=True) if a.any()]
        scored = [one for runs, a in chosen for one in zip(runs, a.tolist(), strict=True)]
        drawn = [run for runs in groups for run in runs]
        n_tokens = sum(len(run.tokens) for run in drawn)
        kl = self._learn(number, scored, n_tokens, watch) if scored else None
        return Update(
            number + 1,
            float(np.mean(rewards)),
            len(chosen) / len(groups),
            n_tokens / len(drawn),
            float(np.concatenate([run.entropy for run in drawn]).mean()),
            kl,
            watch.seconds,
        )

    def _reward(self, run: Rollout) -> float:
        return float(run.ended and self._judge(run.item, *said(self.vlm, run.tokens)).success is True)

    def _learn(self, number: int, scored: Sequence[Scored], n_tokens: int, watch: _Watch) -> float:
        """Steps of the optimiser on runs with their advantages; the divergence before the first."""
        lessons = [Lesson.of(self.vlm, self._reference, some) for some in together(scored)]
        watch.lap("reference")
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate * min(1.0, (number + 1) / self.plan.warm_up)
        divergence = []
        for _ in range(self.plan.passes):
            self.optimiser.zero_grad(set_to_none=True)
            total = 0.0
            for lesson in lessons:
                loss, kl = lesson.loss(self.model, self.plan)
                watch.lap("forward")
                (loss / n_tokens).backward()
                total += kl
                watch.lap("backward")
            nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimiser.step()
            watch.lap("step")
            divergence.append(total / sum(int(lesson.reading.real.sum()) for lesson in lessons))
        return divergence[0]


def together(chosen: Sequence[Scored]) -> Iterator[list[Scored]]:
    """Runs to be read together: of like length, whatever they are about, as many as TOKENS_AT_ONCE holds."""
    some: list[Scored] = []
    for one in sorted(chosen, key=lambda each: len(each[0].tokens)):
        if some and len(one[0].tokens) * (len(some) + 1) > TOKENS_AT_ONCE:
            yield some
            some = []
        some.append(one)
    if some:
        yield some


@dataclass(frozen=True, eq=False)
class Lesson:
    """Runs to learn from. advantage: (B,). drawn: (B, L) log-probability of each token as it was drawn. reference:
    (B, L, V) log-probabilities of the model that training began from."""

    reading: Reading
    advantage: Tensor
    drawn: Tensor
    reference: Tensor

    @classmethod
    def of(cls, vlm: VLM, reference: Any, scored: Sequence[Scored]) -> Lesson:
        reading = Reading.lay_out(vlm, [run for run, _ in scored])
        device = reading.tokens.device
        advantage = torch.tensor([a for _, a in scored], dtype=torch.float32, device=device)
        drawn = pad_runs([run.logprob for run, _ in scored], device, torch.float32)
        with torch.no_grad():
            return cls(reading, advantage, drawn, reading.log_probs(reference))

    def loss(self, model: Any, plan: Plan) -> tuple[Tensor, float]:
        """Sum over tokens of the clipped loss, and of the divergence in nats."""
        log_p = self.reading.log_probs(model)  # (B, L, V)
        ratio = (log_p.gather(2, self.reading.tokens[..., None])[..., 0] - self.drawn).exp()
        advantage = self.advantage[:, None]
        gain = torch.minimum(ratio * advantage, ratio.clamp(1 - plan.clip, 1 + plan.clip) * advantage)
        kl = (log_p.exp() * (log_p - self.reference)).sum(-1)
        loss = torch.where(self.reading.real, plan.kl * kl - gain, 0.0).sum()
        return loss, float((kl.detach() * self.reading.real).sum())


class _Watch:
    """Seconds spent in each part since the last lap."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, part: str) -> None:
        now = time.monotonic()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._last
        self._last = now
