"""Training: recipes, losses, loops and their exact resumption."""

from stylegan_surv.gan.training import parallel
from stylegan_surv.gan.training.augment import Ranges, augment
from stylegan_surv.gan.training.recipe import Recipe, make_recipe, read_recipe
from stylegan_surv.gan.training.runs import Interrupted, Run, finetune, train
from stylegan_surv.gan.training.start import Start, fresh_networks, from_networks, from_scratch
from stylegan_surv.gan.training.streams import Streams, drawn_from
from stylegan_surv.gan.training.trainer import Diverged, Trainer

__all__ = [
    "Diverged",
    "Interrupted",
    "Ranges",
    "Recipe",
    "Run",
    "Start",
    "Streams",
    "Trainer",
    "augment",
    "drawn_from",
    "finetune",
    "fresh_networks",
    "from_networks",
    "from_scratch",
    "make_recipe",
    "parallel",
    "read_recipe",
    "train",
]
