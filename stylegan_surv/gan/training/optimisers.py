"""Which parameters of a run move, and how fast: what the recipe freezes, and an Adam for every network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Adam

from stylegan_surv.errors import InputError
from stylegan_surv.gan.training.objective import Players
from stylegan_surv.gan.training.recipe import Recipe

BETAS = (0.0, 0.99)  # StyleGAN2's (arXiv 1912.04958, appendix B)


def freeze(players: Players, recipe: Recipe) -> None:
    """Freeze-G's mapping, the encoder, freeze-D's highest blocks (Mo et al. 2020), layers with a rate of 0."""
    if recipe.freeze_mapping:
        players.G.mapping.requires_grad_(False)
    if recipe.freeze_encoder and players.E is not None:
        players.E.requires_grad_(False)
    if players.D is not None and recipe.adversarial:
        blocks = [net for name, net in players.D.named_children() if name.startswith("b")]
        for block in blocks[: recipe.adversarial.freeze]:
            block.requires_grad_(False)
    for net in (players.G, players.E, players.D, players.C):
        for name, p in net.named_parameters() if net is not None else ():
            if not _factor(recipe, name):
                p.requires_grad_(False)


def make_optimisers(players: Players, recipe: Recipe, device: torch.device) -> dict[str, Adam]:
    """One Adam for every network.

    Raises
    ------
    InputError
        If a layer of ``rates.per_layer`` does not exist, or nothing of a network is left to train.
    """
    r, p = recipe.rates, players
    rates: dict[str, tuple[nn.Module | None, Callable[[str], float]]] = {
        "adam_G": (p.G, lambda name: r.mapping if name.startswith("mapping") else r.generator),
        "adam_E": (None if recipe.freeze_encoder else p.E, lambda _: r.encoder),
        "adam_D": (p.D, lambda _: r.discriminator),
        "adam_C": (p.C, lambda _: recipe.features.rate if recipe.features else 0.0),
    }
    made = {k: _groups(net, rate, recipe) for k, (net, rate) in rates.items() if net is not None}
    if empty := [k for k, groups in made.items() if not groups]:
        raise InputError(
            f"the recipe freezes all of {empty[0].removeprefix('adam_')}: lower adversarial.freeze, or leave a "
            "layer out of rates.per_layer"
        )
    layers = [name for net, _ in rates.values() if net is not None for name, _ in net.named_parameters()]
    for prefix in r.per_layer:
        if not any(name.startswith(prefix) for name in layers):
            raise InputError(
                f"rates.per_layer: no parameter's name begins with {prefix!r}; there are {layers[:3]}…"
            )
    fused = device.type == "cuda"
    return {k: Adam(groups, betas=BETAS, fused=fused) for k, groups in made.items()}


def _factor(recipe: Recipe, name: str) -> float:
    """What the recipe multiplies a parameter's rate by."""
    return next((f for k, f in recipe.rates.per_layer.items() if name.startswith(k)), 1.0)


def _groups(net: nn.Module, rate: Callable[[str], float], recipe: Recipe) -> list[dict[str, Any]]:
    """One parameter group for each distinct rate; ``base`` keeps the rate before any cooling."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, p in net.named_parameters():
        if p.requires_grad:
            groups.setdefault(rate(name) * _factor(recipe, name), []).append(p)
    return [{"params": ps, "lr": lr, "base": lr} for lr, ps in groups.items()]


def set_rates(optimisers: dict[str, Adam], recipe: Recipe, images: int, batch: int) -> None:
    """The learning rates of the step after ``images`` real images: warmed up, or cooling down."""
    left = 1 - images / recipe.images
    factor = min(1.0, left / recipe.cool_down) if recipe.cool_down else 1.0
    if recipe.warm_up:
        factor *= min(1.0, (images + batch) / recipe.warm_up)
    for optimiser in optimisers.values():
        for group in optimiser.param_groups:
            group["lr"] = group["base"] * factor
