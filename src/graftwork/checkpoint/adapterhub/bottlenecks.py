"""A bottleneck of AdapterHub as ours and back: the options, and the names of the tensors.

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

from graftwork.checkpoint.adapterhub.places import by_layer_here, layers_here
from graftwork.errors import ConfigError
from graftwork.methods import PHM, Bottleneck, Compacter, InvertiblePfeiffer, Parallel, Pfeiffer
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


def names_of_tensors(config: Bottleneck) -> dict[str, str]:
    """Their name of each weight of a module at a site, by our name: ``{"down": "adapter_down.0.weight", …}``."""
    first = f"adapter_down.{int(config.norm_before)}"
    names = {"scale": "scaling", "gate": "gate.weight", "gate_bias": "gate.bias"}
    names |= {f"norm_before.{one}": f"adapter_down.0.{one}" for one in ("weight", "bias")}
    names |= {f"norm_after.{one}": f"adapter_norm_after.{one}" for one in ("weight", "bias")}
    for ours, theirs in (("down", first), ("up", "adapter_up")):
        if isinstance(config, (Compacter, PHM)):
            names |= {f"{ours}.rule": f"{theirs}.phm_rule", f"{ours}_bias": f"{theirs}.b"}
            names |= {f"{ours}.left": f"{theirs}.W" if config.rank is None else f"{theirs}.W_left"}
            names |= {f"{ours}.right": f"{theirs}.W_right"}
        else:
            names |= {ours: f"{theirs}.weight", f"{ours}_bias": f"{theirs}.bias"}
    return names


def names_of_coupling() -> dict[str, str]:
    """Their name of each weight of an invertible adapter, by our name."""
    pairs = (("f_down", "F.0"), ("f_up", "F.2"), ("g_down", "G.0"), ("g_up", "G.2"))
    return {f"{ours}.{one}": f"{theirs}.{one}" for ours, theirs in pairs for one in ("weight", "bias")}
