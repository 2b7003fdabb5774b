"""Read and write rosinality's ``.pt`` layout, and read the decoders of e4e and pSp, which share it.

The layouts differ in names and in singleton dimensions only; no weight is flipped or scaled, so a round trip keeps
every bit.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylegan_surv._files import whole
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.gan.formats.stored import PUBLISHED, Stored, check_filter, generator_config
from stylegan_surv.gan.networks import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    Mapping,
    binomial_filter,
    resolutions,
)

MAX_BLOCKS = 10  # above 4 px: 4,096 px
WAVELETS = 12  # channels of SWAGAN's images: 4 wavelets of 3 colours (Gal et al. 2021)
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


def from_table(path: Path, theirs: dict[str, Tensor], content: dict[str, Any], network: str) -> Stored:
    """A network from the tensors of rosinality's layout.

    Parameters
    ----------
    path : Path
        The file, for messages.
    theirs : dict of str to Tensor
        Their tensors by name.
    content : mapping
        What else is in the file: ``latent_avg``, our card.
    network : str
        ``G_ema``, ``G`` or ``D``.

    Raises
    ------
    InputError
        If it is no network of this layout; :class:`Refused` if it is one of another architecture, by name.
    """
    if network != "D":
        _refuse_kin(path, theirs)
    convs = {int(m[1]) for key in theirs if (m := re.match(r"convs\.(\d{1,3})\.", key))}
    blocks = len(convs) - 1 if network == "D" else len(convs) // 2
    if not 1 <= blocks <= MAX_BLOCKS:
        raise InputError(f"{path.name} is no StyleGAN2 network of rosinality's layout: {sorted(theirs)[:3]}")
    layers = sum(bool(re.fullmatch(r"style\.\d+\.weight", key)) for key in theirs)
    top = 4 << blocks
    for key, kernel in theirs.items():
        if key.endswith(KERNELS):
            check_filter(path.name, key, kernel / kernel.sum())
    names = discriminator_names(top) if network == "D" else generator_names(top, layers)
    foreign = [k for k in theirs if k not in names and not k.endswith(KERNELS)]
    missing = [k for k in names if k not in theirs and not k.startswith("noises.")]
    if foreign or missing:
        what = f"has {foreign[0]!r}" if foreign else f"lacks {missing[0]!r}"
        raise InputError(f"{path.name} {what}, unlike a {top} px StyleGAN2 {network} of rosinality's layout")
    state = {names[k]: _to_ours(names[k], v) for k, v in theirs.items() if k in names}
    stored = Stored(state, {}, _card(content))
    if network != "D":
        _noise_maps(stored, top)
        _latent_avg(stored, content.get("latent_avg"))
    return stored


def _refuse_kin(path: Path, theirs: dict[str, Tensor]) -> None:
    """Generators that share the layout's names and are other networks."""
    rgb, style = theirs.get("to_rgb1.conv.weight"), theirs.get("style.1.weight")
    if any(".iwt." in key or ".dwt." in key for key in theirs) or (
        rgb is not None and rgb.shape[1] == WAVELETS
    ):
        raise Refused(f"{path.name} is a SWAGAN generator, which draws wavelets; expected StyleGAN2")
    if style is not None and style.ndim == 2 and style.shape[0] != style.shape[1]:
        raise Refused(
            f"{path.name} is a conditional generator (its mapping reads {style.shape[1]} numbers and gives "
            f"{style.shape[0]}; in rosinality's layout they are equal): how it takes labels is not in the file. "
            "Expected an unconditional one"
        )


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
