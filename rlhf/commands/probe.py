"""`rlhf probe REWARD`: what a reward pays for, and the texts it loves and hates most, before PPO finds them."""

from __future__ import annotations

from rewards.steps.probe import ProbeConfig, probe
from rlhf.commands.command_line import parse
from rlhf.foundation.terminal import say

_SHOWN = 5


def main(argv: list[str]) -> None:
    """Parse (a bare first word is the reward), run, and print words and texts."""
    words = [f"--reward={argv[0]}", *argv[1:]] if argv and not argv[0].startswith("-") else argv
    config = parse(ProbeConfig, words, prog="rlhf probe", description=__doc__ or "")
    report = probe.run(config).report
    n = report["attribution_samples"]
    for title, key in (("pays most for", "words_paid_for"), ("takes most for", "words_punished")):
        listed = ", ".join(
            f"{w['word']!r} {w['worth']:+.2f} ± {w['standard_error']:.2f} (n = {w['n_texts']})"
            for w in report[key][:_SHOWN]
        )
        say(f"{title} (score lost by leaving the word out, {n} samples): {listed or 'no word for certain'}")
    for name in ("highest", "lowest"):
        say(f"\n{name} score found (base log-probability in nats):")
        for text in report[name][:_SHOWN]:
            say(
                f"  {text['score']:8.3f} (from {text['start_score']:.3f}, {text['n_edits']} edits, "
                f"{text['logprob']:.1f} nats)  {text['completion']!r}"
            )
    say(f"\n{config.output_dir}/probe_samples.jsonl is ready to be labelled")
