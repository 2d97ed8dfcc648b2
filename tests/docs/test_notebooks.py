"""The notebooks as they are in the repository: valid, executed, by the code that they show; `make test-notebooks` executes them."""

from __future__ import annotations

import ast
import importlib.util
import pydoc
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

if importlib.util.find_spec("nbclient") is None:
    pytest.skip("nbclient is not installed: pip install 'graftwork[notebooks]'", allow_module_level=True)

import nbformat
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from docs import make_notebooks
from docs.make_notebooks import FOLDER, PAGES, cleaned, executed, faults, hash_of

NAMES = [path.name for path in make_notebooks.notebooks()]


@pytest.fixture(params=NAMES)
def notebook(request: pytest.FixtureRequest) -> NotebookNode:
    return nbformat.read(FOLDER / request.param, as_version=4)


def _code(notebook: NotebookNode) -> ast.Module:
    return ast.parse("\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code"))


def _used(tree: ast.Module) -> Iterator[str]:
    """Every name of the library that the code uses, with its module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("graftwork"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            dotted = ast.unparse(node)
            if re.fullmatch(r"gw(\.\w+)+", dotted):
                yield f"graftwork.{dotted.removeprefix('gw.')}"


def test_they_are_numbered() -> None:
    assert [name[:3] for name in NAMES] == [f"{number:02}_" for number in range(1, 9)]


def test_it_is_valid_and_executed(notebook: NotebookNode) -> None:
    nbformat.validate(notebook)
    assert not list(faults(notebook))


def test_it_is_short_and_says_what_it_is(notebook: NotebookNode) -> None:
    first, *others = notebook.cells
    assert first.cell_type == "markdown" and first.source.startswith("# ") and "minute" in first.source
    assert 8 <= len(notebook.cells) <= 24
    assert sum(len(cell.source.splitlines()) for cell in others) < 260
    assert any("check" in cell.metadata.get("tags", []) and "assert" in cell.source for cell in others)


def test_it_shows_pictures(notebook: NotebookNode) -> None:
    assert len([one for cell in notebook.cells for one in make_notebooks.pictures(cell)]) >= 1


def test_every_name_of_the_library_is_there(notebook: NotebookNode) -> None:
    used = set(_used(_code(notebook)))
    assert used
    assert not [dotted for dotted in used if pydoc.locate(dotted) is None]


def test_its_links_lead_somewhere(notebook: NotebookNode) -> None:
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\(([^)\s:#]+)", text):
        assert (FOLDER / target).exists(), target


def test_the_page_is_the_one_that_the_command_writes() -> None:
    assert {path.name: path.read_bytes() for path in PAGES.iterdir()} == make_notebooks.page(), "run `make notebooks`"


def _written(folder: Path, *cells: str) -> Path:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, folder / "made.ipynb")
    return folder / "made.ipynb"


@pytest.mark.slow
def test_a_notebook_is_executed_in_its_folder(tmp_path: Path) -> None:
    made = executed(_written(tmp_path, "from pathlib import Path\nn = 6", "print('a')\nprint(Path.cwd().name, 7 * n)"))
    assert made.cells[1].outputs[0].text == f"a\n{tmp_path.name} 42\n"
    assert list(faults(made)) == [f"{made.cells[0].id}: shows nothing"]


@pytest.mark.slow
def test_a_cell_that_fails_ends_it(tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError, match="not so"):
        executed(_written(tmp_path, "print(1)", "assert 1 > 2, 'not so'"))


def test_what_a_reader_should_not_find_is_found() -> None:
    def output(**kept: object) -> NotebookNode:
        cell = nbformat.v4.new_code_cell("print(1)", execution_count=1, outputs=[nbformat.v4.new_output(**kept)])
        return cleaned(nbformat.v4.new_notebook(cells=[cell]))

    def stream(text: str, name: str = "stdout") -> NotebookNode:
        return output(output_type="stream", name=name, text=text)

    assert not list(faults(stream("1 / 2, 3/4, GET /v1/tasks of http://127.0.0.1/v1/tasks\n")))
    assert "a path of a machine: /models/mine/base" in next(faults(stream("from /models/mine/base\n")))
    assert "writes to stderr" in next(faults(stream("a warning", "stderr")))
    assert "failed with ValueError" in next(
        faults(output(output_type="error", ename="ValueError", evalue="", traceback=[]))
    )
    large = output(output_type="display_data", data={"image/png": "A" * 100_000})
    assert "a picture of 75,000 bytes" in next(faults(large))
    changed = stream("1")
    changed.cells[0].source = "print(2)"
    assert hash_of(changed) != changed.metadata.executed
    assert "not those of its code" in next(faults(changed))
    skipped = stream("1")
    skipped.cells[0].execution_count = 3
    assert "not in its order" in next(faults(skipped))
