"""The trainer: one loop for training from scratch and for fine-tuning.

A step is made of micro-batches. Everything random in a micro-batch is drawn from a stream that is keyed by (seed,
number of the micro-batch), and its images come from a stateless order (`data.sample_order`); so a resumed run, and
one whose micro-batches are shared among processes, do exactly what a single run without a break would do.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from stylegan_surv.errors import InputError
from stylegan_surv.gan.data import ImageSet, batch_of, sample_order
from stylegan_surv.gan.networks import (
    LPIPS,
    Discriminator,
    Encoder,
    FeatureCritic,
    Generator,
    ema_decay,
    update_ema,
)
from stylegan_surv.gan.training import parallel
from stylegan_surv.gan.training.augment import AdaptiveP
from stylegan_surv.gan.training.fold import LinearOffsets
from stylegan_surv.gan.training.objective import MAPPED, Memory, Objective, Players, fit_mapping, mean_terms
from stylegan_surv.gan.training.precision import LossScale, choose
from stylegan_surv.gan.training.recipe import Recipe
from stylegan_surv.gan.training.recorded import Recorded
from stylegan_surv.gan.training.runlog import RunLog
from stylegan_surv.gan.training.state import Stateful, load_state, read_numbers, save_state

BETAS = (0.0, 0.99)
W_AVG_DECAY = 0.995  # the truncation point: a running mean of mapping(z) over steps
STATE_FILE = "state.safetensors"


class Diverged(InputError):
    """A loss became NaN or infinite; the last saved state is good."""


class Trainer:
    """Networks, optimisers and counters of a run, and the step that moves them.

    Parameters
    ----------
    recipe : all settings.
    data : the images to learn from.
    out : the run's folder.
    generator, discriminator, encoder : where to start from; None where the recipe has no such part.
    average, encoder_average : averages to go on from (default: copies of the networks, as in fine-tuning).
    from_scratch : let the averages' half-life grow with the run.
    device : a torch device.

    Attributes
    ----------
    step : number of steps done; images : real images seen.
    seconds, cpu_seconds : time spent in steps, over all sessions of the run.
    records : the run's log; None in all processes but the first.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: ImageSet,
        out: Path,
        *,
        generator: Generator,
        discriminator: Discriminator | None = None,
        encoder: Encoder | None = None,
        average: Generator | None = None,
        encoder_average: Encoder | None = None,
        from_scratch: bool = False,
        device: str = "cpu",
    ) -> None:
        self.data, self.out, self.from_scratch = data, out, from_scratch
        bases = {"generator": generator, "encoder": encoder, "discriminator": discriminator}
        self.bases = {f"base {k}": net.card.get("sha256") for k, net in bases.items() if net is not None}
        self.pixels = data.digest
        self.device = torch.device(device)
        self.recipe = recipe = self._settled(recipe)
        self.dtype = torch.float64 if recipe.precision == "float64" else torch.float32
        G = self._trained(generator)
        E = self._trained(encoder) if encoder is not None and recipe.reconstruction else None
        D = self._trained(discriminator) if discriminator is not None and recipe.adversarial else None
        C = self._trained(FeatureCritic(recipe.seed)) if recipe.features else None
        self.players = Players(G, E, D, C, LPIPS().to(device=self.device, dtype=self.dtype))
        self._freeze()
        self.G_ema = self._averaged(average, G)
        self.E_ema = self._averaged(encoder_average, E) if E is not None else None
        self.objective = Objective(recipe, self.players, self.dtype)
        self.recorded = Recorded(self.objective) if self._can_record() else None
        self.scale = LossScale(recipe.precision)
        self.optimisers = self._optimisers()
        size = recipe.reconstruction.bank if E is not None and recipe.reconstruction else 0
        self.bank = torch.zeros(size, G.config.w_dim, device=self.device, dtype=self.dtype)
        self.path_mean = torch.zeros((), device=self.device, dtype=self.dtype)
        a = recipe.adversarial
        self.ada = AdaptiveP(a.ada_start, target=a.ada_target or 0.0, speed=a.ada_speed) if a else AdaptiveP()
        self.records = RunLog(out, tensorboard=recipe.tensorboard) if parallel.rank() == 0 else None
        self.step = self.banked = 0
        self.seconds = self.cpu_seconds = 0.0

    # ------------------------------------------------------------------------------------------------ set-up

    def _settled(self, recipe: Recipe) -> Recipe:
        """The recipe with its precision decided: as in the state that the run goes on from, or by measuring."""
        if recipe.precision != "auto":
            return recipe
        saved = self.out / STATE_FILE
        before = read_numbers(saved).get("precision") if saved.exists() else None
        return recipe.model_copy(update={"precision": before or choose(self.device)})

    def _can_record(self) -> bool:
        """Whether a step's micro-batch can be recorded: on a GPU, and the only one of this process."""
        one = len(range(parallel.rank(), self.recipe.micros, parallel.world())) == 1
        return self.recipe.cuda_graphs and self.device.type == "cuda" and one

    def _trained(self, net: Any) -> Any:
        return net.to(device=self.device, dtype=self.dtype).train().requires_grad_(True)

    def _averaged(self, given: Any, net: Any) -> Any:
        average = copy.deepcopy(net) if given is None else given
        return average.to(device=self.device, dtype=self.dtype).eval().requires_grad_(False)

    def _freeze(self) -> None:
        """Freeze-G's mapping, the encoder, freeze-D's highest blocks (Mo et al. 2020), layers with a rate of 0."""
        if self.recipe.freeze_mapping:
            self.players.G.mapping.requires_grad_(False)
        if self.recipe.freeze_encoder and self.players.E is not None:
            self.players.E.requires_grad_(False)
        if self.players.D is not None and self.recipe.adversarial:
            blocks = [net for name, net in self.players.D.named_children() if name.startswith("b")]
            for block in blocks[: self.recipe.adversarial.freeze]:
                block.requires_grad_(False)
        for net in (self.players.G, self.players.E, self.players.D, self.players.C):
            for name, p in net.named_parameters() if net is not None else ():
                if not self._factor(name):
                    p.requires_grad_(False)

    def _factor(self, name: str) -> float:
        """What the recipe multiplies a parameter's rate by."""
        return next((f for k, f in self.recipe.rates.per_layer.items() if name.startswith(k)), 1.0)

    def _optimisers(self) -> dict[str, Adam]:
        """One Adam for every network.

        Raises
        ------
        InputError
            If a layer of ``rates.per_layer`` does not exist, or nothing of a network is left to train.
        """
        r, p = self.recipe.rates, self.players
        rates: dict[str, tuple[nn.Module | None, Callable[[str], float]]] = {
            "adam_G": (p.G, lambda name: r.mapping if name.startswith("mapping") else r.generator),
            "adam_E": (None if self.recipe.freeze_encoder else p.E, lambda _: r.encoder),
            "adam_D": (p.D, lambda _: r.discriminator),
            "adam_C": (p.C, lambda _: self.recipe.features.rate if self.recipe.features else 0.0),
        }
        made = {k: self._groups(net, rate) for k, (net, rate) in rates.items() if net is not None}
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
        fused = self.device.type == "cuda"
        return {k: Adam(groups, betas=BETAS, fused=fused) for k, groups in made.items()}

    def _groups(self, net: nn.Module, rate: Callable[[str], float]) -> list[dict[str, Any]]:
        """One parameter group for each distinct rate; ``base`` keeps the rate before any cooling."""
        groups: dict[float, list[nn.Parameter]] = {}
        for name, p in net.named_parameters():
            if p.requires_grad:
                groups.setdefault(rate(name) * self._factor(name), []).append(p)
        return [{"params": ps, "lr": lr, "base": lr} for lr, ps in groups.items()]

    # ------------------------------------------------------------------------------------------------- state

    @property
    def batch(self) -> int:
        """Real images of a step, over all processes."""
        return self.recipe.micro_batch * self.recipe.micros

    @property
    def images(self) -> int:
        """Real images seen so far."""
        return self.step * self.batch

    def objects(self) -> dict[str, Stateful]:
        """Everything that has tensors, by name."""
        p = self.players
        nets = {"G": p.G, "G_ema": self.G_ema, "E": p.E, "E_ema": self.E_ema, "D": p.D, "C": p.C}
        found: dict[str, Stateful] = {k: v for k, v in nets.items() if v is not None}
        return found | {"bank": self.bank, "path_mean": self.path_mean} | dict(self.optimisers)

    def _identity(self) -> dict[str, Any]:
        """What must be the same when a run goes on."""
        ids = parallel.fingerprint(self.data.ids)
        counted = {"ids": ids, "seed": self.recipe.seed, "batch size": self.batch}
        return counted | self.bases | {"pixels": self.pixels}

    def save(self) -> None:
        """Write the state; only the first process writes."""
        if parallel.rank() == 0:
            counters = {k: getattr(self, k) for k in ("step", "banked", "seconds", "cpu_seconds")}
            counters |= {"ada_p": self.ada.p, "loss_scale": self.scale.value, "scale_good": self.scale.good}
            save_state(
                self.out / STATE_FILE,
                self.objects(),
                self._identity() | counters | {"precision": self.recipe.precision},
            )
        parallel.barrier()

    def resume(self) -> bool:
        """Go on from the folder's state, if there is one.

        Raises
        ------
        InputError
            If the state is of other training images, of another seed, batch size or base, or of other networks.
        """
        path = self.out / STATE_FILE
        # before the first process can write one
        found = parallel.agree(parallel.rank() == 0 and path.exists())
        if found:
            self._restore(path)
        if self.records is not None:
            self.records.forget_after(self.images if found else -1)
        return found

    def _restore(self, path: Path) -> None:
        numbers = load_state(path, self.objects())
        for key, now in self._identity().items():
            if numbers.get(key, now) != now:
                raise InputError(
                    f"{path} is of a run with other {key} ({numbers[key]}; now {now}): give a new output folder, or "
                    "the base, the images and recipe of that run"
                )
        self.step, self.banked, self.ada.p = numbers["step"], numbers["banked"], numbers["ada_p"]
        self.seconds, self.cpu_seconds = numbers["seconds"], numbers["cpu_seconds"]
        if self.scale.active and numbers.get("precision") == self.recipe.precision:
            self.scale.value, self.scale.good = numbers["loss_scale"], numbers["scale_good"]

    # -------------------------------------------------------------------------------------------------- a step

    def run(
        self,
        *,
        stop: Callable[[], bool] = lambda: False,
        check: Callable[[], None] = lambda: None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Train to the recipe's length, or until ``stop()``; then save.

        ``check`` is called every ``check_images`` images (on the first process, before saving).
        """
        r, saved, log = self.recipe, time.monotonic(), _Means()
        while self.images < r.images and not parallel.agree(stop()):
            clock, cpu = time.monotonic(), time.process_time()
            log.add(self.train_step())
            self.seconds += time.monotonic() - clock
            self.cpu_seconds += time.process_time() - cpu
            if self._crossed(r.log_images):
                self.log(log.take())
            checking = self._crossed(r.check_images)
            if checking and parallel.rank() == 0:
                check()
            if parallel.agree(checking or time.monotonic() - saved > r.save_seconds):
                self.save()
                saved = time.monotonic()
            if progress is not None:
                progress(min(self.images, r.images), r.images)
        self.save()

    def _crossed(self, every: int) -> bool:
        return self.images // every != (self.images - self.batch) // every

    def train_step(self) -> dict[str, float]:
        """One update of every network; returns the mean of every term.

        Raises
        ------
        Diverged
            Before anything is updated, if a term or a gradient is not finite.
        """
        r = self.recipe
        self._set_rates()
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        bank = self.bank[: min(self.banked, len(self.bank))]
        memory = Memory(bank, self.path_mean, self.ada.p, self.step)
        terms, codes = [], {}
        for micro in range(parallel.rank(), r.micros, parallel.world()):
            real = self._real_images(self.step * r.micros + micro)
            backward = (self.recorded or self.objective).backward
            found, codes[micro] = backward(real, memory, self.scale.value / r.micros)
            terms.append(found)
        means = _numbers(parallel.mean_terms(mean_terms(terms)))
        self._require_finite(means)
        gradients = self._gradients()
        if self.scale.fits(all(math.isfinite(norm) for norm in gradients.values())):
            self._require_finite(gradients)
            for optimiser in self.optimisers.values():
                optimiser.step()
        self._remember(parallel.gather_in_order(codes, r.micros))
        self._adapt(means)
        self.step += 1
        self._average()
        return means | {k: v for k, v in gradients.items() if math.isfinite(v)}

    def _gradients(self) -> dict[str, float]:
        """Sum the gradients over the processes; their norm for every network (a finite loss may have NaN there)."""
        moved = {k: [p for g in o.param_groups for p in g["params"]] for k, o in self.optimisers.items()}
        parallel.sum_gradients([p for ps in moved.values() for p in ps])
        norms: dict[str, Tensor] = {}
        for name, parameters in moved.items():
            if found := [p.grad for p in parameters if p.grad is not None]:
                self.scale.undo(found)
                norms[name.replace("adam", "gradient")] = torch.nn.utils.get_total_norm(found)
        return _numbers(norms)

    @torch.no_grad()
    def encode(self, images: ImageSet) -> tuple[Tensor, Tensor]:
        """The averaged encoder's w [n, w_dim] and offsets of images as they are and mirrored."""
        assert self.E_ema is not None
        codes = []
        many = batch_of(64, self.recipe.resolution)
        for at in range(0, len(images), many):
            real = images.images(slice(at, at + many)).to(device=self.device, dtype=self.dtype)
            codes += [self.E_ema.split(both) for both in (real, real.flip(3))]
        w, offsets = (torch.cat(part) for part in zip(*codes))
        return w, offsets

    def fold_offsets(self) -> float | None:
        """Before the first step of a run with a given encoder: see `gan.fold`; the share of the offsets folded."""
        c, E = self.recipe.reconstruction, self.players.E
        if c is None or not c.fold_offsets or E is None or self.E_ema is None:
            return None
        linear = LinearOffsets.of(*self.encode(self.data), c.fold_offsets)
        for generator in (self.players.G, self.G_ema):
            linear.fold(generator)
        for encoder in (E, self.E_ema):
            linear.unfold(encoder)
        return linear.explained

    def fit_mapping(self) -> float | None:
        """Before the first step of a run with a given encoder: bring the mapping to where its codes are."""
        c, G = self.recipe.reconstruction, self.players.G
        if c is None or not c.fit_mapping or self.recipe.freeze_mapping:
            return None
        if self.E_ema is None or G.config.z_dim != G.config.w_dim:
            return None
        torch.manual_seed(parallel.key(self.recipe.seed, -2))
        codes, _ = self.encode(self.data)
        error = fit_mapping(G.mapping, codes, c.fit_mapping)
        self.G_ema.mapping.load_state_dict(G.mapping.state_dict())
        self.bank[: len(codes)] = codes[: len(self.bank)]
        self.banked = min(len(codes), len(self.bank))
        return error

    def _real_images(self, number: int) -> Tensor:
        """The images of micro-batch ``number`` of the run; seeds torch's random stream for all that follows."""
        r = self.recipe
        torch.manual_seed(parallel.key(r.seed, number))
        index = sample_order(number * r.micro_batch, r.micro_batch, len(self.data), r.seed)
        return self.data.images(index, self.device).to(self.dtype)

    def _set_rates(self) -> None:
        r = self.recipe
        left = 1 - self.images / r.images
        factor = min(1.0, left / r.cool_down) if r.cool_down else 1.0
        if r.warm_up:
            factor *= min(1.0, (self.images + self.batch) / r.warm_up)
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = group["base"] * factor

    def _require_finite(self, terms: dict[str, float]) -> None:
        for name, value in terms.items():
            if not math.isfinite(value):
                raise Diverged(
                    f"{name!r} is {value} at step {self.step} ({self.images} images); nothing was updated. "
                    f"The last saved state in {self.out} is good: go on from it with lower learning rates"
                )

    def _remember(self, codes: Tensor) -> None:
        """Put new codes over the oldest of the bank."""
        if len(codes):
            at = (self.banked + torch.arange(len(codes), device=self.device)) % len(self.bank)
            self.bank[at] = codes
            self.banked += len(codes)

    def _adapt(self, terms: dict[str, float]) -> None:
        a = self.recipe.adversarial
        if a and "path_length" in terms:
            self.path_mean.lerp_(self.path_mean.new_tensor(terms["path_length"]), a.path_decay)
        if a and a.ada_target is not None and "real_sign" in terms:
            self.ada.update(terms["real_sign"], self.batch * a.every)

    @torch.no_grad()
    def _average(self) -> None:
        """Move w_avg, by the same z's on every process, and the averaged networks."""
        mapping = self.players.G.mapping
        torch.manual_seed(parallel.key(self.recipe.seed, -1, self.step))
        z = torch.randn(MAPPED, mapping.z_dim, device=self.device, dtype=self.dtype)
        mapping.w_avg.lerp_(mapping(z)[:, 0].mean(dim=0), 1 - W_AVG_DECAY)
        decay = ema_decay(self.batch, self.recipe.ema_images, self.images if self.from_scratch else None)
        update_ema(self.G_ema, self.players.G, decay)
        if self.E_ema is not None and self.players.E is not None:
            update_ema(self.E_ema, self.players.E, decay)

    def log(self, record: dict[str, float], kind: str = "train") -> None:
        """Append a record to the run's log (first process only)."""
        if self.records is not None:
            now = {"kind": kind, "images": self.images, "seconds": round(self.seconds, 1)}
            now |= {"cpu_seconds": round(self.cpu_seconds, 1), "ada_p": round(self.ada.p, 4)}
            self.records.append(now, record)


def _numbers(scalars: dict[str, Tensor]) -> dict[str, float]:
    """Scalars as Python numbers, fetched from their device in one go."""
    values = torch.stack(list(scalars.values())).tolist() if scalars else []
    return dict(zip(scalars, values))


class _Means:
    """Running means of named numbers; each over the steps that had it."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[float, int]] = {}

    def add(self, record: dict[str, float]) -> None:
        for k, v in record.items():
            total, count = self.sums.get(k, (0.0, 0))
            self.sums[k] = total + v, count + 1

    def take(self) -> dict[str, float]:
        means = {k: total / count for k, (total, count) in self.sums.items()}
        self.sums = {}
        return means
