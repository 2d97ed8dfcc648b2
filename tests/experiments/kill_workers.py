"""Workers on one run's folder that are killed or stopped: `python kill_workers.py RECIPE OUT WORKERS KILLS SEED [stop]`.

Each is forked from this process, which has everything imported. `stop`: one is stopped until another has taken over what it
trained, and then goes on. Prints JSON: the kills that were made before the run was over, the exit codes of those that were not
killed, and every step as ``[unit, process, seconds]`` in the order of time.
"""

import contextlib
import functools
import io
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from graftwork.experiments import Recipe, Unit, Watcher, work
from graftwork.experiments.running import run as running
from graftwork.experiments.running.claims import Claims
from graftwork.experiments.running.run import begin

STALE, BEAT = 2.0, 0.2


class Steps(Watcher):
    """Writes down each step, after it was known that the claim is held."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def stepped(self, unit: Unit, step: int, steps: int) -> None:
        with self.file.open("a") as file:
            file.write(json.dumps([unit.id, os.getpid(), time.monotonic()]) + "\n")


def start(out: Path, log: Path) -> int:
    """The process of a new worker."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        running.Claims = functools.partial(Claims, stale=STALE, beat=BEAT)
        with contextlib.redirect_stdout(io.StringIO()):
            work(out, watcher=Steps(log))
        code = 0
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def logs(out: Path) -> str:
    """What all logs say that are there now."""
    found = ""
    for path in out.rglob("log.txt"):
        with contextlib.suppress(FileNotFoundError):  # it has been put elsewhere
            found += path.read_text()
    return found


def stop_one(process: int, out: Path, log: Path) -> bool:
    """Stop a worker in a training until another one has taken that over; returns whether one has."""
    while not (log.exists() and f", {process}, " in log.read_text()):
        time.sleep(0.01)
    os.kill(process, signal.SIGSTOP)
    over = time.monotonic() + 60
    while f"takes over from {os.uname().nodename}:{process}:" not in logs(out) and time.monotonic() < over:
        time.sleep(0.05)
    time.sleep(0.5)  # the other is training
    os.kill(process, signal.SIGCONT)
    return time.monotonic() < over


def main() -> None:
    recipe, out, workers, kills, seed, *stop = sys.argv[1:]
    folder, log, draw = Path(out), Path(out + ".steps"), random.Random(int(seed))
    torch.set_num_threads(1)
    begin(Recipe.read(Path(recipe)), folder, root=Path(recipe).parent)
    alive, codes, made = [start(folder, log) for _ in range(int(workers))], [], 0
    if stop:
        made += stop_one(alive[0], folder, log)
    due = time.monotonic() + draw.uniform(0, 1)
    while alive:
        for process in [*alive]:
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                alive.remove(process)
                codes.append(os.waitstatus_to_exitcode(status))
        if not stop and made < int(kills) and alive and not codes and time.monotonic() > due:
            process = alive.pop(draw.randrange(len(alive)))
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            made += 1
            alive.append(start(folder, log))
            due = time.monotonic() + draw.uniform(0, 2)
        time.sleep(0.01)
    steps = sorted((json.loads(line) for line in log.read_text().splitlines()), key=lambda step: step[2])
    print(json.dumps({"kills": made, "codes": codes, "steps": steps}))


if __name__ == "__main__":
    main()
