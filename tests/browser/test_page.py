"""The page of a run in a browser: it is shown, it sorts, it fits a phone, is dark, prints; and nothing goes wrong in it."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.live_browser import NAMES, LiveBrowser, find_browser, live_browser
from docs.make_screenshot import shoot
from graftwork.experiments import plan
from graftwork.report.page import page
from graftwork.report.run_data import Gathered
from tests.report.made_up import MANY, RECIPE, UNITS, comparison_of, evidence_of, many_results, results_of

pytestmark = pytest.mark.skipif(
    find_browser() is None and "NEEDS_BROWSER" not in os.environ,
    reason=f"no Chromium: install one (any of {', '.join(NAMES)}), or say where it is in CHROMIUM",
)
# What a reader does: click on the head of a column, once and again; what is seen after each is kept for the test.
CLICKS = """
const table = document.querySelector("table.sortable"), seen = [];
const column = (place) => [...table.tBodies[0].rows].map((row) => row.cells[place].textContent);
const heads = table.querySelectorAll("thead button");
for (const place of [4, 4, 0, 1]) { heads[place].click(); seen.push(column(place)); }
const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
({ seen, wide, charts: document.querySelectorAll("svg g > title").length })
"""


# The same for every table of a run of many tasks: all of them sort by every column, there and back.
ALL_TABLES = """
const tables = [...document.querySelectorAll("table.sortable")];
const first = (table, place) => [...table.tBodies[0].rows].map((row) => row.cells[place].textContent);
for (const table of tables)
  for (const head of table.querySelectorAll("thead button")) { head.click(); head.click(); }
const last = tables.filter((table) => !table.closest("details")).at(-2), heads = last.querySelectorAll("thead button");
heads[2].click();
const matrices = document.querySelector("svg[aria-label^='what is forgotten']");
const words = [...matrices.querySelectorAll("text")].filter((text) => /^[0-9.]+$/.test(text.textContent));
const ink = Object.fromEntries(words.map((text) => [text.textContent, getComputedStyle(text).fill]));
const boxes = [...matrices.querySelectorAll("text")].filter((text) => text.textContent.includes("in sequence"))
  .map((text) => text.getBoundingClientRect().top);
const images = [...matrices.querySelectorAll("image")].map((image) => image.getBoundingClientRect().width);
({
  tables: tables.length, column: first(last, 2), ink, boxes, images,
  wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
})
"""


@pytest.fixture
def gathered(tmp_path: Path) -> Gathered:
    (tmp_path / "recipe.json").write_text(json.dumps({"targets": ["rte", "mrpc"]}))
    return Gathered(tmp_path, RECIPE, UNITS, results_of(UNITS[:-1]))


@pytest.fixture
def text(gathered: Gathered) -> str:
    return page(gathered)


@pytest.fixture
def many(gathered: Gathered) -> str:
    return page(dataclasses.replace(gathered, recipe=MANY, units=plan(MANY), results=many_results()))


@pytest.fixture(scope="module")
def browser() -> Iterator[LiveBrowser]:
    with live_browser() as found:
        yield found


@pytest.fixture
def shown(browser: LiveBrowser, tmp_path: Path) -> Callable[..., LiveBrowser]:
    """Opens a page; what an earlier one has said is forgotten."""

    def show(text: str, **options: Any) -> LiveBrowser:
        path = tmp_path / "page.html"
        path.write_text(text, encoding="utf-8")
        browser.said.clear()
        browser.open(path.as_uri(), ready="document.readyState === 'complete'", **options)
        return browser

    return show


def test_tables_sort_by_a_click_and_turn_round_by_a_second(text: str, shown: Callable[..., LiveBrowser]) -> None:
    browser = shown(text)
    seen = browser.run(CLICKS)
    assert not browser.said
    rising, falling, names, scores = seen["seen"]

    def size(cell: str) -> float:
        number, unit = cell.rstrip("*").split()
        return float(number) * {"KB": 1, "MB": 1000}[unit]

    sizes = [size(cell) for cell in rising if cell]
    assert len(sizes) > 3 and sizes == sorted(sizes) and sizes[0] < sizes[-1]
    assert [size(cell) for cell in falling if cell] == sizes[::-1]
    assert names == sorted(names, key=str.lower)
    numbers = [float(cell.split()[0]) for cell in scores if cell[:1].isdigit()]
    assert numbers == sorted(numbers)
    assert seen["charts"] > 10 and not seen["wide"]


def test_a_fault_in_a_page_would_be_seen(text: str, shown: Callable[..., LiveBrowser]) -> None:
    """So that the other test can fail: what the page throws arrives here."""
    browser = shown(text.replace("</body>", "<script>throw new Error('broken')</script></body>"))
    browser.run("0")
    assert any("broken" in line for line in browser.said)


def test_a_page_of_many_tasks_sorts_and_paints(many: str, shown: Callable[..., LiveBrowser]) -> None:
    browser = shown(many)
    seen = browser.run(ALL_TABLES)
    assert not browser.said
    assert seen["tables"] == 3 + 1 + 2 + 3 and not seen["wide"]
    assert seen["column"] == ["61.0", "71.0", "73.0*"]  # full fine-tuning's first task, from the worst to the best
    assert min(seen["images"][:2]) > 100
    assert (
        seen["ink"]["61.0"] == "rgb(255, 255, 255)" and seen["ink"]["81.0"] == "rgb(26, 26, 26)"
    )  # read on their colours
    assert len(seen["boxes"]) == 2 and seen["boxes"][0] == seen["boxes"][1]  # beside each other


@pytest.mark.parametrize("height", [None, 700])
def test_a_picture_of_a_page(many: str, tmp_path: Path, height: int | None) -> None:
    shoot(many, tmp_path / "new" / "shot.png", height=height)
    picture = (tmp_path / "new" / "shot.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 20_000
    assert (int.from_bytes(picture[20:24], "big") > 2000) == (height is None)  # the whole of it where nothing is said


# In a comparison: sort its first table by the difference to full fine-tuning, by the weights, and by the file.
COMPARED = """
const table = document.querySelector("table.sortable"), seen = {};
const heads = [...table.querySelectorAll("thead button")];
for (const name of ["to full [95 %]", "weights", "file"]) {
  const place = heads.findIndex((head) => head.textContent === name);
  heads[place].click();
  seen[name] = [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
}
const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
const compared = [...document.querySelectorAll("svg[aria-label$='trained weights a task']")];
const points = compared.flatMap((svg) => [...svg.querySelectorAll("g")].filter((g) => g.querySelector(":scope > title"))
  .map((g) => [svg, g.getBoundingClientRect()]));
const inside = points.every(([svg, p]) => {
  const frame = svg.getBoundingClientRect();
  return p.left >= frame.left && p.right <= frame.right && p.top >= frame.top && p.bottom <= frame.bottom;
});
const known = new Set([...table.tBodies[0].rows].map((row) => row.cells[0].textContent));
const names = [...compared[0].querySelectorAll("text")].filter((text) => known.has(text.textContent));
const boxes = names.map((name) => name.getBoundingClientRect());
const over = boxes.some((a, n) => boxes.some((b, m) => n < m
  && a.left < b.right && b.left < a.right && a.top + 3 < b.bottom - 3 && b.top + 3 < a.bottom - 3));
({ ...seen, wide, inside, over, points: points.length, names: names.length })
"""


def test_a_comparison_sorts_and_its_picture_is_whole(tmp_path: Path, shown: Callable[..., LiveBrowser]) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps({"targets": ["rte", "mrpc"]}))
    text = page(Gathered(tmp_path, RECIPE, UNITS, results_of(UNITS), comparison_of()))
    browser = shown(text)
    seen = browser.run(COMPARED)
    assert not browser.said
    differences = ["head only", "shared adapter, all tasks", "houlsby", "a <b>"]
    assert [name for name in seen["to full [95 %]"] if name != "full fine-tuning"] == differences
    smallest = ["head only", "a <b>", "shared adapter, all tasks", "houlsby", "full fine-tuning"]
    assert seen["weights"] == seen["file"] == smallest
    assert seen["points"] == 15 and seen["names"] == 5
    assert seen["inside"] and not seen["over"] and not seen["wide"]


# The widths of the page, of the body of a phone, and whether what is wider scrolls in a box of its own.
WIDTHS = """
const wide = [...document.querySelectorAll("table, svg, pre")].filter((one) => one.checkVisibility());
const boxed = wide.every((one) => {
  const box = one.closest(".wide, pre") ?? one;
  return box.getBoundingClientRect().right <= innerWidth && ["auto", "scroll"].includes(getComputedStyle(box).overflowX);
});
({ window: innerWidth, page: document.documentElement.scrollWidth, boxed, pictures: document.querySelectorAll("svg").length,
   ink: getComputedStyle(document.body).color, paper: getComputedStyle(document.body).backgroundColor,
   text: getComputedStyle(document.querySelector("svg text")).fill,
   bars: [...document.querySelectorAll("svg[aria-label$='scores'] path")].map((one) => getComputedStyle(one).fill) })
"""

# The least contrast of any shown text with what is behind it: both are painted on a canvas, which knows every colour.
CONTRAST = """
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const paint = (colours) => {
  for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
  const parts = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((one) => one / 255);
  const [r, g, b] = parts.map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (one) => (one ? [...behind(one.parentElement), getComputedStyle(one).backgroundColor] : ["white"]);
const texts = [...document.querySelectorAll("h1, h2, p, th button, td, summary, figcaption, pre, a, .tokens span")]
  .filter((one) => one.checkVisibility() && one.textContent.trim());
const found = texts.map((one) => {
  const back = behind(one), [a, b] = [paint(back), paint([...back, getComputedStyle(one).color])];
  return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), one.tagName, one.textContent.slice(0, 40)];
});
({ count: found.length, least: found.sort((a, b) => a[0] - b[0])[0] })
"""


@pytest.fixture
def judged(gathered: Gathered) -> str:
    """A page with all that predictions tell, long words and texts in it."""
    results = results_of(UNITS)
    evidence = evidence_of(0.05, 0.03, results["targets"])
    evidence["targets"][0]["changed"][0]["text"] = "unbreakable" * 30
    tokens = {"tokens": ["word", "x" * 90], "weights": [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]]}
    for unit in results["units"]:
        if unit["kind"] == "fusion":
            unit["attention"] = {**unit["attention"], "examples": [tokens]}
    return page(dataclasses.replace(gathered, results=results, evidence=evidence))


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1100])
def test_it_fits_a_phone_and_is_read_in_dark_colours(
    judged: str, shown: Callable[..., LiveBrowser], width: int, dark: bool
) -> None:
    browser = shown(judged, width=width, height=740, dark=dark)
    browser.run("document.querySelectorAll('details').forEach((one) => (one.open = true)); 0")
    seen = browser.run(WIDTHS)
    assert seen["window"] == seen["page"] == width and seen["boxed"] and seen["pictures"] > 8
    light, black = "rgb(232, 232, 230)", "rgb(26, 26, 26)"
    assert seen["ink"] == seen["text"] == (light if dark else black)
    assert seen["paper"] == ("rgb(27, 27, 26)" if dark else "rgb(255, 255, 255)")
    assert seen["ink"] in seen["bars"]  # what is black on white
    contrast = browser.run(CONTRAST)
    assert contrast["count"] > 100 and contrast["least"][0] >= 4.5, contrast["least"]
    assert browser.run("performance.getEntriesByType('resource').map((one) => one.name)") == []
    assert not browser.said


def test_it_prints_in_light_colours_with_everything_open(judged: str, shown: Callable[..., LiveBrowser]) -> None:
    browser = shown(judged, dark=True)
    browser.run("""globalThis.before = document.querySelectorAll("details:not([open])").length;
        addEventListener("beforeprint", () => (globalThis.closed = document.querySelectorAll("details:not([open])").length)); 0""")
    printed = base64.b64decode(browser.call("Page.printToPDF")["data"])
    assert printed.startswith(b"%PDF") and len(printed) > 20_000
    assert browser.run("[before > 2, closed, document.querySelectorAll('details:not([open])').length === before]") == [
        True,
        0,
        True,
    ]
    media = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.call("Emulation.setEmulatedMedia", media="print", features=media)
    seen = browser.run(WIDTHS)
    browser.call("Emulation.setEmulatedMedia", media="", features=[])
    assert seen["paper"] == "rgb(255, 255, 255)" and seen["ink"] == "rgb(26, 26, 26)"
