"""The observer: a small network that reads the doses of signs off photographs, trained with the doses known."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan_surv._images import to_images
from stylegan_surv._types import Floats, Pixels

WIDTHS = (24, 48, 96, 128)
EPOCHS, BATCH, RATE, DECAY, DROPOUT = 24, 64, 2e-3, 1e-2, 0.3
SIDE = 64


class Observer(nn.Module):
    """Four convolutions that halve, and a linear layer that knows the places: faces are aligned."""

    def __init__(self, signs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip((3, *WIDTHS), WIDTHS):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        places = (SIDE // 2 ** len(WIDTHS)) ** 2
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(DROPOUT),
            nn.Linear(WIDTHS[-1] * places, 96),
            nn.ReLU(),
            nn.Linear(96, signs),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Doses [n, signs] of images [n, 3, 64, 64] in [−1, 1]."""
        doses: Tensor = self.head(self.body(images))
        return doses


def fit_observer(pictures: Pixels, doses: Floats, *, seed: int) -> Observer:
    """Train on photographs [n, 64, 64, 3] and their doses [n, signs], by squared error, AdamW, one cycle."""
    torch.manual_seed(seed)
    observer, targets = Observer(doses.shape[1]), torch.from_numpy(doses).float()
    optimiser = torch.optim.AdamW(observer.parameters(), lr=RATE, weight_decay=DECAY)
    steps = EPOCHS * (len(pictures) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(pictures))
        for k in range(len(pictures) // BATCH):
            chosen = order[k * BATCH : (k + 1) * BATCH]
            loss = F.mse_loss(observer(_moved(to_images(pictures[chosen.numpy()]))), targets[chosen])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return observer.eval()


def _moved(images: Tensor) -> Tensor:
    """Moved by up to two pixels, as the camera's framing is; not mirrored, for a droop has a side."""
    x, y = torch.randint(0, 5, (2,)).tolist()
    padded = F.pad(images, (2, 2, 2, 2), mode="reflect")
    return padded[..., y : y + SIDE, x : x + SIDE]


def read_doses(observer: Observer, pictures: Pixels) -> Floats:
    """Doses [n, signs] that an observer reads off photographs."""
    with torch.no_grad():
        parts = [observer(to_images(pictures[k : k + 200])) for k in range(0, len(pictures), 200)]
    found: Floats = torch.cat(parts).numpy().astype(np.float64)
    return found
