"""Recipes: a whole experiment in one file, planned, run, resumed, compared, swept over, and its cost estimated."""

from graftwork.experiments.comparing.compare import compare, read_comparison
from graftwork.experiments.comparing.selection import comparison
from graftwork.experiments.costing.costs import Estimate, estimate
from graftwork.experiments.kinds import Unit
from graftwork.experiments.launching.launch import launch
from graftwork.experiments.planning.plan import plan
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.running.listeners import Watcher
from graftwork.experiments.running.results import read_results
from graftwork.experiments.running.run import run, work
from graftwork.experiments.sweeping.sweep import read_sweep, sweep

__all__ = [
    "Estimate",
    "Recipe",
    "Unit",
    "Watcher",
    "compare",
    "comparison",
    "estimate",
    "launch",
    "plan",
    "read_comparison",
    "read_results",
    "read_sweep",
    "run",
    "sweep",
    "work",
]
