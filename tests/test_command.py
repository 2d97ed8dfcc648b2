"""How the command line is started: what torch's threads do is set before torch is loaded, and by it alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.test_package import ROOT, project

WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
STARTS = {
    "python -m graftwork": ["-m", "graftwork"],
    # as pip writes it into the folder of the interpreter
    "graftwork": [
        "-c",
        "from {} import {} as command; command()".format(*project()["project"]["scripts"]["graftwork"].split(":")),
    ],
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="torch has other threads elsewhere")


def told(start: list[str], **own: str) -> dict[str, str]:
    """What the library of torch's threads says that it was told, when it was loaded last."""
    rest = {name: value for name, value in os.environ.items() if name not in WAITING}
    done = subprocess.run(
        [sys.executable, *start, "--help"], env={**rest, "OMP_DISPLAY_ENV": "verbose", **own},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "Usage: graftwork" in done.stdout
    found = dict(re.findall(r"(OMP_WAIT_POLICY|GOMP_SPINCOUNT) = '(\w+)'", done.stderr))
    if not found:
        pytest.skip("this torch has the threads of another library")
    return found


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_threads_that_wait_leave_their_processors_to_others(start: list[str]) -> None:
    assert told(start) == WAITING


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize("own", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}], ids=str)
def test_a_users_own_choice_is_kept_whole(start: list[str], own: dict[str, str]) -> None:
    found = told(start, **own)
    assert found.items() >= own.items()
    assert found["GOMP_SPINCOUNT"] != "0", "no spinning, whatever the policy says"


def test_an_import_of_the_library_sets_nothing() -> None:
    code = "import os, graftwork.cli; print(*({'OMP_WAIT_POLICY', 'GOMP_SPINCOUNT'} & os.environ.keys()))"
    rest = {name: value for name, value in os.environ.items() if name not in WAITING}
    done = subprocess.run([sys.executable, "-c", code], env=rest, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(("own", "wanted"), [({}, "passive 0"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_make_says_the_same_to_what_it_starts(own: dict[str, str], wanted: str) -> None:
    probe = "probe: ; @echo $${OMP_WAIT_POLICY} $${GOMP_SPINCOUNT-}"
    rest = {name: value for name, value in os.environ.items() if name not in WAITING}
    command = ["make", "--no-print-directory", "-f", "Makefile", "--eval", probe, "probe"]
    done = subprocess.run(command, cwd=ROOT, env={**rest, **own}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == wanted
