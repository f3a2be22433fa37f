# %% [markdown]
# # Your own model, in your own loop
#
# The model and its `generate` stay yours. A watch adds one argument to the call; the tokens are those that come without
# it. Here the demo's checkpoint is loaded by transformers, as any is that trajkit has an adapter for: Qwen3-VL,
# Qwen2.5-VL (also MiMo-VL and Cosmos-Reason1) and GLM-4.1V.

# %%
from itertools import islice

import torch
from transformers import AutoModelForImageTextToText

import trajkit as tk
from trajkit.demo.paths import DEMO, DETECTORS, ESTIMATOR, MODEL, TRACES
from trajkit.errors import EstimatorMismatchError
from trajkit.stats.resampling import wilson
from trajkit.tables import Estimate
from trajkit.tables.words import shares
from trajkit.traces.images import open_image

model = AutoModelForImageTextToText.from_pretrained(MODEL)
processor = tk.load_vlm(MODEL).processor  # or AutoProcessor.from_pretrained(MODEL), which needs torchvision
estimator = tk.EffectEstimator.load(ESTIMATOR)
detectors = tk.detection.load_detectors(DETECTORS)
type(model)

# %% [markdown]
# A prompt, made in the usual way.

# %%
image, question = open_image(DEMO / "example.png"), "how many times is row 1 more than row 3?"
chat = [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": question}]}]
inputs = processor.apply_chat_template(
    chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
)
settings = {"do_sample": True, "top_p": 0.9, "max_new_tokens": 200}
image

# %% [markdown]
# ## Under a watch
#
# `on_alarm` is called between two tokens, by the thread that generates; `on_step` likewise, with every step.

# %%
alarms = []
torch.manual_seed(4)
watch = tk.watch(
    model, processor, image, question, estimator=estimator, monitor=detectors.monitor, on_alarm=alarms.append
)
with watch as run:
    watched = model.generate(**inputs, **settings, **run.kwargs)
torch.manual_seed(4)
alone = model.generate(**inputs, **settings)
print("the same tokens as without the watch:", torch.equal(watched, alone))
print("alarms:", [f"step {step.index + 1}, risk {step.verdict.risk:.2f}" for step in alarms] or "none")

# %%
run.trace()

# %% [markdown]
# One step, with the regions that it rests on most and how far a measured effect may be from the estimated one.

# %%
run.runs[0].steps[1]

# %% [markdown]
# ## Is the estimator right?
#
# Effects can be measured: hide a region, and see what the same words then cost. That takes one pass a region, so here
# it is done for six runs about scenes that neither model nor estimator has seen; `trajkit evaluate` does it for as
# many as you like, beside raw attention and published methods.

# %%
vlm = tk.load_vlm(MODEL)
traces = tk.read_traces(TRACES)
unseen = traces.filter(group_id=detectors.card["test_groups"], task_repeat=0)
runs = list(islice(unseen, 0, 120, 20))
measured = list(tk.attribute(vlm, runs, estimator=estimator, measured=True))
estimated = list(tk.attribute(vlm, runs, estimator=estimator))
measured[0]

# %%
named, grounded, steps = 0, 0, 0
for ours, truth in zip(estimated, measured, strict=True):
    rests = abs(truth.effects).max(axis=1) >= 0.5
    steps += len(rests)
    grounded += int(rests.sum())
    named += int((ours.effects.argmax(1) == truth.effects.argmax(1))[rests].sum())
share = shares(Estimate(named / grounded, *wilson(named, grounded)))
print(f"{grounded} of {steps} steps rest on the image (0.5 nats or more).")
print(f"In {share} of them the estimator names the region that costs most when it is hidden.")
print("The interval takes steps as independent, which steps of one run are not; reports/faithfulness.md does better.")

# %% [markdown]
# ## Not on another model
#
# Estimators and detectors remember the weights that they were made for.

# %%
other = tk.load_vlm(DEMO / "glm4v")
try:
    tk.stream(other, image, question, estimator=estimator)
except EstimatorMismatchError as error:
    print(str(error).replace(f"{DEMO}/", ""))

# %% [markdown]
# For a model of yours, train an estimator once, on some hundreds of images and questions, then collect runs and fit
# detectors on them:
#
# ```
# trajkit train-estimator questions.jsonl --model MODEL --out estimator
# trajkit evaluate        held-out.jsonl  --model MODEL --estimator estimator
# trajkit collect         questions.jsonl --model MODEL --estimator estimator --out traces
# trajkit fit             traces --out detectors
# ```
#
# ## A score of your own
#
# The monitor's promise does not need trajkit's predictor. Any score after each step will do: here the mean
# log-probability of the words so far, calibrated on one run of each scene that detectors may be made from.

# %%
frame = tk.features(traces.filter(group_id=detectors.card["calibration_groups"]))
monitor = tk.Monitor.of_scores(frame, score="logprob_mean", alpha=0.1, higher="better")
monitor

# %%
watching = monitor.start()
for score in tk.features(run.trace())["logprob_mean"]:
    verdict = watching.update_score(score)
    print(f"after step {verdict.step}: score {score:+.2f}   {'ALARM' if verdict.alarm else 'no alarm'}")

# %% [markdown]
# What a program does at an alarm is a policy: it flags, stops, has the model answer, or asks again. What that is worth,
# measured, is in `reports/policies.md`; asking again after an alarm costs tokens, and a majority of several answers is
# a baseline that is hard to beat.

# %%
tk.Policy("ask again", tries=2, start="last good step")
