"""The AdapterFusion table at small scale, with controls: ``python examples/study/study.py --out runs/study``.

Runs `recipe.toml` beside this file as a profile says, or goes on with it, and prints a table of targets and columns in which
every cell that was not run is marked. ``--table FILE`` writes it as Markdown from what is done, and runs nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graftwork.report import Live, gather, write_report
from graftwork.report.words import kind_label, score
from graftwork.training import Recipe, run

HERE = Path(__file__).resolve().parent
NOT_RUN = "not run"
# small is that of recipe.toml; full takes whole data sets and the paper's numbers of epochs, for a GPU; quick has targets of
# half the sources' rows, so that there is something for a source to give.
PROFILES: dict[str, dict[str, Any]] = {
    "tiny": {"rows": 256, "scored_rows": 300, "epochs": 2, "seeds": [0]},
    "quick": {"rows": 1000, "target_rows": 500, "scored_rows": 500, "epochs": 3},
    "small": {},
    "full": {"rows": None, "epochs": 30, "patience": 4},
}
# The columns of the table: the paper's, then the controls.
COLUMNS: tuple[tuple[str, str], ...] = (
    ("head", ""),
    ("full", ""),
    ("sequential", ""),
    ("multitask", ""),
    ("intermediate", ""),
    ("method", "pfeiffer 2"),
    ("adapter", ""),
    ("method", "pfeiffer 64"),
    ("method", "houlsby"),
    ("mt_shared", ""),
    ("mt_joint", ""),
    ("fusion", ""),
    ("fusion_mt", ""),
    ("scalearn", ""),
    ("own", ""),
    ("copies", ""),
    ("average", ""),
    ("longer", ""),
)


def main() -> None:
    """Run, and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, default=Path("runs/study"), help="the run's folder")
    arguments.add_argument("--profile", choices=PROFILES, default="small", help="how many rows, epochs and seeds")
    arguments.add_argument("--seeds", type=int, help="the first so many seeds alone")
    arguments.add_argument(
        "--bf16",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="bfloat16 autocast; slow where a CPU has none",
    )
    arguments.add_argument("--controls", help="these columns alone, with commas between them; they may grow later")
    arguments.add_argument("--table", type=Path, help="write the table of what is done as Markdown, and run nothing")
    given = arguments.parse_args()
    if given.table is None:
        recipe = study(given.profile, given.seeds, given.controls.split(",") if given.controls else None, given.bf16)
        with Live(recipe) as live:
            run(recipe, given.out, root=HERE, watcher=live)
    found = gather(given.out)
    text = table(found.results, found.recipe)
    if given.table is not None:
        given.table.write_text(text, encoding="utf-8")
    else:
        write_report(given.out)
    print(text)


def study(
    profile: str = "small", seeds: int | None = None, controls: list[str] | None = None, bf16: bool = True
) -> Recipe:
    """The recipe of a profile.

    Args:
        profile: One of `PROFILES`.
        seeds: The first so many alone.
        controls: In the place of the recipe's.
        bf16: Whether matrix products are in bfloat16.
    """
    changes = PROFILES[profile]
    told = Recipe.read(HERE / "recipe.toml").model_dump(exclude_unset=True)
    for name, task in told["tasks"].items():
        task |= {key: changes[key] for key in ("rows", "scored_rows") if key in changes}
        if name in told["targets"] and "target_rows" in changes:
            task["rows"] = changes["target_rows"]
        if task["rows"] is None:
            task.pop("rows")
    told["training"] |= {key: changes[key] for key in ("epochs", "patience") if key in changes} | {"bf16": bf16}
    told["seeds"] = [*changes.get("seeds", told["seeds"])][:seeds]
    if controls is not None:
        told["controls"] = controls
    return Recipe.make(told)


def table(results: Mapping[str, Any], recipe: Recipe) -> str:
    """Ways as rows and targets as columns, with the mean over targets where a way has all of them."""
    rows = {(row["kind"], row.get("method", ""), row["task"]): row for row in results["targets"]}
    lines = []
    for kind, method in COLUMNS:
        found = [rows.get((kind, method, target)) for target in recipe.targets]
        cells = [_cell(row, len(recipe.seeds)) for row in found]
        means = [row["mean"] for row in found if row is not None]
        mean = f"{100 * sum(means) / len(means):.1f}" if len(means) == len(found) else ""
        members = next((len(row["members"]) for row in found if row is not None), 0)
        weights = next((f"{row['trained_weights']:,}" for row in found if row is not None), "")
        label = kind_label(kind, members, method) if members or kind != "fusion_mt" else "fusion, jointly trained"
        lines.append(
            f"| {label.replace('of all 0', 'of all').replace('of 0', 'of')} | {' | '.join(cells)} | {mean} | {weights} |"
        )
    top = [
        f"| | {' | '.join(recipe.targets)} | mean | trained weights |",
        f"|---|{'---:|' * (len(recipe.targets) + 2)}",
    ]
    return "\n".join([*top, *lines, "", _said(results, recipe), ""])


def _said(results: Mapping[str, Any], recipe: Recipe) -> str:
    """How the figures came about."""
    train, tasks = recipe.training, recipe.tasks.items()
    targets = _most({task.rows for name, task in tasks if name in recipe.targets})
    sources = _most({task.rows for name, task in tasks if name not in recipe.targets})
    scored = _most({task.scored_rows for _, task in tasks})
    where = {row["task"]: f"{row['task']} by {row['metric']} on {row['scored_on']}" for row in results["targets"]}
    return (
        f"In percent: {', '.join(where.values())}; mean ± sd over the seeds, in parentheses of how many where not of all "
        f"{len(recipe.seeds)}. Learnt from {sources} rows of a source, {targets} of a target; scored on {scored} rows; "
        f"{train.epochs} epochs, {recipe.base.max_length} tokens, {'bfloat16' if train.bf16 else 'float32'}, "
        f"{len(results['units'])} trainings. The weights are those of one training, without the adapters that it stands over."
    )


def _most(rows: set[int | None]) -> str:
    return (
        "all"
        if None in rows
        else f"at most {' or '.join(f'{count:,}' for count in sorted(count for count in rows if count))}"
    )


def _cell(row: Mapping[str, Any] | None, seeds: int) -> str:
    if row is None:
        return NOT_RUN
    fewer = f" ({len(row['seeds'])})" if len(row["seeds"]) < seeds else ""
    return score(row["mean"], row["metric"], row["sd"]) + fewer


if __name__ == "__main__":
    main()
