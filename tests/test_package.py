"""The package and the repository around it: what is shipped, what is promised, what must not be here."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:  # the environments are made on 3.11 or newer; the library itself runs on 3.10
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parents[1]
MEGABYTE = 2**20


@cache
def project() -> dict:
    return tomllib.loads(read("pyproject.toml"))


@cache
def repository_files() -> tuple[Path, ...]:
    """Every file that is in the repository or would be with the next commit."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return tuple(path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file())


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


# ----------------------------------------------------------------------------------------- the package


def test_version_is_the_one_of_the_distribution() -> None:
    import graftwork

    assert graftwork.__version__ == project()["project"]["version"] == version("graftwork")


def test_wheel_holds_the_whole_package_and_its_types(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    source = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")}
    assert "graftwork/py.typed" in packed
    assert source <= packed
    assert {name.split("/")[0] for name in packed} == {"graftwork", "graftwork_command.py"}


# ------------------------------------------------------------------------- what must not be in the repository

FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w.~$}-])/(?:home|Users|root|work|mnt|opt|tmp)/\w|\b[A-Z]:\\Users\\"),
    "the address of a package registry": re.compile(
        r"(?:index[-_]url|find[-_]links)\s*[= ]\s*\S|\bpypi\.org/simple|pythonhosted\.org|download\.pytorch\.org",
        re.IGNORECASE,
    ),
    "an installation from a file or a repository": re.compile(r"^\s*[\w.-]+ @ (?:file|git)", re.MULTILINE),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_ties_the_repository_to_one_machine(what: str) -> None:
    found = []
    for path in repository_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match.group()!r}" for match in FORBIDDEN[what].finditer(text)]
    assert not found, f"{what}: " + "; ".join(found[:10])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("see /" + "home/someone/model", "a path of one machine"),
        ('open("/' + 'tmp/x")', "a path of one machine"),
        ("pip install --index" + "-url=https://x", "the address of a package registry"),
        ("torch @ file" + ":///x.whl", "an installation from a file or a repository"),
    ],
)
def test_the_search_for_machine_paths_finds_them(text: str, what: str) -> None:
    assert FORBIDDEN[what].search(text)


@pytest.mark.parametrize("text", ["https://example.org/work/x", "src/home/x", "$HOME/tmp/x", "/usr/bin/env bash"])
def test_the_search_for_machine_paths_leaves_other_paths_alone(text: str) -> None:
    assert not any(pattern.search(text) for pattern in FORBIDDEN.values())


def test_no_file_is_huge() -> None:
    sizes = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in repository_files()}
    assert not {name: size for name, size in sizes.items() if size > 2 * MEGABYTE}
    assert sum(sizes.values()) < 20 * MEGABYTE


def test_no_weights_and_no_caches() -> None:
    suffixes = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pyc", ".whl"}
    assert not [path for path in repository_files() if path.suffix in suffixes and path.stat().st_size > MEGABYTE // 4]


# ---------------------------------------------------------------------------------------- environments


def requirement_name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def pins(name: str) -> dict[str, str]:
    lines = [line for line in read(name).splitlines() if line and not line.startswith("#")]
    wrong = [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)]
    assert not wrong, f"{name} holds names and versions only, not {wrong}"
    pairs = [line.split("==") for line in lines]
    return {requirement_name(package): pinned for package, pinned in pairs}


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-oldest.txt"])
def test_every_direct_dependency_is_pinned(name: str) -> None:
    metadata = project()["project"]
    wanted = {requirement_name(one) for one in metadata["dependencies"]}
    wanted |= {requirement_name(one) for extra in metadata["optional-dependencies"].values() for one in extra}
    assert wanted <= pins(name).keys()


def test_the_pins_are_the_two_ends_of_the_supported_transformers() -> None:
    (supported,) = [one for one in project()["project"]["dependencies"] if one.startswith("transformers")]
    lowest, below = re.fullmatch(r"transformers>=([\d.]+),<(\d+)", supported).groups()
    assert pins("constraints-oldest.txt")["transformers"].startswith(lowest + ".")
    assert pins("constraints.txt")["transformers"].startswith(f"{int(below) - 1}.")


# ------------------------------------------------------------------------------------- commands, documents


def targets() -> set[str]:
    return {name for line in re.findall(r"^\.PHONY:(.*)$", read("Makefile"), re.MULTILINE) for name in line.split()}


def test_make_alone_lists_every_target_with_a_line_about_it() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = dict(re.findall(r"^  ([a-z-]+) +(\S.*)$", shown, re.MULTILINE))
    assert listed.keys() == targets()
    rules = set(re.findall(r"^([a-z][a-z-]*):(?!=)", read("Makefile"), re.MULTILINE))
    assert rules == targets()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", ".ci/run"])
def test_every_make_command_that_is_named_exists(name: str) -> None:
    # `make target`, alone in backquotes or first in a line of a shell block
    named = set(re.findall(r"(?:`|^)(?:\w+=\S+ )?make (?:--[\w-]+ )*([a-z][a-z-]+)", read(name), re.MULTILINE))
    assert named, f"{name} names no make command"
    assert named <= targets()


def test_readme_names_the_two_commands() -> None:
    assert {"make demo", "make test"} <= set(re.findall(r"\bmake [a-z-]+", read("README.md")))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_within_the_repository_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", read(name))
    assert not [link for link in links if not (ROOT / link).exists()]


def test_code_in_the_readme_is_python() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", read("README.md"), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        ast.parse(block)


def test_importing_the_library_does_not_import_transformers() -> None:
    code = "import sys, graftwork; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_licence_is_the_full_text() -> None:
    text = read("LICENSE")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert project()["project"]["license"] == "Apache-2.0"


def test_ci_script_can_be_run() -> None:
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_old_names_lead_to_the_new_ones_with_a_warning() -> None:
    import graftwork as gw
    from graftwork import experiments, inference, training

    with pytest.warns(DeprecationWarning, match="ModelWithHeads"):
        assert gw.Headed is gw.ModelWithHeads
    for package in (experiments, inference):
        for name in training._MOVED[package.__name__.rpartition(".")[2]].split():
            with pytest.warns(DeprecationWarning, match=f"{package.__name__}.{name} now"):
                assert getattr(training, name) is getattr(package, name)
    with pytest.raises(AttributeError):
        training.nothing  # noqa: B018
