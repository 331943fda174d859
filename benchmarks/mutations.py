"""Are the equations really tested? Plants one fault at a time in objective.py and shows which test catches it.

    python benchmarks/mutations.py

Faults are planted in memory, by replacing a piece of the source inside one function; no file is changed. The tests run
are those of the objective that need no trained model. Ends with status 1 if a fault survives.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from rlhf import environment

environment.prepare()

import pytest

from rlhf.ppo import objective

ROOT = Path(__file__).parents[1]
TESTS = ["test_objective.py", "test_critic.py", "test_padding_properties.py"]


class Fault(NamedTuple):
    """In `function`, the piece `right` becomes `wrong`."""

    function: str
    name: str
    right: str
    wrong: str


FAULTS = [
    Fault("masked_sum", "mask dropped", "torch.where(mask, x, 0.0).sum()", "x.nan_to_num().sum()"),
    Fault("masked_mean", "mean over padding", "mask.sum().clamp(min=1)", "mask.numel()"),
    Fault("masked_mean", "divided by rows", "mask.sum().clamp(min=1)", "mask.shape[0]"),
    Fault("masked_mean", "nothing True divides by 0", ".clamp(min=1)", ""),
    Fault("gathered", "another token's log-prob", "ids[..., None]", "(ids - 1)[..., None]"),
    Fault("selected_logprobs", "sign flipped", "-losses", "losses"),
    Fault("exact_kl", "KL(ref || policy)", "p = logp.exp()", "p = (logp - difference).exp()"),
    Fault("exact_kl", "entropy's sign", ".sum(-1).neg()", ".sum(-1)"),
    Fault("exact_kl", "KL not weighted by p", "difference.mul_(p).sum(-1)", "difference.sum(-1)"),
    Fault("kl_k1", "sign flipped", "logprobs - ref_logprobs", "ref_logprobs - logprobs"),
    Fault("kl_k1", "mean over tokens", ".sum(-1)", ".mean(-1)"),
    Fault("kl_k1", "mask dropped", "torch.where(mask, logprobs - ref_logprobs, 0.0)", "(logprobs - ref_logprobs)"),
    Fault("kl_k3", "ratio upside down", "ref_logprobs - logprobs", "logprobs - ref_logprobs"),
    Fault("kl_k3", "the 1 forgotten", "log_r.exp() - 1 - log_r", "log_r.exp() - log_r"),
    Fault("kl_k3", "mask dropped", "where(mask", "where(mask | True"),
    Fault("constant_advantages", "offset added", "rewards - offset", "rewards + offset"),
    Fault("constant_advantages", "scale multiplies", "/ scale", "* scale"),
    Fault("constant_advantages", "KL rewarded", "- beta * sequence_kl", "+ beta * sequence_kl"),
    Fault("constant_advantages", "KL shared among tokens", "beta * sequence_kl", "beta * sequence_kl / mask.sum(-1)"),
    Fault(
        "constant_advantages", "mask dropped", "torch.where(mask, advantages[:, None], 0.0)",
        "advantages[:, None].expand(mask.shape)",
    ),
    Fault("whiten", "not centred in the spread", "(advantages - mean) ** 2", "advantages**2"),
    Fault("whiten", "mean over padding", "mean = masked_mean(advantages, mask)", "mean = advantages.mean()"),
    Fault("whiten", "divided by no spread", "centred / std if std > 0 else centred", "centred / std"),
    Fault("clipped_loss", "ratio upside down", "logprobs - old_logprobs", "old_logprobs - logprobs"),
    Fault("clipped_loss", "max for min", "torch.minimum", "torch.maximum"),
    Fault("clipped_loss", "sign flipped", "loss = -masked_sum", "loss = masked_sum"),
    Fault(
        "clipped_loss", "mask dropped", "masked_sum(torch.minimum(unclipped, clipped), mask)",
        "torch.minimum(unclipped, clipped).sum()",
    ),
    Fault("clipped_loss", "mean for sum", "loss = -masked_sum", "loss = -masked_mean"),
    Fault("clipped_loss", "clipped above only", "clamp(1 - epsilon, 1 + epsilon)", "clamp(max=1 + epsilon)"),
    Fault("clipped_loss", "clipped below only", "clamp(1 - epsilon, 1 + epsilon)", "clamp(min=1 - epsilon)"),
    Fault("clipped_loss", "no clipping", "ratio.clamp(1 - epsilon, 1 + epsilon)", "ratio"),
    Fault("clipped_loss", "binding counts all outside", "mask & (clipped < unclipped)", "deviation > epsilon"),
    Fault("clipped_loss", "outside above only", "(deviation > epsilon)", "(torch.where(mask, ratio, 0) > 1 + epsilon)"),
    Fault("clipped_loss", "approximate KL by k1", "ratio - 1 - log_ratio", "-log_ratio"),
    Fault("clipped_loss", "no gradient", "ratio = log_ratio.exp()", "ratio = log_ratio.exp().detach()"),
    Fault("clipped_loss", "log-ratio not clamped", ".clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)", ""),
    Fault("clipped_loss", "padding in the largest deviation", "torch.where(mask, (ratio - 1).abs(), 0.0)",
          "(logprobs - old_logprobs).exp().sub(1).abs()"),
    Fault("token_rewards", "reward at every token", "torch.where(last,", "torch.where(mask,"),
    Fault("token_rewards", "KL rewarded", "beta * (ref_logprobs - logprobs)", "beta * (logprobs - ref_logprobs)"),
    Fault("gae", "λ forgotten", "gamma * lam * running", "gamma * running"),
    Fault("gae", "next value not discounted", "gamma * following", "following"),
    Fault("gae", "value added", "- values[:, t]", "+ values[:, t]"),
    Fault("gae", "padding's values count", "torch.where(mask, values, 0.0)", "values"),
    Fault("clipped_value_loss", "min for max", "torch.maximum(plain", "torch.minimum(plain"),
    Fault("clipped_value_loss", "mask dropped", "torch.where(mask, values - returns, 0.0)", "(values - returns)"),
    Fault("clipped_value_loss", "clipped around the new value", "values - old_values", "values - values"),
    Fault("explained_variance", "not centred", "x - masked_mean(x, mask)", "x"),
    Fault("explained_variance", "share unexplained", "1 - variance(returns - values) / total",
          "variance(returns - values) / total"),
]  # fmt: skip


class Outcome:
    """A pytest plugin: keeps tests that need no trained model, notes the first that fails."""

    def __init__(self) -> None:
        self.failed, self.ran = "", 0

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Drop tests of whole runs."""
        models = {"model", "build_model", "model_directory", "tokenizer", "language_model", "tmp_path"}
        items[:] = [item for item in items if not models & set(item.fixturenames)]

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Count, and note the first failure."""
        self.ran += report.when == "call"
        if report.failed and not self.failed:
            self.failed = report.nodeid.split("/")[-1]


def mutated(fault: Fault) -> dict[str, Any]:
    """The names of objective.py with the fault in it. Raises ValueError when the piece is not there."""
    source, function = inspect.getsource(objective), inspect.getsource(getattr(objective, fault.function))
    if fault.right not in function:
        raise ValueError(f"{fault.function}: {fault.right!r} is not in its source; bring the list of faults up to date")
    place = function.rindex('"""') if '"""' in function else 0  # formulas in the docstring stay
    body = function[:place] + function[place:].replace(fault.right, fault.wrong)
    if body == function:
        raise ValueError(f"{fault.function}: {fault.right!r} stands in its docstring only")
    module = ModuleType(objective.__name__)
    exec(compile(source.replace(function, body), objective.__file__, "exec"), module.__dict__)
    return vars(module)


def run_tests() -> Outcome:
    """The tests against objective.py as it now is in memory, file by file up to the first failure."""
    outcome = Outcome()
    words = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
    for test in TESTS:
        for name in [name for name in sys.modules if name.split(".")[-1] == Path(test).stem]:
            del sys.modules[name]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            pytest.main([*words, str(ROOT / "tests" / "rlhf" / "ppo" / test)], plugins=[outcome])
        if outcome.failed:
            break
    return outcome


def main() -> int:
    """Print a line a fault."""
    started = time.perf_counter()
    healthy = run_tests()
    if healthy.failed or not healthy.ran:
        print(f"without a fault: {healthy.failed or 'no test ran'}")
        return 1
    kept = dict(vars(objective))
    survived = 0
    for fault in FAULTS:
        vars(objective).update(mutated(fault))
        caught = run_tests().failed
        vars(objective).update(kept)
        survived += not caught
        print(f"{fault.function:<20} {fault.name:<34} {caught or 'SURVIVED'}", flush=True)
    seconds = time.perf_counter() - started
    print(f"{len(FAULTS) - survived} of {len(FAULTS)} faults caught by {healthy.ran} tests ({seconds:.0f} s)")
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())
