"""Writers of the foreign checkpoint layouts, for tests: what the original programs would leave on disk."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

from stylegan_surv.gan.networks import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    Trunk,
)

TRAP = "open('PWNED', 'w')\n"  # what the original loader would execute


def random_generator(seed: int = 0, **changes: Any) -> Generator:
    """A small generator whose every tensor, biases, noise and w_avg too, is random."""
    torch.manual_seed(seed)
    shape = {
        "resolution": 16,
        "z_dim": 8,
        "w_dim": 8,
        "channel_base": 128,
        "channel_max": 12,
        "mapping_layers": 2,
    }
    return _randomised(Generator(GeneratorConfig(**{**shape, **changes})))


def random_discriminator(seed: int = 0, **changes: Any) -> Discriminator:
    """A small discriminator whose every tensor is random."""
    torch.manual_seed(seed)
    shape = {"resolution": 16, "channel_base": 128, "channel_max": 12}
    return _randomised(Discriminator(DiscriminatorConfig(**{**shape, **changes})))


def _randomised(net: Any) -> Any:
    for name, tensor in net.state_dict().items():
        if not name.endswith("resample_filter"):
            tensor.copy_(tensor + 0.3 * torch.randn_like(tensor))
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # as loaded networks are


def write_nvlabs(path: Path, *, source: str = TRAP, fp16: bool = False, **networks: nn.Module | Any) -> None:
    """Pickle networks in the NVlabs layout; other values are stored as they are.

    ``fp16`` marks (as the original does) blocks to be run in half precision. The modules that the pickle names
    exist only while it is written.
    """
    persistence, util = types.ModuleType("torch_utils.persistence"), types.ModuleType("dnnlib.util")

    def _reconstruct_persistent_obj(meta: dict[str, Any]) -> None:
        raise AssertionError("only its name is pickled")

    class EasyDict(dict):  # type: ignore[type-arg]
        pass

    class Persistent:
        def __init__(self, net: nn.Module) -> None:
            state = {**_attributes(net), "use_fp16": fp16, "_parameters": dict(net._parameters)}
            state["_buffers"] = dict(net._buffers)
            state["_modules"] = {name: Persistent(child) for name, child in net._modules.items()}
            self.meta = {
                "type": "class",
                "version": 6,
                "module_src": source,
                "class_name": type(net).__name__,
            }
            self.meta["state"] = state

        def __reduce__(self) -> tuple[Any, ...]:
            return _reconstruct_persistent_obj, (self.meta,)

    for function, module in ((_reconstruct_persistent_obj, persistence), (EasyDict, util)):
        function.__module__, function.__qualname__ = module.__name__, function.__name__
        setattr(module, function.__name__, function)
    names = {"torch_utils": types.ModuleType("torch_utils"), "dnnlib": types.ModuleType("dnnlib")}
    content = {k: Persistent(v) if isinstance(v, nn.Module) else v for k, v in networks.items()}
    content["training_set_kwargs"] = EasyDict(path="/home/someone/faces-16.zip", resolution=16)
    with mock.patch.dict(sys.modules, {**names, persistence.__name__: persistence, util.__name__: util}):
        path.write_bytes(pickle.dumps(content, protocol=4))


def _attributes(net: nn.Module) -> dict[str, Any]:
    """The module attributes that a reader needs: what tensors cannot tell."""
    attributes: dict[str, Any] = {"training": False, "activation": "lrelu"}
    config = getattr(net, "config", None)
    if isinstance(net, Generator | Trunk):
        for name, child in net.named_modules():
            if name.endswith(("conv0", "conv1", "torgb")):
                child.conv_clamp = config.conv_clamp
        if isinstance(net, Trunk):
            net.b4.mbstd = nn.Module()
            net.b4.mbstd.group_size = config.mbstd_group
    for name in ("conv_clamp", "group_size"):
        if hasattr(net, name):
            attributes[name] = getattr(net, name)
    return attributes
