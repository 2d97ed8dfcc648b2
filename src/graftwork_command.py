"""The command ``graftwork``: beside the package, whose import loads torch, because this must be set before that."""

import os

# Threads of torch that wait for each other in a loop keep one another from running where other programs run too.
WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}


def unset() -> bool:
    """Whether the user leaves it to us how threads wait; either setting alone says all of it."""
    return not WAITING.keys() & os.environ.keys()


def main() -> None:
    """Run the command line."""
    if unset():
        os.environ.update(WAITING)
    from graftwork.cli import app

    app(prog_name="graftwork")
