"""Are they tested? Plants one fault at a time in the equations, or in what guards files, and shows who catches it.

    python benchmarks/mutations.py [equations] [files] [guard]

Faults are planted in memory, by giving a function the code of its source with one piece replaced; no file is changed.
Of the equations' tests those run that need no trained model. Ends with status 1 if a fault survives.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import sys
import time
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

from rlhf import environment

environment.prepare()

import pytest

ROOT = Path(__file__).parents[1]


class Fault(NamedTuple):
    """In `function` (of the module, "Class.method" for one of a class) the piece `right` becomes `wrong`."""

    function: str
    name: str
    right: str
    wrong: str


class Suite(NamedTuple):
    """Faults by module, and the tests that must notice, in the order in which they are asked."""

    faults: dict[str, list[Fault]]
    tests: list[str]
    models: bool  # whether tests that need a trained model run too


EQUATIONS = [
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
    Fault("standard_deviation", "not centred", "(x - masked_mean(x, mask)) ** 2", "x**2"),
    Fault("whiten", "mean over padding", "mean = masked_mean(advantages, mask)", "mean = advantages.mean()"),
    Fault("whiten", "divided by no spread", "centred / std if std > 0 else centred", "centred / std"),
    Fault("clipped_loss", "ratio upside down", "logprobs - old_logprobs", "old_logprobs - logprobs"),
    Fault("clipped_loss", "max for min", "torch.minimum", "torch.maximum"),
    Fault("clipped_loss", "sign flipped", "loss = -masked_sum", "loss = masked_sum"),
    Fault(
        "clipped_loss", "mask dropped", "masked_sum(gains if weights is None else weights * gains, mask)",
        "(gains if weights is None else weights * gains).sum()",
    ),
    Fault("clipped_loss", "importance weights forgotten", "gains if weights is None else weights * gains", "gains"),
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


FILES = {
    "rlhf.foundation.digests": [
        Fault("file_digest", "the first megabyte only", 'hashlib.file_digest(stream, "sha256")',
              "hashlib.sha256(stream.read(1 << 20))"),
        Fault("value_digest", "order of keys counts", "sort_keys=True, ", ""),
        Fault("damages", "sizes only", "elif not sizes_only and", "elif False and"),
        Fault("damages", "a missing file is whole", 'yield f"{name} is gone"', "continue"),
    ],
    "rlhf.foundation.model_digests": [
        Fault("weights_digest", "64 numbers a tensor", ".reshape(-1).view", ".reshape(-1)[:64].view"),
    ],
    "rlhf.runs.provenance": [
        Fault("changed_inputs", "what one side lacks is the same", "if name not in then or name not in today:\n"
              "            return True", "if name not in then or name not in today:\n            return False"),
    ],
    "rlhf.foundation.locks": [
        Fault("take_lock", "a lock that many can hold", "fcntl.LOCK_EX", "fcntl.LOCK_SH"),
        Fault("take_lock", "never waits", "(0 if wait else fcntl.LOCK_NB)", "fcntl.LOCK_NB"),
        Fault("sole_writer", "a second writer is let in", "if descriptor is None:", "if False:"),
        Fault("_take_new", "a lock on a removed file counts", "or _is_open_as(path, descriptor)",
              "or True"),
    ],
    "rlhf.foundation.leftovers": [
        Fault("_clear", "a living writer's temporary goes", "if descriptor is None:\n        return",
              "if descriptor is None:\n        descriptor = os.open(path, os.O_RDONLY)"),
    ],
    "rlhf.ppo.resuming": [
        Fault("_of_rungs", "a user's own files are moved", "if NAME.fullmatch(_rung_of(path))", ""),
        Fault("_move", "an older stray is overwritten", "while target.exists():", "while False:"),
        Fault("set_aside", "strays' metrics are lost", 'append_jsonl(run.strays / "metrics.jsonl", row)', "pass"),
        Fault("_require_nothing_beyond_the_first_iteration", "begins anew over a finished run",
              "if rows > 1 or rungs > 1:", "if False:"),
    ],
}  # fmt: skip
GUARD = {
    "rlhf.ppo.guard": [
        Fault("Guard.go_back", "the weights stay", "restore_parameters(learner, self.weights)", "pass"),
        Fault("Guard.go_back", "the fall is remembered", "[: names.index(self.best) + 1]", "[:]"),
        Fault("Guard.go_back", "the ladder keeps what was left", "ladder.cut_after(self.best)", "pass"),
        Fault("Guard.go_back", "the landing knows the old way", "landing.forget()", "pass"),
        Fault("Guard.read", "the latest rung is the best", "self._highest()[\"name\"] == rung.name", "True"),
        Fault("Guard.read", "rungs in the order of training", "key=lambda one: float(one[\"d\"])", "key=lambda one: 0"),
        Fault("Guard._go_back", "goes back for ever", "self.times_back + 1 >= MOST_TIMES_BACK", "False"),
        Fault("Guard._act", "beta only doubles", "self._earned() / (constants.scale if constants else 1.0)", "0.0"),
        Fault("Guard._act", "raw rewards beside nats", "(constants.scale if constants else 1.0)", "1.0"),
        Fault("Guard._end", "a fall at the end is not told", "not lost.mean() > FELL * error", "True"),
        Fault("Guard._end", "noise is told", "not lost.mean() > FELL * error", "False"),
        Fault("Guard.look", "a fall at one KL is not seen", "not lost > LOOKED * error", "True"),
        Fault("Guard.look", "goes back for noise", "not lost > LOOKED * error", "False"),
        Fault("Guard.restore", "another guard's course", "if rung[\"of\"] == self.name", ""),
    ],
    "rlhf.ppo.kl_control": [
        Fault("KLController.hold", "what was raised falls again", "self.beta, self.decay = beta, 0.0",
              "self.beta = beta"),
    ],
    "rewards.ensemble": [
        Fault("RewardEnsemble.worst_and_spread", "the best member", "rewards.min(0)", "rewards.max(0)"),
        Fault("RewardEnsemble.member_rewards", "texts of the call before", "self._latest[:2] != texts", "False"),
    ],
    "rlhf.runs.ladder": [
        Fault("Ladder.cut_after", "the rung itself goes", "names.index(name) + 1", "names.index(name)"),
    ],
}  # fmt: skip
SUITES = {
    "equations": Suite(
        {"rlhf.ppo.objective": EQUATIONS},
        ["ppo/test_objective.py", "ppo/test_critic.py", "ppo/test_padding_properties.py"],
        models=False,
    ),
    "files": Suite(
        FILES,
        ["foundation/test_digests.py", "foundation/test_locks.py", "foundation/test_leftovers.py",
         "ppo/test_resuming.py", "ppo/test_provenance.py"],
        models=True,
    ),
    "guard": Suite(
        GUARD,
        ["ppo/test_guard.py", "ppo/test_guard_rolls_back.py", "ppo/test_ensemble_watched.py",
         "../rewards/test_ensemble.py"],
        models=True,
    ),
}  # fmt: skip


class Outcome:
    """A pytest plugin: keeps tests that need no trained model unless told otherwise, notes the first that fails."""

    def __init__(self, models: bool) -> None:
        self.models, self.failed, self.ran = models, "", 0

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Drop tests of whole runs, or the slow ones."""
        models = {"model", "build_model", "model_directory", "tokenizer", "language_model", "tmp_path"}
        if self.models:
            items[:] = [item for item in items if not item.get_closest_marker("slow")]
        else:
            items[:] = [item for item in items if not models & set(item.fixturenames)]

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Count, and note the first failure."""
        self.ran += report.when == "call"
        if report.failed and not self.failed:
            self.failed = report.nodeid.split("/")[-1]


def both(function: Any, fault: Fault) -> tuple[str, str]:
    """The function's source, and with the fault. Raises ValueError when the piece is not there."""
    source = inspect.getsource(function)
    place = source.rindex('"""') if '"""' in source else 0  # formulas in the docstring stay
    body = source[:place] + source[place:].replace(fault.right, fault.wrong)
    if body == source:
        raise ValueError(f"{fault.function}: {fault.right!r} is not in its source; bring the list of faults up to date")
    return source, body


@contextlib.contextmanager
def planted(module: ModuleType, fault: Fault) -> Iterator[None]:
    """The function with the fault in it. Raises ValueError when the piece is not there."""
    function = inspect.unwrap(attrgetter(fault.function)(module))
    source, body = both(function, fault)
    names = dict(vars(module))
    exec(compile(inspect.getsource(module).replace(source, body), str(module.__file__), "exec"), names)
    healthy, faulty = function.__code__, inspect.unwrap(attrgetter(fault.function)(SimpleNamespace(**names))).__code__
    function.__code__ = faulty
    try:
        yield
    finally:
        function.__code__ = healthy


def run_tests(suite: Suite) -> Outcome:
    """The suite's tests against what is now in memory, file by file up to the first failure."""
    outcome = Outcome(suite.models)
    words = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
    for test in suite.tests:
        for name in [name for name in sys.modules if name.split(".")[-1] == Path(test).stem]:
            del sys.modules[name]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            pytest.main([*words, str(ROOT / "tests" / "rlhf" / test)], plugins=[outcome])
        if outcome.failed:
            break
    return outcome


def run_suite(suite: Suite) -> tuple[int, int]:
    """Print a line a fault; how many there were, and how many survived (-1: the tests fail without a fault)."""
    healthy = run_tests(suite)
    if healthy.failed or not healthy.ran:
        print(f"without a fault: {healthy.failed or 'no test ran'}")
        return 0, -1
    planned = [(name, fault) for name, faults in suite.faults.items() for fault in faults]
    survived = 0
    for name, fault in planned:
        with planted(importlib.import_module(name), fault):
            caught = run_tests(suite).failed
        survived += not caught
        print(f"{fault.function:<20} {fault.name:<34} {caught or 'SURVIVED'}", flush=True)
    print(f"{len(planned) - survived} of {len(planned)} faults caught by {healthy.ran} tests")
    return len(planned), survived


def main() -> int:
    """Run the suites that are named, or all."""
    started = time.perf_counter()
    found = [run_suite(SUITES[name]) for name in sys.argv[1:] or SUITES]
    planted_faults, survived = (sum(column) for column in zip(*found, strict=True))
    print(f"{planted_faults} faults, {survived} survived ({time.perf_counter() - started:.0f} s)")
    return int(any(left for _, left in found))


if __name__ == "__main__":
    sys.exit(main())
