# %% [markdown]
# # The logs that you have
#
# Runs that another tool has made are read from its logs: inspect, OpenAI-style and vLLM answers, lmms-eval, VLMEvalKit
# and others (`trajkit import --help`). This log is a real one: inspect-ai asked the demo's model 14 questions, twice
# each.

# %%
import numpy as np

import trajkit as tk
from trajkit.demo.paths import DEMO, ESTIMATOR, MODEL
from trajkit.stats.resampling import wilson
from trajkit.tables import Estimate
from trajkit.tables.words import judged, shares

runs = tk.import_traces(DEMO / "logs" / "digits.eval")
runs

# %% [markdown]
# A log has no attention, so these runs have no effects yet. Their steps, answers and outcomes are there, and as this
# log holds log-probabilities, how sure the model was of each step.

# %%
failed = runs.filter(success=False)[0]
failed

# %%
table = tk.run_table(runs).table
wrong = int((table["failed"] == 1).sum())
print(f"{wrong} of {len(table)} runs are wrong: {shares(Estimate(wrong / len(table), *wilson(wrong, len(table))))}.")
print(f"They are of {table['group_id'].nunique()} images; two runs of one question are no two independent runs.")

# %% [markdown]
# ## Does uncertainty tell the wrong ones?
#
# The wrong runs are of so few images that no interval can be given: the number by itself shows nothing. With more runs
# an interval that leaves out 0.5 would.

# %%
area = tk.stats.auc(table["failed"], -table["logprob_mean"], groups=table["group_id"])
area

# %% [markdown]
# ## Effects, afterwards
#
# The model that wrote the log reads its runs once more, and the estimator says what each step rested on. The tokens are
# made from the text again and checked against it; `logprob_difference` says how far the log's own log-probabilities
# are from those of the replay.

# %%
vlm = tk.load_vlm(MODEL)
estimator = tk.EffectEstimator.load(ESTIMATOR)
traces = tk.Traces.of(tk.attribute(vlm, runs, estimator=estimator))
apart = [trace.meta["logprob_difference"] for trace in traces]
print(f"{len(traces)} runs with effects; log-probabilities differ by {np.max(apart):.1g} nats a token at most.")
traces

# %% [markdown]
# The same wrong run, with what it looked at.

# %%
traces[failed.transcript_id]

# %% [markdown]
# ## And the path of attention?
#
# The same question, asked of two metrics of the trajectory, has the same answer: 28 runs cannot tell a difference from
# none.

# %%
table = tk.run_table(traces).table
for metric in ("path_length", "tortuosity"):
    found = tk.stats.auc(table["failed"], table[metric], groups=table["group_id"])
    print(f"{metric:12} AUC of failure {judged(Estimate(found.value, found.low, found.high))}")

# %% [markdown]
# In the shell, the same three steps, for as many runs as there are:
#
# ```
# trajkit import    digits.eval --out runs
# trajkit attribute runs --out traces --model data/demo/model --estimator data/demo/estimator
# trajkit report    traces --out report
# ```
#
# From here they are traces like any other: `tk.write_traces(traces, "traces")` keeps them, and `trajkit export` takes
# the results back to other tools.
