"""Training recipes: every setting of a run, checked, from a shipped YAML file (``configs/``) or the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, PositiveInt, model_validator

from stylegan_surv.errors import InputError
from stylegan_surv.gan.training.augment import Ranges
from stylegan_surv.gan.training.settings import Setting, SettingsGroup, check_settings, override

CONFIGS = [Path(__file__).parents[k] / "configs" for k in (2, 3)]  # in a wheel, in the sources
GROUP = 4  # images whose spread the discriminator looks at (Karras et al. 2018, section 3)


class Networks(SettingsGroup):
    """Sizes of networks that are made from scratch; those of a loaded base come from its card."""

    z_dim: PositiveInt = 512
    w_dim: PositiveInt = 512
    mapping_layers: PositiveInt = 8
    generator_base: PositiveInt = 16384
    discriminator_base: PositiveInt = 16384
    encoder_base: PositiveInt = 8192
    channel_max: PositiveInt = 512


class Rates(SettingsGroup):
    """Adam's learning rates; β = (0, 0.99)."""

    generator: float = Field(default=0.0025, ge=0)
    mapping: float = Field(
        default=0.0025, ge=0, description="its layers have a learning-rate multiplier of 0.01 inside"
    )
    encoder: float = Field(default=0.0025, ge=0)
    discriminator: float = Field(default=0.0025, ge=0)
    per_layer: dict[str, float] = Field(
        default={}, description="factor for parameters whose name begins so, e.g. b4: 0.1; 0 freezes them"
    )


class Reconstruction(SettingsGroup):
    """Encoder and generator as an autoencoder whose codes share the mapping's distribution."""

    pixel: float = Field(default=2.0, ge=0, description="weight of smooth L1 (beta 0.1)")
    lpips: float = Field(default=1.0, ge=0, description="weight of LPIPS (AlexNet)")
    offsets: float = Field(default=0.05, ge=0, description="weight of the mean squared offsets of the layers")
    drop_offsets: float = Field(default=0.3, ge=0, le=1, description="share of images drawn from w alone")
    code_noise: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="up to this share of a code's variance is replaced by a draw from the codes' Gaussian",
    )
    codes_to_normal: float = Field(
        default=0.3, ge=0, description="weight of codes ~ N(0, 1), sliced Wasserstein"
    )
    mapping_to_codes: float = Field(
        default=2.0, ge=0, description="weight of mapping(z) ~ codes, sliced Wasserstein"
    )
    mapping_to_gaussian: float = Field(
        default=2.0,
        ge=0,
        description="weight of mapping(z) ~ the transport to the codes' Gaussian, squared error",
    )
    fit_mapping: int = Field(
        default=1500,
        ge=0,
        description="steps of fitting a given mapping before the first step; none from scratch",
    )
    fold_offsets: float = Field(
        default=0.0,
        ge=0,
        description="before the first step, what is linear in w of a given encoder's offsets goes into the generator, "
        "regressed with this ridge (gan.fold); 0: no",
    )
    projections: PositiveInt = 512
    bank: PositiveInt = Field(default=4096, description="codes remembered for the matching")


class Adversarial(SettingsGroup):
    """The StyleGAN2 discriminator, on samples and reconstructions."""

    weight: float = Field(default=1.0, ge=0)
    every: PositiveInt = Field(default=1, description="steps from one use to the next")
    r1_gamma: float = Field(default=1.0, ge=0)
    r1_every: PositiveInt = Field(
        default=16, description="turns of the discriminator from one R1 to the next"
    )
    path_weight: float = Field(default=0.0, ge=0)
    path_every: PositiveInt = 4
    path_decay: float = Field(default=0.01, gt=0, le=1)
    style_mixing: float = Field(default=0.0, ge=0, le=1)
    ada_target: float | None = Field(default=0.6, description="none: p stays at ada_start")
    ada_start: float = Field(default=0.0, ge=0, le=0.8)
    ada_speed: float = Field(default=100_000, gt=0, description="images for p to move by 1")
    augment: Ranges = Ranges()
    freeze: int = Field(default=0, ge=0, description="freeze-D: so many of the highest blocks stay as loaded")


class FeatureAdversarial(SettingsGroup):
    """A second discriminator on fixed AlexNet features."""

    weight: float = Field(default=0.3, ge=0)
    every: PositiveInt = Field(default=1, description="steps from one use to the next")
    rate: float = Field(default=0.002, gt=0)


class Textures(SettingsGroup):
    """Local features of samples, distributed as those of photographs (`gan.textures`)."""

    weight: float = Field(default=4.0, gt=0)
    projections: PositiveInt = Field(default=24, description="random directions of each feature level")


class Recipe(SettingsGroup):
    """All settings of a training run."""

    name: str
    resolution: PositiveInt = 64
    seed: int = 0
    images: PositiveInt = Field(description="length of the run")
    micro_batch: PositiveInt = Field(default=16, description="images that are drawn and graded together")
    micros: PositiveInt = Field(
        default=1, description="micro-batches of one step, shared among the processes"
    )
    samples: int = Field(
        default=8, ge=0, description="samples of every micro-batch, for critics and textures"
    )
    hold_out: float = Field(default=0.1, ge=0, lt=1)
    drop_captions: bool = False
    noise_mode: Literal["const", "random", "none"] = "const"
    precision: Literal["auto", "float32", "bf16", "fp16", "float64"] = Field(
        default="float32", description="auto: what is fastest on this device, decided when the run begins"
    )
    cuda_graphs: bool = Field(
        default=True, description="record the steps on a GPU, which launches each as a whole"
    )
    networks: Networks = Networks()
    rates: Rates = Rates()
    warm_up: int = Field(
        default=0, ge=0, description="images over which the rates rise: Adam's first steps are of full size"
    )
    cool_down: float = Field(
        default=0.0, ge=0, le=1, description="last share of the run in which the rates fall to 0"
    )
    light_augment: Ranges | None = None
    reconstruction: Reconstruction | None = Reconstruction()
    adversarial: Adversarial | None = Adversarial()
    features: FeatureAdversarial | None = None
    textures: Textures | None = None
    freeze_mapping: bool = False
    freeze_encoder: bool = Field(
        default=False, description="its codes stay; the generator learns to draw them"
    )
    ema_images: float = Field(default=3000, gt=0, description="half-life of the averages")
    save_seconds: float = 300
    log_images: PositiveInt = 2000
    check_images: PositiveInt = 16000
    patience: PositiveInt | None = Field(
        default=None, description="checks without improvement before it stops"
    )
    check_identity: bool = Field(default=False, description="memorisation also by dlib's face network (slow)")
    tensorboard: bool = False

    @model_validator(mode="after")
    def _something_to_learn(self) -> Recipe:
        of_samples = self.adversarial or self.features or self.textures
        if not (self.reconstruction or of_samples):
            raise ValueError(
                "reconstruction, adversarial, features and textures are all null: nothing would be learnt"
            )
        if not self.samples and of_samples:
            raise ValueError(
                "samples is 0: set it to 1 or more, or adversarial, features and textures to null"
            )
        return self

    @model_validator(mode="after")
    def _fair_groups(self) -> Recipe:
        """The spread within groups of three is another than within groups of four: it would give the fakes away."""
        fakes = self.samples + (min(self.samples, self.micro_batch) if self.reconstruction else 0)
        sizes = [max(k for k in range(1, GROUP + 1) if n % k == 0) for n in (max(fakes, 1), self.micro_batch)]
        if self.adversarial and sizes[0] != sizes[1]:
            raise ValueError(
                f"micro_batch {self.micro_batch}, samples {self.samples}: the discriminator sees {self.micro_batch} "
                f"real and {fakes} drawn images at a time, in groups of {sizes[1]} and {sizes[0]}; make both settings "
                "multiples of 4"
            )
        return self


def read_recipe(path: str | Path, overrides: Sequence[str] = (), **changes: Setting) -> Recipe:
    """A recipe from YAML.

    >>> read_recipe("finetune-64", images=2000).images
    2000

    Parameters
    ----------
    path : str or Path
        A file, or the name of a shipped recipe.
    overrides : sequence of str
        Settings to replace, ``GROUP.NAME=VALUE`` each (see :func:`stylegan_surv.gan.training.settings.override`).
    **changes : number, str, bool, sequence or mapping
        Settings of the first level to replace; None leaves the file's.

    Raises
    ------
    InputError
        Listing every setting that is unknown, out of range, or given twice.
    """
    raw = read_settings(path)
    given = {k: v for k, v in changes.items() if v is not None}
    if twice := [k for k in given if any(text.partition("=")[0] == k for text in overrides)]:
        raise InputError(f"{twice[0]} is given twice, once as an override: give it once")
    return make_recipe(override(Recipe, {**raw, **given}, overrides), str(path))


def read_settings(path: str | Path) -> dict[str, Any]:
    """Settings as a YAML file has them, by its path or by the name of a shipped one.

    Raises
    ------
    InputError
        If there is no such file, or it holds no settings.
    """
    shipped = {file.stem: file for folder in CONFIGS for file in sorted(folder.glob("*.yaml"))}
    file = Path(path) if Path(path).is_file() else shipped.get(str(path), Path(path))
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
        raise InputError(
            f"cannot read the recipe {path}: {fault}; expected a file, or one of {', '.join(shipped)}"
        ) from fault
    if not isinstance(raw, dict):
        raise InputError(
            f"the recipe {path} is a {type(raw).__name__}; expected settings, one `name: value` a line"
        )
    return raw


def make_recipe(settings: Mapping[str, Any], origin: str = "recipe") -> Recipe:
    """Check settings; the error names each wrong one."""
    return check_settings(Recipe, settings, origin)
