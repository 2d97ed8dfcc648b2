"""``graftwork run RECIPE --out RUN`` as one of several ranks; the last one, or all with "nan", fail in the middle of a training.

python -m torch.distributed.run --nproc-per-node 2 tests/experiments/rank_faults.py raise|kill|nan STEP recipe.toml runs/here
"""

import itertools
import os
import signal
import sys
from typing import Any

import torch

from graftwork.cli import app
from graftwork.training import ranks
from graftwork.training.recipe_trainer import RecipeTrainer

fault, at, recipe, out = sys.argv[1:]
plain = RecipeTrainer.training_step
steps = itertools.count(1)


def fail(self: RecipeTrainer, *args: Any, **kwargs: Any) -> Any:
    """Make a step; at the one that was asked for, fail instead."""
    now = next(steps) == int(at)
    if now and fault == "nan":
        self.require_finite(torch.tensor(float("nan")), "the loss")
    if now and os.environ["RANK"] != "0":
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("only this rank has it")
    return plain(self, *args, **kwargs)


ranks.PATIENCE = 2.0
RecipeTrainer.training_step = fail  # type: ignore[method-assign]  # the fault that is tested
app(["run", recipe, "--out", out, "--plain"])
