"""What it costs to share a run's folder: 2,000 units with a stub for the training, 64 workers, one folder.

    python -m benchmarks.workers [--units 2000] [--workers 64] [--seconds 2.0]

Each worker is a process, forked from this one. It runs the loop that `graftwork run` and `graftwork work` run, with the claims, the
checks and the files of every unit; only the training is a stub, which waits (so that 64 workers have the processors that they
share for the rest alone) and writes what a small unit writes. The overhead is the run's time beyond that of the waiting, over the
number of units; a processor's time counts everything. Then the same for one worker that does not wait at all.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from graftwork.experiments import Recipe, Unit, Watcher, plan
from graftwork.experiments.running.claims import Claims
from graftwork.experiments.running.provenance import note_begun
from graftwork.experiments.running.run import begin
from graftwork.experiments.running.run_context import RunContext
from graftwork.experiments.running.unit import write_down
from graftwork.experiments.running.worker import Worker
from tests.support.tiny_run import RECIPE, make_tiny


def result_of(unit: Unit) -> dict[str, Any]:
    """A result as a unit has it."""
    return {
        "unit": unit.id, "kind": unit.kind, "task": unit.task, "seed": unit.seed,
        "members": [member.id for member in unit.members], "under": [], "labels": ["neg", "pos"],
        "metric": "accuracy", "score": 0.5, "scored_on": "dev", "scores": {"dev": {"accuracy": 0.5}},
        "epochs": 1, "best_epoch": 1, "steps": 1, "curves": {"loss": [[1, 0.5]], "score": [[1, 0.5]]},
        "trained_weights": 100, "file_bytes": 1000, "timings": {"train_seconds": 0.0, "milliseconds_a_row": 0.0},
    }  # fmt: skip


def worker(context: RunContext, units: tuple[Unit, ...], seconds: float, log: Path, start: float) -> None:
    """Take units until all are done; write down which, and how long it took in all."""

    def train(unit: Unit, context: RunContext, watcher: Watcher) -> dict[str, Any]:
        watcher.stepped(unit, 1, 1)
        time.sleep(seconds)
        wrote = time.monotonic()
        note_begun(unit, context)
        result = result_of(unit)
        weights = context.folder(unit) / "adapter" / "adapter.safetensors"
        weights.parent.mkdir()
        weights.write_bytes(bytes(1000))
        write_down(unit, context, result, {unit.task: ["pos"] * 100})
        done.append(unit.id)
        files.append(time.monotonic() - wrote)
        return result

    done: list[str] = []
    files: list[float] = []
    time.sleep(max(0.0, start - time.monotonic()))
    began = time.monotonic()
    with Claims(context.run) as claims:
        failed = Worker(units, {}, context, claims, Watcher(), {}, train).train()
        took = time.monotonic() - began
    usage = resource.getrusage(resource.RUSAGE_SELF)
    log.write_text(
        json.dumps(
            {
                "done": done,
                "failed": failed,
                "seconds": took,
                "files": sum(files),
                "cpu": usage.ru_utime + usage.ru_stime,
            }
        )
    )


def measure(units: int, workers: int, seconds: float) -> None:
    """Print what so many workers cost."""
    with tempfile.TemporaryDirectory() as name:
        root, run = Path(name), Path(name) / "run"
        text = f"seeds = {[*range(units // 2)]}\ncontrols = []\n" + RECIPE.replace("copies = 2\n", "")
        recipe = Recipe.read(make_tiny(root, text))
        context = RunContext(recipe, root, run, begin(recipe, run, root=root))
        planned = plan(recipe)[:units]
        assert len(planned) == units, len(planned)
        context.base_hash, context.tokenizer_hash  # noqa: B018  # hashed once a worker, when it begins
        context.rows_hash("a")
        start = time.monotonic() + 1
        processes = []
        for number in range(workers):
            processes.append(os.fork())
            if not processes[-1]:
                code = 1
                try:
                    worker(context, planned, seconds, root / f"worker-{number}.json", start)
                    code = 0
                finally:
                    os._exit(code)
        codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
        logs = [json.loads(path.read_text()) for path in root.glob("worker-*.json")]
        counted = collections.Counter(unit for log in logs for unit in log["done"])
        results = sum((unit.folder(run) / "result.json").is_file() for unit in planned)
        wall = max(log["seconds"] for log in logs)
        ideal = -(-units // workers) * seconds
        cpu, files = (1000 * sum(log[key] for log in logs) / units for key in ("cpu", "files"))
        load = os.getloadavg()[0]
        print(
            f"{units} units of {seconds:g} s, {workers} workers: {wall:.1f} s (without any overhead {ideal:.1f} s)\n"
            f"  overhead a unit: {1000 * (wall - ideal) / units:.1f} ms of the run's time, {cpu:.1f} ms of a processor; writing "
            f"its files, as one process would too, took its worker {files:.1f} ms ({os.cpu_count()} processors, load {load:.0f})\n"
            f"  done {results}, lost {units - len(counted)}, doubled {sum(n > 1 for n in counted.values())}, "
            f"failed {sum(len(log['failed']) for log in logs)}, workers that ended badly {sum(map(bool, codes))}; "
            f"units a worker: {min(len(log['done']) for log in logs)} to {max(len(log['done']) for log in logs)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="What it costs to share a run's folder.")
    parser.add_argument("--units", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0)
    told = parser.parse_args()
    torch.set_num_threads(1)
    measure(told.units, told.workers, told.seconds)
    measure(200, 1, 0.0)


if __name__ == "__main__":
    main()
