"""A sweep in a process that may kill itself: `python kill_sweep.py RECIPE OUT TRIALS [STEPS]`.

After so many steps of the optimiser it is killed as by `kill -9`.
"""

import os
import signal
import sys
from pathlib import Path

from graftwork.experiments import Recipe, Unit, Watcher, sweep

OVER = {"training.learning_rate": "1e-4..1e-1:log", "adapter.reduction_factor": "2,4,8"}


class Fuse(Watcher):
    """Counts steps down."""

    def __init__(self, left: int) -> None:
        self.left = left

    def stepped(self, unit: Unit, step: int, steps: int) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    recipe, out, trials, *steps = sys.argv[1:]
    fuse = Fuse(int(steps[0]) if steps else 0)
    root = Path(recipe).parent
    sweep(Recipe.read(recipe), OVER, out, trials=int(trials), root=root, watch=lambda read: fuse)


if __name__ == "__main__":
    main()
