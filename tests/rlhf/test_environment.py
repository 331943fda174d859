"""What stands before the first import of torch, and which warnings never reach a terminal."""

from __future__ import annotations

import warnings

from rlhf import environment


def test_libraries_that_warn_of_each_other_are_silent_and_others_are_not() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        environment.prepare()
        for module in ("transformers.modeling_utils", "peft.tuners", "someone.else"):
            warnings.warn_explicit("old", FutureWarning, f"{module}.py", 1, module=module)
        warnings.warn_explicit("a fault", UserWarning, "x.py", 1, module="transformers.modeling_utils")
    assert [(str(one.message), one.category) for one in told] == [("old", FutureWarning), ("a fault", UserWarning)]
