"""Prints the table of peers into README.md: measured rows of docs/results/speed.json, and what each library has.

python -m docs.make_peer_table
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
README, SPEED = ROOT / "README.md", ROOT / "docs" / "results" / "speed.json"
START, END = "<!-- printed by python -m docs.make_peer_table: -->", "<!-- up to here -->"
LIBRARIES = ("graftwork", "adapters", "peft")
# What each has, at the versions in the heading; each claim on ours is a test of this repository.
HEADING = ("", "graftwork", "adapters 1.3.0", "peft 0.21.2")
HAVE = (
    ("versions of transformers", "4.57 and 5", "4.57 alone", "4 and 5"),
    (
        "models",
        "any whose layers add to a stream, found by tracing",
        "24, more by lists of names",
        "any with linear modules",
    ),
    ("bottlenecks, Compacter, MAD-X", "yes", "yes", "no"),
    ("hypernetworks, K-Adapter, PAL, mixtures of adapters", "yes", "no", "no"),
    (
        "LoRA and its kin",
        "LoRA, DoRA, VeRA, (IA)³, LoReFT, and all of peft's",
        "LoRA, DoRA, VeRA, (IA)³, ReFT",
        "45 methods",
    ),
    ("AdapterFusion", "of any methods at one kind of site, LoRA too", "of bottlenecks", "no"),
    (
        "a nested block is the sum of its parts",
        "yes",
        "[no](docs/interop.md#what-goes-wrong-there-and-what-is-here)",
        "no blocks",
    ),
    (
        "rows of different adapters in a batch",
        "any methods, to train too",
        "runs of rows, one method",
        "LoRA, to predict alone",
    ),
    ("the model afterwards", "as it was, bit for bit", "its classes stay changed", "as it was"),
    ("reads the files of the others", "yes, both", "no", "no"),
    ("recipes with controls, a server, ONNX", "yes", "no", "no"),
)


def table() -> str:
    """Both tables as Markdown; the measured one where it was measured."""
    parts = [_markdown(HEADING, HAVE)]
    if SPEED.is_file():
        found = json.loads(SPEED.read_text(encoding="utf-8"))
        rows = [
            [row["name"], *(_shown(row["found"].get(name), row["unit"]) for name in LIBRARIES)] for row in found["rows"]
        ]
        about = "Ratios to the bare model, by `make bench-peers` ([with quartiles and aims](docs/results/speed.md))"
        parts.append(f"{about}; {found['about']}")
        parts.append(_markdown(("", *LIBRARIES), rows))
    return "\n\n".join(parts)


def _shown(found: Mapping[str, float] | None, unit: str) -> str:
    return "–" if found is None else f"{found['ratio']:.0f} {unit}" if unit else f"{found['ratio']:.2f}"


def _markdown(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def renewed(text: str) -> str:
    """A text with the table between its markers."""
    before, _, rest = text.partition(START)
    return f"{before}{START}\n\n{table()}\n\n{END}{rest.partition(END)[2]}"


def main() -> None:
    README.write_text(renewed(README.read_text(encoding="utf-8")), encoding="utf-8")
    print(table())


if __name__ == "__main__":
    main()
