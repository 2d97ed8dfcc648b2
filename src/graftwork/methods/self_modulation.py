"""Self-modulation (Chen et al. 2019, *On Self Modulation for Generative Adversarial Networks*, arXiv:1810.01365).

At every norm of a generator, γ and β are functions of its latent z:

    x ← γ(z) ⊙ standardise(x) + β(z)         one γ and one β for each channel, of each sample
    γ(z) = V_γ h + c_γ,   β(z) = V_β h + c_β,   h = relu(U z + b)            h has 32 units

`standardise` is the norm without its own γ and β. It is that of a batch norm in the paper, and works the same for layer, group
and instance norms. With a class y the latent is enriched by it, once for all norms:

    z ← z + E(y) + z ⊙ E'(y)                 E and E' two embeddings of the class, as wide as z

Kernels and embeddings start from N(0, 0.02), c_γ at 1, the other biases at 0: γ ≈ 1 and β ≈ 0, the norm without its own affine.
The authors' code shares h between γ and β, which the formula above does too, and drops the hidden layer at ``hidden_size=0``;
it has no form with a class, which is the paper's alone.
In training the whole generator learns with it: ``adapters.train_only("a", base="trained")``.
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
        latent: Name of the input of the model's forward that is the latent; by default the first that has to be given.
        latent_size: Width of the latent.
        hidden_size: Width of the hidden layer; 0 for none.
        classes: Number of classes; 0 for the form without.
        label: Name of the input that is the class; by default the second that has to be given.
        norms: ``"own"`` and nothing else: the norms are what it is made of.
        init: ``"normal"``, as published: each norm starts without the γ and β that the base has. ``"zero"``: these stay, fixed,
            and the last layers start at γ(z) = 1 and β(z) = 0, so that an adapter of a trained generator changes nothing yet.
        init_std: Standard deviation that kernels and embeddings start with.
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
        for field, low in (("latent_size", 1), ("hidden_size", 0), ("classes", 0)):
            within(self, field, low, whole=True)
            object.__setattr__(self, field, int(getattr(self, field)))
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
        made = SelfModulatedNorm(
            _standardise(norm, keep_affine=self.init == "zero", dtype=self.torch_dtype),
            inputs,
            latent_size=self.latent_size,
            hidden_size=self.hidden_size,
            channels=channels,
            dimension=dimension,
            shared=shared,
            dtype=self.torch_dtype,
        )
        made.start(self.init_std, zero=self.init == "zero")
        return made

    def _input(self, place: NormPlace, option: str, name: str | None, default: int) -> str:
        """The name of an input of the model's forward."""
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
        """``z + E(y) + z ⊙ E′(y)``.

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
    """A norm whose γ and β are made of the latent.

    Attributes:
        standardise: The base's norm without its own γ and β (or with them, fixed); a batch norm's statistics are its own.
    """

    def __init__(
        self,
        standardise: nn.Module,
        inputs: Sequence[str],
        *,
        latent_size: int,
        hidden_size: int,
        channels: int,
        dimension: int,
        shared: nn.Module | None,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(inputs, shared=shared)

        def linear(width: int, out: int) -> nn.Linear:
            return nn.Linear(width, out, dtype=dtype)

        self.standardise = standardise
        self.latent_size = latent_size
        self.dimension = dimension
        self.hidden = linear(latent_size, hidden_size) if hidden_size else None
        self.gamma = linear(hidden_size or latent_size, channels)
        self.beta = linear(hidden_size or latent_size, channels)

    @torch.no_grad()
    def start(self, std: float, *, zero: bool) -> None:
        """The initial values; with ``zero`` the last kernels are 0."""
        for layer in (self.hidden, self.gamma, self.beta):
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.0 if zero and layer is not self.hidden else std)
                nn.init.constant_(layer.bias, 1.0 if layer is self.gamma else 0.0)

    def modulation(self, latent: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """γ and β ``(batch, channels)``.

        Args:
            latent: ``(batch, latent)``, with or without dimensions of size 1 behind.
            label: ``(batch,)`` or ``(batch, classes)``, in the form with a class.

        Raises:
            CompositionError: If the latent is none of that width.
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
        """``(batch, channels)`` shaped to go with the values."""
        times, rest = divmod(values.shape[0], rows.shape[0])
        if rest:
            raise CompositionError(
                f"a norm sees {values.shape[0]} rows where the latent {self.inputs[0]!r} has {rows.shape[0]}: "
                "SelfModulation needs the batch first"
            )
        if times > 1:  # several rows of the norm for each of the batch, one behind another
            rows = rows.repeat_interleave(times, 0)
        shape = [rows.shape[0], *(1,) * (values.dim() - 1)]
        shape[self.dimension] = rows.shape[1]
        return rows.view(shape).to(values.dtype)


def _channels(norm: nn.Module, place: NormPlace) -> tuple[int, int]:
    """The number of a norm's channels, and which dimension they are: of several that are normed the first."""
    if isinstance(norm, _CHANNELS_FIRST):
        return int(norm.num_channels if isinstance(norm, nn.GroupNorm) else norm.num_features), 1
    if isinstance(norm, nn.LayerNorm):
        return int(norm.normalized_shape[0]), -len(norm.normalized_shape)
    raise ConfigError(
        f"SelfModulation: {place.path} is a {type(norm).__name__}, of which it is not known how it standardises; it stands in "
        "for torch's batch, layer, group and instance norms: leave this one out of SiteMap((), norms=[...])"
    )


def _standardise(norm: nn.Module, *, keep_affine: bool, dtype: torch.dtype) -> nn.Module:
    """A copy of a norm without its weights, or with them fixed; running statistics no narrower than trained weights."""
    mine = copy.deepcopy(norm)
    for name in ("weight", "bias"):
        own = mine._parameters.pop(name, None)
        mine.register_buffer(name, own.detach().clone() if keep_affine and own is not None else None)
    if isinstance(mine, nn.modules.batchnorm._NormBase) and mine.running_mean is not None:
        mine.to(torch.promote_types(mine.running_mean.dtype, dtype))
    return mine
