"""Composable adapters: small trained modules that teach one frozen transformer many tasks.

import graftwork as gw

grafts = gw.attach(model)
grafts.add("mrpc", gw.Pfeiffer(reduction_factor=16))
grafts.train_only("mrpc")
"""

from graftwork import heads
from graftwork.api import Adapters, attach, of
from graftwork.attach import Headed, Labels, Merged, Pruned
from graftwork.compose import (
    Average,
    BatchSplit,
    Block,
    Composition,
    Drop,
    Fuse,
    FusionConfig,
    MixedBatch,
    Replicate,
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
    RecipeError,
    SiteError,
    TaskError,
    TrainingError,
    UnknownNameError,
)
from graftwork.methods import (
    PAL,
    PHM,
    AdapterConfig,
    AdapterPlus,
    BapnaFirat,
    Bottleneck,
    Compacter,
    CompacterPlusPlus,
    Houlsby,
    Hyperformer,
    HyperformerPlusPlus,
    InvertiblePfeiffer,
    LowRank,
    LowRankPAL,
    Parallel,
    Pfeiffer,
    SelfModulation,
    Standard,
    config_from_dict,
    methods,
)
from graftwork.sites import Site, SiteMap, Tap, discover

__version__ = "0.1.0"

__all__ = [
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
    "ConfigError",
    "Drop",
    "Fuse",
    "FusionConfig",
    "GraftworkError",
    "Headed",
    "Houlsby",
    "Hyperformer",
    "HyperformerPlusPlus",
    "InvertiblePfeiffer",
    "Labels",
    "LowRank",
    "LowRankPAL",
    "Merged",
    "MixedBatch",
    "Parallel",
    "Pfeiffer",
    "Pruned",
    "RecipeError",
    "Replicate",
    "SelfModulation",
    "Site",
    "SiteError",
    "SiteMap",
    "Split",
    "Stack",
    "Standard",
    "Tap",
    "TaskError",
    "TrainingError",
    "UnknownNameError",
    "attach",
    "composition_from_dict",
    "composition_to_dict",
    "config_from_dict",
    "discover",
    "heads",
    "methods",
    "of",
]
