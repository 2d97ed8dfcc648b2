"""A thousand adapters on one model: ``python -m benchmarks.many``.

Prints what it takes to load one that is not in memory, and the memory of a process that has used all of a thousand adapters and
keeps 256, beside one that has used 256.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import graftwork as gw
from benchmarks.models import bare, described

RESIDENT = 256


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--adapters", type=int, default=1000, help="how many there are (default 1000)")
    arguments.add_argument("--threads", type=int, default=2, help="threads of torch (default 2)")
    arguments.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)  # in a process of its own
    arguments.add_argument("--folder", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    if given.memory_of:
        print(memory(Path(given.folder), given.memory_of))
        return
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), given.adapters)
        print(f"{described()}\n\nloading one that is not in memory: {loading(Path(folder)):.1f} ms of a processor")
        few, all_of_them = (child(folder, n) for n in (RESIDENT, given.adapters))
    print(f"\n| memory of a process that keeps {RESIDENT} adapters | MiB |\n|---|---:|")
    print(f"| {RESIDENT} used | {few / 2**20:.0f} |\n| {given.adapters:,d} used | {all_of_them / 2**20:.0f} |")
    print(f"| ratio | {all_of_them / few:.2f} |")


def save(folder: Path, count: int) -> None:
    """One saved adapter under many names."""
    adapters = gw.attach(bare())
    adapters.add("one", gw.Pfeiffer(reduction_factor=16))
    with torch.no_grad():
        for module in adapters.modules_of("one").values():
            for weight in module.parameters():
                weight.normal_(std=0.05)
    saved = adapters.save("one", folder / "t0")
    for n in range(1, count):
        (folder / f"t{n}").mkdir()
        for file in saved.iterdir():
            os.link(file, folder / f"t{n}" / file.name)


def loading(folder: Path) -> float:
    """The milliseconds of a processor that loading an adapter takes, among ten that stay."""
    adapters = gw.attach(bare())
    catalogue = adapters.catalogue({f"new{n}": folder / f"t{n}" for n in range(30)}, max_resident=10)
    start = time.process_time()
    for name in catalogue.names:
        catalogue.bring([name])
    return 1e3 * (time.process_time() - start) / 30


def child(folder: str, used: int) -> int:
    """The bytes that a process has after it used some adapters."""
    command = [sys.executable, "-m", "benchmarks.many", "--memory-of", str(used), "--folder", folder]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


def memory(folder: Path, used: int) -> int:
    """The bytes of this process after it used some adapters."""
    adapters = gw.attach(bare())
    catalogue = adapters.catalogue(folder, max_resident=RESIDENT)
    for name in catalogue.names[:used]:
        with adapters.using(name):
            pass
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


if __name__ == "__main__":
    main()
