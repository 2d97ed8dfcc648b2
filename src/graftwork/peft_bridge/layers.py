"""Methods of peft that wrap modules of the base: LoRA, DoRA, (IA)³, OFT and the many like them.

peft makes its layers on the model without other adapters, one adapter at a time; then they are put around what is there by now.
So no adapter depends on another: layers of one place wrap each other in the order in which they were added, and each reads from
`active_names` whether it computes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from torch import nn

from graftwork.errors import AttachError, ConfigError
from graftwork.forward.ports import uninstall
from graftwork.forward.runtime import Runtime
from graftwork.methods import Peft
from graftwork.peft_bridge.active_names import Active, Disabled
from graftwork.peft_bridge.gates import add_gate, connect
from graftwork.peft_bridge.unwrapped_model import Layer, plain_model
from graftwork.peft_bridge.weights import Injected, Spot, spots
from graftwork.sites import SiteMap
from graftwork.weights.names import encode


class Wrapped(Injected):
    """One adapter of layers of peft; some methods' layers share tensors, which the tuner has."""

    def __init__(self, layers: list[Layer], tuner: nn.Module, found: dict[str, Spot]) -> None:
        super().__init__(tuner, found)
        self.layers = layers
        self._modules = [m for layer in layers for m in _own(layer)]

    def put_in(self) -> None:
        """Put every layer around the module that is at its place."""
        for layer in self.layers:
            now = layer.parent._modules[layer.child]
            assert now is not None
            beneath = now.__dict__.get("_active_adapter")
            mine = layer.wrapper.__dict__.get("_active_adapter")
            if isinstance(beneath, Active) and isinstance(mine, Active):
                mine.beneath = [beneath, *beneath.beneath]
            layer.inner = now
            layer.parent._modules[layer.child] = layer.wrapper

    def take_out(self) -> None:
        """Take every layer out, also where others have been put around it since."""
        for layer in self.layers:
            top = layer.parent._modules[layer.child]
            gone = layer.wrapper.__dict__.get("_active_adapter")
            for module in () if top is None else top.modules():
                active = module.__dict__.get("_active_adapter")
                if isinstance(active, Active):
                    active.beneath = [one for one in active.beneath if one is not gone]
            holders = [(layer.parent, layer.child)]
            if top is not layer.wrapper and top is not None:
                holders = [(m, n) for m in top.modules() for n, c in m._modules.items() if c is layer.wrapper]
            for owner, name in holders:
                owner._modules[name] = layer.inner

    def follow(self, trained: bool) -> None:
        """Switch its dropout on while it is trained, off otherwise."""
        for module in self._modules:
            module.training = trained

    def require_ours(self, name: str) -> None:
        """Refuse layers whose state peft has set: other active adapters, or merged ones."""
        for layer in self.layers:
            state = layer.wrapper.__dict__
            if not isinstance(state.get("_active_adapter"), Active) or state.get("merged_adapters"):
                raise AttachError(
                    f"the layers of {name!r} were set by peft itself (set_adapter, merge, or an adapter that was added "
                    "without graftwork); activate it by adapters.active = ..., and give peft's configurations to adapters.add"
                )


def wrapped(
    model: nn.Module, name: str, config: Peft, runtime: Runtime, others: Sequence[Wrapped], sites: SiteMap
) -> Wrapped:
    """Have peft make the layers of an adapter; they are not in the model yet.

    ``others`` are the adapters whose layers are in the model. The sites give the stack that a path is in, and the path of the base
    model, which is no part of a name in a file.

    Raises:
        ConfigError: If peft refuses the configuration, or does what cannot be undone.
        AttachError: If the model carries adapters that peft put there without graftwork.
    """
    key = encode(name)
    inside = {id(layer.wrapper): layer.inner for other in others for layer in other.layers}
    with plain_model(model, inside) as plain:
        _refuse_foreign(plain.modules)
        known = {id(m) for m in plain.modules.values()}
        try:
            tuner = _inject(model, key, config)
            layers = plain.layers()
        except (ConfigError, AttachError):
            raise
        except Exception as error:  # peft raises errors of many types, and everything is put back
            raise ConfigError(f"peft refuses {config.peft!r}: {error}") from error
        if not layers:
            raise ConfigError(f"{type(config.peft).__name__} wraps no module of this {type(model).__name__}")
        for layer in layers if config.gate else ():
            add_gate(model, sites, layer.wrapper, key, layer.path, config.torch_dtype)
        found = spots(tuner, "tuner", key, known)
        for layer in layers:
            found.update(spots(layer.wrapper, layer.path.removeprefix(sites.prefix), key, known))
        made = Wrapped(layers, tuner, found)
    for layer in layers:
        active = Active(runtime, name, key)
        _settle(layer, active)
        connect(layer.wrapper, key, active)
    made.follow(model.training)
    return made


def _inject(model: nn.Module, key: str, config: Peft) -> nn.Module:
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from peft.tuners.tuners_utils import BaseTuner

    options = copy.deepcopy(config.peft)
    options.inference_mode = False
    kind = PEFT_TYPE_TO_TUNER_MAPPING.get(options.peft_type)
    layered = isinstance(kind, type) and issubclass(kind, BaseTuner)
    if not layered or getattr(kind, "forward", None) is not BaseTuner.forward:
        raise ConfigError(
            f"peft's {config.kind} computes in a forward of peft's own model, not in layers of yours; use "
            "peft.get_peft_model(model, config) before gw.attach(model)"
        )
    for option, value in (("bias", "none"), ("alora_invocation_tokens", None), ("layer_replication", None)):
        if getattr(options, option, value) not in (value, [], ""):
            raise ConfigError(
                f"{type(options).__name__}: {option} is {getattr(options, option)!r}, which changes the base itself or "
                f"needs a forward of peft's own; give {option}={value!r}"
            )
    start = getattr(options, "init_lora_weights", None)
    if start in ("eva", "lora_ga"):
        raise ConfigError(
            f"{type(options).__name__}: init_lora_weights is {start!r}, which peft fills in from data by a function of its own "
            "after the layers are made; give True, 'gaussian' or 'orthogonal'"
        )
    tuner = kind(model, options, key)
    cast = getattr(tuner, "_cast_adapter_dtype", None)
    if cast is not None:
        cast(adapter_name=key, autocast_adapter_dtype=True)
    # Registered, it would have the whole model as its child.
    tuner.__dict__["model"] = tuner._modules.pop("model")
    return tuner  # type: ignore[no-any-return]


def _refuse_foreign(modules: Mapping[str, nn.Module]) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    for path, module in modules.items():
        if isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper)):
            raise AttachError(
                f"the model has a {type(module).__name__} of peft at {path!r}, put there without graftwork; give all of "
                "peft's configurations to adapters.add(name, config), or none"
            )


def _own(layer: Layer) -> list[nn.Module]:
    """The modules of a layer without the module that it wraps."""
    inner = {id(m) for m in layer.inner.modules()}
    return [m for m in layer.wrapper.modules() if id(m) not in inner]


def _settle(layer: Layer, active: Active) -> None:
    """Give peft's layers their `Active` and `Disabled`, and take off the hooks that were copied with a module of the base."""
    for module in _own(layer):
        uninstall(module)
        if hasattr(type(module), "disable_adapters"):
            # peft's wrappers of whole modules read it with every attribute, in a forward pass or not.
            own = Active(active.runtime, active.name, active.key, strict="original_module" not in module._modules)
            module.__dict__["_active_adapter"] = own
            module.__dict__["_disable_adapters"] = Disabled(own)
