"""Writes a picture of the page of a run: `python -m docs.make_screenshot RUN docs/results/report.png`. Needs a Chromium."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from graftwork.report import write_page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# What the page says of its own height once it stands, for a window that holds all of it.
_HEIGHT = "<script>document.body.dataset.height = document.documentElement.scrollHeight;</script>"


def find_browser() -> str | None:
    """Where a Chromium is: what CHROMIUM says, else the first that is found."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def browse(
    folder: Path, html: str, *options: str, width: int = 1100, height: int = 1400
) -> subprocess.CompletedProcess:
    """A page opened without a window; what the browser says on its console comes with the errors."""
    path = folder / "page.html"
    path.write_text(html, encoding="utf-8")
    command = [str(find_browser()), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--no-first-run", f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr"]
    command += ["--hide-scrollbars", f"--window-size={width},{height}"]
    return subprocess.run(
        [*command, *options, path.as_uri()], capture_output=True, text=True, timeout=300, check=True, cwd=folder
    )


def shoot(html: str, to: Path, *, width: int = 1100, height: int | None = None) -> None:
    """A picture of a page, of all of it where no height is said."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if height is None:
            measured = browse(folder, html.replace("</body>", f"{_HEIGHT}</body>"), "--dump-dom", width=width)
            found = re.search(r'data-height="(\d+)"', measured.stdout)
            if found is None:
                raise SystemExit(f"the browser has not shown the page: {measured.stderr[-500:]}")
            height = int(found[1])
        # a window has a frame of its own in some versions: a little more than the page, so that nothing is cut
        browse(folder, html, f"--screenshot={folder / 'shot.png'}", width=width, height=height + 100)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / "shot.png", to)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of a run, done or under way")
    parser.add_argument("to", type=Path, help="the picture, a .png")
    parser.add_argument("--width", type=int, default=1100)
    parser.add_argument("--height", type=int, help="of the upper part alone; by default the whole page")
    given = parser.parse_args()
    if find_browser() is None:
        parser.error(f"no Chromium: install one (any of {', '.join(NAMES)}), or say where it is in CHROMIUM")
    with tempfile.TemporaryDirectory() as name:
        html = write_page(given.run, Path(name) / "report.html").read_text(encoding="utf-8")
    shoot(html, given.to, width=given.width, height=given.height)
    print(f"{given.to}: {given.to.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
