# %% [markdown]
# # A study for a paper
#
# *Does the path that attention takes say that a run is failing, before it ends, beyond what its length and its
# uncertainty say?*
#
# The order matters: the question, what would count as an answer, the baselines, then one look. The runs are the demo's,
# so the answer is about the demo's model.

# %%
import numpy as np

import trajkit as tk
from trajkit.demo.paths import TRACES
from trajkit.judging import auc_by_step, gains, held_out_risks
from trajkit.judging.ranking import select_steps
from trajkit.tables import Estimate, Table
from trajkit.tables.words import auc, count, difference, p_value
from trajkit.traces.forms import task_labels

traces = tk.read_traces(TRACES)
runs = tk.run_table(traces)
runs

# %% [markdown]
# ## 1. What is compared
#
# Runs of one image are dependent, so everything resamples images. Outcomes go with the form of the question (some are
# answered right more often than others), so runs are compared within a form. And a longer run has a longer path by
# itself.
#
# Decided beforehand: three metrics of the path, Holm's correction over all nine tests (each pair of three outcomes; the
# six against success are shown), and 0.05.

# %%
METRICS = ["path_length", "tortuosity", "hhi_level"]
table = runs.table[runs.table["outcome"].isin(["success", "hallucination", "reasoning_failure"])]
compared = tk.stats.compare(table, METRICS, n_boot=300)
compared = compared[compared["b"] == "success"].reset_index(drop=True)
compared["delta"] = [Estimate.of(row) for row in compared[["cliffs_delta", "delta_low", "delta_high"]].to_numpy()]
Table(
    compared,
    {"metric": "metric", "a": "against success", "n_a": "runs", "delta": "Cliff's δ (95 %)", "p_corrected": "p"},
    {"delta": difference, "p_corrected": p_value},
    note="δ > 0 where the failing runs are higher. p: permutation of labels between images, corrected by Holm.",
)

# %% [markdown]
# ## 2. Is it only length?
#
# The same with the number of tokens, the family and the form held fixed, by regression with errors that are robust over
# images. A row whose interval holds 0 shows no difference beyond length.

# %%
for metric in METRICS:
    for row in tk.stats.regress(table, metric).to_dict("records"):
        effect = Estimate(row["effect"], row["effect_low"], row["effect_high"])
        print(f"{metric:12} {row['level']:18} {difference(effect)} standard deviations, p = {p_value(row['p'])}")

# %% [markdown]
# ## 3. Before the run ends
#
# What is known after step *t* is scored on the runs that are still thinking then, by models fitted on other images
# (five folds). The path stands beside length and the uncertainty of the words, which cost nothing.

# %%
frame = runs.frame
PATH, PLAIN, BOTH = "trajectory+concentration", "uncertainty+length", "trajectory+concentration+uncertainty+length"
risks = held_out_risks(frame, ("length", PLAIN, PATH, BOTH))
areas = auc_by_step(frame, risks, steps=[2, 4, 6, 8], n_boot=300)
tk.plots.auc_by_step(areas, main=BOTH, shown=list(risks))

# %%
areas["area"] = [Estimate.of(row) for row in areas[["auc", "low", "high"]].to_numpy()]
wide = areas.pivot(index="step", columns="method", values="area")
counts = areas.drop_duplicates("step").set_index("step")
wide.insert(0, "runs", counts["n_runs"])
wide.insert(1, "failing", counts["n_failures"])
by_step = Table(wide.reset_index(), formats=dict.fromkeys(risks, auc), note="AUC of failure (95 %), held-out folds.")
by_step

# %% [markdown]
# ## 4. The answer
#
# What the path adds is the difference between both and the plain features, on the same draws of images, within the form
# of the question, corrected over the steps.

# %%
selected = select_steps(frame, steps=[2, 4, 6, 8])
added = gains(frame, risks[BOTH], risks[PLAIN], selected, task_labels(frame), n_boot=300)
for row in added.to_dict("records"):
    gain = Estimate(row["gain"], row["low"], row["high"])
    print(f"after step {row['step']}: the path adds {difference(gain)} of AUC, p = {p_value(row['p_corrected'])}")
told = added[added["p_corrected"] < 0.05]
worth = f"at {count(len(told), 'step')} of {len(added)}" if len(told) else "at no step"
print(f"\nThe path is shown to add to length and uncertainty {worth}.")
most = float(np.nanmax(added["high"]))
print(f"An addition of more than {most:.2f} is excluded at every step: that is what a null result of this size says.")

# %% [markdown]
# ## 5. For the paper
#
# A table has machine names and all digits in a file, and the same numbers in print. The traces, the seed and this
# script make them again.

# %%
columns = ["step", "runs", PLAIN, f"{PLAIN}_low", f"{PLAIN}_high"]
print(by_step.plain().to_latex(index=False, columns=columns, float_format="%.3f"))

# %% [markdown]
# What it cannot say: anything about a large model, whose runs are longer, and whose uncertainty is less honest; nor
# that attention is no guide to what a sentence rests on, which is another question (`reports/faithfulness.md`).
