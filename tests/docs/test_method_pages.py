"""The pages of docs/methods are what the code says."""

from __future__ import annotations

import graftwork as gw
from docs.make_methods import FOLDER, pages


def test_the_pages_are_those_that_the_command_writes() -> None:
    written = pages()
    have = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    assert sorted(have) == sorted(written), "run `make docs`"
    for name, text in written.items():
        assert have[name] == text, f"{name} is not what the code says; run `make docs`"
    ours = [name for name, config in gw.methods().items() if config.__module__.startswith("graftwork.")]
    assert {f"{name}.md" for name in ours} == {*written} - {"README.md"}
