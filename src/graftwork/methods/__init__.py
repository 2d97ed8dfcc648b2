"""The adapter methods: one file a published method, its configuration and its module."""

from graftwork.methods.adapter_plus import AdapterPlus
from graftwork.methods.bapna_firat import BapnaFirat
from graftwork.methods.bottleneck import Bottleneck
from graftwork.methods.compacter import PHM, Compacter, CompacterPlusPlus, LowRank
from graftwork.methods.dora import DoRA
from graftwork.methods.houlsby import Houlsby, Standard
from graftwork.methods.hyperformer import Hyperformer, HyperformerPlusPlus
from graftwork.methods.ia3 import IA3
from graftwork.methods.invertible import InvertiblePfeiffer
from graftwork.methods.k_adapter import KAdapter
from graftwork.methods.layers.contract import AdapterConfig, AdapterModule, Context, Place, Segment
from graftwork.methods.layers.gates import Gate
from graftwork.methods.layers.norms import NormModule, NormPlace
from graftwork.methods.lora import LoRA
from graftwork.methods.mam import MAM
from graftwork.methods.moe import MoE
from graftwork.methods.pal import PAL, LowRankPAL
from graftwork.methods.parallel import Parallel
from graftwork.methods.peft import Peft, is_peft
from graftwork.methods.pfeiffer import Pfeiffer
from graftwork.methods.registry import config_from_dict, config_from_text, methods, register
from graftwork.methods.residual_adapter import ResidualAdapter
from graftwork.methods.self_modulation import SelfModulation
from graftwork.methods.skip_bottleneck import SkipBottleneck
from graftwork.methods.union import Union
from graftwork.methods.unipelt import UniPELT
from graftwork.methods.vera import VeRA

__all__ = [
    "IA3",
    "MAM",
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
    "DoRA",
    "Gate",
    "Houlsby",
    "Hyperformer",
    "HyperformerPlusPlus",
    "InvertiblePfeiffer",
    "KAdapter",
    "LoRA",
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
    "SkipBottleneck",
    "Standard",
    "UniPELT",
    "Union",
    "VeRA",
    "config_from_dict",
    "config_from_text",
    "is_peft",
    "methods",
    "register",
]
