"""Compositions: how much of which adapter, and in what order."""

from graftwork.compose.blocks import (
    Average,
    BatchSplit,
    Block,
    Composition,
    Fuse,
    MixedBatch,
    Replicate,
    Split,
    Stack,
    composition_from_dict,
    composition_to_dict,
    fusions_in,
    names_in,
)
from graftwork.compose.fusion import FusionConfig, FusionModule

__all__ = [
    "Average",
    "BatchSplit",
    "Block",
    "Composition",
    "Fuse",
    "FusionConfig",
    "FusionModule",
    "MixedBatch",
    "Replicate",
    "Split",
    "Stack",
    "composition_from_dict",
    "composition_to_dict",
    "fusions_in",
    "names_in",
]
