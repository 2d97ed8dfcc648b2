"""Writes a picture of a server's page: `python -m docs.make_serving_screenshot RUN docs/results/serving.png TEXT --task TASK`.

Needs a Chromium and the extra `serve`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from docs.live_browser import NAMES, find_browser, live_browser


def shoot(address: str, to: Path, task: str, texts: list[str], *, width: int, dark: bool) -> None:
    """A picture of the page after a task was tried."""
    with live_browser() as browser:
        browser.open(address, width=width, dark=dark)
        browser.run(f"at('task').value = {task!r}; at('task').dispatchEvent(new Event('change')); 0")
        for n, text in enumerate(texts):
            browser.run(f"document.querySelectorAll('#fields textarea')[{n}].value = {text!r}; 0")
        browser.run("document.querySelector('button').click()")
        browser.wait_for("!document.querySelector('button').disabled && !document.getElementById('answer').hidden")
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(browser.picture())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="what is served")
    parser.add_argument("to", type=Path, help="the picture, a .png")
    parser.add_argument("texts", nargs="+", help="what is typed, a text for each field")
    parser.add_argument("--task", required=True)
    parser.add_argument("--width", type=int, default=820)
    parser.add_argument("--dark", action="store_true")
    given = parser.parse_args()
    if find_browser() is None:
        parser.error(f"no Chromium: install one (any of {', '.join(NAMES)}), or say where it is in CHROMIUM")
    command = [sys.executable, "-m", "graftwork", "serve", str(given.run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ}) as server:
        assert server.stdout is not None
        found = re.search(r"serving on (http://\S+)", server.stdout.readline())
        if found is None:
            raise SystemExit("the server has not started")
        try:
            shoot(f"{found[1]}/", given.to, given.task, given.texts, width=given.width, dark=given.dark)
        finally:
            server.terminate()
    print(f"{given.to}: {given.to.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
