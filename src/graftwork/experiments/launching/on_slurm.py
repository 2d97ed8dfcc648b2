"""Workers as jobs of Slurm, by submitit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from graftwork.errors import ConfigError

_FOLDER = "slurm"  # in the run's: what submitit writes, with the output of every job
_LOOK = 0.5  # seconds between two looks at local jobs; submitit asks Slurm itself more seldom


def check(partition: str, gpus: float) -> None:
    """Refuse what Slurm cannot give, before anything is started.

    Raises:
        ConfigError: If submitit is not installed, Slurm is not on this machine, or a part of a GPU is asked for.
    """
    try:
        import submitit
    except ImportError as error:
        raise ConfigError("--on slurm needs submitit: pip install 'graftwork[slurm]'") from error
    if partition != "local" and submitit.AutoExecutor.which() != "slurm":
        raise ConfigError(
            "--on slurm: this machine has no srun; start it where jobs are submitted (slurm:local is to try)"
        )
    if gpus != int(gpus):
        raise ConfigError(f"gpus_per_unit is {gpus}; Slurm gives whole GPUs: give 0 or 1, or share one through Ray")


def start(
    work: Callable[..., str | None],
    arguments: Sequence[Any],
    partition: str,
    *,
    workers: int,
    gpus: float,
    hours: float,
) -> SlurmJobs:
    """Submit workers as jobs of one array."""
    import submitit

    local = partition == "local"
    executor = submitit.AutoExecutor(folder=Path(arguments[0]) / _FOLDER, cluster="local" if local else "slurm")
    options: dict[str, Any] = {"timeout_min": max(1, round(60 * hours)), "nodes": 1, "tasks_per_node": 1}
    options |= {"gpus_per_node": int(gpus)} if gpus else {}
    options |= {} if local else {"name": "graftwork", "slurm_array_parallelism": workers}
    options |= {"slurm_partition": partition} if partition and not local else {}
    executor.update_parameters(**options)
    with executor.batch():
        jobs = [executor.submit(work, *arguments) for _ in range(workers)]
    return SlurmJobs(jobs)


class SlurmJobs:
    """The jobs of some workers."""

    def __init__(self, jobs: list[Any]) -> None:
        self.jobs = jobs

    def wait(self, seconds: float) -> bool:
        """Wait at most so many seconds; returns whether all have ended."""
        until = time.monotonic() + seconds
        while not (ended := all(job.done() for job in self.jobs)) and time.monotonic() < until:
            time.sleep(_LOOK)
        return ended

    def errors(self) -> list[str]:
        """Why workers ended, of those that were not done."""
        found = []
        for job in self.jobs:
            error = job.exception()
            found.append(job.result() if error is None else str(error).strip().splitlines()[-1])
        return [one for one in found if one is not None]

    def close(self) -> None:
        """End the jobs that are still there."""
        for job in self.jobs:
            if not job.done():
                job.cancel()
