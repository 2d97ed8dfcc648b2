"""Pages of documentation from docstrings, options and counts: one a method, one a block, and tables of all."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from graftwork.report.method_docs.block_facts import POOL, BlockFacts
from graftwork.report.method_docs.docstrings import cell, example_of, options_table, paper_links, sections, table
from graftwork.report.method_docs.method_facts import MethodFacts


def method_pages(by_model: Mapping[str, Sequence[MethodFacts]]) -> dict[str, str]:
    """The pages of methods by file name; ``README.md`` is the table of all.

    Args:
        by_model: The facts of all methods on each model, by the model's name in the pages; a method's page shows the first
            model that takes the method.
    """
    shown: dict[str, tuple[str, MethodFacts]] = {}
    for model, every in by_model.items():
        for facts in every:
            if facts.name not in shown or (shown[facts.name][1].refused is not None and facts.refused is None):
                shown[facts.name] = model, facts
    shown = dict(sorted(shown.items()))
    pages = {f"{name}.md": _method_page(model, facts) for name, (model, facts) in shown.items()}
    return {"README.md": _method_table(shown), **pages}


def block_pages(model: str, every: Sequence[BlockFacts]) -> dict[str, str]:
    """The pages of blocks by file name; ``README.md`` is the table of all. Weights are counted on the model of that name."""
    return {
        "README.md": _block_table(model, every),
        **{f"{facts.name}.md": _block_page(model, facts) for facts in every},
    }


def _method_page(model: str, facts: MethodFacts) -> str:
    rows = [("in files", f"`{facts.name}`"), ("papers", paper_links(facts.papers))]
    if facts.refused is not None:
        rows.append((f"on {model}", cell(facts.refused)))
    else:
        norms = f", {facts.in_norms:,d} of them in norms" if facts.in_norms else ""
        rows += [
            ("sites", ", ".join((*facts.kinds, *facts.by_peft))),
            ("reads", ", ".join(facts.reads)),
            ("writes", ", ".join(facts.writes)),
            (f"weights on {model}", f"{facts.weights:,d} ({facts.share:.3%}) at {facts.where}{norms}"),
            ("composes", facts.form),
        ]
    page = _page(facts.config, facts.config, rows)
    if not facts.blocks:
        return page
    verdicts = [(f"`{block}`", cell(verdict) or "yes") for block, verdict in facts.blocks]
    return page + "\n" + table("## Two of them in a block", "| block | |", verdicts) + "\n"


def _block_page(model: str, facts: BlockFacts) -> str:
    rows = [("in files", f"`{facts.name}`"), ("papers", paper_links(facts.papers))]
    if facts.config is not None:
        rows += [
            ("configuration", f"`{facts.config.__name__}`"),
            (f"weights over {len(POOL)} Pfeiffer adapters on {model}", f"{facts.weights:,d} ({facts.share:.3%})"),
        ]
    return _page(facts.block, facts.config, rows)


def _page(documented: type[Any], config: type[Any] | None, rows: Sequence[tuple[str, str]]) -> str:
    """A page: the docstring of a class, the head of its configuration's file, an example, a table of facts, the options."""
    text, arguments = sections(inspect.getdoc(documented) or "", "Args")
    head = "" if config is None else (sys.modules[config.__module__].__doc__ or "").strip()
    parts = [f"# `{documented.__name__}`", text, head, example_of(documented)]
    parts.append(table("## At a glance", "| | |", [row for row in rows if row[1]]))
    if arguments:
        parts.append(
            table("## Arguments", "| argument | |", [(f"`{name}`", cell(of)) for name, of in arguments.items()])
        )
    parts.append("" if config is None else options_table(config))
    return "\n\n".join(part for part in parts if part) + "\n"


def _block_table(model: str, every: Sequence[BlockFacts]) -> str:
    rows = []
    for facts in every:
        weights = f"{facts.weights:,d} ({facts.share:.3%}) on {model}" if facts.weights else ""
        link = f"[`{facts.block.__name__}`]({facts.name}.md)"
        rows.append((link, cell(facts.summary), paper_links(facts.papers), weights))
    text = f"What adapters are combined by; weights are those over {len(POOL)} Pfeiffer adapters."
    return table(f"# The blocks\n\n{text}", "| block | | paper | weights |", rows) + "\n"


def _method_table(shown: Mapping[str, tuple[str, MethodFacts]]) -> str:
    rows = []
    for name, (model, facts) in shown.items():
        link, sites = f"[`{facts.config.__name__}`]({name}.md)", ", ".join((*facts.kinds, *facts.by_peft))
        weights, form = f"{facts.weights:,d} ({facts.share:.3%}) on {model}", facts.form
        counted = ("", "") if facts.refused else (weights, form)
        flow = ", ".join(facts.reads), ", ".join(facts.writes)
        rows.append((link, cell(facts.summary), paper_links(facts.papers), sites, *flow, *counted))
    text = (
        "Printed by `make docs` from the code: docstrings, options, and counts on full-size models without memory.\n"
        "`graftwork methods --model PATH` prints the table for another model."
    )
    return (
        table(f"# The methods\n\n{text}", "| method | | paper | sites | reads | writes | weights | composes |", rows)
        + "\n"
    )
