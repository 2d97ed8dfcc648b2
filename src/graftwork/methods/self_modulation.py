"""Self-modulation (Chen et al. 2019, *On Self Modulation for Generative Adversarial Networks*, arXiv:1810.01365).

At every norm of a generator, γ and β are functions of its latent z:

    x ← γ(z) ⊙ standardise(x) + β(z)         one γ and one β for each channel, of each sample
    γ(z) = V_γ h + c_γ,   β(z) = V_β h + c_β,   h = relu(U z + b)            h has 32 units

`standardise` is the norm without its own γ and β: a batch norm in the paper, here also a layer, group or instance norm. With
a class y the latent is changed first, once for all norms:

    z ← z + E(y) + z ⊙ E'(y)                 E and E' two embeddings of the class, as wide as z

Kernels and embeddings start from N(0, 0.02), c_γ at 1, the other biases at 0: γ ≈ 1 and β ≈ 0, the norm without its own affine.
The authors' code shares h between γ and β, as above, and has no hidden layer at ``hidden_size=0``; the form with a class is
in the paper only. The whole generator is trained with it: ``adapters.train_only("a", base="trained")``.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from graftwork.errors import CompositionError, ConfigError
from graftwork.methods.layers.contract import AdapterConfig, AdapterModule, Place, cast
from graftwork.methods.layers.norms import NormModule, NormPlace
from graftwork.methods.registry import register
from graftwork.options import one_of, within

_CHANNELS_FIRST = (nn.modules.batchnorm._NormBase, nn.GroupNorm)


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfModulation(AdapterConfig):
    """γ and β of every norm of a generator as functions of its latent, or of its latent and a class.

    Attributes:
        latent: Name of the input of the model's forward that is the latent; by default the first one without a default.
        latent_size: Width of the latent.
        hidden_size: Width of the hidden layer; 0 for none.
        classes: Number of classes; 0 for the form without a class.
        label: Name of the input that is the class; by default the second one without a default.
        norms: Always ``"own"``: the method is made of norms.
        init: ``"normal"``, as published: each norm starts without the γ and β of the base. ``"zero"``: these stay, fixed, and
            the last layers start at γ(z) = 1 and β(z) = 0, so that a new adapter does not change a trained generator.
        init_std: Standard deviation of kernels and embeddings at the start.

    Raises:
        ConfigError: If a value is refused.

    Example:
        >>> generator = torch.nn.Sequential(torch.nn.Linear(128, 8), torch.nn.BatchNorm1d(8))
        >>> modulated = gw.attach(generator, sites=())
        >>> modulated.add("a", gw.SelfModulation(latent_size=128))
    """

    method: ClassVar[str] = "self_modulation"
    norms_alone: ClassVar[bool] = True

    norms: str = "own"
    latent: str | None = None
    latent_size: int = 128
    hidden_size: int = 32
    classes: int = 0
    label: str | None = None
    init: str = "normal"
    init_std: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, "norms", ("own",))
        one_of(self, "init", ("normal", "zero"))
        self._settle_whole("latent_size")
        self._settle_whole("hidden_size", "classes", low=0)
        within(self, "init_std", 0)
        if self.label is not None and not self.classes:
            raise ConfigError(f"SelfModulation: label is {self.label!r}, but classes is 0; give the number of classes")

    def shared(self, places: Sequence[Place]) -> ClassEmbeddings | None:
        if not self.classes:
            return None
        return ClassEmbeddings(self.classes, self.latent_size, self.init_std, self.torch_dtype)

    def build(self, place: Place, shared: nn.Module | None = None) -> AdapterModule | None:
        return None

    def norm_for(self, norm: nn.Module, place: NormPlace, shared: nn.Module | None = None) -> SelfModulatedNorm:
        inputs = [self._input(place, "latent", self.latent, 0)]
        if self.classes:
            inputs.append(self._input(place, "label", self.label, 1))
        channels, dimension = _channels(norm, place)
        return SelfModulatedNorm(self, norm, inputs, channels, dimension, shared)

    def _input(self, place: NormPlace, option: str, name: str | None, default: int) -> str:
        """The name of an input of the model's forward: the one in the option, or that without a default."""
        if name is None and default < len(place.required):
            return place.required[default]
        if name is not None and (name in place.inputs or place.open):
            return name
        takes = ", ".join(place.inputs) or "none by name"
        what = f"is {name!r}, which the model's forward does not take" if name is not None else "cannot be guessed"
        raise ConfigError(
            f"SelfModulation: {option} {what} (its inputs: {takes}); name the one that is the {option} with {option}=, if this "
            "is a generator that has one"
        )


class ClassEmbeddings(nn.Module):
    """E and E′ ``(classes, latent)``, one for all norms of an adapter."""

    def __init__(self, classes: int, latent_size: int, std: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.added = nn.Parameter(torch.empty(classes, latent_size, dtype=dtype))
        self.scaling = nn.Parameter(torch.empty(classes, latent_size, dtype=dtype))
        nn.init.normal_(self.added, std=std)
        nn.init.normal_(self.scaling, std=std)

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        """Return ``z + E(y) + z ⊙ E′(y)``.

        Args:
            latent: ``(batch, latent)``.
            label: ``(batch,)`` whole numbers, or ``(batch, classes)`` weights of the classes.
        """
        added, scaling = (cast(table, latent).to(latent.device) for table in (self.added, self.scaling))
        if label.is_floating_point():
            weights = label.to(latent.dtype)
            return latent + weights @ added + latent * (weights @ scaling)
        rows = label.reshape(-1).long()
        return latent + nn.functional.embedding(rows, added) + latent * nn.functional.embedding(rows, scaling)


class SelfModulatedNorm(NormModule):
    """A norm whose γ and β are functions of the latent.

    Attributes:
        standardise: The base's norm without its own γ and β (or with them, fixed); a batch norm's statistics are its own.
    """

    def __init__(
        self,
        config: SelfModulation,
        norm: nn.Module,
        inputs: Sequence[str],
        channels: int,
        dimension: int,
        shared: nn.Module | None,
    ) -> None:
        super().__init__(inputs, shared=shared)
        zero, latent, hidden, dtype = config.init == "zero", config.latent_size, config.hidden_size, config.torch_dtype
        self.standardise = _standardise(norm, keep_affine=zero, dtype=dtype)
        self.latent_size = latent
        self.dimension = dimension
        self.hidden = nn.Linear(latent, hidden, dtype=dtype) if hidden else None
        self.gamma = nn.Linear(hidden or latent, channels, dtype=dtype)
        self.beta = nn.Linear(hidden or latent, channels, dtype=dtype)
        for layer in (self.hidden, self.gamma, self.beta):
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.0 if zero and layer is not self.hidden else config.init_std)
                nn.init.constant_(layer.bias, 1.0 if layer is self.gamma else 0.0)

    def modulation(self, latent: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return γ and β ``(batch, channels)``.

        Args:
            latent: ``(batch, latent)``, with or without dimensions of size 1 at its end.
            label: ``(batch,)`` or ``(batch, classes)``, in the form with a class.

        Raises:
            CompositionError: If the latent has another width.
        """
        if not latent.is_floating_point() or latent.dim() < 2 or math.prod(latent.shape[1:]) != self.latent_size:
            raise CompositionError(
                f"the latent {self.inputs[0]!r} is {tuple(latent.shape)}, {latent.dtype}; SelfModulation was made for "
                f"latents of {self.latent_size} numbers: name another input with latent=, or give latent_size="
            )
        h = latent.flatten(1).to(self.gamma.weight.dtype)
        if label is not None and self.shared is not None:
            h = self.shared(h, label)
        if self.hidden is not None:
            h = torch.relu(self.hidden(h))
        return self.gamma(h), self.beta(h)

    def forward(self, values: Tensor, *inputs: Tensor) -> Tensor:
        gamma, beta = self.modulation(*inputs)
        standard = self.standardise(values)
        return standard * self._placed(gamma, standard) + self._placed(beta, standard)

    def _placed(self, rows: Tensor, values: Tensor) -> Tensor:
        """γ or β ``(batch, channels)``, shaped to broadcast over the values."""
        times, rest = divmod(values.shape[0], rows.shape[0])
        if rest:
            raise CompositionError(
                f"a norm sees {values.shape[0]} rows where the latent {self.inputs[0]!r} has {rows.shape[0]}: "
                "SelfModulation needs the batch first"
            )
        if times > 1:  # several consecutive rows of the norm for each row of the batch
            rows = rows.repeat_interleave(times, 0)
        shape = [rows.shape[0], *(1,) * (values.dim() - 1)]
        shape[self.dimension] = rows.shape[1]
        return rows.view(shape).to(values.dtype)


def _channels(norm: nn.Module, place: NormPlace) -> tuple[int, int]:
    """The number of a norm's channels and their dimension, the first of several that are normed."""
    if isinstance(norm, _CHANNELS_FIRST):
        return int(norm.num_channels if isinstance(norm, nn.GroupNorm) else norm.num_features), 1
    if isinstance(norm, nn.LayerNorm):
        return int(norm.normalized_shape[0]), -len(norm.normalized_shape)
    raise ConfigError(
        f"SelfModulation: {place.path} is a {type(norm).__name__}, of which it is not known how it standardises; it replaces "
        "torch's batch, layer, group and instance norms: leave this one out of SiteMap((), norms=[...])"
    )


def _standardise(norm: nn.Module, *, keep_affine: bool, dtype: torch.dtype) -> nn.Module:
    """A copy of a norm without its weights, or with them fixed; running statistics no narrower than trained weights."""
    copied = copy.deepcopy(norm)
    for name in ("weight", "bias"):
        own = copied._parameters.pop(name, None)
        copied.register_buffer(name, own.detach().clone() if keep_affine and own is not None else None)
    if isinstance(copied, nn.modules.batchnorm._NormBase) and copied.running_mean is not None:
        copied.to(torch.promote_types(copied.running_mean.dtype, dtype))
    return copied
