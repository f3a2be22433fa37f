"""The card of an exported data set: what is in it, where it comes from, what its numbers say and cannot say."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trajkit.tables.names import OUTCOME_ORDER, outcome_name
from trajkit.tables.words import count
from trajkit.text import clean, code, escaped
from trajkit.traces.exporters.said import ended
from trajkit.traces.schema import SCHEMA, STEP
from trajkit.traces.trace import Trace

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LISTED = 12
"""Values that are listed of a column."""
_CHANGED = {
    "image": "The picture, of every run that has one.",
    "regions": "Label map as a picture (8 or 16 bit), H x W, values 0..K-1; null when there are no regions.",
    "effects": "Effect of each region on each step, nats: T lists of K numbers; null when the source had none.",
    "half_widths": "Half widths of 90 % intervals of effects, nats: T lists of K numbers; null: none.",
}
"""Sentences of columns that are not as in a trace file."""
_TOLD = ("model", "task_set", "effects_kind", "estimator", "fingerprint", "source", "temperature", "label")


@dataclass
class Counts:
    """What is counted while runs pass."""

    runs: int = 0
    steps: int = 0
    groups: set[str] = field(default_factory=set)
    images: set[str] = field(default_factory=set)
    outcomes: Counter[str] = field(default_factory=Counter)
    worded: int = 0
    bounds: int = 0
    told: Mapping[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in _TOLD})

    def add(self, trace: Trace) -> None:
        self.runs += 1
        self.steps += trace.n_steps
        self.groups.add(trace.group_id)
        self.images |= {trace.image_sha256} - {""}
        self.outcomes[ended(trace)] += 1
        self.worded += trace.meta.get("counted_in") == "words"
        self.bounds += bool(trace.meta.get("entropy"))
        source = trace.meta.get("source")
        known: dict[str, Any] = {name: trace.meta.get(name) for name in _TOLD}
        known |= {"model": trace.model, "task_set": trace.task_set, "effects_kind": trace.effects_kind}
        known["source"] = (
            " ".join(str(source.get(key) or "") for key in ("tool", "file")) if isinstance(source, dict) else None
        )
        for name, value in known.items():
            if value not in (None, ""):
                self.told[name][str(value)] += 1


def card(counts: Counts, name: str) -> str:
    """README.md of a data set of that name. The licence is left open."""
    return "\n".join(
        [_head(counts, name), _about(counts, name), _columns(counts), _effects(counts), _provenance(counts), _END]
    )


def _head(counts: Counts, name: str) -> str:
    size = next((label for most, label in _SIZES if counts.runs < most), "n>1M")
    return f"""---
# license: state one before you publish; images and model outputs may have terms of their own
pretty_name: {json.dumps(clean(name))}
task_categories:
- image-text-to-text
tags:
- trajkit
- reasoning-traces
- attribution
- interpretability
size_categories:
- {size}
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
---
"""


def _about(counts: Counts, name: str) -> str:
    found = [(outcome_name(outcome), counts.outcomes[outcome]) for outcome in OUTCOME_ORDER]
    outcomes = [f"| {outcome} | {n:,} | {100 * n / counts.runs:.1f} % |" for outcome, n in found if n]
    return f"""# {escaped(clean(name))}

{count(counts.runs, "run")} of vision-language models that reason before they answer: image, question, every step of the
reasoning, and which regions of the image each step depends on. {count(counts.steps, "step")},
{count(len(counts.groups), "group")} of runs on one image or question, {count(len(counts.images), "image")}. Exported by
trajkit.

| outcome | runs | share |
|---|---|---|
{chr(10).join(outcomes)}

```python
import numpy as np
from datasets import load_dataset

runs = load_dataset("FOLDER OR HUB ID", split="train")
run = runs[0]
run["image"], run["question"], run["answer"]
effects = np.array(run["effects"])  # (T, K): row t is what the K regions do for step t, nats
regions = np.array(run["regions"])  # (H, W): which region each pixel belongs to
[step["text"] for step in run["steps"]]
```

There is one split, called `train` because that is what the library calls the only one. Divide it by `group_id`: runs of
one group (image or question) must not be on two sides.
"""


def _columns(counts: Counts) -> str:
    other = ""
    if counts.worded:
        other += f"\nIn {counts.worded:,} of the runs steps count words, not tokens (`counted_in` in `meta`)."
    if counts.bounds:
        other += f"\nIn {counts.bounds:,} of the runs entropies are lower bounds (`entropy` in `meta`)."
    rows = [
        f"| `{field.name}` | {_CHANGED.get(field.name, field.metadata[b'description'].decode())} |"
        for field in SCHEMA
        if field.name != "hidden"
    ]
    return (
        "## Columns\n\n| column | |\n|---|---|\n"
        + "\n".join(rows)
        + f"""

A step has {", ".join(f"`{field.name}`" for field in STEP)}.
Tokens are counted from the first generated one; `logprob` and `entropy` are means over the step's tokens, nats;
`risk` and `alarm` are those of a monitor that watched the run.{other}
"""
    )


def _effects(counts: Counts) -> str:
    kinds = counts.told["effects_kind"]
    said = [f"estimated in {kinds['estimated']:,}", f"measured in {kinds['measured']:,}"]
    none = counts.runs - kinds.total()
    return f"""## What effects say, and what they cannot

The effect of a region on a step is how much likelier the model finds the step's words with the region than with the
region hidden: a difference of log-probabilities, in nats. Above 0 the region supports the step, below 0 it speaks
against it. Effects are {", ".join(said)} and missing in {none:,} of the runs. *Measured* ones come of hiding
each region and running the model again; *estimated* ones are predicted from its attention, by an estimator that was
trained on measured ones and is right only as far as it was tested.

- They say what the words depend on, not whether the words are true, and not how the model came to them.
- A step whose largest effect is below 0.5 nats hardly depends on the image, and its numbers are mostly noise.
- They are those of one way of hiding, one region at a time: what two regions do together is not their sum.
- They belong to one model and its regions; those of two models are not numbers on one scale.
- Outcomes come of comparing answers with targets or of labels, and are as right as those.
"""


def _provenance(counts: Counts) -> str:
    names = {
        "model": "Models", "fingerprint": "Fingerprints of their weights", "task_set": "Task sets",
        "temperature": "Sampling temperatures", "estimator": "Estimators of the effects", "source": "Imported from",
        "label": "Outcomes that people gave by hand",
    }  # fmt: skip
    lines = [f"- {said}: {_listed(counts.told[name])}" for name, said in names.items() if counts.told[name]]
    return "## Where it comes from\n\n" + "\n".join(lines) + "\n"


def _listed(values: Counter[str]) -> str:
    """Values as code, with their runs; a model or a log has the last word in none of them."""
    some = [f"{code(value[:120])} ({n:,})" for value, n in values.most_common(_LISTED)]
    more = len(values) - len(some)
    return ", ".join(some) + (f", and {more:,} more" if more > 0 else "")


_END = """## Licence

To be stated by whoever publishes this: the images, the questions and the model's outputs may each have terms of their
own.
"""
