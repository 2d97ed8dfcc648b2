"""The pages of docs/methods are what the code says."""

from __future__ import annotations

import graftwork as gw
from docs.make_methods import BESIDE, FOLDER, pages


def test_the_pages_are_those_that_the_command_writes() -> None:
    written = pages()
    have = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    assert sorted(have) == sorted(written), "run `make docs`"
    for name, text in written.items():
        assert have[name] == text, f"{name} is not what the code says; run `make docs`"
    ours = [name for name, config in gw.methods().items() if config.__module__.startswith("graftwork.")]
    kinds = [block.kind for block in vars(gw.compose).values() if isinstance(block, type) and learns(block)]
    assert {f"{name}.md" for name in (*ours, *kinds)} == {*written} - {"README.md"}
    assert {"fuse", "scalearn", "route", "concat"} <= set(kinds)


def learns(block: type) -> bool:
    return issubclass(block, gw.Learned) and bool(block.kind)


def test_the_table_has_every_block_and_what_stands_beside_them() -> None:
    table = pages()["README.md"]
    for name, block in vars(gw.compose).items():
        if isinstance(block, type) and issubclass(block, gw.Block) and block.kind:
            assert f"`{name}`" in table, name
    assert "2010.11918" in table, "AdapterDrop's paper"
    for written in BESIDE:
        (row,) = (line for line in table.splitlines() if line.startswith(f"| `{written}` "))
        assert row.split("|")[2].strip(), f"{written} says nothing of itself"
