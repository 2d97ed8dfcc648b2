"""The site of the documentation, built for a test, and what its pages link to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

ROOT = Path(__file__).parents[2]


def build_site(folder: Path) -> Path:
    """Build the site as `make docs` does; any warning is an error."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


class Page(HTMLParser):
    """What a page refers to.

    Attributes:
        links: Where its links lead.
        loaded: What the browser loads with it: scripts, styles, pictures.
        anchors: Its places that links can lead to.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        self.anchors |= {known[name] for name in ("id", "name") if name in known}
        if tag == "a" and "href" in known:
            self.links.append(known["href"])
        if tag in ("script", "img", "iframe", "source") and "src" in known:
            self.loaded.append(known["src"])
        if tag == "link" and known.get("rel") not in ("canonical", "prev", "next", "alternate"):
            self.loaded.append(known["href"])


def pages_of(site: Path) -> dict[str, Page]:
    """Every page by its path from the root of the site."""
    return {path.relative_to(site).as_posix(): Page(path) for path in sorted(site.rglob("*.html"))}


def dead(site: Path, pages: dict[str, Page]) -> Iterator[str]:
    """Every link and every file within the site that leads nowhere, with the page that has it."""
    for name, page in pages.items():
        for target in (*page.links, *page.loaded):
            parts = urlsplit(urljoin(f"http://site/{name}", target))
            if parts.netloc != "site" or parts.scheme not in ("http", "https"):
                continue
            path = unquote(parts.path).lstrip("/")
            path += "index.html" if path.endswith("/") or not path else ""
            if not (site / path).is_file():
                yield f"{name}: {target} is not there"
            elif parts.fragment and path in pages and unquote(parts.fragment) not in pages[path].anchors:
                yield f"{name}: {target} has no such place"
