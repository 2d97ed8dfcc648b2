"""The guides and the concepts do what they say: the Python of each page runs in order, and prints what the page shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from graftwork import compose
from graftwork.experiments.kinds import UNIT_KINDS

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted([*(DOCS / "guides").glob("*.md"), *(DOCS / "concepts").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_code(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    known: dict[str, object] = {"__name__": "__main__"}
    printed, shown = "", 0
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        if language == "python":
            exec(compile(text, f"docs/{page.name}", "exec"), known)
            printed = capsys.readouterr().out
        elif language == "text":
            shown += 1
            for line in text.splitlines():
                assert line in printed, f"{line!r} is not in what the code printed:\n{printed}"
    assert shown, "the page shows nothing of what its code prints"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_it_is_short(page: Path) -> None:
    assert len(page.read_text("utf-8").splitlines()) <= 120


def test_every_control_is_explained() -> None:
    page = (DOCS / "guides" / "recipes.md").read_text("utf-8")
    assert not [name for name, kind in UNIT_KINDS.items() if kind.control and f"`{name}`" not in page]


def test_every_block_has_its_weights_explained() -> None:
    page = (DOCS / "concepts" / "composition.md").read_text("utf-8")
    blocks = [name for name in compose.__all__ if getattr(getattr(compose, name), "kind", "")]
    assert len(blocks) > 8 and not [name for name in blocks if f"[`{name}`](../blocks/" not in page]
