"""The pages of docs/methods and docs/blocks are what the code says."""

from __future__ import annotations

import graftwork as gw
from docs.make_methods import BESIDE, DOCS, FOLDERS, pages


def test_the_pages_are_those_that_the_command_writes() -> None:
    written = pages()
    found = [path for folder in FOLDERS for path in (DOCS / folder).glob("*.md")]
    have = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in found}
    assert sorted(have) == sorted(written), "run `make docs`"
    for name, text in written.items():
        assert have[name] == text, f"{name} is not what the code says; run `make docs`"
    ours = [name for name, config in gw.methods().items() if config.__module__.startswith("graftwork.")]
    kinds = [block.kind for block in vars(gw.compose).values() if isinstance(block, type) and is_block(block)]
    wanted = {*(f"methods/{name}.md" for name in ours), *(f"blocks/{kind}.md" for kind in kinds)}
    assert wanted == {name for name in written if not name.endswith("README.md")}
    assert {"fuse", "scalearn", "route", "concat", "stack", "mixed_batch"} <= set(kinds)


def is_block(thing: type) -> bool:
    return issubclass(thing, gw.Block) and bool(thing.kind)


def test_the_tables_have_every_block_and_what_stands_beside_them() -> None:
    written = pages()
    for name, block in vars(gw.compose).items():
        if isinstance(block, type) and is_block(block):
            assert f"[`{name}`]({block.kind}.md)" in written["blocks/README.md"], name
    assert "2010.11918" in written["blocks/README.md"], "AdapterDrop's paper"
    table = written["methods/README.md"]
    for beside in BESIDE:
        (row,) = (line for line in table.splitlines() if line.startswith(f"| `{beside}` "))
        assert row.split("|")[2].strip(), f"{beside} says nothing of itself"
