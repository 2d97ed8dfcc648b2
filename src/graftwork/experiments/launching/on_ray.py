"""Workers as tasks of Ray, on a cluster that is there, or on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from graftwork.errors import ConfigError


def check(address: str, gpus: float) -> None:
    """Refuse what Ray cannot give, before anything is started.

    Raises:
        ConfigError: If Ray is not installed, or more than one GPU is asked for in part.
    """
    try:
        import ray  # noqa: F401  # only whether it is there
    except ImportError as error:
        raise ConfigError("--on ray needs Ray: pip install 'graftwork[ray]'") from error
    if gpus > 1 and gpus != int(gpus):
        raise ConfigError(f"gpus_per_unit is {gpus}; Ray gives a part of one GPU, or whole ones")


def connect(address: str, workers: int) -> Any:
    """Return Ray, connected with the cluster at an address, or without one with a new one on this machine.

    Raises:
        ConfigError: If Ray is not installed, or no cluster is there.
    """
    check(address, 0)
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local: dict[str, Any] = (
        {} if address else {"num_cpus": max(workers, os.cpu_count() or 1), "include_dashboard": False}
    )
    try:
        ray.init(address=address or "local", log_to_driver=False, **local)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"--on ray:{address}: no cluster is there: {str(error).splitlines()[0]}") from error
    return ray


def start(
    work: Callable[..., str | None],
    arguments: Sequence[Any],
    address: str,
    *,
    workers: int,
    gpus: float,
    hours: float,
) -> RayTasks:
    """Start workers as tasks; a task whose machine is lost is started again elsewhere. Ray has no limit of hours.

    Raises:
        ConfigError: If there is no cluster at the address.
    """
    ray = connect(address, workers)
    task = ray.remote(num_cpus=1, num_gpus=gpus)(work)
    return RayTasks(ray, [task.remote(*arguments) for _ in range(workers)])


class RayTasks:
    """The tasks of some workers."""

    def __init__(self, ray: Any, tasks: list[Any]) -> None:
        self.ray, self.tasks = ray, tasks

    def wait(self, seconds: float) -> bool:
        """Wait at most so many seconds; returns whether all have ended."""
        ended, _ = self.ray.wait(self.tasks, num_returns=len(self.tasks), timeout=seconds)
        return len(ended) == len(self.tasks)

    def errors(self) -> list[str]:
        """Why workers ended, of those that were not done."""
        found = []
        for task in self.tasks:
            try:
                found.append(self.ray.get(task))
            except self.ray.exceptions.RayError as error:
                found.append(str(error).strip().splitlines()[-1])
        return [one for one in found if one is not None]

    def close(self) -> None:
        """End what still trains, and let go of the cluster."""
        for task in self.tasks:
            self.ray.cancel(task, force=True)
        self.ray.shutdown()
