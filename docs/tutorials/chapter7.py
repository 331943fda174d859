# %% [markdown]
# # From a corpus to a finetuned policy, in Python
#
# This is the exercise of chapter 7 of the deep learning curriculum, reinforcement learning from human feedback, done
# from the beginning to the end: a corpus, a language model of your own, its samples, labels, a reward model, PPO,
# evaluation, figures. Then the negative twin, a version with prompts, and a blind rating. It takes four to five
# minutes on two cores.
#
# The notebook is `docs/tutorials/chapter7.ipynb`; the same cells as a script are in `chapter7.py` beside it. The same
# way with commands: [On the command line](command_line.md).
#
# Every step takes what the step before it returned, so that no file has to be named. Only runs of PPO, figures and
# pages need a place on the disk, and they get one folder.

# %%
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from textwrap import fill
from typing import Any

import labeling
import rewards
import rlhf
from rlhf.inspection.win_rate import win_rates

folder = "runs/chapter7"
small = False  # True: little work, to try the cells; the numbers then mean nothing

count = 32 if small else 512  # samples that each checkpoint is judged by
few_epochs: dict[str, Any] = {"num_train_epochs": 2.0, "allow_weak": True} if small else {}
few_iterations: dict[str, Any] = (
    {"max_iterations": 3, "iteration_batch_size": 128, "num_eval_samples": 32} if small else {}
)

# %% [markdown]
# ## 1. A language model of your own
#
# `corpus="embedded"` is a play made by a grammar, with speeches that are happy, sad or neither. Your own texts go in
# as a list, `corpus=[first, second, ...]`, or as the path of a text file.

# %%
model = rlhf.pretrain(corpus="embedded", max_steps=200 if small else 640, quiet=True)
model

# %%
for sample in model.samples[:2]:
    print(sample.completion, end="\n\n")

# %% [markdown]
# - **Look at** the held-out loss, and read the samples.
# - **Healthy**: about 1.7 nats per token on the embedded corpus, with a standard error below 0.01. The samples are
#   whole lines with a speaker in front.
# - **If not**: a loss that would still fall wants more `max_steps`. A loss that is NaN or jumps wants a lower
#   `learning_rate`. Text without any sense on a corpus of your own: more text, or a larger `hidden_size`.

# %% [markdown]
# ## 2. Samples
#
# The first samples will be labelled. The others fix the offset and the scale of the reward, which then stay as they
# are for the whole of PPO: that is the constant baseline of the exercise.

# %%
samples = rlhf.sample(model, num_samples=400 if small else 2400, quiet=True)
others = rlhf.sample(model, num_samples=256 if small else 2048, seed=1, quiet=True)
samples.frame[["completion", "logprob"]].head(3)

# %% [markdown]
# - **Look at** the texts: is there anything in them to like or to dislike? `logprob` is the sum over the tokens, in
#   nats.
# - **Healthy**: most texts differ from each other, and you could label most of them.
# - **If not**: nothing that follows can mend it. Choose a question that the samples can answer, or go back to step 1.

# %% [markdown]
# ## 3. Labels, some of them your own
#
# `labeling.page` writes one HTML file that opens in any browser without a network: press 1, 2 or 3, `U` to undo, `S`
# to skip, and save. Label forty samples; it takes three minutes, and you will know what you are asking for.

# %%
page = labeling.page(samples[:40], output_dir=f"{folder}/labelling", title="Feelings", quiet=True)
print("open", page.path)

# %% [markdown]
# ![The page: a text, three choices with their keys](../offline_page.png)
#
# The page saves `answers-NAME.json`. Move it into the folder `labelling` and run the next cell again: your labels
# join those of the simulated annotator, who follows a rule and is wrong in one case of ten. For a group of people
# there is [Label Studio](../labeling.md).

# %%
answers = [str(path) for path in sorted(Path(folder, "labelling").glob("answers-*.json"))]
came_back = labeling.page(output_dir=f"{folder}/labelling", answers=answers).returned if answers else None
own = came_back.labels if came_back else []
simulated = labeling.simulate(samples, noise=0.1, quiet=True)
labels = [*simulated, *own]
print(*(fill(line, 96) for line in labeling.status(labels=labels, quiet=True).lines[:8]), sep="\n")

# %% [markdown]
# - **Look at** how many labels are positive, negative and neutral. With two raters, look at Krippendorff's alpha: 1
#   means that they agree always, 0 no more than by chance.
# - **Healthy**: no label is rare (here three in ten are positive, as many negative). Alpha above 0.4.
# - **If not**: one rare label wants another question. A low alpha wants a clearer one (`question`, `choices`, `map`),
#   not more labels. A rater who is named as no better than chance is left out of what follows.

# %% [markdown]
# ## 4. A reward model
#
# The label is a token behind the text, and the reward is the log-probability of the positive one. The recipe
# `demo_reward` asks for the label at every position besides the last, which few labels need; leave it out for the
# literal exercise, which reads the last position alone ([departures](../departures.md)).

# %%
fitted = rewards.fit.from_recipe(
    "demo_reward", model_name_or_path=model, labels=labels, samples=others, quiet=True, **few_epochs
)
tested = fitted.report["held_out"]
print("right on {share:.1%} of held-out texts ({low:.1%} to {high:.1%}, n = {n})".format(**tested["accuracy"]))

# %%
texts = ["O happy day, my lady is sweet!", "She weeps, and the night is bitter.", "The piper works by the door."]
for text, value in zip(texts, fitted.reward([""] * 3, texts), strict=True):
    print(f"{value:6.2f} nats  {text}")

# %% [markdown]
# - **Look at** the accuracy with its interval, then try texts of your own, above all ones that ought to fool it.
# - **Healthy**: 80 to 86 % here. A tenth of the labels is wrong, so that 90 % is the most that can be seen; against
#   the rule itself it is right on 89 %. Of the three texts the happy one gets the highest reward, the sad one the
#   lowest.
# - **If not**: more labels; `learning_curve=True` says what the next hundred would bring. A model that is no better
#   than chance is refused. `rlhf.probe(fitted.reward, model, samples)` finds the words that it pays for.

# %% [markdown]
# ## 5. PPO
#
# The run goes on until the policy is 10 nats from where it began, and keeps a ladder of checkpoints on the way.


# %%
def finetuned(
    name: str, reward: Callable[..., Sequence[float | None]], prompts: Sequence[str] = ("",)
) -> rlhf.OpenedRun:
    """PPO by the recipe of the demo; a run that is there already is replaced, so that the cell can be run again."""
    options = rlhf.PPOConfig.from_recipe(
        "demo", output_dir=f"{folder}/{name}", overwrite=True, quiet=True, **few_iterations
    )
    rows = [{"prompt": prompt} for prompt in prompts]
    return rlhf.PPOTrainer(model, reward, options, train_dataset=rows).train()


run = finetuned("ppo", fitted.reward)
print(run.stop_reason)
run.metrics[["iteration", "reward", "reward_se", "kl_per_completion", "clip_ratio/outside_mean", "entropy"]].round(3)

# %%
run.figure("kl")

# %%
run.figure("clip")

# %% [markdown]
# - **Look at** the reason why it ended, whether the reward rises by many times its error, and how KL grows.
#   `run.figures` names the other charts; in a notebook of your own you can zoom and hover in them.
# - **Healthy**: "KL budget of 10 nats per completion reached" after about a dozen iterations; the reward rises from
#   about -0.9 to -0.1; the clip fraction is between 1 and 20 % after the warm-up; entropy falls slowly.
# - **If not**: [Reading a run](../reading_a_run.md) has a table from the symptom to the option. The most frequent:
#   the clip fraction is above 20 % (lower `learning_rate`, more `warmup_steps`), or KL rises and the reward does not
#   (a weak reward model: step 4).

# %% [markdown]
# ## 6. What became of it
#
# `gold` is the rule that the simulated annotator follows. Training never saw it, so it tells whether the policy got
# better or only found out what the reward model likes. With labels of people alone there is no such rule: then label
# samples of the run (`gold_labels`), or rate blind as in step 9.

# %%
evaluation = rlhf.evaluate(run, gold_reward_func="gold", num_samples=count, best_of_n_samples=2 * count, quiet=True)
print(fill(evaluation.onsets["gold"].statement(), 96))
run.scores[["rung", "kl_per_completion", "reward", "mean", "se", "n"]].round(3)

# %%
run.figure("proxy along KL")

# %%
run.figure("gold along KL")

# %%
names = list(run.ladder["name"])
for name in (names[0], names[len(names) // 2], names[-1]):
    print(f"== {name}", *run.samples(name)["completion"].head(2), sep="\n\n")

# %% [markdown]
# - **Look at** gold along KL, and read the samples of the first, a middle and the last checkpoint side by side.
# - **Healthy**: gold rises together with the reward (here from 0 to 0.4 or 0.5) and flattens. The samples are
#   happier, and still sentences.
# - **If not**: gold that falls while the reward rises is overoptimisation. Take an earlier checkpoint, label samples
#   of the policy itself (`rlhf.loop`), or fit an ensemble (`ensemble=4, aggregate="worst"`). One text again and again
#   is collapse: an earlier checkpoint, or `beta` above 0.

# %% [markdown]
# ## 7. The negative twin
#
# The same labels, the other end: the reward is now the log-probability of the *negative* label. If everything works,
# gold goes the other way, which shows that the labels did it and not PPO as such.

# %%
opposite = rewards.fit.from_recipe(
    "demo_reward",
    model_name_or_path=model,
    labels=labels,
    samples=others,
    target="negative",
    quiet=True,
    **few_epochs,
)
twin = finetuned("twin", opposite.reward)
of_twin = rlhf.evaluate(twin, gold_reward_func="gold", num_samples=count, best_of_n_samples=0, quiet=True)
for one in (evaluation, of_twin):
    first, last = (rung.reward("gold") for rung in (one.rungs[0], one.rungs[-1]))
    print(f"gold {first.text(2)} to {last.text(2)} at {one.rungs[-1].kl:.1f} nats" if first and last else "")
print(twin.samples(list(twin.ladder["name"])[-1])["completion"][0])

# %% [markdown]
# - **Look at** the two changes of gold, with their errors.
# - **Healthy**: one up, one down, each by many errors. In our runs up by 0.36 to 0.53, down by 0.50 to 0.56.
# - **If not**: the reward models rest on something other than the labels' meaning. Try step 4's texts on both.

# %% [markdown]
# ## 8. With prompts
#
# Until here every sample began from nothing. Now the policy continues openings: the speaker and three words. Two
# completions of each opening are compared, and a reward model of comparisons is fitted.

# %%
begun = [sample.completion.split("\n", 1) for sample in chain(samples, others) if "\n" in sample.completion]
openings = sorted(
    {f"{speaker}\n{' '.join(speech.split(' ')[:3])}" for speaker, speech in begun if speech.count(" ") > 6}
)
openings = openings[: 256 if small else 1024]
pairs = rlhf.sample(model, prompts=openings, num_return_sequences=2, max_new_tokens=24, quiet=True)
comparisons = labeling.simulate(pairs, kind="comparison", noise=0.1, quiet=True)
preferred = rewards.fit(model, comparisons=comparisons, quiet=True, **few_epochs)
print("right on {share:.1%} of held-out pairs (n = {n})".format(**preferred.report["held_out"]["accuracy"]))

# %%
continued = finetuned("prompts", preferred.reward, openings)
of_prompts = rlhf.evaluate(continued, gold_reward_func="gold", num_samples=count, best_of_n_samples=0, quiet=True)
for rate in win_rates(of_prompts, "gold"):
    print(rate.text())

# %% [markdown]
# - **Look at** how often the policy's completion is better than the original's by gold, for the same opening and the
#   same random numbers; a tie counts as a half.
# - **Healthy**: it rises along KL from 50 %. How far it gets depends on the labels that were drawn: in our runs it
#   ended between 76 and 86 %, so take yours as one draw, not as the figure.
# - **If not**: few pairs were decided (most were ties), or the comparisons are noisy: more openings, more completions
#   of each.

# %% [markdown]
# ## 9. Do you prefer it yourself?
#
# First: what can 20 against 20 samples show? Then a page with samples of the original and of the policy, mixed,
# without a word on which is which. Keys 1 to 5 rate a text.

# %%
print(*(fill(line, 96) for line in rlhf.rate_plan(num_samples=20, effect=0.5)), sep="\n")
blind = f"{folder}/rating-{len(labels)}-labels"  # other labels make another policy, whose texts are others
print(*rlhf.rate_push(run, page=True, output_dir=blind))

# %% [markdown]
# ![The page of a blind rating: a text, five choices with their keys](../rating_page.png)
#
# Nothing on the page says whose a text is. Move the saved file into the folder that was printed and run this cell:
# only now it is told which text was whose.

# %%
ratings = [str(path) for path in sorted(Path(blind).glob("answers-*.json"))]
if ratings:
    print(rlhf.rate_pull(output_dir=blind, answers=ratings).missing, "ratings are missing")
    print(*rlhf.rate_score(output_dir=blind, partial=True).statements(), sep="\n")
else:
    print("not rated yet")

# %% [markdown]
# - **Look at** the difference of the mean ratings with its interval.
# - **Healthy**: an interval that does not hold 0. Forty ratings show a difference of about a point, not of half a
#   point.
# - **If not**: more samples, or more people; `rate_plan` says how many. Do not rate again until it comes out.

# %% [markdown]
# ## 10. Figures, tables, and a model to keep
#
# Figures are drawn for a paper, one column wide (with the extra `figures`). The tables are CSV and Parquet, with the
# unit of every column. The report is one HTML file with everything. `export` takes the recommended checkpoint out as
# a model directory that transformers loads.

# %%
figures = run.save_figures(f"{folder}/figures", format="pdf")
tables = run.save_tables(f"{folder}/tables")
report = rlhf.inspect(run, output_path=f"{folder}/report.html", quiet=True).report
chosen = rlhf.export(run, output_dir=f"{folder}/chosen", quiet=True)
print(*(path.name for path in chain(figures[:3], tables)), report, chosen, sep="\n")

# %% [markdown]
# What next: [Reading a run](../reading_a_run.md) for your own runs, [a GPT of your own](own_gpt.md) in place of this
# model, and [research on overoptimisation](../overoptimisation.md) to see gold turn.
