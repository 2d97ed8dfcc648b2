"""Writes a picture of the page of a run: `python -m docs.make_screenshot RUN docs/results/report.png`. Needs a Chromium."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from docs.live_browser import NAMES, find_browser, live_browser
from graftwork.report import write_page


def shoot(html: str, to: Path, *, width: int = 1100, height: int | None = None, dark: bool = False) -> None:
    """A picture of a page, of all of it where no height is said; below a width of 600 as on a phone."""
    with tempfile.TemporaryDirectory() as name, live_browser() as browser:
        path = Path(name) / "page.html"
        path.write_text(html, encoding="utf-8")
        browser.open(
            path.as_uri(), width=width, height=height or 900, dark=dark, ready="document.readyState === 'complete'"
        )
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(browser.picture(whole=height is None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of a run, done or under way")
    parser.add_argument("to", type=Path, help="the picture, a .png")
    parser.add_argument("--width", type=int, default=1100)
    parser.add_argument("--height", type=int, help="of the upper part alone; by default the whole page")
    parser.add_argument("--dark", action="store_true", help="as with a system in dark colours")
    given = parser.parse_args()
    if find_browser() is None:
        parser.error(f"no Chromium: install one (any of {', '.join(NAMES)}), or say where it is in CHROMIUM")
    with tempfile.TemporaryDirectory() as name:
        html = write_page(given.run, Path(name) / "report.html").read_text(encoding="utf-8")
    shoot(html, given.to, width=given.width, height=given.height, dark=given.dark)
    print(f"{given.to}: {given.to.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
