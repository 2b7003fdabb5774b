"""Read and write rosinality's ``.pt`` layout, and read the decoders of e4e and pSp, which share it.

The layouts differ in names and in singleton dimensions only; no weight is flipped or scaled, so a round trip keeps
every bit. Archives are unpickled by torch's weights-only reader, which builds tensors and plain containers.
"""

from __future__ import annotations

import argparse
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylegan_surv._files import whole
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.gan.formats.stored import MAX_BYTES, PUBLISHED, ZIP, Stored, check_size, generator_config
from stylegan_surv.gan.networks import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    Mapping,
    binomial_filter,
    resolutions,
)

NAMES = {"G_ema": "g_ema", "G": "g", "D": "d"}
KERNELS = ("blur.kernel", "upsample.kernel", "conv2.0.kernel", "skip.0.kernel")
W_AVG_SAMPLES = 10_000  # as in the StyleGAN2 projector (Karras et al. 2020, appendix D)
SIDES = (
    512,
    512,
    512,
    512,
    256,
    128,
    64,
    32,
    16,
)  # its generator class's widths at 4, 8, … px, before its multiplier


def generator_names(top: int, layers: int) -> dict[str, str]:
    """Their tensor names → ours, for a generator of resolution ``top`` with a mapping of ``layers``."""
    names = {"input.input": "synthesis.b4.const"}
    for i in range(layers):
        names |= {f"style.{i + 1}.{part}": f"mapping.fc{i}.{part}" for part in ("weight", "bias")}
    convs, rgbs = {"conv1": "b4.conv1"}, {"to_rgb1": "b4.torgb"}
    for k, res in enumerate(resolutions(top)[1:]):
        convs |= {f"convs.{2 * k}": f"b{res}.conv0", f"convs.{2 * k + 1}": f"b{res}.conv1"}
        rgbs[f"to_rgbs.{k}"] = f"b{res}.torgb"
    for theirs, ours in {**convs, **rgbs}.items():
        names[f"{theirs}.conv.weight"] = f"synthesis.{ours}.weight"
        for part in ("weight", "bias"):
            names[f"{theirs}.conv.modulation.{part}"] = f"synthesis.{ours}.affine.{part}"
    for i, (theirs, ours) in enumerate(convs.items()):
        names[f"{theirs}.noise.weight"] = f"synthesis.{ours}.noise_strength"
        names[f"{theirs}.activate.bias"] = f"synthesis.{ours}.bias"
        names[f"noises.noise_{i}"] = f"synthesis.{ours}.noise_const"
    return names | {f"{theirs}.bias": f"synthesis.{ours}.bias" for theirs, ours in rgbs.items()}


def discriminator_names(top: int) -> dict[str, str]:
    """Their tensor names → ours, for a discriminator of resolution ``top``."""
    names = {"convs.0.0.weight": f"b{top}.fromrgb.weight", "convs.0.1.bias": f"b{top}.fromrgb.bias"}
    for i, res in enumerate(reversed(resolutions(top)[1:]), start=1):
        names |= {
            f"convs.{i}.conv1.0.weight": f"b{res}.conv0.weight",
            f"convs.{i}.conv1.1.bias": f"b{res}.conv0.bias",
            f"convs.{i}.conv2.1.weight": f"b{res}.conv1.weight",
            f"convs.{i}.conv2.2.bias": f"b{res}.conv1.bias",
            f"convs.{i}.skip.1.weight": f"b{res}.skip.weight",
        }
    names |= {"final_conv.0.weight": "b4.conv.weight", "final_conv.1.bias": "b4.conv.bias"}
    for i, layer in enumerate(("fc", "out")):
        names |= {f"final_linear.{i}.{part}": f"b4.{layer}.{part}" for part in ("weight", "bias")}
    return names


# ------------------------------------------------------------------------------------------------------ reading


def _open(path: Path) -> dict[str, Any]:
    """The archive's dict, read as data only."""
    check_size(path)
    try:
        # an open file, for torch.load would choose another reader by a path's suffix
        with open(path, "rb") as file, torch.serialization.safe_globals([argparse.Namespace]):
            if file.read(4) == ZIP:
                _check_archive(path, zipfile.ZipFile(file))
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Refused:
        raise
    except Exception as fault:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(fault))
        reason = (
            f"it asks for {wanted[1]!r}, which no network needs" if wanted else "it is damaged or no archive"
        )
        raise Refused(f"{path.name} is refused, and nothing in it was run: {reason}") from fault
    if not isinstance(content, dict):
        raise Refused(f"{path.name} holds {type(content).__name__}; expected a dict with g_ema or state_dict")
    return content


def _check_archive(path: Path, archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    if any(e.compress_type for e in entries) or sum(e.file_size for e in entries) > MAX_BYTES:
        raise Refused(f"{path.name} is refused: its archive unpacks to more than it holds")


def _tensors(path: Path, content: dict[str, Any], network: str) -> dict[str, Tensor]:
    """Their tensors of one network; an e4e or pSp file's decoder is its G_ema."""
    table = content.get(NAMES.get(network, network))
    if network == "G_ema" and table is None and isinstance(content.get("state_dict"), dict):
        found = content["state_dict"].items()
        table = {str(k).removeprefix("decoder."): v for k, v in found if str(k).startswith("decoder.")}
    if not isinstance(table, dict) or not table:
        held = [ours for ours, theirs in NAMES.items() if theirs in content]
        raise InputError(
            f"{path.name} holds no {network}; it holds {', '.join(held) or 'the keys ' + ', '.join(map(str, content))}"
        )
    return {str(k): v for k, v in table.items() if isinstance(v, Tensor)}


def _is_binomial(kernel: Tensor) -> bool:
    expected = binomial_filter()
    return kernel.shape == expected.shape and torch.allclose(kernel / kernel.sum(), expected, atol=1e-3)


def _to_ours(name: str, x: Tensor) -> Tensor:
    x = x.detach().float()
    if name.endswith("noise_strength"):
        return x.reshape(())
    if name.endswith("bias"):
        return x.reshape(-1)
    if name.endswith("noise_const"):
        return x.reshape(x.shape[-2:])
    return x[0] if x.ndim == 5 or name.endswith("const") else x


def _latent_avg(stored: Stored, found: Any) -> None:
    """Take over the mean of w, or compute it where the file has none (rosinality's own training states)."""
    config = generator_config(stored)
    if isinstance(found, Tensor):
        rows = found.detach().float().reshape(-1, found.shape[-1])
        stored.state["mapping.w_avg"] = rows[0].clone() if (rows == rows[0]).all() else rows.mean(dim=0)
        return
    mapping = Mapping(config.z_dim, 0, config.w_dim, config.mapping_layers, num_ws=1)
    weights = {k.removeprefix("mapping."): v for k, v in stored.state.items() if k.startswith("mapping.")}
    mapping.load_state_dict({**weights, "w_avg": torch.zeros(config.w_dim)})
    z = torch.randn(W_AVG_SAMPLES, config.z_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        stored.state["mapping.w_avg"] = mapping(z)[:, 0].mean(dim=0)
    stored.card["notes"] = [
        f"the file has no latent_avg: w_avg is the mean of w over {W_AVG_SAMPLES} z (seed 0)"
    ]


def read(path: Path, network: str) -> Stored:
    """One network (``G_ema``, ``G`` or ``D``) of a rosinality, e4e or pSp file."""
    content = _open(path)
    theirs = _tensors(path, content, network)
    convs = {int(m[1]) for key in theirs if (m := re.match(r"convs\.(\d{1,3})\.", key))}
    blocks = len(convs) - 1 if network == "D" else len(convs) // 2
    if not 1 <= blocks <= 10:
        raise InputError(f"{path.name} is no StyleGAN2 network of rosinality's layout: {sorted(theirs)[:3]}")
    layers = sum(bool(re.fullmatch(r"style\.\d+\.weight", key)) for key in theirs)
    top = 4 << blocks
    names = discriminator_names(top) if network == "D" else generator_names(top, layers)
    foreign = [k for k in theirs if k not in names and not k.endswith(KERNELS)]
    missing = [k for k in names if k not in theirs and not k.startswith("noises.")]
    if foreign or missing:
        what = f"has {foreign[0]!r}" if foreign else f"lacks {missing[0]!r}"
        raise InputError(f"{path.name} {what}, unlike a {top} px StyleGAN2 {network} of rosinality's layout")
    for key, kernel in theirs.items():
        if key.endswith(KERNELS) and not _is_binomial(kernel):
            raise Refused(f"{path.name} resamples with another filter than [1, 3, 3, 1] ({key})")
    state = {names[k]: _to_ours(names[k], v) for k, v in theirs.items() if k in names}
    stored = Stored(state, {}, _card(content))
    if network != "D":
        _noise_maps(stored, top)
        _latent_avg(stored, content.get("latent_avg"))
    return stored


def _card(content: dict[str, Any]) -> dict[str, Any]:
    """The card that :func:`write` has left in the file, or what is to be assumed of a foreign one."""
    try:
        card = json.loads(content.get("card", "{}"))
    except (TypeError, ValueError):
        card = None
    return {
        "licence": PUBLISHED,
        "provenance": {"kind": "unknown"},
        **(card if isinstance(card, dict) else {}),
    }


def _noise_maps(stored: Stored, top: int) -> None:
    """Draw the noise maps where the file has none (the first published conversions)."""
    noise = torch.Generator().manual_seed(0)
    for res in resolutions(top):
        for conv in ("conv0", "conv1") if res > 4 else ("conv1",):
            key = f"synthesis.b{res}.{conv}.noise_const"
            if key not in stored.state:
                stored.state[key] = torch.randn(res, res, generator=noise)


# ------------------------------------------------------------------------------------------------------ writing


def _to_theirs(name: str, x: Tensor) -> Tensor:
    if name.endswith("noise_strength"):
        return x.reshape(1)
    if name.endswith("torgb.bias"):
        return x.reshape(1, -1, 1, 1)
    if name.endswith("noise_const"):
        return x[None, None]
    return x[None] if name.endswith("const") or (name.startswith("synthesis.") and x.ndim == 4) else x


def _check(unlike: dict[str, bool], what: str) -> None:
    if reasons := [reason for reason, holds in unlike.items() if holds]:
        raise Refused(
            f"rosinality's layout cannot hold this {what}: {'; '.join(reasons)}. Use our own format"
        )


def _generator(G: Generator) -> dict[str, Tensor]:
    c = G.config
    _check(
        {
            f"architecture {c.architecture!r} (it has only 'skip')": c.architecture != "skip",
            f"conv_clamp {c.conv_clamp} (it never clamps)": c.conv_clamp is not None,
            f"{c.c_dim} labels (it has none)": c.c_dim > 0,
            "no noise (it always adds noise)": not c.use_noise,
            f"z of {c.z_dim} and w of {c.w_dim} dims (they are equal there)": c.z_dim != c.w_dim,
            f"{c.img_channels} image channels (it has 3)": c.img_channels != 3,
        },
        "generator",
    )
    names, state = generator_names(c.resolution, c.mapping_layers), G.state_dict()
    table = {theirs: _to_theirs(ours, state[ours]) for theirs, ours in names.items()}
    for k in range(len(resolutions(c.resolution)) - 1):
        table |= {
            f"{m}.kernel": 4 * binomial_filter()
            for m in (f"convs.{2 * k}.conv.blur", f"to_rgbs.{k}.upsample")
        }
    return {name: x.cpu() for name, x in table.items()}


def check_discriminator(c: DiscriminatorConfig) -> None:
    """Refuse a discriminator that the layout cannot hold, with every reason."""
    _check(
        {
            f"architecture {c.architecture!r} (it has only 'resnet')": c.architecture != "resnet",
            f"conv_clamp {c.conv_clamp} (it never clamps)": c.conv_clamp is not None,
            f"{c.c_dim} labels (it has none)": c.c_dim > 0,
            f"minibatch groups of {c.mbstd_group} (its are of 4)": c.mbstd_group != 4
            or c.mbstd_channels != 1,
            f"{c.img_channels} image channels (it has 3)": c.img_channels != 3,
        },
        "discriminator",
    )


def _discriminator(D: Discriminator) -> dict[str, Tensor]:
    c = D.config
    check_discriminator(c)
    state = D.state_dict()
    table = {theirs: state[ours] for theirs, ours in discriminator_names(c.resolution).items()}
    for i in range(1, len(resolutions(c.resolution))):
        table |= {f"convs.{i}.{m}.kernel": binomial_filter() for m in ("conv2.0", "skip.0")}
    return {name: x.cpu() for name, x in table.items()}


def write(path: str | Path, G: Generator, D: Discriminator | None = None) -> list[str]:
    """Write ``{g_ema, latent_avg[, d]}``, as rosinality's converter does, and the generator's card as text beside.

    Returns
    -------
    list of str
        What its user has to know: settings that the layout leaves to the program.

    Raises
    ------
    InputError
        If the file cannot be written.
    Refused
        If the layout cannot hold the network (clamping, labels, other architectures), with every reason.
    """
    card = {k: v for k, v in G.card.items() if k != "sha256"}
    content: dict[str, Any] = {
        "g_ema": _generator(G),
        "latent_avg": G.mapping.w_avg.cpu(),
        "card": json.dumps(card),
    }
    if D is not None:
        content["d"] = _discriminator(D)
    with whole(path) as partial:
        torch.save(content, partial)
    c = G.config
    notes = [f"construct it with size={c.resolution}, style_dim={c.w_dim}, n_mlp={c.mapping_layers}"]
    widths = [c.channels(res) for res in resolutions(c.resolution)]
    if not any(widths == [s if s == 512 else s * m for s in SIDES[: len(widths)]] for m in (1, 2)):
        notes.append(f"its class has other widths: set its channel table to {widths} for 4, 8, … px")
    return notes
