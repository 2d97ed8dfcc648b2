"""The site of the documentation in a browser: it is quiet, its search finds, it fits a phone, and loads nothing from elsewhere."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.live_browser import LiveBrowser, live_browser
from docs.make_screenshot import NAMES, find_browser
from tests.support.site import build_site

pytestmark = [
    pytest.mark.skipif(
        find_browser() is None and "NEEDS_BROWSER" not in os.environ,
        reason=f"no Chromium: install one (any of {', '.join(NAMES)}), or say where it is in CHROMIUM",
    ),
    pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="mkdocs is not installed"),
]
READY = "document.readyState === 'complete'"
PAGES = ("", "getting-started/", "guides/fusion/", "methods/", "methods/pfeiffer/", "reference/", "results/speed/")
PAGES += ("interop/", "troubleshooting/", "migrating/from-adapters/", "architecture/")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    site: Path = build_site(tmp_path_factory.mktemp("site"))
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[LiveBrowser]:
    with live_browser() as found:
        yield found


@pytest.mark.parametrize("width", [360, 1200])
def test_pages_are_quiet_and_fit(browser: LiveBrowser, address: str, width: int) -> None:
    for page in PAGES:
        browser.open(address + page, width=width, height=800, ready=READY)
        wide = browser.run("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide[0] <= wide[1], (page, wide)
        assert browser.run("document.querySelector('h1').textContent.length > 3"), page
        loaded = browser.run("performance.getEntriesByType('resource').map((one) => one.name)")
        assert loaded and all(one.startswith(address) for one in loaded), (page, loaded)
    assert not browser.said


def test_the_search_finds_a_message(browser: LiveBrowser, address: str) -> None:
    browser.open(address, ready=READY)
    browser.run("document.querySelector('[data-md-component=search-query]').focus(); 0")
    browser.call("Input.insertText", text="compiled already")
    browser.wait_for("document.querySelectorAll('.md-search-result__link').length")
    links = browser.run("[...document.querySelectorAll('.md-search-result__link')].map((one) => one.href)")
    assert any("troubleshooting/" in link for link in links), links
    assert not browser.said


def test_in_the_dark(browser: LiveBrowser, address: str) -> None:
    for dark in (False, True):
        browser.open(address, ready=READY, dark=dark)
        ink, paper = browser.run(
            "[getComputedStyle(document.querySelector('.md-typeset')).color, getComputedStyle(document.body).backgroundColor]"
        )
        light = [sum(map(float, colour.split("(")[1].rstrip(")").split(",")[:3])) for colour in (ink, paper)]
        assert (light[0] > light[1]) == dark, (ink, paper)
