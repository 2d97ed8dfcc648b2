"""Speed against the bare model: ``make bench``, and beside `adapters`: ``make bench-peer``.

Prints a table of ratios to the bare forward pass (inference) and for training steps, too, to the bare forward: the
median of paired rounds with its quartiles, and the bare model against itself as the noise.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import torch
import transformers

import graftwork as gw
from benchmarks import models, ours, peer
from benchmarks.steps import forward
from benchmarks.timing import Timing, paired


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=31, help="paired rounds (default 31)")
    arguments.add_argument("--threads", type=int, default=2, help="threads of torch (default 2)")
    arguments.add_argument("--only", default="", help="only cases whose name has this in it")
    arguments.add_argument("--peer", action="store_true", help="measure `adapters` in the same rounds")
    arguments.add_argument("--markdown", type=Path, help="write the table there")
    arguments.add_argument("--json", type=Path, help="write the figures there")
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    libraries = {"graftwork": ours.cases(), **({"adapters": peer.cases()} if given.peer else {})}
    built = {"bare model (the noise)": forward(models.bare())}
    for library, cases in libraries.items():
        for name, make in cases.items():
            if given.only in name:
                built[f"{library}: {name}"] = make()
    found = paired(forward(models.bare()), built, given.rounds)
    table = render(found, list(libraries), given.rounds, given.threads)
    print(table)
    if given.markdown:
        given.markdown.write_text(table + "\n")
    if given.json:
        given.json.write_text(json.dumps({name: vars(t) for name, t in found.items()}, indent=1))


def render(found: dict[str, Timing], libraries: list[str], rounds: int, threads: int) -> str:
    """The table as Markdown."""
    noise = found["bare model (the noise)"]
    lines = [
        f"{models.described()}; {threads} threads; torch {torch.__version__.split('+')[0]}, transformers "
        f"{transformers.__version__}, graftwork {gw.__version__}, {platform.machine()}; median of {rounds} paired rounds "
        "(quartiles), as ratios to the bare forward pass.",
        "",
        f"| case | {' | '.join(libraries)} |",
        f"|---|{'---|' * len(libraries)}",
        f"| bare model against itself (the noise) |{f' {_cell(noise)} |' * len(libraries)}",
    ]
    names = dict.fromkeys(name.partition(": ")[2] for name in found if ": " in name)
    for name in names:
        cells = [_cell(found.get(f"{library}: {name}")) for library in libraries]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(timing: Timing | None) -> str:
    return "" if timing is None else f"{timing.ratio:.2f} ({timing.low:.2f} to {timing.high:.2f})"


if __name__ == "__main__":
    main()
