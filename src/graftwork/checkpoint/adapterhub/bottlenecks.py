"""The options of a bottleneck of AdapterHub as a configuration of ours, and back.

With h what a branch returns, x the stream before the addition, and LN the norm after it (none in a pre-norm model), theirs is:

    LN(h + x + A(h))                 ours reads "output",   writes "branch"     Houlsby
    LN(h + x + A(LN(h + x)))         ours reads "normed",   writes "branch"     Pfeiffer
    LN(h + x) + A(LN(h + x))         ours reads "normed",   writes "stream"     Adapter+
    LN(h + x + A(x))                 ours reads "residual", writes "branch"     parallel

Their other combinations of options leave out the stream or add it twice, and are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graftwork.checkpoint.adapterhub.places import by_layer_here, factors_there, layers_here, left_out
from graftwork.errors import ConfigError
from graftwork.methods import PHM, Bottleneck, Compacter, InvertiblePfeiffer, LowRank, Parallel, Pfeiffer
from graftwork.methods.bottleneck import BottleneckModule
from graftwork.methods.compacter import KroneckerModule
from graftwork.methods.invertible import InvertibleModule
from graftwork.options import is_number
from graftwork.sites import SiteMap

LOCATIONS = {"mh_adapter": "attention", "cross_adapter": "cross_attention", "output_adapter": "feed_forward"}
# Whether their options are is_parallel, original_ln_before, residual_before_ln, original_ln_after: what ours reads and writes.
PLACEMENTS: dict[tuple[Any, ...], tuple[str, str]] = {
    (False, False, True, True): ("output", "branch"),
    (False, False, False, True): ("output", "branch"),
    (False, True, True, True): ("normed", "branch"),
    (False, True, False, False): ("normed", "stream"),
}
INITS = {"bert": ("normal", 0.02), "houlsby": ("houlsby", 1e-2), "mam_adapter": ("parallel", 1e-2)}
ACTIVATIONS = {
    **{name: name for name in ("relu", "gelu", "silu", "tanh", "sigmoid", "leaky_relu")},
    "swish": "silu",
    "linear": "identity",
    "leakyrelu": "leaky_relu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
DEFAULTS: dict[str, Any] = {
    **{
        "mh_adapter": False,
        "output_adapter": False,
        "cross_adapter": False,
        "reduction_factor": 16,
        "non_linearity": "relu",
    },
    **{"original_ln_before": False, "original_ln_after": True, "ln_before": False, "ln_after": False},
    **{"residual_before_ln": True, "adapter_residual_before_ln": False, "is_parallel": False},
    **{"init_weights": "bert", "init_weights_seed": None, "scaling": 1.0, "use_gating": False, "leave_out": []},
    **{"inv_adapter": None, "inv_adapter_reduction_factor": None, "dropout": 0.0, "stochastic_depth": 0.0},
    **{"phm_layer": False, "phm_dim": 4, "factorized_phm_W": True, "shared_W_phm": False, "shared_phm_rule": True},
    **{"factorized_phm_rule": False, "phm_c_init": "normal", "phm_init_range": 1e-4, "learn_phm": True},
    **{"hypercomplex_nonlinearity": "glorot-uniform", "phm_rank": 1, "phm_bias": True, "architecture": None},
}


def bottleneck_here(options: Mapping[str, Any], sites: SiteMap) -> Bottleneck:
    """Our configuration of the same function.

    Args:
        options: The ``config`` in their file.
        sites: The sites of the model, for the numbers of layers.

    Raises:
        ConfigError: If ours has no such function; the message says why.
    """
    unknown = [key for key, value in options.items() if key not in DEFAULTS and value]
    if unknown:
        raise ConfigError(f"the option {unknown[0]}={options[unknown[0]]!r} is not known")
    their = {**DEFAULTS, **{key: value for key, value in options.items() if value is not None}}
    reads, writes = _placement(their)
    _require_additive(their)
    factor = their["reduction_factor"]
    activation = ACTIVATIONS.get(str(their["non_linearity"]).lower())
    if activation is None:
        raise ConfigError(f"the activation {their['non_linearity']!r} is none of {', '.join(ACTIVATIONS)}")
    init, std = INITS.get(their["init_weights"], INITS["bert"])
    ours: dict[str, Any] = {
        "sites": tuple(kind for option, kind in LOCATIONS.items() if their[option]),
        "reads": reads,
        "writes": writes,
        "reduction_factor": by_layer_here(factor, sites) if isinstance(factor, Mapping) else factor,
        "activation": activation,
        "init": init,
        "init_std": std,
        "scale": their["scaling"],
        "norm_before": bool(their["ln_before"]),
        "norm_after": bool(their["ln_after"]),
        "gate": bool(their["use_gating"]),
        "dropout": their["dropout"],
        "stochastic_depth": 0.0 if their["is_parallel"] else their["stochastic_depth"],
        "leave_out": layers_here(their["leave_out"], sites),
    }
    if their["phm_layer"]:
        return _phm(their, ours)
    if their["inv_adapter"]:
        if their["inv_adapter"] != "nice":
            raise ConfigError(
                f"the invertible adapter {their['inv_adapter']!r} is not 'nice', the only one that they compute"
            )
        return InvertiblePfeiffer(**ours, invertible_reduction=their["inv_adapter_reduction_factor"])
    presets: dict[Any, type[Bottleneck]] = {("normed", "branch"): Pfeiffer, ("residual", "branch"): Parallel}
    return presets.get((reads, writes), Bottleneck)(**ours)


def _placement(their: Mapping[str, Any]) -> tuple[str, str]:
    """What the same adapter of ours reads and writes."""
    if their["is_parallel"] and their["original_ln_after"] is True:
        return "residual", "branch"
    names = ("is_parallel", "original_ln_before", "residual_before_ln", "original_ln_after")
    found = PLACEMENTS.get(tuple(their[name] for name in names))
    if found is None:
        given = ", ".join(f"{name}={their[name]!r}" for name in names)
        raise ConfigError(
            f"with {given} the layer's residual connection is left out or added twice: not an addition to the stream"
        )
    return found


def _require_additive(their: Mapping[str, Any]) -> None:
    """Refuse a norm after the adapter that takes more than U φ(D h)."""
    if not their["ln_after"]:
        return
    if their["adapter_residual_before_ln"] and not their["is_parallel"]:
        raise ConfigError(
            "with adapter_residual_before_ln=True its norm takes the adapter's input too: not an addition to the stream"
        )
    if their["scaling"] != 1.0 or their["use_gating"]:
        raise ConfigError(
            "scaling or use_gating together with ln_after=True: the factor is before the norm there, and after it here"
        )


def _phm(their: Mapping[str, Any], ours: dict[str, Any]) -> Bottleneck:
    """The configuration of one whose projections are sums of Kronecker products."""
    if their["inv_adapter"]:
        raise ConfigError("phm_layer together with inv_adapter: here an adapter is one or the other")
    shared = their["shared_phm_rule"]
    ours |= {
        "init": "glorot",
        "init_std": their["phm_init_range"] if shared else 1e-2,
        "norms": "base",
        "n": their["phm_dim"],
        "rank": their["phm_rank"] if their["factorized_phm_W"] else None,
        "down_bias": bool(their["phm_bias"]),
        "up_bias": bool(their["phm_bias"]),
    }
    return Compacter(**ours) if shared else PHM(**ours)


def bottleneck_there(config: Bottleneck, modules: Mapping[str, Any], sites: SiteMap) -> dict[str, Any]:
    """Their options for the same function.

    Args:
        config: Our configuration.
        modules: The adapter's modules by the keys of their sites.
        sites: The sites of the model.

    Raises:
        ConfigError: If theirs has no such function.
    """
    at = {key: module for key, module in modules.items() if not isinstance(module, InvertibleModule)}
    for key, module in at.items():
        if type(module) not in (BottleneckModule, KroneckerModule) or sites[key].kind not in LOCATIONS.values():
            raise ConfigError(f"{config.display_name} at {key} has no counterpart in AdapterHub's library")
    if config.skip is not None or config.norms != "base" or isinstance(config, LowRank):
        raise ConfigError(
            "AdapterHub's bottlenecks have no skip, no norms of the model and no projections of low rank alone"
        )
    kinds = {sites[key].kind for key in at}
    placed = _placed(config, {sites[key].norm is not None for key in at})
    their = DEFAULTS | {option: kind in kinds for option, kind in LOCATIONS.items()} | placed
    their |= {
        "reduction_factor": factors_there({key: len(m.down_weight()) for key, m in at.items()}, sites),
        "leave_out": left_out(at, kinds, sites),
        "non_linearity": {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}[config.activation],
        "init_weights": {start: name for name, (start, _) in INITS.items()}.get(config.init, "bert"),
        "scaling": float(config.scale) if is_number(config.scale) else config.scale,
        "use_gating": config.gate,
        "ln_before": config.norm_before,
        "ln_after": config.norm_after,
        "dropout": config.dropout,
        "stochastic_depth": config.stochastic_depth,
    }
    if isinstance(config, (Compacter, PHM)):
        their |= {"phm_layer": True, "phm_dim": config.n, "factorized_phm_W": config.rank is not None}
        their |= {
            "phm_rank": config.rank or 1,
            "shared_phm_rule": isinstance(config, Compacter),
            "init_weights": "bert",
        }
    if len(at) < len(modules):
        assert isinstance(config, InvertiblePfeiffer)
        their |= {"inv_adapter": "nice", "inv_adapter_reduction_factor": config.invertible_reduction}
    _require_additive(their)
    return their


def _placed(config: Bottleneck, normed: set[bool]) -> dict[str, bool]:
    """The options that say what is read and written; ``normed`` are the answers to whether a norm follows the addition."""
    reads, writes = config.reads, config.writes
    if normed == {False}:  # the stream is the same whether it is written before or after a norm that is not there
        reads, writes = {"stream": "normed"}.get(reads, reads), "branch"
    if normed == {True} and reads == "input":
        reads = "residual"
    if (reads, writes) == ("residual", "branch"):
        return {"is_parallel": True}
    found = {placement: options for options, placement in reversed(PLACEMENTS.items())}.get((reads, writes))
    if found is None:
        raise ConfigError(
            f"AdapterHub's bottlenecks do not read {config.reads!r} and write {config.writes!r} on this model"
        )
    names = ("is_parallel", "original_ln_before", "residual_before_ln", "original_ln_after")
    return dict(zip(names, found, strict=True))
