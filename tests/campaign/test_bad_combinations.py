"""Options that contradict each other or leave something out, numbers at the ends of their ranges, and YAML files that
are no list of options."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.campaign.bad_values import expected_of
from tests.campaign.commands import BY_NAME, COMMANDS, Command
from tests.campaign.told_in_one_line import Place

# (command, options left out, options given, part of the line)
CONTRADICTIONS: list[tuple[str, str, str, str]] = [
    ("sample", "num_samples", "--prompts prompts.txt --dataset_name prompts.jsonl", "--prompts and --dataset_name"),
    ("sample", "", "--best_of 4", "--best_of"),
    ("sample", "", "--reward_model_path rm", "--best_of"),
    ("sample", "max_new_tokens", "--max_new_tokens 64", "1 + 64 tokens"),
    ("sample", "num_samples", "--prompts prompts.txt --prompt_column n", "--prompt_column"),
    ("sample", "", "--prompt_column n", "--prompt_column"),
    ("sample", "", "--dataset_config a", "--dataset_config"),
    ("sample", "", "--dataset_split a", "--dataset_split"),
    ("sample", "num_samples", "--prompts prompts.csv --prompt_column nosuch", "--prompt_column"),
    ("sample", "num_samples", "--prompts prompts.txt --num_samples 5", "--num_samples"),
    ("label simulate", "", "--annotators a b --noise 0.1 0.2 0.3", "--noise"),
    ("label simulate", "", "--annotators a a", "--annotators"),
    ("label simulate", "", "--annotators a,b --raters_per_sample 3", "--raters_per_sample"),
    ("label simulate", "", "--noise 1.5", "--noise"),
    ("label simulate", "", "--noise -0.1", "--noise"),
    ("label simulate", "output", "--output labels.jsonl", "a file that exists"),
    ("label simulate", "output", "--output samples.jsonl --overwrite", "samples.jsonl"),
    ("label import", "", "--append --overwrite", "--append --overwrite"),
    ("label import", "", "--map positive=positive positive=negative", "positive"),
    ("label import", "", "--map positive", "--map"),
    ("label import", "", "--map positive=wonderful", "wonderful"),
    ("label import", "", "--map =positive", "--map"),
    ("label import", "label", "--label nosuch", "no column"),
    ("label import", "", "--text nosuch", "no column"),
    ("label import", "", "--annotator_column nosuch", "no column"),
    ("label import", "output", "--output table.csv --overwrite", "table.csv"),
    ("label page", "samples", "", "neither --samples nor --answers"),
    ("label page", "", "--answers answers.json", "both --samples and --answers"),
    ("label page", "", "--question Good?", "--choices"),
    ("label page", "", "--question Good? --choices Yes,No", "map"),
    ("label page", "", "--question Good? --choices Yes,Yes --map Yes=positive", "Yes"),
    ("label page", "", "--choices Yes,No", "--choices"),
    ("label page", "", "--map Yes=positive", "--map"),
    ("label page", "", "--select uncertainty", "--s"),
    ("label page", "", "--scores scores.jsonl", "--scores"),
    ("label page", "", "--reward_model_path rm", "--reward_model_path"),
    ("label page", "", "--mix_share 0.5", "--mix_share"),
    ("label page", "", "--mix_corpus corpus.txt --mix_share 1", "--mix_share"),
    ("label page", "", "--title ab", "--title"),
    ("label page", "", "--max_characters 5", "--max_characters"),
    ("label page", "", "--random_share 2", "--random_share"),
    ("label page", "output_dir", "--output_dir page --title Another", "another title"),
    ("label page", "output_dir", "--output_dir page --question A? --choices a,b --map a=positive b=negative", "other"),
    ("label push", "", "", "no server running"),
    ("label push", "", "--raters ana --title " + "x" * 40, "--title"),
    ("label push", "", "--chunk 0", "--chunk"),
    ("label push", "", "--timeout 0", "--timeout"),
    ("label pull", "", "--timeout 0", "--timeout"),
    ("label serve", "", "--status --stop", "--status"),
    ("label serve", "", "--install_only", "--status"),
    ("label serve", "", "--port 80", "--port"),
    ("label serve", "", "--raters ana,ana", "--raters"),
    ("label serve", "", "--raters admin", "--raters"),
    ("label status", "", "--comparisons comparisons.jsonl", "one of them"),
    ("label status", "labels", "", "one of them"),
    ("label status", "", "--second_look -1", "--second_look"),
    ("reward", "labels", "", "--labels, --comparisons and --dataset_name"),
    ("reward", "num_folds", "--comparisons comparisons.jsonl", "--labels and --comparisons"),
    ("reward", "", "--chosen_column a", "--chosen_column"),
    ("reward", "labels num_folds", "--comparisons comparisons.jsonl --target negative", "--target"),
    ("reward", "labels num_folds", "--comparisons comparisons.jsonl --ensemble 2", "--ensemble"),
    ("reward", "labels num_folds", "--comparisons comparisons.jsonl --dense_weight 1", "--dense_weight"),
    ("reward", "labels num_folds", "--comparisons comparisons.jsonl --num_folds 3", "--num_folds"),
    ("reward", "", "--rater_noise 0.1", "--rater_noise"),
    ("reward", "", "--aggregate worst", "--aggregate"),
    ("reward", "", "--ensemble 2 --penalty 3", "--penalty"),
    ("reward", "", "--dataset_config a", "--dataset_config"),
    ("reward", "", "--target neutral", "--target"),
    ("reward", "", "--ensemble 17", "--ensemble"),
    ("reward", "output_dir", "--output_dir rm", "rm"),
    ("reward", "output_dir", "--output_dir model --overwrite", "model"),
    ("reward", "output_dir", "--output_dir run", "run"),
    ("compare", "rewards", "--rewards length", "two"),
    ("compare", "rewards", "--rewards length length length", "two"),
    ("compare", "samples", "", "--samples and --run_directory"),
    ("compare", "", "--output_path samples.jsonl", "samples.jsonl"),
    ("probe", "", "--floor_quantile 2", "--floor_quantile"),
    ("probe", "output_dir", "--output_dir samples.jsonl", "samples.jsonl"),
    ("ppo", "reward_func", "", "reward"),
    ("ppo", "", "--prompt a --prompts prompts.txt", "more than one source"),
    ("ppo", "", "--prompts prompts.txt --dataset_name prompts.jsonl", "more than one source"),
    ("ppo", "", "--dataset_config a", "--dataset_config"),
    ("ppo", "", "--prompt_column n", "--prompt_column"),
    ("ppo", "", "--use_peft --train_scope last_layer", "--use_peft"),
    ("ppo", "", "--lora_r 4", "--lora_r"),
    ("ppo", "", "--lora_alpha 4", "--lora_alpha"),
    ("ppo", "", "--lora_target_modules c_attn", "--lora_target_modules"),
    ("ppo", "", "--use_peft --lora_target_modules nosuch", "nosuch"),
    ("ppo", "", "--use_peft --lora_r 0", "--lora_r"),
    ("ppo", "", "--critic_model_path rm", "--critic_model_path"),
    ("ppo", "", "--critic_learning_rate 1e-3", "--critic_learning_rate"),
    ("ppo", "", "--gamma 0.9", "--gamma"),
    ("ppo", "", "--lam 0.9", "--lam"),
    ("ppo", "", "--vf_coef 0.9", "--vf_coef"),
    ("ppo", "", "--cliprange_value 0.9", "--cliprange_value"),
    ("ppo", "", "--kl_target 1", "--kl_target"),
    ("ppo", "", "--reward_weights 1 2", "--reward_weights"),
    ("ppo", "", "--accept_changes", "--accept_changes"),
    ("ppo", "output_dir", "--output_dir run", "not empty"),
    ("ppo", "output_dir", "--output_dir rm", "not empty"),
    ("ppo", "output_dir", "--output_dir rm --resume", "no run"),
    ("ppo", "output_dir", "--output_dir samples.jsonl", "a file"),
    ("ppo", "kl_budget", "--kl_budget 1e-5", "--kl_budget"),
    ("ppo", "minibatch_size", "--minibatch_size 5", "--minibatch_size"),
    ("ppo", "minibatch_size", "--minibatch_size 32", "--minibatch_size"),
    ("ppo", "max_iteration_batch_size", "--max_iteration_batch_size 8", "--max_iteration_batch_size"),
    ("ppo", "", "--clip_ratio_low 0.5", "--clip_ratio_high"),
    ("ppo", "", "--suppress_tokens -1", "--suppress_tokens"),
    ("ppo", "", "--suppress_tokens 99999", "--suppress_tokens"),
    ("ppo", "", "--suppress_tokens " + " ".join(map(str, range(14))), "--suppress_tokens"),
    ("ppo", "", "--report_to nosuch", "--report_to"),
    ("ppo", "", "--top_k 5", "--top_k"),
    ("doctor", "run_directory", "", "rlhf doctor"),
    ("doctor", "", "--rollouts rollouts.jsonl", "rlhf doctor"),
    ("doctor", "run_directory", "--rollouts rollouts.jsonl", "--rollouts"),
    ("doctor", "", "--model_name_or_path model", "--model_name_or_path"),
    ("doctor", "", "--suppress_tokens 1", "--suppress_tokens"),
    ("evaluate", "run", "", "no run"),
    ("evaluate", "", "--rewarded_words (", "--rewarded_words"),
    ("evaluate", "", "--gold_reward_func length length", "one name"),
    ("evaluate", "", "--gold_reward_func nosuch", "nosuch"),
    ("evaluate", "num_samples best_of_n_samples", "--stored_samples --draw 2", "--draw"),
    ("evaluate", "num_samples best_of_n_samples", "--stored_samples --heldout corpus.txt", "--heldout"),
    ("evaluate", "num_samples", "--relative_error 0", "--relative_error"),
    ("evaluate", "", "--relative_error 0.1", "--relative_error"),
    ("evaluate", "num_samples", "--num_samples 1", "--num_samples"),
    ("evaluate", "", "--reward_func length length", "reward 2, length"),
    ("evaluate", "", "--reward_model_path rm", "log_p_positive"),
    ("inspect", "runs", "", "no run"),
    ("inspect", "", "--probe rm", "--probe"),
    ("inspect", "runs", "--runs rm run", "rm"),
    ("inspect", "", "--output_path rm", "rm"),
    ("loop", "", "--rounds 0", "--rounds"),
    ("loop", "", "--num_labels 19", "--num_labels"),
    ("loop", "", "--noise 1", "--noise"),
    ("loop", "", "--reward_config nosuch", "nosuch"),
    ("loop", "", "--ppo_config nosuch", "nosuch"),
    ("loop", "", "--ppo_config demo_reward", "demo_reward"),
    ("loop", "output_dir", "--output_dir run", "run"),
    ("loop", "", "--annotator people --noise 0.2", "--noise"),
    ("demo", "", "--num_labels 5", "--num_labels"),
    ("demo", "", "--noise 1", "--noise"),
    ("demo", "", "--seed -1", "--seed"),
    ("demo", "output_dir", "--output_dir run", "run"),
    ("pretrain", "", "--hidden_size 7", "--hidden_size"),
    ("pretrain", "", "--num_attention_heads 3", "--hidden_size"),
    ("pretrain", "output_dir", "--output_dir model", "model"),
    ("pretrain", "output_dir", "--output_dir run --overwrite", "run"),
    ("pretrain", "", "--held_out_fraction 0.9", "--held_out_fraction"),
    ("pretrain", "", "--learning_rate 2", "--learning_rate"),
    ("pretrain", "", "--text_column t", "--text_column"),
    ("pretrain", "", "--dataset_split t", "--dataset_split"),
    ("rate plan", "", "--num_samples 1", "--num_samples"),
    ("rate plan", "", "--effect 5", "--effect"),
    ("rate plan", "", "--per_rung 30", "--per_rung"),
    ("rate push", "run", "", "no run"),
    ("rate push", "", "--ladder --rung kl-00.08", "--ladder"),
    ("rate push", "", "--per_rung 3", "--per_rung"),
    ("rate push", "", "--rung kl-00.00", "--rung"),
    ("rate push", "", "--rung nosuch", "--rung"),
    ("rate push", "", "--draw 1", "--draw"),
    ("rate push", "", "--stored_samples --draw 3", "--draw"),
    ("rate push", "", "--samples nosuch", "--samples"),
    ("rate push", "", "--samples a=samples.jsonl a=samples.jsonl", "--samples"),
    ("rate push", "", "--raters ana", "--raters"),
    ("rate push", "output_dir", "--output_dir rating --num_samples 3", "rating"),
    ("rate pull", "output_dir", "--output_dir page", "no study.json"),
    ("rate score", "output_dir", "--output_dir page", "no study.json"),
    ("export", "run", "", "no run"),
    ("export", "rung", "--rung nosuch", "--rung"),
    ("export", "output_dir", "--output_dir run", "run"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "without", "words", "says"), CONTRADICTIONS, ids=lambda v: v[:40].replace(" ", "_"))
def test_contradictions(place: Place, name: str, without: str, words: str, says: str) -> None:
    command = BY_NAME[name]
    given = {word[2:] for word in words.split() if word.startswith("--")}
    place.refused(*command.call(*without.split(), *given), *words.split(), says=says)


# Counts of steps, passes and rounds: a great number of them is long, not wrong.
LONG = {"max_steps", "num_ppo_epochs", "num_train_epochs", "num_rounds", "candidates", "rounds", "warmup_steps"}
LONG |= {"second_look", "max_iterations", "kl_budget"}
ENDS = ("-1", "0", "-0.0", "1e-300", "1e18", str(2**62), str(2**63 - 1))
NUMBERS = [(c, f) for c in COMMANDS if c.name not in ("demo", "loop") for f in c.fields
           if expected_of(c, f).item in (int, float)]  # fmt: skip


@pytest.mark.campaign
@pytest.mark.parametrize(("command", "field"), NUMBERS, ids=lambda v: v.name.replace(" ", "_"))
def test_ends_of_the_ranges(place: Place, command: Command, field: dataclasses.Field[Any]) -> None:
    for value in ENDS:
        if field.name in LONG and value[0] not in "-0":
            continue
        place.refused_or_works(*command.call(field.name, **{field.name: value}))
        place.fill()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name.replace(" ", "_"))
def test_negative_counts_and_seeds(bare: Place, command: Command) -> None:
    for field in command.fields:
        if expected_of(command, field).item is int and field.name != "suppress_tokens":
            bare.refused(*command.call(field.name), f"--{field.name}=-1", says=field.name)


YAMLS: list[tuple[bytes, str]] = [
    (b"- quiet\n", "a YAML list"),
    (b"3\n", "a YAML int"),
    (b"text\n", "a YAML str"),
    (b"quiet: [\n", "no valid YAML"),
    (b"quiet: true\nquiet: false\n", "a second time"),
    (b"quiet: &a [*a]\n", "contains itself"),
    (b"quiet: " + b"[" * 20_000, "no valid YAML"),
    (b"{" * 20_000, "no valid YAML"),
    (b"a: &a [1]\n" + b"".join(b"b%d: &b%d [*a, *a]\n" % (i, i) for i in range(3)), "an unknown option"),
    (b"seed: 1" + b"0" * 5000, "no valid YAML"),
    (b"seed: 010\n", "010"),
    (b"seed: 1:30\n", "1:30"),
    (b"? [a]\n: 1\n", "unhashable key"),
    (b"quiet: !!python/object/apply:os.system ['touch pwned']\n", "no valid YAML|could not determine"),
    (b"env: {A: b}\n", "key 'env'"),
    (b"1: 2\n", "key '1'"),
    (b"config: other.yaml\n", "key 'config'"),
    (b"\xff\xfe\x00", "not UTF-8"),
    (bytes(range(256)), "not UTF-8"),
    (b"a\0b: 1\n", "no valid YAML"),
    ("quiet: true\n".encode("utf-16"), "not UTF-8"),
    (b"no_such_key: 1\n", "no_such_key"),
    (b"quiet: true\n---\nquiet: false\n", "no valid YAML"),
]


SOME = {"sample", "label page", "rate score"}  # parsing is one function: the others with the long campaign
MARKED = [c if c.name in SOME else pytest.param(c, marks=pytest.mark.campaign) for c in COMMANDS]


@pytest.mark.parametrize("command", MARKED, ids=lambda command: command.name.replace(" ", "_"))
def test_yaml_files_that_are_no_options(bare: Place, command: Command) -> None:
    for content, says in YAMLS:
        (bare.folder / "a.yaml").write_bytes(content)
        line = bare.refused(*command.call("quiet"), "--config", "a.yaml")
        assert any(part in line for part in says.split("|")), (content[:60], line)


@pytest.mark.parametrize("name", ["", "nosuch", "nosuch.yaml", "run", "/dev/null", "model/model.safetensors", "../x"])
def test_configs_that_are_no_files(place: Place, name: str) -> None:
    place.refused(*COMMANDS[2].call(), f"--config={name}", says="--config" if "." not in name else "")
    place.refused(*COMMANDS[2].call(), "--config", "ppo.yaml", "--config", "ppo.yaml", says="--config")
    place.refused(*COMMANDS[2].call(), "--config", says="--config")
