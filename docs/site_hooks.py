"""What the site does to the pages that the repository shows as they are: folders in the navigation, links, titles of blocks."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"(!?)\[([^\]]+)\]\(([^)\s:]+)\)")
_PART = re.compile(r"^<!-- from README.md: (\w+) -->$", re.MULTILINE)
_FENCE = re.compile(r"^```(\w+) (?:file=(\S+)|[\w-]+)$", re.MULTILINE)


def on_config(config: Any) -> Any:
    """Put every page of a folder where the navigation names the folder, ``methods/``: its README first."""
    config.nav = _opened(config.nav, Path(config.docs_dir))
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links that leave the documentation into the names of files, and the file of a block into its title."""
    folder = posixpath.dirname(page.file.src_uri)

    def linked(found: re.Match[str]) -> str:
        picture, text, target = found.groups()
        if target.startswith("docs/"):  # what the home page takes from the README
            return f"{picture}[{text}]({target.removeprefix('docs/')})"
        path = posixpath.normpath(posixpath.join(folder, target.partition("#")[0]))
        return f"{text} (`{path.lstrip('./')}`)" if path.startswith("../") else found[0]

    markdown = _PART.sub(lambda found: _of_readme(found[1]), markdown)
    markdown = _FENCE.sub(lambda found: f"```{found[1]}" + (f' title="{found[2]}"' if found[2] else ""), markdown)
    return _LINK.sub(linked, markdown)


def _of_readme(part: str) -> str:
    """What the README has between ``<!-- part -->`` and ``<!-- /part -->``."""
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    return text.partition(f"<!-- {part} -->")[2].partition(f"<!-- /{part} -->")[0]


def _opened(nav: Any, docs: Path) -> Any:
    if isinstance(nav, list):
        return [_opened(entry, docs) for entry in nav]
    if isinstance(nav, dict):
        return {title: _opened(entry, docs) for title, entry in nav.items()}
    if not nav.endswith("/"):
        return nav
    pages = sorted((docs / nav).glob("*.md"), key=lambda path: (path.name != "README.md", path.name))
    return [path.relative_to(docs).as_posix() for path in pages]
