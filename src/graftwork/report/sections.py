"""What is on the page of a run, in order: sections of tables, pictures and texts. What a run lacks has no section."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import platform
from collections.abc import Iterator
from typing import Any

from graftwork.experiments.running.folder import RECIPE
from graftwork.experiments.running.provenance import read_made_with
from graftwork.experiments.running.records import read_record
from graftwork.report.attention import attentions
from graftwork.report.changed_rows import changed_tables
from graftwork.report.comparison import costs_tables, parts
from graftwork.report.formatting import printable
from graftwork.report.labels import label_table
from graftwork.report.picture import Picture
from graftwork.report.pictures import pictures, pictures_of_scores
from graftwork.report.plots import can_plot
from graftwork.report.run_data import Gathered
from graftwork.report.table import Table
from graftwork.report.tables import other_tables, target_tables
from graftwork.report.tokens import TokenAttention, token_attention

Block = Table | Picture | TokenAttention | str
_PACKAGES = ("graftwork", "torch", "transformers", "accelerate", "safetensors")
MOST_PICTURES = 100


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: Its heading.
        blocks: What is in it; a text is preformatted.
        prose: Whether the cells of its tables are long texts, which are broken into lines.
        folded: Whether it is closed at first.
    """

    title: str
    blocks: list[Block]
    prose: bool = False
    folded: bool = False


def sections(found: Gathered) -> Iterator[Section]:
    """The sections of a page; a picture that is not drawn is its numbers, if they are in no other table.

    Without matplotlib none is drawn, and of a large run no more than the first `MOST_PICTURES`: a page can be sent.
    """
    drawn = left = 0
    for section in _all(found):
        blocks: list[Block] = []
        for one in section.blocks:
            if isinstance(one, Picture) and (drawn >= MOST_PICTURES or not can_plot()):
                left += 1
                blocks += [one.table] if one.table is not None else []
            else:
                drawn += isinstance(one, Picture)
                blocks.append(one)
        if blocks:
            yield dataclasses.replace(section, title=printable(section.title), blocks=blocks)
    if left and can_plot():
        yield Section("Pictures", [f"{left:,} more are not on this page. graftwork show writes all of them as files."])


def _all(found: Gathered) -> Iterator[Section]:
    shown = pictures(found)
    yield from _scores(found)
    titled = {one.title: one for one in shown["attention"] if one.title}
    for seen in attentions(found.results, found.recipe.targets):
        tokens = token_attention(found.results, seen.target, seen.kind)
        yield Section(seen.heading, [titled[printable(seen.heading)], *([tokens] if tokens else [])])
    for known, drawn in zip((one for one in found.known if one.get("confusion")), shown["labels"], strict=True):
        table = label_table(known, found.names(known["task"]))
        yield Section(table.title, [table, drawn])
    for known in found.known:
        tables = changed_tables(known, found.names(known["task"]))
        for table in tables:
            yield Section(table.title, [table], prose=True)
    for table in other_tables(found.results, found.units):
        yield Section(table.title, [table])
    for what in ("forgetting", "of_each_task", "of_all_tasks"):
        for one in shown[what]:
            if one.title:
                yield Section(one.title, [one])
    for table in [] if found.comparison is None else costs_tables(found.comparison):
        yield Section(table.title, [table])
    recipe = read_record(found.run / RECIPE, Any)
    text = printable(json.dumps(recipe, indent=1, ensure_ascii=False), keep="\n")
    yield Section("Recipe", [text], folded=True)
    yield Section("Versions", [f"written by\n{versions()}", *_trained_by(found)], folded=True)


def _scores(found: Gathered) -> Iterator[Section]:
    """The scores of every target as pictures and tables; of a comparison those of their mean first."""
    of_targets = target_tables(found.results, found.units)
    if found.comparison is not None:
        for part in parts(found.comparison):
            scores, apart = part.tables
            yield Section(scores.title, [*pictures_of_scores(found, part), scores])
            yield Section(apart.title, [apart])
        for table in of_targets.values():
            yield Section(table.title, [table])
        return
    drawn = {one.task: list(pictures_of_scores(found, one)) for one in found.scored}
    for target, table in of_targets.items():
        yield Section(table.title, [*drawn.get(target, []), table])


def versions() -> str:
    """The versions of Python and the main packages, a line each."""
    lines = [f"python {platform.python_version()}"]
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            lines.append(f"{package} {importlib.metadata.version(package)}")
    return "\n".join(lines)


def _trained_by(found: Gathered) -> list[Block]:
    """What the first unit that says so was trained by."""
    for unit in found.units:
        record = read_made_with(unit.folder(found.run))
        if record is not None:
            lines = [f"{name} {version}" for name, version in record["versions"].items()]
            return [printable("\n".join(["trained by", *lines]), keep="\n")]
    return []
