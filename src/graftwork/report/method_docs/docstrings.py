"""Docstrings as parts of a page: the text, a table of options, links to papers."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

_ENTRY = re.compile(r"^    \*?(\w+): (.*)$")


def papers_in(text: str) -> tuple[str, ...]:
    """The arXiv numbers in a text, in order."""
    return tuple(dict.fromkeys(re.findall(r"arXiv:(\d{4}\.\d{4,5})", text)))


def papers_of(config: type[Any]) -> tuple[str, ...]:
    """The arXiv numbers at the head of the file that a class is in."""
    return papers_in(sys.modules[config.__module__].__doc__ or "")


def paper_links(papers: Sequence[str]) -> str:
    """Links to papers by their arXiv numbers."""
    return ", ".join(f"[arXiv:{number}](https://arxiv.org/abs/{number})" for number in papers)


def summary_of(thing: Any) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(thing) or "").partition("\n")[0].rstrip(".")


def options_table(config: type[Any]) -> str:
    """The options of a frozen dataclass as a section: each with its default and its text from the docstring."""
    texts: dict[str, str] = {}
    for owner in reversed(config.__mro__):
        if dataclasses.is_dataclass(owner):
            texts |= sections(inspect.cleandoc(owner.__doc__ or ""))[1]
    try:
        made: Any = config()
    except ValueError:  # it has options without a default
        made = None
    rows = []
    for field in dataclasses.fields(config):
        default = "" if made is None else f"`{getattr(made, field.name)!r}`"
        rows.append((f"`{field.name}`", cell(default), cell(texts.get(field.name, ""))))
    return table("## Options", "| option | default | |", rows)


def table(heading: str, columns: str, rows: Iterable[Sequence[str]]) -> str:
    """A heading and a table whose first line is ``columns``."""
    ruler = "|---" * (columns.count("|") - 1) + "|"
    return "\n".join([heading, "", columns, ruler, *(f"| {' | '.join(row)} |" for row in rows)])


def example_of(thing: Any) -> str:
    """The example in a docstring as a section, or an empty text."""
    lines = (inspect.getdoc(thing) or "").partition("\nExample:\n")[2].splitlines()
    written = [re.sub(r"  # doctest: .*", "", line.strip()) for line in lines if line.startswith("    ")]
    return "\n".join(["## Example", "", "```pycon", *written, "```"]) if written else ""


def sections(doc: str, of: str = "Attributes") -> tuple[str, dict[str, str]]:
    """A docstring's text without its sections, and the text of each entry in one of them: attributes, or ``"Args"``."""
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
        elif section == of:
            entry = _ENTRY.match(line)
            if entry:
                name = entry[1]
                entries[name] = entry[2]
            elif name is not None and line.strip():
                entries[name] += " " + line.strip()
    return "\n".join(text).strip(), entries


def cell(text: str) -> str:
    """A text for a cell of a table."""
    return " ".join(text.replace("|", r"\|").replace("``", "`").split())
