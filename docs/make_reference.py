"""Writes docs/reference/: a page for each public part of the package, which the site fills from docstrings. `make docs`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "reference"
# Each part with what it is for. A name that several parts export is on the page of the first.
PARTS = {
    "graftwork.methods": "Methods, as configurations, and what a method of your own is made of.",
    "graftwork.compose": "Blocks, the configurations of those that learn, and what a block of your own is made of.",
    "graftwork.heads": "Heads by name, for a base without one.",
    "graftwork.sites": "Sites: where an adapter can read and write, found or given by hand.",
    "graftwork.errors": "Every error that is raised on purpose.",
    "graftwork": "What is called first: attach a model, add, train, compose, save and load.",
    "graftwork.training": "Trainers on `transformers.Trainer`; they need no recipe.",
    "graftwork.tasks": "Data, kinds of tasks, metrics.",
    "graftwork.experiments": "Recipes: planned, run, costed, compared.",
    "graftwork.inference": "From a run's files to answers.",
    "graftwork.hub": "What is sent to the Hub with an adapter.",
    "graftwork.serving": "Predictions over HTTP.",
}
ON_TOP = "graftwork"
WHOLE = "Adapters"  # the handle, whose methods are in several files
# A part that exports no names of its own, since they need more libraries: what is called from Python.
INSIDE = {"graftwork.serving": ("app.make_app", "server.serve", "server.Sources", "service.Limits", "service.Service")}


def names() -> dict[str, list[str]]:
    """The public names of each part, each thing on one page alone."""
    seen: set[int] = set()
    found: dict[str, list[str]] = {}
    for part in PARTS:
        module = importlib.import_module(part)
        public = [*getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])]
        things = {name: getattr(module, name) for name in public}
        here = [n for n, thing in things.items() if hasattr(thing, "__qualname__") and id(thing) not in seen]
        seen |= {id(things[name]) for name in here}
        found[part] = [*INSIDE[part]] if part in INSIDE else here
    return found


def path_of(part: str, name: str) -> str:
    """The path that the site finds a name by: where it is defined, if a module inside the part has the same name."""
    if f"{part}.{name}" not in sys.modules:
        return f"{part}.{name}"
    thing = getattr(importlib.import_module(part), name)
    return f"{thing.__module__}.{thing.__qualname__}"


def pages() -> dict[str, str]:
    """What the folder holds: file name to text."""
    found = names()
    texts = {}
    for part, about in PARTS.items():
        file = "README.md" if part == ON_TOP else f"{part.rpartition('.')[2]}.md"
        title = "API reference" if part == ON_TOP else f"`{part}`"
        more = f"\n{_others()}\n" if part == ON_TOP else ""
        entries = "\n\n".join(_entry(part, name) for name in sorted(found[part], key=str.lower))
        texts[file] = f"# {title}\n\n{about}\n{more}\n{entries}\n"
    return texts


def _entry(part: str, name: str) -> str:
    more = "\n    options:\n      inherited_members: true" if name == WHOLE else ""
    return f"::: {path_of(part, name)}{more}"


def _others() -> str:
    rows = [
        f"| [`{part}`]({part.rpartition('.')[2]}.md) | {about} |" for part, about in PARTS.items() if part != ON_TOP
    ]
    return "\n".join(["| part | |", "|---|---|", *rows])


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    written = pages()
    for old in FOLDER.glob("*.md"):
        if old.name not in written:
            old.unlink()
    for name, text in written.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"{sum(map(len, names().values()))} names on {len(written)} pages in docs/reference")


if __name__ == "__main__":
    main()
