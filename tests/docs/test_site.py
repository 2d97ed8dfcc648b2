"""The site of the documentation builds without a warning, and nothing in it leads nowhere or comes from elsewhere."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from docs import make_peer_table, make_reference
from tests.support.site import ROOT, Page, build_site, dead, pages_of

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="mkdocs is not installed: pip install 'graftwork[docs]'"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    return pages_of(site)


def test_every_page_of_the_documentation_is_in_it(pages: dict[str, Page]) -> None:
    for path in (ROOT / "docs").rglob("*.md"):
        name = path.relative_to(ROOT / "docs").with_suffix("").as_posix()
        folder = name.removesuffix("README").removesuffix("index").strip("/")
        assert f"{folder}/index.html".lstrip("/") in pages, name


def test_every_link_leads_somewhere(site: Path, pages: dict[str, Page]) -> None:
    assert sum(len(page.links) for page in pages.values()) > 5000
    assert not list(dead(site, pages))


def test_a_dead_link_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<a href="gone/">x</a> <a href="#nowhere">y</a> <a href="#here" id="here">z</a>'
    )
    assert len(list(dead(tmp_path, pages_of(tmp_path)))) == 2


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[str, Page]) -> None:
    assert not [one for page in pages.values() for one in page.loaded if "//" in one]
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert "url(http" not in text and "url(//" not in text and "@import" not in text, style


def test_every_public_name_is_in_the_reference(pages: dict[str, Page]) -> None:
    anchors = {anchor for name, page in pages.items() if name.startswith("reference/") for anchor in page.anchors}
    wanted = {make_reference.path_of(part, name) for part, names in make_reference.names().items() for name in names}
    assert len(wanted) > 150 and wanted <= anchors


def test_the_pages_of_the_reference_are_those_that_the_command_writes() -> None:
    have = {path.name: path.read_text(encoding="utf-8") for path in make_reference.FOLDER.glob("*.md")}
    assert have == make_reference.pages(), "run `make docs`"


def test_the_table_of_peers_is_what_the_command_prints() -> None:
    text = make_peer_table.README.read_text(encoding="utf-8")
    assert text == make_peer_table.renewed(text), "run `make docs`"
    assert text.count("|  | graftwork | adapters 1.3.0 | peft 0.21.2 |") == 1
    assert ("make bench-peers" in text) >= make_peer_table.SPEED.is_file()
