"""`rlhf rate judge FIRST SECOND`: a language model says which of two models' samples are better, pair by pair."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlhf.foundation.errors import InputError
from rlhf.foundation.given_records import samples_of
from rlhf.foundation.held import place_of
from rlhf.foundation.options import Options, Several, option
from rlhf.foundation.records import Sample
from rlhf.foundation.steps import step

if TYPE_CHECKING:
    from rewards.judging.pairs import PairVerdict


@dataclasses.dataclass
class RateJudgeConfig(Options):
    """Options of `rlhf rate judge`."""

    samples: Several[str | Sequence[Sample]] = option(
        help="two samples.jsonl files, of two models for the same prompts; may also come first, bare"
    )
    url: str = option(help="base address of an OpenAI-style server, such as http://127.0.0.1:8000/v1")
    model: str = option(help="the model that the server is to ask")
    _: dataclasses.KW_ONLY
    template: str = option(
        "", help="the question, with {A} and {B}, and {prompt} if it is to be read; default: packaged"
    )
    temperature: float = option(0.0, help="of the judge, 0 to 2")
    max_tokens: int = option(512, help="tokens of a reply; one that is longer cannot be read")
    timeout: float = option(60.0, help="seconds without a word from the server")
    retries: int = option(5, help="how often a request that fails is sent again")
    concurrency: int = option(16, help="requests at once, 1 to 500")
    cache_dir: str = option("", help="folder of the answers that are known (default: ~/.cache/rlhf/judge)")
    key_env: str = option("OPENAI_API_KEY", help="variable of the environment with the key; '' for none")
    output_path: str | None = option(None, help="write the verdict and all pairs as JSON")

    def __post_init__(self) -> None:
        """Raises InputError on another number of files than two."""
        super().__post_init__()
        if len(self.samples) != 2:
            raise InputError("samples", got=f"{len(self.samples)}", expected="two", fix="`rlhf rate judge A B ...`")


@step(RateJudgeConfig)
def rate_judge(config: RateJudgeConfig) -> PairVerdict:
    """Which of two models' samples a judge prefers: every pair is asked twice, the sides changed. Raises InputError."""
    from rewards.judging.endpoint import Endpoint
    from rewards.judging.pairs import TEMPLATE, judge_pairs
    from rlhf.foundation.files import write_json
    from rlhf.foundation.outputs import check_own

    if config.output_path is not None:
        check_own("--output_path", Path(config.output_path), _is_verdict)
    asked = ("url", "model", "temperature", "max_tokens", "timeout", "retries", "concurrency", "key_env")
    options = {name: getattr(config, name) for name in asked}
    endpoint = Endpoint(**options, cache_dir=config.cache_dir or None)
    first, second = (samples_of(given) for given in config.samples)
    template = config.template or TEMPLATE
    verdict = judge_pairs(first, second, endpoint, template=template)
    if config.output_path is not None:
        names = [place_of(given) for given in config.samples]
        judge = {**endpoint.asked(), "template": template}
        write_json(Path(config.output_path), {"samples": names, "judge": judge, **verdict.as_dict()})
    return verdict


def _is_verdict(path: Path) -> bool:
    from rlhf.foundation.files import read_json

    try:
        content = read_json(path)
    except InputError:
        return False
    return isinstance(content, dict) and {"samples", "judge", "win_rate", "pairs"} <= content.keys()
