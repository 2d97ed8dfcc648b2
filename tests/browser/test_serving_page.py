"""The page of a server in a browser: a task is tried, tags and probabilities are seen, and where a fusion looks."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from docs.live_browser import NAMES, LiveBrowser, find_browser, live_browser
from tests.support.tiny_serving import Running, every_kind_run, serving

pytestmark = pytest.mark.skipif(
    find_browser() is None and "NEEDS_BROWSER" not in os.environ,
    reason=f"no Chromium: install one (any of {', '.join(NAMES)}), or say where it is in CHROMIUM",
)
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(every_kind_run(tmp_path_factory.mktemp("page"))) as running:
        yield running


@pytest.fixture
def browser() -> Iterator[LiveBrowser]:
    with live_browser() as found:
        yield found


def tried(
    browser: LiveBrowser, task: str, *texts: str, wait: str = "!document.getElementById('answer').hidden"
) -> None:
    """Choose a task, type texts, and send them."""
    browser.run(f"at('task').value = {task!r}; at('task').dispatchEvent(new Event('change')); 0")
    for n, text in enumerate(texts):
        browser.run(f"document.querySelectorAll('#fields textarea')[{n}].value = {text!r}; 0")
    browser.run("document.querySelector('button').click()")
    browser.wait_for(wait)


def text_of(browser: LiveBrowser, selector: str) -> list[str]:
    return browser.run(f"[...document.querySelectorAll({selector!r})].map((one) => one.textContent)")


def address(server: Running) -> str:
    return f"http://127.0.0.1:{server.port}/"


def test_probabilities_and_where_the_fusion_looks(browser: LiveBrowser, server: Running) -> None:
    browser.open(address(server))
    tried(browser, "classification", "good film", wait="!document.getElementById('attention').hidden")
    wanted = server.predict(task="classification", texts=["good film"])[1]["predictions"][0]
    assert text_of(browser, "#value") == [wanted["value"]]
    ordered = sorted(wanted["probabilities"].items(), key=lambda item: -item[1])
    assert text_of(browser, ".chance span") == [name for name, _ in ordered]
    assert text_of(browser, ".chance b") == [f"{100 * chance:.1f} %" for _, chance in ordered]
    widths = browser.run("[...document.querySelectorAll('.bar div')].map((one) => one.getBoundingClientRect().width)")
    assert widths[0] > widths[1] > 0  # the policy lets bars be drawn
    assert text_of(browser, "#weights tbody th") == ["[CLS]", "good", "film", "[SEP]"]
    looked = server.ask("POST", "/v1/attention", {"task": "classification", "texts": ["good film"]})[1]
    assert text_of(browser, "#weights thead th")[1:] == looked["adapters"]
    site, weights = next(iter(looked["sites"].items()))
    browser.run(f"at('site').value = {site!r}; at('site').onchange(); 0")
    assert text_of(browser, "#weights tbody td") == [f"{weight:.2f}" for row in weights for weight in row]
    assert not browser.said


def test_tags_are_shown_on_their_words(browser: LiveBrowser, server: Running) -> None:
    browser.open(address(server))
    tried(browser, "tagging", "Anna lives in Berlin")
    value = server.predict(task="tagging", texts=["Anna lives in Berlin"])[1]["predictions"][0]["value"]
    assert "".join(text_of(browser, "#value span, #value mark")).count("lives") == 1
    assert len(text_of(browser, "#value mark")) <= sum(tag != "O" for tag in value)
    assert browser.run("showTags(['B-PER', 'I-PER', 'O', 'B-LOC'], ['Ada', 'L', 'in', 'Rome'], at('value')); 0") == 0
    assert text_of(browser, "#value mark")[-2:] == ["Ada LPER", "RomeLOC"]
    assert not browser.said


def test_other_kinds_and_errors(browser: LiveBrowser, server: Running) -> None:
    browser.open(address(server))
    tried(browser, "multiple_choice", "the dog ran", "mat\nfast\nwho ?")
    assert len(text_of(browser, ".chance")) == 3
    tried(browser, "question_answering", "who lives in Berlin ?", "Anna lives in Berlin .")
    assert text_of(browser, "#value")[0] in "Anna lives in Berlin ."
    assert not browser.said
    tried(browser, "multiple_choice", "the dog ran", "mat", wait="!document.getElementById('error').hidden")
    assert "its 3 choices" in text_of(browser, "#error")[0] and browser.run("at('answer').hidden")


def test_what_is_typed_stays_text(browser: LiveBrowser, server: Running) -> None:
    browser.open(address(server))
    evil = "<img src=x onerror=alert(1)>"
    tried(browser, "tagging", evil)
    assert browser.run("document.querySelectorAll('img').length") == 0 and not browser.said


@pytest.mark.parametrize("dark", [False, True])
def test_on_a_phone(browser: LiveBrowser, server: Running, dark: bool) -> None:
    browser.open(address(server), **PHONE, dark=dark)
    tried(browser, "classification", "good film " * 20, wait="!document.getElementById('attention').hidden")
    assert not browser.run("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    ink, paper = browser.run("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
    light = [sum(map(int, colour[4:-1].split(","))) for colour in (ink, paper)]
    assert (light[0] > light[1]) == dark and abs(light[0] - light[1]) > 400
    heights = "[...document.querySelectorAll('select, textarea, button')].map((one) => one.offsetHeight)"
    assert min(height for height in browser.run(heights) if height) > 30  # a finger finds them
    assert browser.picture().startswith(b"\x89PNG")


def test_nothing_comes_from_elsewhere(server: Running) -> None:
    status, page, headers = server.ask("GET", "/")
    assert status == 200 and headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert "unsafe" not in headers["content-security-policy"] and headers["x-content-type-options"] == "nosniff"
    for path in ("/page.js", "/page.css"):
        status, text, _ = server.ask("GET", path)
        assert status == 200 and "://" not in text
    assert "style=" not in page and "onclick" not in page and "http" not in page
