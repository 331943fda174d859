"""`rlhf export RUN --rung NAME`: one rung out as an ordinary model directory, with a model card."""

from __future__ import annotations

import shutil
import sys
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from rlhf.foundation.errors import InputError
from rlhf.foundation.options import Options, option
from rlhf.foundation.steps import step
from rlhf.inspection.opened_run import OpenedRun


@dataclass
class ExportConfig(Options):
    """Options of `rlhf export`."""

    run: str | OpenedRun = option("", help="the run directory; also as first word: rlhf export RUN")
    _: KW_ONLY
    rung: str = option("", help="name of the rung, such as kl-06.25; default: the one that the report recommends")
    output_dir: str = option("exported", help="where the model goes; a model that is there is replaced")
    accept_changes: bool = option(
        False,
        help="go on though the run's records or evaluation changed since they were written (never the checkpoint)",
    )
    push_to_hub: str = option("", help="repository of the hub to upload to as well, such as name/model")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.run == "":
            raise InputError("rlhf export", got="no run", expected="a run directory", fix="name it first")


@step(ExportConfig)
def export(config: ExportConfig) -> Path:
    """One rung out as an ordinary model directory with a model card, uploaded if asked; its path. Raises InputError."""
    from rlhf.evaluation.checkpoints import load_rung, require_whole
    from rlhf.foundation.model_directory import load_tokenizer, replacing_directory
    from rlhf.inspection.model_card import model_card
    from rlhf.runs.integrity import read_unchanged

    parts = ("run.json", "ladder.json", "evaluation.json")
    ladder, _ = read_unchanged(Path(config.run), parts, accept=config.accept_changes)
    evaluation_path = ladder.directory / "evaluation.json"
    name = config.rung or recommended(evaluation_path)
    rungs = {rung.name: rung for rung in ladder.rungs}
    if name not in rungs:
        raise InputError("--rung", got=name, expected=f"one of {', '.join(rungs) or 'no rung yet'}", fix="check it")
    require_whole(ladder, rungs[name])
    checkpoint = ladder.directory / rungs[name].path
    adapter = (checkpoint / "adapter_config.json").is_file()
    if not adapter and not (checkpoint / "config.json").is_file():
        raise InputError(
            str(checkpoint), got="no model directory", expected="the rung's checkpoint", fix="restore it, or run again"
        )
    card = model_card(ladder, rungs[name], evaluation_path)
    target = Path(config.output_dir)
    with replacing_directory(target) as temporary:
        if adapter:  # loaded with its base, and merged into it, so that the model stands alone
            _whole(load_rung(ladder, rungs[name]), name).save_pretrained(temporary)
            load_tokenizer(str(checkpoint)).save_pretrained(temporary)
        else:
            shutil.copytree(checkpoint, temporary, dirs_exist_ok=True)
        (temporary / "README.md").write_text(card, encoding="utf-8")
    if config.push_to_hub:
        upload(target, config.push_to_hub)
    return target


def _whole(model: Any, name: str) -> Any:
    """The rung as one ordinary model; says so where its base was in four bits, since the files are larger than that."""
    from rlhf.foundation.adapters import is_adapter, merged

    if not is_adapter(model):
        return model
    print(f"rlhf: rung {name} is written whole, in float32: the numbers that its base's four bits stand for, and the "
          "adapter added, which is the policy that was trained", file=sys.stderr)  # fmt: skip
    return merged(model, name)


def recommended(evaluation_path: Path) -> str:
    """The rung that the report recommends. Raises InputError when the run was not evaluated."""
    from rlhf.inspection.evaluation import read_evaluation
    from rlhf.inspection.recommendation import recommend

    advice = recommend(read_evaluation(evaluation_path)) if evaluation_path.exists() else None
    if advice is None:
        raise InputError(
            "--rung", got="nothing", expected="a rung's name", fix="name one, or run `rlhf evaluate` for advice"
        )
    return advice.rung


def upload(directory: Path, repository: str) -> None:
    """Upload a model directory to the hub. Raises InputError when the hub refuses or is out of reach."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        api = HfApi()
        api.create_repo(repository, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=str(directory))
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        first = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise InputError(
            f"--push_to_hub {repository}",
            got=first,
            expected="a repository you may write to, and a network",
            fix=f"`hf auth login`, then run the same command again; {directory} is written",
        ) from error
