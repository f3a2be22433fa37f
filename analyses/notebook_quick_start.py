# %% [markdown]
# # Quick start
#
# A thinking model answers a question about an image, sentence by sentence. trajkit tells which regions of the image
# each sentence rests on, while it is being written, and whether the run is going wrong.
#
# Everything here comes with trajkit, and nothing is downloaded: a small model whose world is pictures of handwritten
# digits, its estimator, its detectors and 3,600 of its runs. What is found on it shows that the method works as built,
# not what it is worth on a large model.

# %%
import trajkit as tk
from trajkit.demo.paths import DEMO, DETECTORS, ESTIMATOR, MODEL, TRACES

vlm = tk.load_vlm(MODEL)
estimator = tk.EffectEstimator.load(ESTIMATOR)
detectors = tk.detection.load_detectors(DETECTORS)
estimator

# %% [markdown]
# The estimator reads the model's attention and says, in nats, how much less likely a sentence would have become had a
# region been hidden. It fits this model alone, and refuses others.
#
# ## One run, live
#
# An image may be a path, bytes, an open picture or an array. Sentences come out while the model still writes.

# %%
image, question = DEMO / "example.png", "how many times is row 1 more than row 3?"
running = tk.stream(vlm, image, question, estimator=estimator, monitor=detectors.monitor, temperature=0.0)
for step in running:
    region = step.effects.argmax()
    print(f"{step.text:32} {step.effects[region]:+6.2f} nats from region {region:2}   risk {step.verdict.risk:.2f}")

# %% [markdown]
# The whole run displays itself: the image, the same with what the thoughts rest on, the risk after each step below the
# alarm's threshold, and every step. Only steps of half a nat or more rest on the image at all.

# %%
trace = running.trace()
trace

# %% [markdown]
# ## What an alarm means
#
# The monitor alarms when the risk first exceeds its threshold. The threshold is such that of new successful runs, each
# of a new image, at most one in ten is alarmed. It promises nothing about how many failing runs it catches.

# %%
detectors.monitor

# %% [markdown]
# Alarms are rare. These are scenes that neither model, estimator nor monitor was made from, in their order, up to the
# first alarm. With a target the run is judged, so that one can see whether the alarm was right; a false one is no
# accident, as one in ten is allowed.

# %%
traces = tk.read_traces(TRACES)
held_out = traces.filter(group_id=detectors.card["test_groups"])
watched_by = {"estimator": estimator, "monitor": detectors.monitor}
asked = 0
for saved in held_out.filter(task_repeat=0):
    asked += 1
    alarmed = tk.trace(vlm, saved.image, saved.question, target=saved.target, temperature=1.0, seed=0, **watched_by)
    if any(step.alarm for step in alarmed.steps):
        break
print(f"The first alarm is in run {asked}.")
alarmed

# %% [markdown]
# How it does on scenes that it was not made from. The rate of false alarms has an interval: whether it is below the
# promised 10 % is a question that the runs may be too few to answer, and then the page says so.

# %%
tk.judging.replay(detectors.monitor, tk.features(held_out))

# %% [markdown]
# ## Saved runs
#
# Runs are Parquet files of one row a run. They are found by id, by value or by a function.

# %%
held_out

# %%
hallucinations = held_out.filter(outcome="hallucination", task_set="general")
print(f"{len(hallucinations)} hallucinations in questions of the family 'general'; this is the first:")
hallucinations[0]

# %% [markdown]
# A figure for a closer look is plotly's: `trace.plot()` by step, `trace.plot("trajectory")` as a path in three
# dimensions, `traces.plot(metric)` by outcome.

# %%
held_out.plot("entropy_mean")

# %% [markdown]
# ## Is it told apart?
#
# A picture is no test. Runs of one image go together and outcomes go with the form of the question, so runs are
# compared within a form and labels are exchanged between whole images.

# %%
table = tk.run_table(held_out).table
rows = table[table["outcome"].isin(["success", "hallucination"])]
compared = tk.stats.compare(rows, ["entropy_mean", "path_length", "tortuosity"], n_boot=300)
for row in compared.to_dict("records"):
    interval = f"δ = {row['cliffs_delta']:+.2f} ({row['delta_low']:+.2f} to {row['delta_high']:+.2f})"
    verdict = "told apart" if row["p_corrected"] < 0.05 else "not told apart"
    print(f"{row['metric']:14} {interval}   p = {row['p_corrected']:.3f}, corrected: {verdict}")

# %% [markdown]
# The uncertainty of the model's own words tells hallucinations from successes here, best of the three. Their paths are
# shorter and more tortuous, too; whether that is more than their length says, this comparison cannot tell.
#
# Next: `notebook_own_model.py` watches a model of yours, `notebook_own_traces.py` reads the logs that you have,
# `notebook_study.py` goes from a question to a table for a paper.
