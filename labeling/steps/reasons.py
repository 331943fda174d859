"""Reasons of a reward model about tasks, for `rlhf label page --reasons`: its scores, and the words they rest on."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

from labeling.critiques import Leaning, Reasons
from labeling.folder import Task
from labeling.steps.scores import Scorer, TokenReward
from rlhf.foundation.held import place_of
from rlhf.foundation.progress import progress_bar

BATCH = 32  # tasks whose words are left out at once


def reasons_of(reward: str | Scorer, tasks: Sequence[Task], *, quiet: bool = True) -> list[Reasons]:
    """What the reward says of each task: the score of each text, and what it loses without each word.

    Of a pair the model would choose the text of the higher score. Of a single text it would say positive or negative:
    a token reward model by its log-odds, another reward by whether the score lies above the median of these tasks.
    Raises InputError for what is no reward.
    """
    from rewards.attribution import occlusion, score
    from rewards.loading import load_reward

    model: Any = load_reward(reward)
    found: list[Reasons] = []
    with progress_bar("reasons", "task", total=len(tasks), quiet=quiet) as bar:
        for start in range(0, len(tasks), BATCH):
            some = tasks[start : start + BATCH]
            texts = [(task.prompt, text) for task in some for text in (task.text, task.second) if text is not None]
            prompts, completions = [prompt for prompt, _ in texts], [text for _, text in texts]
            scores = iter(score(model, prompts, completions))
            pieces = iter(occlusion(model, prompts, completions))
            for task in some:
                n = 1 if task.second is None else 2
                own = tuple(next(scores) for _ in range(n))
                words = tuple(tuple((one.piece, round(one.worth, 6)) for one in next(pieces)) for _ in range(n))
                found.append(Reasons(task.uid, str(place_of(reward)), own, "", words))
            bar.update(len(some))
    return _with_leanings(found, model, tasks)


def _with_leanings(found: Sequence[Reasons], model: Any, tasks: Sequence[Task]) -> list[Reasons]:
    singles = [one.scores[0] for one in found if len(one.scores) == 1]
    odds: list[float] = []
    if singles and isinstance(model, TokenReward):
        sign = 1.0 if model.target == "positive" else -1.0
        texts = [task.prompt for task in tasks], [task.text for task in tasks]
        odds = [sign * float(x) for x in model.log_odds(*texts).tolist()]
    middle = statistics.median(singles) if singles else 0.0
    leanings: list[Leaning] = []
    for place, one in enumerate(found):
        pair = len(one.scores) == 2
        ahead = one.scores[0] - one.scores[1] if pair else odds[place] if odds else one.scores[0] - middle
        up, down = ("first", "second") if pair else ("positive", "negative")
        leanings.append(up if ahead > 0 else down if ahead < 0 else "")  # type: ignore[arg-type]
    return [dataclasses.replace(one, leans=leans) for one, leans in zip(found, leanings, strict=True)]
