"""Every command that writes, small enough to be killed hundreds of times, in the order in which people run them.

`Deeds` does each once in one folder and keeps the folder as it was before, so that a deed can be done again, killed, in
a copy. All paths are relative: two copies of a folder hold the same bytes after the same deed.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from labeling.folder import Folder

from .faults import Commands, contents, differences, shapes, used

CORPUS = "\n\n".join(
    f"{who}:\n{line}"
    for who in ("ANNE", "BORIS", "CLARA")
    for line in ("The lord is happy. O merry day!", "The sad lady weeps; a bitter tear.", "A king, a song, a hall.")
    for _ in range(6)
)
PPO = (
    "--iteration_batch_size 32 --max_iteration_batch_size 64 --minibatch_size 16 --max_completion_length 8 "
    "--learning_rate 3e-3 --num_eval_samples 16 --normalization_samples 32 --max_iterations 3 --ladder_step 0.1 "
    "--quiet "
)
MODEL = "--model_name_or_path model"
POLICIES = {
    "ppo, all weights": "--reward_func full_stop",
    "ppo, critic and adaptive KL": "--reward_func full_stop --critic shared --beta 0.1 --kl_target 1",
    "ppo, LoRA": "--reward_func full_stop --use_peft --lora_r 2",
    "ppo, grown batch": "--reward_func full_stop --clip_ratio_low 0.9 --clip_ratio_high 0.95",
    "ppo, reward model": "--reward_model_path reward_model",
}


@dataclass(frozen=True)
class Deed:
    """One command. `again` is how a person goes on after it was killed: the same command as a rule."""

    name: str
    words: str
    extra: str = ""
    random_ids: bool = False  # what it writes bears names drawn anew: two that did it are alike in shape alone

    @property
    def swept(self) -> bool:
        """Whether every one of its operations is tried; of the kinds of PPO, which write alike, two are."""
        return not self.name.startswith("ppo") or self.name in ("ppo, critic and adaptive KL", "ppo, LoRA")

    @property
    def argv(self) -> list[str]:
        """What is typed."""
        return self.words.split()

    @property
    def again(self) -> list[str]:
        """What is typed after it was killed."""
        return [*self.argv, *self.extra.split()]


DEEDS = [
    Deed(
        "pretrain",
        "pretrain --corpus corpus.txt --output_dir model --max_steps 6 --hidden_size 16 --num_hidden_layers 1 "
        "--num_attention_heads 2 --block_size 48 --vocab_size 300 --quiet",
    ),
    Deed("sample", f"sample {MODEL} --num_samples 60 --max_new_tokens 8 --output_path samples.jsonl --quiet"),
    Deed("label simulate", "label simulate --samples samples.jsonl --gold lexicon --output simulated.jsonl"),
    Deed("label import", "label import --input ana.csv --text text --label label --output labels.jsonl"),
    Deed("label import, appended", "label import --input ben.jsonl --text text --label label --output labels.jsonl "
         "--append"),
    Deed("label import of pairs", "label import --input pairs.jsonl --kind comparison --output comparisons.jsonl"),
    Deed("label page", "label page --samples samples.jsonl --output_dir folder --num_tasks 10 --quiet"),
    Deed("label page, answers", "label page --output_dir folder --answers answers-ana.json answers-ben.json"),
    Deed("reward", f"reward {MODEL} --labels labels.jsonl --samples samples.jsonl --output_dir reward_model "
         "--num_train_epochs 1 --allow_weak --quiet"),
    Deed("reward of pairs", f"reward {MODEL} --comparisons comparisons.jsonl --output_dir preference "
         "--num_train_epochs 1 --allow_weak --quiet"),
    Deed("compare", "compare full_stop lexicon_sentiment --samples samples.jsonl --output_path compared.json"),
    Deed("probe", f"probe full_stop {MODEL} --samples samples.jsonl --output_dir probed --num_starts 2 --num_rounds 1 "
         "--candidates 8 --attribution_samples 4 --quiet"),
    *(Deed(name, f"ppo {MODEL} {PPO} {words} --output_dir run-{number}", "--resume")
      for number, (name, words) in enumerate(POLICIES.items())),
    Deed("evaluate", "evaluate run-0 --num_samples 32 --gold_reward_func full_stop "
         "--best_of_n_samples 32 --quiet"),
    Deed("inspect", "inspect run-0"),
    Deed("inspect, tables and figures", "inspect run-0 --tables tables --figures figures"),
    Deed("rate push", "rate push run-0 --output_dir study --stored_samples --page --num_samples 6",
         random_ids=True),
    Deed("rate pull", "rate pull --output_dir study --answers rated-ana.json rated-ben.json"),
    Deed("rate score", "rate score --output_dir study"),
    Deed("export", "export run-0 --rung kl-00.00 --output_dir exported"),
]  # fmt: skip
SWEPT = [deed for deed in DEEDS if deed.swept]
LONG = [
    Deed("loop", f"loop {MODEL} --output_dir rounds --rounds 2 --num_labels 40 --gold lexicon --reward_config rm.yaml "
         "--ppo_config ppo.yaml --quiet"),
    Deed("demo", "demo --reward full_stop --corpus corpus.txt --output_dir demo --quiet"),
]  # fmt: skip


@dataclass(frozen=True)
class Done:
    """A deed, the folder as it was before it, and what stood there after it, with its bytes on a disk."""

    deed: Deed
    before: Path
    after: dict[str, object]
    bytes: int

    def differences(self, folder: Path) -> list[str]:
        """What in a folder is not as this deed leaves it."""
        found = contents(folder)
        return (
            differences(shapes(self.after), shapes(found)) if self.deed.random_ids else differences(self.after, found)
        )


class Deeds:
    """Does each deed once, and those that come before it, when it is first asked for."""

    def __init__(self, commands: Commands, scratch: Path) -> None:
        self.commands, self.scratch, self.home = commands, scratch, scratch / "home"
        self.home.mkdir()
        write_inputs(self.home)
        self.done: dict[str, Done] = {}

    def __getitem__(self, name: str) -> Done:
        """The deed of this name, done."""
        for deed in DEEDS:
            if name not in self.done:
                self._do(deed)
        for deed in LONG:
            if name == deed.name and name not in self.done:
                self._do(deed)
        return self.done[name]

    def _do(self, deed: Deed) -> None:
        if deed.name in self.done:
            return
        answer_pages(self.home)
        before = self.scratch / f"before-{len(self.done)}"
        shutil.copytree(self.home, before)
        outcome = self.commands.run(self.home, *deed.argv)
        assert outcome.status == 0, f"{deed.name}: {outcome.errors}"
        self.done[deed.name] = Done(deed, before, contents(self.home), used(self.home))


def write_inputs(home: Path) -> None:
    """What people bring along: a corpus, a table, JSON lines, recipes."""
    (home / "corpus.txt").write_text(CORPUS)
    words = ["happy", "merry", "sweet", "sad", "bitter", "cruel"]
    texts = [f"A {word} song number {n}." for n in range(8) for word in words]
    labels = ["positive" if n % 6 < 3 else "negative" for n in range(len(texts))]
    table = [f'"{text}",{label},ana' for text, label in zip(texts, labels, strict=True)]
    (home / "ana.csv").write_text("\n".join(["text,label,annotator", *table]) + "\n")
    rows = [{"text": text, "label": label, "annotator": "ben"} for text, label in zip(texts, labels, strict=True)]
    (home / "ben.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[::2]))
    pairs = [
        {"prompt": "", "chosen": good, "rejected": bad, "annotator": "ana"}
        for good, bad in zip([t for t, x in zip(texts, labels, strict=True) if x == "positive"],
                             [t for t, x in zip(texts, labels, strict=True) if x == "negative"], strict=True)
    ]  # fmt: skip
    (home / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    (home / "rm.yaml").write_text("num_train_epochs: 1.0\nallow_weak: true\n")
    words_ = PPO.replace("--quiet", "").split()
    settings = [f"{name.removeprefix('--')}: {value}" for name, value in zip(words_[::2], words_[1::2], strict=True)]
    (home / "ppo.yaml").write_text("\n".join(settings) + "\n")


def answer_pages(home: Path) -> None:
    """What two people did in their browsers with the pages that stand in the folder."""
    for name, prefix in (("folder", "answers"), ("study", "rated")):
        folder = Folder(home / name)
        if not folder.path.is_dir() or (home / f"{prefix}-ana.json").exists():
            continue
        plan = folder.need_plan()
        for person in ("ana", "ben"):
            answers = [
                {"uid": uid, "choice": plan.screen.choices[0], "lead_time": 1.5, "at": "2026-11-20T10:00:00.000Z"}
                for uid in folder.read_tasks()
            ]
            saved = {"packet": plan.packet, "annotator": person, "session": person, "answers": answers}
            (home / f"{prefix}-{person}.json").write_text(json.dumps(saved | {"saved_at": answers[0]["at"]}))
