"""The trainer: one loop for training from scratch and for fine-tuning.

A step is made of micro-batches. Everything random in a micro-batch is drawn from a stream that is keyed by (seed,
number of the micro-batch), and its images come from a stateless order (`gan.data.sample_order`); so a resumed run,
and one whose micro-batches are shared among processes, do exactly what a single run without a break would do.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cuda_ops import tune_allocator
from stylegan_surv._types import Progress
from stylegan_surv.errors import InputError
from stylegan_surv.gan.data import ImageSet, sample_order
from stylegan_surv.gan.networks import LPIPS, FeatureCritic, ema_decay, update_ema
from stylegan_surv.gan.training import parallel
from stylegan_surv.gan.training.augment import AdaptiveP
from stylegan_surv.gan.training.objective import MAPPED, Memory, Objective, Players, mean_terms
from stylegan_surv.gan.training.optimisers import freeze, make_optimisers, set_rates
from stylegan_surv.gan.training.precision import LossScale, choose
from stylegan_surv.gan.training.recipe import Recipe
from stylegan_surv.gan.training.recorded import Recorded
from stylegan_surv.gan.training.runlog import Means, RunLog
from stylegan_surv.gan.training.start import Start
from stylegan_surv.gan.training.state import Stateful, load_state, read_numbers, save_state
from stylegan_surv.gan.training.streams import Streams

W_AVG_DECAY = 0.995  # the truncation point: a running mean of mapping(z) over steps
STATE_FILE = "state.safetensors"
Net = TypeVar("Net", bound=nn.Module)


class Diverged(InputError):
    """A loss became NaN or infinite; the last saved state is good."""


class Trainer:
    """Networks, optimisers and counters of a run, and the step that moves them.

    Parameters
    ----------
    recipe : Recipe
        All settings.
    data : ImageSet
        The images to learn from.
    out : Path
        The run's folder.
    start : Start
        The networks to begin with; they are changed in place.
    device : str
        A torch device.

    Attributes
    ----------
    step : int
        Number of steps done.
    images : int
        Real images seen.
    seconds, cpu_seconds : float
        Time spent in steps, over all sessions of the run.
    records : RunLog or None
        The run's log; None in all processes but the first.
    """

    def __init__(
        self, recipe: Recipe, data: ImageSet, out: Path, start: Start, *, device: str = "cpu"
    ) -> None:
        tune_allocator()
        self.data, self.out, self.from_scratch = data, out, start.from_scratch
        self.bases, self.pixels = start.digests(), data.digest
        self.device = torch.device(device)
        self.recipe = recipe = self._settled(recipe)
        self.streams = Streams(recipe.seed)
        self.dtype = torch.float64 if recipe.precision == "float64" else torch.float32
        self.players = self._players(start)
        freeze(self.players, recipe)
        self.G_ema = self._averaged(start.average or copy.deepcopy(self.players.G))
        self.E_ema = self._averaged(copy.deepcopy(self.players.E)) if self.players.E is not None else None
        parallel.share([net for net in self._networks().values() if net is not None])
        self.objective = Objective(recipe, self.players, self.dtype)
        self.recorded = Recorded(self.objective) if self._can_record() else None
        self.scale = LossScale(recipe.precision)
        self.optimisers = make_optimisers(self.players, recipe, self.device)
        size = recipe.reconstruction.bank if self.E_ema is not None and recipe.reconstruction else 0
        self.bank = torch.zeros(size, self.G_ema.config.w_dim, device=self.device, dtype=self.dtype)
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

    def _players(self, start: Start) -> Players:
        """The networks that the recipe uses, ready to be trained."""
        r = self.recipe
        return Players(
            self._trained(start.generator),
            self._trained(start.encoder) if start.encoder is not None and r.reconstruction else None,
            self._trained(start.discriminator) if start.discriminator is not None and r.adversarial else None,
            self._trained(FeatureCritic(self.streams.critic_heads)) if r.features else None,
            LPIPS().to(device=self.device, dtype=self.dtype),
        )

    def _trained(self, net: Net) -> Net:
        return net.to(device=self.device, dtype=self.dtype).train().requires_grad_(True)

    def _averaged(self, net: Net) -> Net:
        return net.to(device=self.device, dtype=self.dtype).eval().requires_grad_(False)

    def _networks(self) -> dict[str, nn.Module | None]:
        """Every network of the run that has a state, by name."""
        p = self.players
        return {"G": p.G, "G_ema": self.G_ema, "E": p.E, "E_ema": self.E_ema, "D": p.D, "C": p.C}

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
        found: dict[str, Stateful] = {k: net for k, net in self._networks().items() if net is not None}
        return found | {"bank": self.bank, "path_mean": self.path_mean} | dict(self.optimisers)

    def _identity(self) -> dict[str, Any]:
        """What must be the same when a run goes on."""
        ids = parallel.digest_of_names(self.data.ids)
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
        path = self.out / STATE_FILE  # asked for before the first process can write one
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
        progress: Progress | None = None,
    ) -> None:
        """Train to the recipe's length, or until ``stop()``; then save.

        ``check`` is called every ``check_images`` images (on the first process, before saving).
        """
        r, saved, log = self.recipe, time.monotonic(), Means()
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
        set_rates(self.optimisers, r, self.images, self.batch)
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

    def _real_images(self, number: int) -> Tensor:
        """The images of micro-batch ``number`` of the run; seeds torch's random stream for all that follows."""
        r = self.recipe
        torch.manual_seed(self.streams.micro_batch(number))
        index = sample_order(number * r.micro_batch, r.micro_batch, len(self.data), r.seed)
        return self.data.images(index, self.device).to(self.dtype)

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
        torch.manual_seed(self.streams.averaging(self.step))
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
