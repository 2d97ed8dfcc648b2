"""A page of documentation for every method, and the table of all: made of docstrings, options and counts."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from graftwork.methods import AdapterConfig
from graftwork.report.method_facts import MethodFacts

_ENTRY = re.compile(r"^    (\w+): (.*)$")


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
    said = _sections(inspect.getdoc(config) or "")[0].strip()
    parts = [f"# `{config.__name__}`", said, head, _at_a_glance(model, facts), _options(config)]
    if facts.blocks:
        parts.append(_composition(facts))
    return "\n\n".join(part for part in parts if part) + "\n"


def paper_links(facts: MethodFacts) -> str:
    """Links to the papers at the head of a method's file."""
    return ", ".join(f"[arXiv:{number}](https://arxiv.org/abs/{number})" for number in facts.papers)


def _at_a_glance(model: str, facts: MethodFacts) -> str:
    rows = [("in files", f"`{facts.name}`"), ("papers", paper_links(facts))]
    if facts.refused is not None:
        rows.append((f"on {model}", _cell(facts.refused)))
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


def _options(config: type[AdapterConfig]) -> str:
    said: dict[str, str] = {}
    for owner in reversed(config.__mro__):
        if dataclasses.is_dataclass(owner):
            said |= _sections(inspect.cleandoc(owner.__doc__ or ""))[1]
    try:
        made: Any = config()
    except ValueError:  # it has options without a default
        made = None
    lines = []
    for field in dataclasses.fields(config):
        value = getattr(made, field.name, None)
        default = "" if made is None else f"`{value!r}`"
        lines.append(f"| `{field.name}` | {_cell(default)} | {_cell(said.get(field.name, ''))} |")
    return "\n".join(["## Options", "", "| option | default | |", "|---|---|---|", *lines])


def _composition(facts: MethodFacts) -> str:
    lines = [f"| `{block}` | {_cell(verdict) or 'yes'} |" for block, verdict in facts.blocks]
    return "\n".join(["## Two of them in a block", "", "| block | |", "|---|---|", *lines])


def _sections(doc: str) -> tuple[str, dict[str, str]]:
    """A docstring's text without its sections, and what its section of attributes says of each."""
    text: list[str] = []
    entries: dict[str, str] = {}
    section = name = None
    for line in doc.splitlines():
        if re.fullmatch(r"[A-Z][a-z]+:", line):
            section, name = line[:-1], None
        elif section is None:
            text.append(line)
        elif line and not line.startswith(" "):
            section = None
            text.append(line)
        elif section == "Attributes":
            entry = _ENTRY.match(line)
            if entry:
                name = entry[1]
                entries[name] = entry[2]
            elif name is not None and line.strip():
                entries[name] += " " + line.strip()
    return "\n".join(text).strip(), entries


def _table(shown: Mapping[str, tuple[str, MethodFacts]]) -> str:
    lines = []
    for name, (model, facts) in shown.items():
        weights = "" if facts.refused else f"{facts.weights:,d} ({facts.share:.3%}) on {model}"
        cells = (
            f"[`{facts.config.__name__}`]({name}.md)",
            _cell(facts.summary),
            paper_links(facts),
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


def _cell(text: str) -> str:
    """A text that does not end its cell."""
    return " ".join(text.replace("|", r"\|").replace("``", "`").split())
