"""The adapter methods: one file a published method, its configuration and its module."""

from graftwork.methods.adapter_plus import AdapterPlus
from graftwork.methods.bapna_firat import BapnaFirat
from graftwork.methods.bottleneck import Bottleneck
from graftwork.methods.compacter import PHM, Compacter, CompacterPlusPlus, LowRank
from graftwork.methods.contract import AdapterConfig, AdapterModule, Context, Place, Segment
from graftwork.methods.houlsby import Houlsby, Standard
from graftwork.methods.hyperformer import Hyperformer, HyperformerPlusPlus
from graftwork.methods.invertible import InvertiblePfeiffer
from graftwork.methods.k_adapter import KAdapter
from graftwork.methods.moe import MoE
from graftwork.methods.norms import NormModule, NormPlace
from graftwork.methods.pal import PAL, LowRankPAL
from graftwork.methods.parallel import Parallel
from graftwork.methods.peft import Peft, is_peft
from graftwork.methods.pfeiffer import Pfeiffer
from graftwork.methods.registry import config_from_dict, methods, register
from graftwork.methods.residual_adapter import ResidualAdapter
from graftwork.methods.self_modulation import SelfModulation

__all__ = [
    "PAL",
    "PHM",
    "AdapterConfig",
    "AdapterModule",
    "AdapterPlus",
    "BapnaFirat",
    "Bottleneck",
    "Compacter",
    "CompacterPlusPlus",
    "Context",
    "Houlsby",
    "Hyperformer",
    "HyperformerPlusPlus",
    "InvertiblePfeiffer",
    "KAdapter",
    "LowRank",
    "LowRankPAL",
    "MoE",
    "NormModule",
    "NormPlace",
    "Parallel",
    "Peft",
    "Pfeiffer",
    "Place",
    "ResidualAdapter",
    "Segment",
    "SelfModulation",
    "Standard",
    "config_from_dict",
    "is_peft",
    "methods",
    "register",
]
