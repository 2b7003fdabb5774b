"""Read NVlabs network pickles (stylegan2-ada-pytorch, stylegan3) without running anything that they contain.

Such a file is a pickled dict of ``G``, ``D``, ``G_ema``. Each network is a call of
``torch_utils.persistence._reconstruct_persistent_obj(meta)``, whose ``meta`` holds the class's source text, meant to
be executed, and the module's ``__dict__``. Here a stack machine with the few instructions and the few globals that the
layout needs builds inert records; the source text is dropped unread.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import torch
from torch import Tensor

from stylegan_surv.errors import InputError, Refused
from stylegan_surv.gan.formats.foreign import asks_for, what_it_is
from stylegan_surv.gan.formats.stored import MAX_BYTES, PUBLISHED, ZIP, Stored, check_size

MAX_MODULES = 5_000  # a 1024 px generator has about 60
LONGEST = 300  # characters of a reason
NETWORKS = ("G_ema", "G", "D")
# the instructions with which a pickle reaches for anything but data, or sets attributes; BUILD is replaced below
FORBIDDEN = (
    pickle.INST,
    pickle.OBJ,
    pickle.NEWOBJ_EX,
    pickle.PERSID,
    pickle.BINPERSID,
    pickle.EXT1,
    pickle.EXT2,
    pickle.EXT4,
)


@dataclass(frozen=True)
class Module:
    """A pickled network module: its class name and its ``__dict__``, as data."""

    class_name: str
    state: dict[str, Any]

    def table(self, name: str) -> dict[str, Any]:
        """``_parameters``, ``_buffers`` or ``_modules``."""
        found = self.state.get(name, {})
        if not isinstance(found, dict):
            raise pickle.UnpicklingError(f"{name} of {self.class_name} is not a dict")
        return found


class _Dict(dict):  # type: ignore[type-arg]
    """``EasyDict`` and ``OrderedDict``: filled item by item, never copied from an argument."""

    def __init__(self) -> None:
        super().__init__()


def _module(meta: dict[str, Any]) -> Module:
    name, state = meta.get("class_name"), meta["state"]
    if not isinstance(name, str) or not isinstance(state, dict):
        raise pickle.UnpicklingError("a network's class name or state is not what the layout has")
    return Module(name, state)


def _dtype(kind: str, *_: Any) -> str:
    if not isinstance(kind, str) or not re.fullmatch(r"[<>=|]?[biuf][1248]", kind):
        raise pickle.UnpicklingError("it has a numpy scalar that is not a number")
    return kind


def _storage(content: bytes) -> torch.storage.TypedStorage:
    """The original calls ``torch.load`` here, unrestricted: a pickle inside the pickle."""
    if content[:4] == ZIP:
        raise pickle.UnpicklingError("a tensor in it is a zip archive")
    try:
        storage = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as fault:
        raise pickle.UnpicklingError(
            "a tensor in it is itself a pickle that holds more than numbers"
        ) from fault
    if not isinstance(storage, torch.storage.TypedStorage):
        raise pickle.UnpicklingError(f"a tensor in it is stored as {type(storage).__name__}")
    return storage


def _tensor(
    storage: torch.storage.TypedStorage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    numbers = torch.empty(0, dtype=storage.dtype).set_(storage)
    if math.prod(size) > numbers.numel():  # with a stride of 0 a few bytes would fill the memory
        raise pickle.UnpicklingError(f"a tensor of shape {list(size)} has only {numbers.numel()} numbers")
    return torch.as_strided(numbers, size, stride, offset)


def _scalar(kind: str, content: bytes) -> float:
    return float(np.frombuffer(content, dtype=_dtype(kind), count=1)[0])


# the names that a file may ask for beside torch.storage._load_from_bytes, and what it gets
GLOBALS: dict[str, Callable[..., Any]] = {
    "torch_utils.persistence._reconstruct_persistent_obj": _module,
    "dnnlib.util.EasyDict": _Dict,
    "collections.OrderedDict": _Dict,
    "builtins.set": lambda items=(): items,
    "__builtin__.set": lambda items=(): items,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.dtype": _dtype,
}


class _Asks(pickle.UnpicklingError):
    """The file names something outside :data:`GLOBALS`."""


class _Reader(pickle._Unpickler):  # the C version allocates its memo at whatever index the file names
    """Unpickles data only: :data:`GLOBALS` are all it can call."""

    stack: list[Any]

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.unread = os.fstat(file.fileno()).st_size

    def _storage(self, content: bytes) -> torch.storage.TypedStorage:
        self.unread -= len(content)
        if self.unread < 0:  # otherwise a memoised storage, named over and over, would fill the memory
            raise pickle.UnpicklingError("it unpacks the same numbers again and again")
        return _storage(content)

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("it uses pickle instructions that no network file needs")

    def _skip_state(self) -> None:
        self.stack.pop()  # BUILD sets attributes; only numpy dtypes have it here, and theirs is not needed

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        **pickle._Unpickler.dispatch,
        **dict.fromkeys((code[0] for code in FORBIDDEN), _refuse),
        pickle.BUILD[0]: _skip_state,
    }

    def find_class(self, module: str, name: str) -> Any:
        wanted = f"{module}.{name}"
        if module.split(".")[0] == "tflib" or module.startswith("dnnlib.tflib"):
            raise pickle.UnpicklingError("it is a TensorFlow network")  # what_it_is says what to do
        if wanted == "torch.storage._load_from_bytes":
            return self._storage
        if wanted not in GLOBALS:
            raise _Asks(asks_for(wanted))
        return GLOBALS[wanted]


def read_pickle(path: Path) -> dict[str, Any]:
    """The file's dict: :class:`Module` records and plain data.

    Raises
    ------
    Refused
        If the file asks for anything outside the layout. Nothing of it has been executed.
    """
    check_size(path)
    try:
        with open(path, "rb") as file:
            content = _Reader(file).load()
    except Exception as fault:  # a hostile stream can end in any error
        what = what_it_is(path)
        if what is None and not _ends(path):
            what = f"cut off or damaged: {path.stat().st_size:,} bytes are there; download or copy it again"
        reason = str(fault).splitlines()[0][:LONGEST] if str(fault) else type(fault).__name__
        if what is not None and (what.startswith("a StyleGAN3") or not isinstance(fault, _Asks)):
            reason = f"it is {what}"
        raise Refused(f"{path.name} is refused, and nothing in it was run: {reason}") from fault
    if not isinstance(content, dict) or not any(isinstance(content.get(k), Module) for k in NETWORKS):
        raise Refused(
            f"{path.name} holds {type(content).__name__}; expected a dict with {', '.join(NETWORKS)}"
        )
    return content


def _ends(path: Path) -> bool:
    """Whether the file's last byte is the instruction that ends a pickle."""
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == pickle.STOP


def modules(root: Module, prefix: str = "") -> Iterator[tuple[str, Module]]:
    """All submodules with their dotted names, root first (name '')."""
    queue = [(prefix, root)]
    for _ in range(MAX_MODULES):
        if not queue:
            return
        name, module = queue.pop()
        yield name, module
        children = [(k, m) for k, m in module.table("_modules").items() if isinstance(m, Module)]
        queue += [(f"{name}.{k}".lstrip("."), m) for k, m in children]
    raise Refused(
        f"the network has more than {MAX_MODULES} modules"
    )  # shared or circular: it would never end


def tensors(root: Module) -> dict[str, Tensor]:
    """Parameters and buffers by dotted name, float32. (Frozen weights of a discriminator are buffers.)"""
    state, size = {}, 0
    for name, module in modules(root):
        for key, value in {**module.table("_parameters"), **module.table("_buffers")}.items():
            if isinstance(value, Tensor):
                size += 4 * value.numel()
                if size > MAX_BYTES:  # one storage may be named many times
                    raise Refused(f"the network's tensors exceed {MAX_BYTES >> 30} GiB")
                state[f"{name}.{key}".lstrip(".")] = value.detach().float().contiguous()
    return state


def _facts(root: Module) -> dict[str, Any]:
    """What only the modules' attributes tell; refuses what our networks do not do."""
    facts: dict[str, Any] = {}
    for name, module in modules(root):
        attributes = module.state
        if attributes.get("activation", "lrelu") not in ("lrelu", "linear"):
            raise Refused(f"layer {name} uses activation {attributes['activation']!r}; expected lrelu")
        if name.endswith("conv1"):
            clamp = attributes.get("conv_clamp")
            facts["conv_clamp"] = None if clamp is None else float(clamp)
        if re.fullmatch(r"mapping\.fc\d+", name) and abs(attributes.get("bias_gain", 0.01) - 0.01) > 1e-9:
            raise Refused(
                f"layer {name} has learning-rate multiplier {attributes['bias_gain']}; expected 0.01"
            )
        if name == "b4.mbstd":
            facts["mbstd_group"] = attributes.get("group_size") or 1 << 30  # None: the whole batch
    return facts


def read(path: Path, network: str) -> Stored:
    """One network (``G_ema``, ``G`` or ``D``) of an NVlabs pickle."""
    content = read_pickle(path)
    root = content.get(network)
    if not isinstance(root, Module):
        held = [k for k in NETWORKS if isinstance(content.get(k), Module)]
        raise InputError(f"{path.name} holds no {network}; it holds {', '.join(held)}")
    card: dict[str, Any] = {"licence": PUBLISHED, "provenance": {"kind": "unknown"}}
    dataset = content.get("training_set_kwargs")
    if isinstance(dataset, dict) and isinstance(dataset.get("path"), str):
        card["data"] = re.split(r"[\\/]", dataset["path"])[-1]
    if kimg := re.search(r"network-snapshot-(\d+)", path.name):
        card["kimg"] = int(kimg[1])
    return Stored(tensors(root), _facts(root), card)
