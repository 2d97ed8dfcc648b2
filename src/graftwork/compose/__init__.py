"""Compositions: how much of which adapter, and in what order."""

from graftwork.compose.blocks import (
    Average,
    Block,
    Composition,
    Concat,
    Drop,
    Fuse,
    Learned,
    Stack,
    composition_from_dict,
    composition_to_dict,
    fusions_in,
    names_in,
)
from graftwork.compose.blocks_by_row import BatchSplit, MixedBatch, Replicate, Split
from graftwork.compose.fusion.concat import ConcatConfig, ConcatModule
from graftwork.compose.fusion.fuse import FusionConfig, FusionModule
from graftwork.compose.fusion.fuse_node import FuseNode
from graftwork.compose.fusion.learned import LearnedConfig, LearnedModule, config_class, config_for
from graftwork.compose.fusion.route import Route, RouteConfig, RouteModule
from graftwork.compose.fusion.scalearn import ScaLearn, ScaLearnConfig, ScaLearnModule

__all__ = [
    "Average",
    "BatchSplit",
    "Block",
    "Composition",
    "Concat",
    "ConcatConfig",
    "ConcatModule",
    "Drop",
    "Fuse",
    "FuseNode",
    "FusionConfig",
    "FusionModule",
    "Learned",
    "LearnedConfig",
    "LearnedModule",
    "MixedBatch",
    "Replicate",
    "Route",
    "RouteConfig",
    "RouteModule",
    "ScaLearn",
    "ScaLearnConfig",
    "ScaLearnModule",
    "Split",
    "Stack",
    "composition_from_dict",
    "composition_to_dict",
    "config_class",
    "config_for",
    "fusions_in",
    "names_in",
]
