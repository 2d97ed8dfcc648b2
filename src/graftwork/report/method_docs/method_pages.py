"""A page of documentation for every method, and the table of all: made of docstrings, options and counts."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence

from graftwork.report.method_docs.docstrings import cell, options_table, paper_links, sections
from graftwork.report.method_docs.method_facts import MethodFacts


def pages(by_model: Mapping[str, Sequence[MethodFacts]]) -> dict[str, str]:
    """The pages by file name: ``README.md`` is the table of all methods.

    Args:
        by_model: For each model, by what it is called in the pages, the facts of all methods; a method's page shows the
            first that it stands in.
    """
    shown: dict[str, tuple[str, MethodFacts]] = {}
    for model, every in by_model.items():
        for facts in every:
            if facts.name not in shown or (shown[facts.name][1].refused is not None and facts.refused is None):
                shown[facts.name] = model, facts
    found = {f"{name}.md": page(model, facts) for name, (model, facts) in sorted(shown.items())}
    return {"README.md": _table(dict(sorted(shown.items()))), **found}


def page(model: str, facts: MethodFacts) -> str:
    """The page of one method."""
    config = facts.config
    head = (sys.modules[config.__module__].__doc__ or "").strip()
    said = sections(inspect.getdoc(config) or "")[0].strip()
    parts = [f"# `{config.__name__}`", said, head, _at_a_glance(model, facts), options_table(config)]
    if facts.blocks:
        parts.append(_composition(facts))
    return "\n\n".join(part for part in parts if part) + "\n"


def _at_a_glance(model: str, facts: MethodFacts) -> str:
    rows = [("in files", f"`{facts.name}`"), ("papers", paper_links(facts.papers))]
    if facts.refused is not None:
        rows.append((f"on {model}", cell(facts.refused)))
    else:
        norms = f", {facts.in_norms:,d} of them in norms" if facts.in_norms else ""
        rows += [
            ("stands at", ", ".join((*facts.kinds, *facts.by_peft))),
            ("reads", ", ".join(facts.reads)),
            ("writes", ", ".join(facts.writes)),
            (f"weights on {model}", f"{facts.weights:,d} ({facts.share:.3%}) at {facts.where}{norms}"),
            ("composes", facts.form),
        ]
    lines = [f"| {what} | {value} |" for what, value in rows]
    return "\n".join(["## At a glance", "", "| | |", "|---|---|", *lines])


def _composition(facts: MethodFacts) -> str:
    lines = [f"| `{block}` | {cell(verdict) or 'yes'} |" for block, verdict in facts.blocks]
    return "\n".join(["## Two of them in a block", "", "| block | |", "|---|---|", *lines])


def _table(shown: Mapping[str, tuple[str, MethodFacts]]) -> str:
    lines = []
    for name, (model, facts) in shown.items():
        weights = "" if facts.refused else f"{facts.weights:,d} ({facts.share:.3%}) on {model}"
        cells = (
            f"[`{facts.config.__name__}`]({name}.md)",
            cell(facts.summary),
            paper_links(facts.papers),
            ", ".join((*facts.kinds, *facts.by_peft)),
            weights,
            facts.form if not facts.refused else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(
        [
            "# The methods",
            "",
            "Printed by `make docs` from the code: docstrings, options, and counts on full-size models without memory.",
            "`graftwork methods --model PATH` prints the table for another model.",
            "",
            "| method | | paper | stands at | weights | composes |",
            "|---|---|---|---|---|---|",
            *lines,
            "",
        ]
    )
