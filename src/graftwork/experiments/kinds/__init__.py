"""The kinds of trainings that a recipe knows, one file a kind, in the order in which tables show them.

A new kind is a file here, with a class that says its facts, what it puts on the base and how it is loaded again, and an entry
of `UNIT_KINDS`.
"""

from graftwork.experiments.kinds.adapter import ADAPTER, INTERMEDIATE, KNOWLEDGE, LANGUAGE, LONGER, METHOD
from graftwork.experiments.kinds.contract import SetUp, Stage, UnitKind
from graftwork.experiments.kinds.frozen_base import FEW_SHOT, ZERO_SHOT
from graftwork.experiments.kinds.full import FULL, INTERMEDIATE_FULL, REFERENCE, SOURCE
from graftwork.experiments.kinds.head import HEAD
from graftwork.experiments.kinds.joint import ALL, FUSION_MT, MT_JOINT, MT_SHARED, MULTITASK, SHARED, JointKind
from graftwork.experiments.kinds.new_task import NEW_TASK
from graftwork.experiments.kinds.pooled import ARROW, AVERAGE, COPIES, FUSION, MERGE, OWN, ROUTE, SCALEARN, fusion_name
from graftwork.experiments.kinds.second_stage import TUNED
from graftwork.experiments.kinds.sequential import SEQUENTIAL, SEQUENTIAL_ADAPTERS
from graftwork.experiments.kinds.unit import Unit

UNIT_KINDS = {
    kind.name: kind
    for kind in (
        LANGUAGE,
        KNOWLEDGE,
        SOURCE,
        ZERO_SHOT,
        FEW_SHOT,
        HEAD,
        FULL,
        INTERMEDIATE_FULL,
        SEQUENTIAL,
        MULTITASK,
        ADAPTER,
        TUNED,
        METHOD,
        LONGER,
        INTERMEDIATE,
        MT_SHARED,
        NEW_TASK,
        MT_JOINT,
        SEQUENTIAL_ADAPTERS,
        AVERAGE,
        MERGE,
        OWN,
        COPIES,
        SCALEARN,
        ARROW,
        ROUTE,
        FUSION,
        FUSION_MT,
    )
}
KINDS = tuple(UNIT_KINDS)
OF_SOURCES = ("adapter", "new_task", "tuned")  # the kinds of a task that is not a target

__all__ = [
    "ALL",
    "KINDS",
    "OF_SOURCES",
    "REFERENCE",
    "SHARED",
    "UNIT_KINDS",
    "JointKind",
    "SetUp",
    "Stage",
    "Unit",
    "UnitKind",
    "fusion_name",
]
