"""Composable adapters: small trained modules that teach one frozen transformer many tasks.

import graftwork as gw

adapters = gw.attach(model)
adapters.add("mrpc", gw.Pfeiffer(reduction_factor=16))
adapters.train_only("mrpc")
"""

import warnings
from typing import Any

from graftwork import heads
from graftwork.api import Adapters, attach, of
from graftwork.attach import Labels, Merged, ModelWithHeads, Pruned
from graftwork.compose import (
    Average,
    BatchSplit,
    Block,
    Composition,
    Concat,
    ConcatConfig,
    Drop,
    Fuse,
    FusionConfig,
    Learned,
    MixedBatch,
    Replicate,
    Route,
    RouteConfig,
    ScaLearn,
    ScaLearnConfig,
    Split,
    Stack,
    composition_from_dict,
    composition_to_dict,
)
from graftwork.errors import (
    AttachError,
    CheckpointError,
    CompositionError,
    ConfigError,
    GraftworkError,
    NameTakenError,
    RecipeError,
    SiteError,
    TaskError,
    TrainingError,
    UnknownNameError,
)
from graftwork.methods import (
    IA3,
    MAM,
    PAL,
    PHM,
    AdapterConfig,
    AdapterPlus,
    BapnaFirat,
    Bottleneck,
    Compacter,
    CompacterPlusPlus,
    DoRA,
    Houlsby,
    Hyperformer,
    HyperformerPlusPlus,
    InvertiblePfeiffer,
    KAdapter,
    LoRA,
    LowRank,
    LowRankPAL,
    MoE,
    Parallel,
    Peft,
    Pfeiffer,
    ResidualAdapter,
    SelfModulation,
    SkipBottleneck,
    Standard,
    Union,
    UniPELT,
    VeRA,
    config_from_dict,
    methods,
)
from graftwork.sites import Site, SiteMap, Tap, discover

__version__ = "0.1.0"

__all__ = [
    "IA3",
    "MAM",
    "PAL",
    "PHM",
    "AdapterConfig",
    "AdapterPlus",
    "Adapters",
    "AttachError",
    "Average",
    "BapnaFirat",
    "BatchSplit",
    "Block",
    "Bottleneck",
    "CheckpointError",
    "Compacter",
    "CompacterPlusPlus",
    "Composition",
    "CompositionError",
    "Concat",
    "ConcatConfig",
    "ConfigError",
    "DoRA",
    "Drop",
    "Fuse",
    "FusionConfig",
    "GraftworkError",
    "Houlsby",
    "Hyperformer",
    "HyperformerPlusPlus",
    "InvertiblePfeiffer",
    "KAdapter",
    "Labels",
    "Learned",
    "LoRA",
    "LowRank",
    "LowRankPAL",
    "Merged",
    "MixedBatch",
    "MoE",
    "ModelWithHeads",
    "NameTakenError",
    "Parallel",
    "Peft",
    "Pfeiffer",
    "Pruned",
    "RecipeError",
    "Replicate",
    "ResidualAdapter",
    "Route",
    "RouteConfig",
    "ScaLearn",
    "ScaLearnConfig",
    "SelfModulation",
    "Site",
    "SiteError",
    "SiteMap",
    "SkipBottleneck",
    "Split",
    "Stack",
    "Standard",
    "Tap",
    "TaskError",
    "TrainingError",
    "UniPELT",
    "Union",
    "UnknownNameError",
    "VeRA",
    "attach",
    "composition_from_dict",
    "composition_to_dict",
    "config_from_dict",
    "discover",
    "heads",
    "methods",
    "of",
]


def __getattr__(name: str) -> Any:
    """What was called otherwise in earlier versions."""
    if name == "Headed":
        warnings.warn("graftwork.Headed is graftwork.ModelWithHeads now", DeprecationWarning, stacklevel=2)
        return ModelWithHeads
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
