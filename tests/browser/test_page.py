"""The page of a run in a browser: it is shown, it sorts, and nothing goes wrong in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from graftwork.report.gathered import Gathered
from graftwork.report.page import page
from tests.report.made_up import RECIPE, UNITS, comparison_of, results_of

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None and "NEEDS_BROWSER" not in os.environ,
    reason=f"no Chromium: install one (any of {', '.join(NAMES)}), or say where it is in CHROMIUM",
)
# What a reader does: click on the head of a column, once and again; what is seen after each is kept for the test.
CLICKS = """
<script>
const table = document.querySelector("table.sortable"), seen = [];
const column = (place) => [...table.tBodies[0].rows].map((row) => row.cells[place].textContent);
const heads = table.querySelectorAll("thead button");
for (const place of [4, 4, 0, 1]) { heads[place].click(); seen.push(column(place)); }
const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
document.body.dataset.seen = JSON.stringify({ seen, wide, charts: document.querySelectorAll("svg polyline").length });
</script>
"""


@pytest.fixture
def text(tmp_path: Path) -> str:
    (tmp_path / "recipe.json").write_text(json.dumps({"targets": ["rte", "mrpc"]}))
    return page(Gathered(tmp_path, RECIPE, UNITS, results_of(UNITS[:-1])))


def browse(folder: Path, html: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The page opened without a window; what the browser says on its console comes with the errors."""
    path = folder / "page.html"
    path.write_text(html, encoding="utf-8")
    command = [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [
        "--no-first-run",
        f"--user-data-dir={folder / 'profile'}",
        "--enable-logging=stderr",
        "--window-size=1100,1400",
    ]
    return subprocess.run(
        [*command, *options, path.as_uri()], capture_output=True, text=True, timeout=300, check=True, cwd=folder
    )


def said(ran: subprocess.CompletedProcess[str]) -> list[str]:
    """What the page wrote on the console."""
    return [line for line in ran.stderr.splitlines() if "CONSOLE" in line]


def test_tables_sort_by_a_click_and_turn_round_by_a_second(text: str, tmp_path: Path) -> None:
    ran = browse(tmp_path, text.replace("</body>", f"{CLICKS}</body>"), "--dump-dom")
    assert not said(ran)
    found = re.search(r'data-seen="([^"]*)"', ran.stdout)
    assert found is not None, ran.stdout[-500:]
    seen = json.loads(found[1].replace("&quot;", '"'))
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


def test_a_fault_in_a_page_would_be_seen(text: str, tmp_path: Path) -> None:
    """So that the other test can fail: what the page throws arrives here."""
    ran = browse(tmp_path, text.replace("</body>", "<script>throw new Error('broken')</script></body>"), "--dump-dom")
    assert any("broken" in line for line in said(ran))


def test_it_is_shown(text: str, tmp_path: Path) -> None:
    browse(tmp_path, text, f"--screenshot={tmp_path / 'shot.png'}")
    assert (tmp_path / "shot.png").stat().st_size > 20_000


# In a comparison: sort its first table by the difference to full fine-tuning, by the weights, and by the file.
COMPARED = """
<script>
const table = document.querySelector("table.sortable"), seen = {};
const heads = [...table.querySelectorAll("thead button")];
for (const name of ["to full [95 %]", "weights", "file"]) {
  const place = heads.findIndex((head) => head.textContent === name);
  heads[place].click();
  seen[name] = [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
}
const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
const points = [...document.querySelectorAll("svg circle[r='4']")].map((c) => [c.closest("svg"), c.getBoundingClientRect()]);
const inside = points.every(([svg, p]) => {
  const frame = svg.getBoundingClientRect();
  return p.left >= frame.left && p.right <= frame.right && p.top >= frame.top && p.bottom <= frame.bottom;
});
const names = [...document.querySelectorAll("svg g text")].filter((t) => t.closest("svg") === document.querySelector("svg"));
const boxes = names.map((name) => name.getBoundingClientRect());
const over = boxes.some((a, n) => boxes.some((b, m) => n < m
  && a.left < b.right && b.left < a.right && a.top + 3 < b.bottom - 3 && b.top + 3 < a.bottom - 3));
document.body.dataset.seen = JSON.stringify({ ...seen, wide, inside, over, points: points.length, names: names.length });
</script>
"""


def test_a_comparison_sorts_and_its_picture_is_whole(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps({"targets": ["rte", "mrpc"]}))
    text = page(Gathered(tmp_path, RECIPE, UNITS, results_of(UNITS), comparison_of()))
    ran = browse(tmp_path, text.replace("</body>", f"{COMPARED}</body>"), "--dump-dom")
    assert not said(ran)
    found = re.search(r'data-seen="([^"]*)"', ran.stdout)
    assert found is not None, ran.stdout[-500:]
    seen = json.loads(found[1].replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    differences = ["head only", "shared adapter, all tasks", "houlsby", "a <b>"]
    assert [name for name in seen["to full [95 %]"] if name != "full fine-tuning"] == differences
    smallest = ["head only", "a <b>", "shared adapter, all tasks", "houlsby", "full fine-tuning"]
    assert seen["weights"] == seen["file"] == smallest
    assert seen["points"] == 15 and seen["names"] == 5
    assert seen["inside"] and not seen["over"] and not seen["wide"]
