"""Draws docs/structure.svg: the parts of the package, and which imports which. `python -m docs.make_structure`."""

from __future__ import annotations

import ast
import collections
from pathlib import Path

import tomllib

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "graftwork"
PICTURE = Path(__file__).parent / "structure.svg"
SUBJECTS = {
    "cli": "the command line",
    "serving": "predictions over HTTP",
    "report": "tables, pictures and pages of results",
    "inference": "from a run's files to answers",
    "experiments": "recipes: planned, run, costed, compared",
    "training": "trainers that need no recipe",
    "tasks": "data, kinds of tasks, metrics",
    "api": "attach, of",
    "adapters": "the handle that a user has",
    "export": "what is active as one program",
    "hub": "repositories of the Hub, with cards",
    "shelf": "folders of adapters, listed and checked",
    "checkpoint": "files",
    "attach": "the handle of a model and its registry",
    "peft_bridge": "adapters whose modules are peft's",
    "forward": "one forward pass",
    "weights": "where weights live in a model",
    "compose": "blocks, nodes, bank; fusion/",
    "methods": "one file a published method; layers/",
    "heads": "one file a form of answer",
    "sites": "where adapters read and write; discovery/",
    "named_configs | options": "options of configurations; by name",
    "errors": "every error a user can meet",
}


def layers() -> list[str]:
    """The parts from top to bottom, as import-linter holds them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (found,) = (contract["layers"] for contract in contracts if contract["id"] == "layers")
    return [layer.strip("()") for layer in found]


def part_of(module: str, parts: list[str]) -> str | None:
    """The part that a module belongs to."""
    name = module.split(".")[1] if module.startswith("graftwork.") else ""
    return next((part for part in parts if name in part.split(" | ")), None)


def measured(parts: list[str]) -> tuple[dict[str, tuple[int, int]], dict[tuple[str, str], int]]:
    """The files and lines of each part, and how many files of one import another."""
    sizes: dict[str, tuple[int, int]] = dict.fromkeys(parts, (0, 0))
    arrows: collections.Counter[tuple[str, str]] = collections.Counter()
    for path in sorted(PACKAGE.rglob("*.py")):
        here = part_of("graftwork." + path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."), parts)
        if here is None:
            continue
        text = path.read_text(encoding="utf-8")
        files, lines = sizes[here]
        sizes[here] = files + 1, lines + text.count("\n")
        imported = {n.module for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom) and n.module}
        for there in {part_of(module, parts) for module in imported} - {here, None}:
            arrows[here, str(there)] += 1
    return sizes, dict(arrows)


def draw() -> None:
    """Write the picture."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "graftwork", "font.size": 9})
    parts = layers()
    sizes, arrows = measured(parts)
    figure, ax = plt.subplots(figsize=(10, 0.52 * len(parts)))
    height = {part: len(parts) - n for n, part in enumerate(parts)}
    for part, y in height.items():
        files, lines = sizes[part]
        ax.add_patch(FancyBboxPatch((0, y - 0.32), 6.6, 0.64, boxstyle="round,pad=0.02", fc="#eef3fb", ec="#4a6fa5"))
        ax.text(0.1, y, part.replace("catalogue | ", ""), va="center", weight="bold")
        ax.text(1.7, y, SUBJECTS[part], va="center", fontsize=7.5)
        ax.text(6.5, y, f"{files} files, {lines:,} lines", va="center", ha="right", fontsize=7)
    for (upper, lower), count in sorted(arrows.items()):
        if lower in parts[-2:]:  # which every part imports
            continue
        distance = height[upper] - height[lower]
        style = f"arc3,rad={-0.3 - 0.015 * distance}"
        ends = (6.7, height[upper]), (6.7, height[lower] + 0.1)
        ax.add_patch(
            FancyArrowPatch(
                *ends,
                connectionstyle=style,
                arrowstyle="-|>",
                mutation_scale=7,
                lw=0.4 + 0.08 * min(count, 25),
                color="#888888",
            )
        )
    ax.set_xlim(-0.1, 10)
    ax.set_ylim(0.4, len(parts) + 0.6)
    ax.axis("off")
    figure.savefig(PICTURE, format="svg", bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    draw()
