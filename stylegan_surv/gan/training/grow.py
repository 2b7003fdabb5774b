"""Growing a generator by a block, on chips of twice its resolution: the block alone learns.

Nothing below it needs a gradient, so the base's feature maps are drawn once for every chip and kept; a pool of samples
is drawn anew from time to time. A step costs the block, and the networks that judge its pictures:

- chips, by their codes: smooth L1 and LPIPS with the photograph;
- samples, and chips' reconstructions, in a window of the picture: textures of photographs, and where the recipe says so
  small critics on fixed features;
- samples, made smaller again, show the base's picture.

Everything random in a step follows from the seed and the step's number.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.optim import Adam

from stylegan_surv._types import Progress
from stylegan_surv.errors import InputError
from stylegan_surv.gan.data import ImageSet, sample_order
from stylegan_surv.gan.networks import Generator
from stylegan_surv.gan.networks.ema import ema_decay, update_ema
from stylegan_surv.gan.networks.feature_critic import FeatureCritic
from stylegan_surv.gan.networks.perceptual import LPIPS
from stylegan_surv.gan.networks.resampling import reduced
from stylegan_surv.gan.training import losses
from stylegan_surv.gan.training.block import Below, above, above_window, below, grown, top_block
from stylegan_surv.gan.training.codes import Codes
from stylegan_surv.gan.training.objective import Term, Terms, shifted, weighted_sum
from stylegan_surv.gan.training.optimisers import BETAS
from stylegan_surv.gan.training.recipe import FeatureAdversarial, Textures, read_settings
from stylegan_surv.gan.training.runlog import RunLog
from stylegan_surv.gan.training.settings import Setting, SettingsGroup, check_settings
from stylegan_surv.gan.training.state import Stateful, load_state, save_state
from stylegan_surv.gan.training.streams import key
from stylegan_surv.gan.training.textures import texture_distance
from stylegan_surv.gan.training.trainer import STATE_FILE, Diverged

MAX_SHIFT = 3  # pixels; LPIPS is read on a grid of stride 4
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


class GrowthRecipe(SettingsGroup):
    """All settings of growing a generator by a block."""

    name: str
    seed: int = 0
    channels: PositiveInt | None = Field(
        default=None, description="feature maps of the new block; none: as the base's rule has it"
    )
    images: PositiveInt = Field(description="length of the run")
    batch: PositiveInt = Field(default=16, description="chips of a step")
    samples: PositiveInt = Field(default=16, description="samples of a step")
    pool: PositiveInt = Field(default=256, description="samples that are drawn at a time")
    shots: PositiveInt = Field(default=4, description="times that each is used")
    projector_steps: int = Field(
        default=25, ge=0, description="of every chip's code, once; 0: the encoder's code"
    )
    hold_out: float = Field(default=0.1, ge=0, lt=1)
    drop_captions: bool = False
    precision: Literal["float32", "bf16"] = "float32"
    rate: float = Field(default=0.002, gt=0, description="Adam's learning rate; β = (0, 0.99)")
    warm_up: int = Field(default=0, ge=0, description="images over which the rate rises")
    cool_down: float = Field(
        default=0.0, ge=0, le=1, description="last share of the run in which the rate falls"
    )
    pixel: float = Field(default=2.0, ge=0, description="weight of smooth L1 (beta 0.1)")
    lpips: float = Field(default=1.0, ge=0, description="weight of LPIPS (AlexNet)")
    base_picture: float = Field(
        default=1.0, ge=0, description="weight of smooth L1 of samples, made smaller, to the base's picture"
    )
    textures: Textures | None = Textures()
    features: FeatureAdversarial | None = None
    judged: PositiveInt = Field(
        default=8, description="reconstructions of a step whose textures are judged beside the samples'"
    )
    window: float = Field(
        default=0.5, gt=0, le=1, description="side of the judged window, share of the picture"
    )
    ema_images: float = Field(default=5000, gt=0, description="half-life of the average")
    save_seconds: float = Field(default=60, gt=0)
    log_images: PositiveInt = 1600
    check_images: PositiveInt = 16000


def read_growth(path: str | Path, **changes: Setting) -> GrowthRecipe:
    """Read a recipe for growing, by its path or the name of a shipped one; ``changes`` replace its settings.

    Raises
    ------
    InputError
        Listing every setting that is unknown or out of range.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    return check_settings(GrowthRecipe, {**read_settings(path), **given}, str(path))


class Grower:
    """A block, its average and optimiser, and the step that moves them.

    Parameters
    ----------
    recipe : GrowthRecipe
    base : Generator
        What is grown.
    data : ImageSet
        Training chips of twice the base's resolution.
    codes : Codes
        Of every chip, then of every chip mirrored.
    out : Path
        The run's folder.

    Attributes
    ----------
    generator : Generator
        The grown one, with the averaged block.
    step : int
        Steps done.
    cpu_seconds : float
        Spent in steps, over all sessions of the run.
    """

    def __init__(
        self, recipe: GrowthRecipe, base: Generator, data: ImageSet, codes: Codes, out: Path
    ) -> None:
        self.recipe, self.base, self.data, self.out = recipe, base, data, out
        self.dtype = DTYPES[recipe.precision]
        self.generator = grown(base, recipe.channels, recipe.seed)
        self.average = top_block(self.generator)
        self.block = copy.deepcopy(self.average).train().requires_grad_(True)
        for conv in (self.block.conv0, self.block.conv1):  # a fixed pattern of noise is no detail
            if conv.noise:
                conv.noise_strength.requires_grad_(False)
        self.network = LPIPS()
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            self.critic = FeatureCritic(recipe.seed) if recipe.features else None
        learnt = [p for p in self.block.parameters() if p.requires_grad]
        self.adam = Adam(learnt, lr=recipe.rate, betas=BETAS)
        rate = recipe.features.rate if recipe.features else 0.0
        self.adam_critic = Adam(self.critic.parameters(), lr=rate, betas=BETAS) if self.critic else None
        self.chips = below(base, codes, self.dtype)
        self.identity = {
            "seed": recipe.seed,
            "batch": recipe.batch,
            "base": base.card.get("sha256"),
            "pixels": data.digest,
        }
        self.pool: tuple[int, Below] | None = None
        self.records = RunLog(out)
        self.step, self.cpu_seconds = 0, 0.0

    @property
    def images(self) -> int:
        """Chips seen so far."""
        return self.step * self.recipe.batch

    # ------------------------------------------------------------------------------------------------- state

    def objects(self) -> dict[str, Stateful]:
        """Everything that has tensors, by name."""
        found: dict[str, Stateful] = {"block": self.block, "average": self.average, "adam": self.adam}
        if self.critic is not None and self.adam_critic is not None:
            found |= {"critic": self.critic, "adam_critic": self.adam_critic}
        return found

    def save(self) -> None:
        """Write the state."""
        counters = {"step": self.step, "cpu_seconds": self.cpu_seconds}
        save_state(self.out / STATE_FILE, self.objects(), self.identity | counters)

    def resume(self) -> bool:
        """Go on from the folder's state, if there is one.

        Raises
        ------
        InputError
            If the state is of another base, of other chips, seed or batch.
        """
        path = self.out / STATE_FILE
        found = path.exists()
        if found:
            numbers = load_state(path, self.objects())
            for name, now in self.identity.items():
                if numbers.get(name) != now:
                    raise InputError(
                        f"{path} is of a run with another {name} ({numbers.get(name)}; now {now}): give a new output "
                        "folder, or what that run was started with"
                    )
            self.step, self.cpu_seconds = int(numbers["step"]), float(numbers["cpu_seconds"])
        self.records.forget_after(self.images if found else -1)
        return found

    # ------------------------------------------------------------------------------------------------ a step

    def run(
        self,
        *,
        stop: Callable[[], bool] = lambda: False,
        check: Callable[[], None] = lambda: None,
        progress: Progress | None = None,
    ) -> None:
        """Train to the recipe's length, or until ``stop()``; then save."""
        r, saved = self.recipe, time.monotonic()
        sums: dict[str, float] = {}
        count = 0
        while self.images < r.images and not stop():
            cpu = time.process_time()
            for name, value in self.advance().items():
                sums[name] = sums.get(name, 0.0) + value
            count += 1
            self.cpu_seconds += time.process_time() - cpu
            if self._crossed(r.log_images):
                self.log({name: total / count for name, total in sums.items()})
                sums, count = {}, 0
            checking = self._crossed(r.check_images)
            if checking:
                check()
            if checking or time.monotonic() - saved > r.save_seconds:
                self.save()
                saved = time.monotonic()
            if progress is not None:
                progress(min(self.images, r.images), r.images)
        self.save()

    def _crossed(self, every: int) -> bool:
        return self.images // every != (self.images - self.recipe.batch) // every

    def log(self, record: dict[str, float], kind: str = "train") -> None:
        """Append a record to the run's log."""
        self.records.append(
            {"kind": kind, "images": self.images, "cpu_seconds": round(self.cpu_seconds, 1)}, record
        )

    def advance(self) -> dict[str, float]:
        """One step; the value of every term.

        Raises
        ------
        Diverged
            Before anything is updated, if a term is not finite.
        """
        r = self.recipe
        torch.manual_seed(key(r.seed, self.step))
        n = len(self.data)
        index = sample_order(self.images, r.batch, 2 * n, r.seed)
        real = self.data.images(index % n)
        mirrored = torch.from_numpy(index >= n)
        real[mirrored] = real[mirrored].flip(3)
        real = real.contiguous(memory_format=torch.channels_last)
        terms, fakes, shown = self._terms(self.chips[torch.from_numpy(index)], real)
        if self.critic is not None and r.features and self.step % r.features.every == 0:
            logits = self.critic(fakes, self.network)
            terms["fool"] = Term(r.features.weight, torch.stack([-level.mean() for level in logits]).mean())
        found = {name: float(term.value.detach()) for name, term in terms.items()}
        self._require_finite(found)
        self._move(self.adam, weighted_sum(terms), self._factor() * r.rate)
        if "fool" in terms:
            found["critic"] = self._teach(fakes.detach(), shown)
        self.step += 1
        update_ema(self.average, self.block, ema_decay(r.batch, r.ema_images, self.images))
        return found

    def _terms(self, inputs: Below, real: Tensor) -> tuple[Terms, Tensor, Tensor]:
        """Terms without a critic; windows of drawn pictures, and of photographs, for what judges them."""
        r, half = self.recipe, self.base.config.resolution
        side = max(8, round(r.window * half))
        top, left = (int(at) for at in torch.randint(0, half - side + 1, (2,)))
        drawn = above(self.block, inputs)
        samples, beneath = above_window(self.block, self._samples(), top, left, side)
        rows, columns = (slice(2 * at, 2 * (at + side)) for at in (top, left))
        shift = torch.randint(0, MAX_SHIFT + 1, (2,))
        terms = {"pixel": Term(r.pixel, F.smooth_l1_loss(drawn, real, beta=0.1))}
        with self._precision():
            apart = self.network(shifted(drawn, shift), shifted(real, shift))
        terms["lpips"] = Term(r.lpips, apart.float().mean())
        small = reduced(samples, side)
        inner = slice(2, side - 2)  # beyond the reach of the window's edge
        terms["base_picture"] = Term(
            r.base_picture,
            F.smooth_l1_loss(small[:, :, inner, inner], beneath.image.float()[:, :, inner, inner], beta=0.1),
        )
        fakes = torch.cat([samples, drawn[: r.judged, :, rows, columns]])
        shown = real[:, :, rows, columns]
        if r.textures:
            with self._precision():
                apart = texture_distance(fakes, shown, self.network, r.textures.projections)
            terms["textures"] = Term(r.textures.weight, apart.float())
        return terms, fakes, shown

    def _samples(self) -> Below:
        """This step's samples; a function of the seed and the step."""
        r = self.recipe
        turns = max(r.pool // r.samples, 1)  # steps that a pool lasts for once
        number, within = divmod(self.step, turns * r.shots)
        if self.pool is None or self.pool[0] != number:
            rng = torch.Generator().manual_seed(key(r.seed, -1, number))
            z = torch.randn(turns * r.samples, self.base.config.z_dim, generator=rng)
            with torch.no_grad():
                ws = self.base.mapping(z)
            self.pool = number, below(self.base, Codes(ws[:, 0], ws), self.dtype)
        at = within % turns * r.samples
        return self.pool[1][at : at + r.samples]

    def _teach(self, fakes: Tensor, real: Tensor) -> float:
        """Move the critic; what it paid."""
        assert self.critic is not None
        assert self.adam_critic is not None
        assert self.recipe.features is not None
        pairs = zip(self.critic(fakes, self.network), self.critic(real, self.network))
        loss = torch.stack(
            [losses.hinge_fake(f).mean() + losses.hinge_real(t).mean() for f, t in pairs]
        ).mean()
        self._require_finite({"critic": float(loss.detach())})
        self._move(self.adam_critic, loss, self._factor() * self.recipe.features.rate)
        return float(loss.detach())

    def _precision(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def _move(self, adam: Adam, loss: Tensor, rate: float) -> None:
        for group in adam.param_groups:
            group["lr"] = rate
        parameters = [p for group in adam.param_groups for p in group["params"]]
        gradients = torch.autograd.grad(loss, parameters)
        if not all(bool(g.isfinite().all()) for g in gradients):
            self._require_finite({"gradient": math.nan})
        for p, gradient in zip(parameters, gradients):
            p.grad = gradient
        adam.step()

    def _factor(self) -> float:
        r = self.recipe
        left = 1 - self.images / r.images
        factor = min(1.0, left / r.cool_down) if r.cool_down else 1.0
        return factor * min(1.0, (self.images + r.batch) / r.warm_up) if r.warm_up else factor

    def _require_finite(self, terms: dict[str, float]) -> None:
        for name, value in terms.items():
            if not math.isfinite(value):
                raise Diverged(
                    f"{name!r} is {value} at step {self.step} ({self.images} images). The last saved state in "
                    f"{self.out} is good: go on from it with a lower rate"
                )
