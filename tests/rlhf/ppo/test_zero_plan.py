"""What of DeepSpeed is taken, where it is not installed: plans, precisions, shapes. `tests/zero` runs it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rlhf.foundation.causal_lm import shape_of
from rlhf.foundation.errors import InputError
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.sharding import is_cut
from rlhf.ppo.zero import gathered, in_engine, is_parted, require_options, take_plan


def plugin(stage: int = 3, **offload: Any) -> Any:
    return SimpleNamespace(zero_stage=stage, deepspeed_config={"zero_optimization": {"stage": stage, **offload}})


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (plugin(1), "zero_stage of the launch file: got 1; expected 2 or 3"),
        (
            plugin(offload_optimizer={"device": "cpu"}),
            r"offload of the launch file: got \['cpu', None\]; expected none",
        ),
        (plugin(offload_param={"device": "nvme"}), r"got \[None, 'nvme'\]"),
    ],
)
def test_another_plan_is_refused(other: Any, message: str) -> None:
    take_plan(plugin(2))
    take_plan(plugin(3, offload_optimizer={"device": "none"}, offload_param={"device": None}))
    with pytest.raises(InputError, match=message):
        take_plan(other)


def test_what_the_engine_cannot_do_is_refused() -> None:
    require_options(PPOConfig(output_dir="-"))
    for dtype in ("float64", "bfloat16"):
        with pytest.raises(InputError, match=f"--dtype: got {dtype} under DeepSpeed"):
            require_options(PPOConfig(output_dir="-", dtype=dtype))
    with pytest.raises(InputError, match="--critic_warmup_iterations: got 2 under DeepSpeed"):
        require_options(PPOConfig(output_dir="-", critic="shared", critic_warmup_iterations=2))


def test_what_deepspeed_leaves_in_a_parameter_s_place_is_known() -> None:
    linear: Any = torch.nn.Linear(3, 2)
    assert not is_cut(linear)
    assert not in_engine(linear.weight)
    with gathered(list(linear.parameters())):
        assert shape_of(linear.weight) == (2, 3)
    linear.bias._hp_mapping = None  # ZeRO-2, none of whose master lies here
    assert in_engine(linear.bias)
    assert not is_parted(linear.bias)
    linear.weight.data, linear.weight.ds_id, linear.weight.ds_shape = torch.empty(0), 0, torch.Size((2, 3))
    assert shape_of(linear.weight) == (2, 3)
    assert is_parted(linear.weight)
    assert is_cut(torch.nn.Sequential(linear))
