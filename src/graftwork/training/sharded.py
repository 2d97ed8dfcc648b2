"""What accelerate's FSDP has to be told to shard the base and leave adapters whole on every rank."""

from __future__ import annotations

from typing import Any

from graftwork.errors import AttachError
from graftwork.weights.sharded import ADAPTER_MODULES


def leave_adapters_out(plugin: Any) -> None:
    r"""Have a plugin of accelerate ignore the modules of adapters, before it shards a model.

    Args:
        plugin: A ``FullyShardedDataParallelPlugin``. Modules that it ignores already are ignored too.

    Raises:
        AttachError: If it cannot: it is of the first version, ignores modules that are given as a list, has
            ``cpu_ram_efficient_loading``, with which accelerate shards every weight, or ``activation_checkpointing``.

    Example:
        >>> from accelerate import FullyShardedDataParallelPlugin
        >>> from graftwork.training import leave_adapters_out
        >>> plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
        >>> leave_adapters_out(plugin)
        >>> print(plugin.ignored_modules)
        (.*\.)?graftwork
    """
    if plugin.fsdp_version != 2:
        raise AttachError(
            f"fsdp_version is {plugin.fsdp_version}, which does not leave adapters whole on every rank; give fsdp_version=2"
        )
    if plugin.cpu_ram_efficient_loading:
        raise AttachError(
            "with cpu_ram_efficient_loading accelerate shards every weight of the model, and adapters have to be whole on "
            "every rank; give cpu_ram_efficient_loading=False"
        )
    if plugin.activation_checkpointing:
        raise AttachError(
            "accelerate's activation_checkpointing runs layers again outside the model's forward, where adapters are not known; "
            "call model.gradient_checkpointing_enable() and give activation_checkpointing=False"
        )
    before = plugin.ignored_modules
    if before is not None and not isinstance(before, str):
        raise AttachError(
            "ignored_modules is a list of modules; give the names of modules as a regular expression: "
            f"'my_module|{ADAPTER_MODULES}'"
        )
    if before is None:
        plugin.ignored_modules = ADAPTER_MODULES
    elif ADAPTER_MODULES not in before:
        plugin.ignored_modules = f"{before}|{ADAPTER_MODULES}"
