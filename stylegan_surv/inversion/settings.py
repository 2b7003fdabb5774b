"""How photographs are inverted: what a user may ask for, and what a run does once everything is decided.

Each default stands here, once: Python uses it and the command line shows it. No torch is imported.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from types import CodeType
from typing import TYPE_CHECKING, Any, Literal, get_args

from stylegan_surv.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from stylegan_surv.inversion.latents import Latents
    from stylegan_surv.inversion.projector import Perceptual

Method = Literal["encoder", "hybrid", "projector"]
Preset = Literal["reference", "reference-w+"]
Space = Literal["w", "w+"]
StartFrom = Literal["encoder", "mean", "previous"]
Optimizer = Literal["adam", "lbfgs"]

GENERATOR = "synthetic-64"  # the bundled one
BATCH = 16  # photographs at a time, where there are so many and memory allows it
EXPLORATION_ENDS = 0.75  # of the steps (Karras et al. 2020, appendix D)
LPIPS_NETWORKS = ("alex", "vgg")


@dataclass(frozen=True)
class Schedule:
    """How a photograph is optimised.

    Attributes
    ----------
    space : {"w+", "w"}
        "w" keeps one vector for all layers, "w+" one per layer.
    start : {"encoder", "mean", "previous"}
        The encoder's code, the mean of the latent space, or latents that are given.
    steps : int
        At most so many steps, each of one drawing and its gradient.
    target : float, optional
        LPIPS at which a photograph is finished; None runs all steps.
    optimizer : {"adam", "lbfgs"}
        From a good start L-BFGS reaches the same loss in half the steps; it has no learning rate, and needs a loss
        without noise.
    rate : float
        Adam's peak learning rate, in units of the standard deviation of w's elements; see `absolute`.
    absolute : bool
        `rate` is in units of w itself.
    warmup, cooldown : float
        Fractions of `steps` for the linear rise and the cosine fall of the learning rate.
    lpips, pixel : float
        Weights of LPIPS and of the mean squared error.
    penalty : float
        Weight of the squared distance to the start, per element, in units of the w variance: the dial from faithful
        (0) to editable and predictive.
    exploration : float
        Standard deviation of noise on w at first, as a share of w's own spread E‖w − w̄‖.
    noise : bool
        Optimise the noise maps as well (they then soak up detail that the latent should carry).
    noise_weight : float
        Weight of the squared autocorrelation of optimised maps.
    face_mask : bool
        Count pixels by the face mask, so that background and clothing do not steer the latent.

    Raises
    ------
    InputError
        If a value is unknown or out of range.
    """

    space: Space = "w+"
    start: StartFrom = "encoder"
    steps: int = 30
    target: float | None = None
    optimizer: Optimizer = "adam"
    rate: float = 0.1
    absolute: bool = False
    warmup: float = 0.05
    cooldown: float = 0.25
    lpips: float = 1.0
    pixel: float = 1.0
    penalty: float = 0.1
    exploration: float = 0.0
    noise: bool = False
    noise_weight: float = 1e5
    face_mask: bool = False

    def __post_init__(self) -> None:
        for name, kind in (("space", Space), ("start", StartFrom), ("optimizer", Optimizer)):
            if getattr(self, name) not in (allowed := get_args(kind)):
                raise InputError(
                    f"The schedule has {name} = {getattr(self, name)!r}; expected one of {', '.join(allowed)}."
                )
        if self.optimizer == "lbfgs" and (self.noise or self.exploration):
            raise InputError(
                "The schedule has optimizer = 'lbfgs' with noise maps or exploration; L-BFGS needs a loss that stays "
                "the same: take optimizer = 'adam'."
            )
        if self.steps < 1 or self.rate <= 0 or min(self.penalty, self.lpips, self.pixel) < 0:
            raise InputError(
                f"The schedule has steps = {self.steps}, rate = {self.rate}, penalty = {self.penalty}, lpips = "
                f"{self.lpips}, pixel = {self.pixel}; expected steps ≥ 1, rate > 0 and weights ≥ 0."
            )

    def rate_at(self, t: Tensor) -> Tensor:
        """Learning rate at fraction ``t`` of the steps (Karras et al. 2020, appendix D)."""
        rate = t.new_full(t.shape, self.rate)
        if self.cooldown:
            rate = rate * (0.5 - 0.5 * (math.pi * ((1 - t) / self.cooldown).clamp(max=1)).cos())
        if self.warmup:
            rate = rate * ((t + 1 / self.steps) / self.warmup).clamp(max=1)
        return rate

    def exploration_at(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise on w, as a share of w's spread."""
        return self.exploration * (1 - t / EXPLORATION_ENDS).clamp(min=0).square()


# The protocol of Karras et al. 2020 (appendix D), with whatever perceptual distance is given.
REFERENCE = Schedule(
    "w", "mean", 1000, rate=0.1, absolute=True, pixel=0.0, penalty=0.0, exploration=0.05, noise=True
)
HYBRID = Schedule(steps=40, target=0.0005, optimizer="lbfgs", pixel=10.0)
METHODS: dict[Method, Schedule | None] = {
    "encoder": None,
    "hybrid": HYBRID,
    "projector": Schedule(start="mean", steps=300, penalty=0.02, face_mask=True),
}
PRESETS: dict[Preset, tuple[Method, Schedule]] = {
    "reference": ("projector", REFERENCE),
    "reference-w+": ("projector", replace(REFERENCE, space="w+")),
}


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a latent is, apart from the networks; it is stored with the dataset.

    Attributes
    ----------
    method : {"encoder", "hybrid", "projector"}
    batch : int
        Slots that are computed together.
    seed, passes : int
        As in :class:`EmbedSettings`.
    schedule : Schedule, optional
        None where no projector runs.
    perceptual : str
        Name of the projector's image distance.
    identity : bool
        Whether identities were graded.
    label : int, optional
        What a conditional generator draws; None where it has no labels, or takes all of them as 0.
    """

    method: Method = "hybrid"
    batch: int = BATCH
    seed: int = 0
    passes: int = 0
    schedule: Schedule | None = None
    perceptual: str = "alex"
    identity: bool = False
    label: int | None = None


@dataclass(frozen=True)
class EmbedSettings:
    """How :func:`stylegan_surv.inversion.embed` inverts; what is None is decided by the run.

    Attributes
    ----------
    method : {"hybrid", "encoder", "projector"}
        The encoder and as many projector steps as each photograph needs; the encoder alone; the projector from the
        mean latent.
    preset : {"reference", "reference-w+"}, optional
        The published protocol, for comparison, in place of a method: 1,000 steps from the mean, in W or in W+.
    schedule : Schedule or mapping, optional
        Replaces the method's own, or some of its values: ``{"penalty": 1.0}``.
    batch : int, optional
        Photographs that are computed together: the one batch shape of the run, with which results are the same to
        the last bit whatever else is in the batch. By default 16, or fewer where there are fewer photographs or
        memory is short, see :func:`stylegan_surv.inversion.memory.choose_batch`; a dataset goes on with its own.
    seed : int
        Keys every photograph's random numbers, together with its name.
    passes : int
        Encoder refinement passes ≥ 0, see :func:`stylegan_surv.inversion.encode.encode`.
    identity : bool
        Grade the identity similarity as well, about 0.2 s a photograph.
    perceptual : {"alex", "vgg"} or callable, optional
        The projector's image distance: LPIPS on AlexNet or VGG16 (``stylegan-surv fetch-weights lpips-vgg``), or a
        function of two batches of images. By default AlexNet; VGG16, as published, with a preset.
    start : Latents, optional
        Where ``Schedule(start="previous")`` begins, latents of the same generator; photographs that are not among
        them begin at the mean.
    label : int, optional
        Which label a conditional generator draws, 0 … c_dim − 1; by default the one that it was loaded with or that
        its card names, else none.
    """

    method: Method = "hybrid"
    preset: Preset | None = None
    schedule: Schedule | Mapping[str, Any] | None = None
    batch: int | None = None
    seed: int = 0
    passes: int = 0
    identity: bool = False
    perceptual: str | Perceptual | None = None
    start: Latents | None = field(default=None, repr=False, compare=False)
    label: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> EmbedSettings:
        """Ask for what a run did, to do it again."""
        return cls(**{name: getattr(settings, name) for name in Settings.__dataclass_fields__})

    def decide(self, batch: int = BATCH) -> Settings:
        """What a run does; ``batch`` counts where none is asked for.

        Raises
        ------
        InputError
            If a name is unknown, a number is out of range, or two settings exclude each other.
        """
        if self.batch is not None and self.batch < 1:
            raise InputError(f"batch is {self.batch}; expected 1 or more.")
        if self.passes < 0:
            raise InputError(f"passes is {self.passes}; expected 0 or more.")
        method, schedule = self._planned()
        named = self.perceptual or ("alex" if self.preset is None else "vgg")
        return Settings(
            method,
            batch=self.batch or batch,
            seed=self.seed,
            passes=self.passes,
            schedule=schedule,
            perceptual=named if isinstance(named, str) else name_of(named),
            identity=self.identity,
            label=self.label,
        )

    def _planned(self) -> tuple[Method, Schedule | None]:
        """Method and schedule; a preset has its own, parts of a schedule replace the method's."""
        if self.preset is not None:
            own_method = PRESETS.get(self.preset, (None, None))[0]
            if own_method is None or self.schedule is not None or self.method not in ("hybrid", own_method):
                raise InputError(
                    f"preset is {self.preset!r}; expected one of {', '.join(PRESETS)}, without a schedule or another "
                    "method."
                )
            return PRESETS[self.preset]
        if self.method not in METHODS:
            raise InputError(f"method is {self.method!r}; expected one of {', '.join(METHODS)}.")
        own = METHODS[self.method]
        if own is None:
            if self.schedule is not None:
                raise InputError(
                    "A schedule belongs to the projector; with method 'encoder' it does nothing."
                )
            return self.method, None
        if self.schedule is None or isinstance(self.schedule, Schedule):
            return self.method, self.schedule or own
        if unknown := sorted(self.schedule.keys() - asdict(own).keys()):
            raise InputError(f"A schedule has no {unknown[0]!r}; expected one of {', '.join(asdict(own))}.")
        return self.method, replace(own, **self.schedule)


def name_of(perceptual: object) -> str:
    """A distance's name and, of a function, a digest of what it does: another one makes another dataset."""
    name = str(getattr(perceptual, "__qualname__", type(perceptual).__qualname__))
    code = getattr(perceptual, "__code__", None)
    return name if code is None else f"{name} {hashlib.sha256(code_of(code)).hexdigest()[:12]}"


def code_of(code: CodeType) -> bytes:
    """What a function does, the same in every process."""
    parts = [code_of(part) if isinstance(part, CodeType) else part for part in code.co_consts]
    return code.co_code + repr((parts, code.co_names)).encode()
