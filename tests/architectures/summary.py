"""Hooks of pytest: the tour of all architectures only on request, and a table of what it found."""

from __future__ import annotations

import collections
from typing import Any

import pytest

from tests.architectures.coverage import NAMES
from tests.architectures.verdicts import VERDICTS


def leave_out_the_tour(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves the tour out unless a marker expression was given, or one of its tests was named."""
    if config.getoption("markexpr") or any("[" in argument for argument in config.args):
        return
    left_out = [item for item in items if item.get_closest_marker("architectures")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("architectures")]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line a verdict, and the names under those that are not right."""
    found: dict[str, list[str]] = collections.defaultdict(list)
    operations: dict[str, dict[str, dict[str, Any]]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            properties = dict(getattr(report, "user_properties", ()))
            if "verdict" in properties and getattr(report, "when", "") == "call":
                found[properties["verdict"]].append(properties["architecture"])
                operations[properties["architecture"]] = properties.get("operations", {})
    if sum(map(len, found.values())) < 100:  # the sample alone
        return
    built = sum(len(names) for verdict, names in found.items() if verdict != "not built")
    terminalreporter.section("architectures of transformers")
    terminalreporter.write_line(f"{'built tiny':36s} {built:4d} of {sum(map(len, found.values()))} model types")
    for verdict in VERDICTS:
        names = sorted(found[verdict])
        listed = f"  {' '.join(names)}" if verdict in ("wrong", "refused") else ""
        terminalreporter.write_line(f"  {verdict:34s} {len(names):4d}{listed}")
    terminalreporter.write_line("operations that ran in the example passes of those that were not refused")
    for kind in NAMES:
        of_kind = {name: counts[kind] for name, counts in operations.items() if counts}
        ran, covered = (sum(counts[key] for counts in of_kind.values()) for key in ("ran", "covered"))
        terminalreporter.write_line(f"  {kind:34s} {ran:5d}, in the branch of a site {covered}")
        for key in ("elsewhere", "named"):
            others = {name: counts[key] for name, counts in of_kind.items() if counts[key]}
            for name, places in sorted(others.items()):
                listed = ", ".join(f"{place} ×{n}" for place, n in places.items())
                terminalreporter.write_line(f"    {key} in {name}: {listed}")
