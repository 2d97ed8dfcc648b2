"""The AdapterFusion table at small scale, with controls: ``python -m examples.study.study --out runs/study``.

Runs `recipe.toml` beside this file as a profile says, or goes on with it, and prints a table of targets and columns in which
every cell that was not run is marked, and the tables that it is read by. ``--table FILE`` writes them as Markdown from what is
done, below a mark in the file where it has one, and runs nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from examples.study.reading import Column, against, looks
from graftwork.experiments import Recipe, run
from graftwork.report import Live, gather, write_report
from graftwork.report.formatting import kind_label, score
from graftwork.report.sequences import forgetting_tables

HERE = Path(__file__).resolve().parent
NOT_RUN = "not run"
MARK = "<!-- below: python -m examples.study.study --table -->"
# small is that of recipe.toml; full takes whole data sets and the paper's numbers of epochs, for a GPU; quick has targets of
# half the sources' rows, so that there is something for a source to give.
PROFILES: dict[str, dict[str, Any]] = {
    "tiny": {"rows": 256, "scored_rows": 300, "epochs": 2, "seeds": [0]},
    "quick": {"rows": 1000, "target_rows": 500, "scored_rows": 500, "epochs": 3},
    "small": {},
    "full": {"rows": None, "epochs": 30, "patience": 4},
}
# The columns of the table: the paper's, then the controls.
COLUMNS: tuple[Column, ...] = (
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
    text = page(found.results, found.recipe)
    if given.table is not None:
        write_below(given.table, text)
    else:
        write_report(given.out)
    print(text)


def write_below(file: Path, text: str) -> None:
    """Write tables into a page, below the mark where there is one: what a reader made of them stands above it."""
    before = file.read_text(encoding="utf-8") if file.is_file() else ""
    above = before.partition(MARK)[0] if MARK in before else ""
    file.write_text(f"{above}{MARK}\n\n{text}", encoding="utf-8")


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


def page(results: Mapping[str, Any], recipe: Recipe) -> str:
    """The table, and what it is read by: the fusion against each column, where it looks, what sequences forget."""
    rows, targets = _rows(results), recipe.targets
    labels = {column: _label(column, rows, targets) for column in COLUMNS}
    more = [against(rows, targets, labels), looks(results, targets), *forgetting_tables(results)]
    return "\n".join([table(results, recipe), *(one.markdown() for one in more if one.rows)])


def table(results: Mapping[str, Any], recipe: Recipe) -> str:
    """Ways as rows and targets as columns, with the mean over targets where a way has all of them."""
    rows, lines = _rows(results), []
    for column in COLUMNS:
        found = [rows.get((*column, target)) for target in recipe.targets]
        cells = [_cell(row, len(recipe.seeds)) for row in found]
        means = [row["mean"] for row in found if row is not None]
        mean = f"{100 * sum(means) / len(means):.1f}" if len(means) == len(found) else ""
        weights = next((f"{row['trained_weights']:,}" for row in found if row is not None), "")
        lines.append(f"| {_label(column, rows, recipe.targets)} | {' | '.join(cells)} | {mean} | {weights} |")
    top = [
        f"| | {' | '.join(recipe.targets)} | mean | trained weights |",
        f"|---|{'---:|' * (len(recipe.targets) + 2)}",
    ]
    return "\n".join([*top, *lines, "", _said(results, recipe), ""])


def _rows(results: Mapping[str, Any]) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    return {(row["kind"], row.get("method", ""), row["task"]): row for row in results["targets"]}


def _label(column: Column, rows: Mapping[tuple[str, str, str], Mapping[str, Any]], targets: Sequence[str]) -> str:
    kind, method = column
    members = next((len(rows[(*column, t)]["members"]) for t in targets if (*column, t) in rows), 0)
    if kind == "fusion_mt" and not members:
        return "fusion, jointly trained"
    return kind_label(kind, members, method).replace("of all 0", "of all").replace("of 0", "of")


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
        f"{len(results['units'])} trainings. The weights are those of one training, without the adapters that it uses."
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
