"""The face mesh (Kartynnik et al., Real-time Facial Surface Geometry, arXiv 1907.06724): 468 points of a face."""

from __future__ import annotations

from torch import Tensor, nn

from stylegan_surv.faces.mesh.networks.layers import Conv, Residual, load_weights

FILE = "face-mesh.safetensors"
SIDE = 192  # of the crop, pixels
POINTS = 468
# (channels in, channels out, stride) of the trunk's blocks, from 96 × 96 to 6 × 6
TRUNK = (
    *((16, 16, 1), (16, 16, 1), (16, 32, 2)),
    *((32, 32, 1), (32, 32, 1), (32, 64, 2)),
    *((64, 64, 1), (64, 64, 1), (64, 128, 2)),
    *((128, 128, 1), (128, 128, 1), (128, 128, 2)),
    *((128, 128, 1), (128, 128, 1)),
)


class FaceMesh(nn.Module):
    """468 points and a face score from square crops; the bundled weights are loaded.

    The crop is upright and 1.5 times as wide as the face. The module has a gradient with respect to its input;
    its weights are fixed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(Conv(3, 16, 3, stride=2), nn.PReLU(16))
        self.trunk = nn.Sequential(*(Residual(*widths) for widths in TRUNK))
        self.points = _head(coarse_blocks=2, outputs=3 * POINTS)
        self.score = _head(coarse_blocks=0, outputs=1)
        load_weights(self, FILE)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Points and score of a batch of crops.

        Parameters
        ----------
        crops : Tensor, shape (n, 3, 192, 192)
            RGB in 0 … 1.

        Returns
        -------
        points : Tensor, shape (n, 468, 3)
            x and y in pixels of the crop, and depth at the same scale, smaller towards the camera.
        logit : Tensor, shape (n,)
            Its sigmoid is the probability that the crop shows a face.
        """
        features = self.trunk(self.stem(crops))
        points: Tensor = self.points(features).view(-1, POINTS, 3)
        logit: Tensor = self.score(features).view(-1)
        return points, logit


def _head(coarse_blocks: int, outputs: int) -> nn.Sequential:
    """From 6 × 6 features to numbers: down to 3 × 3, narrowed to 32 channels, then one dense layer."""
    return nn.Sequential(
        Residual(128, 128, 2),
        *(Residual(128, 128) for _ in range(coarse_blocks)),
        Conv(128, 32, 1),
        nn.PReLU(32),
        Residual(32, 32),
        nn.Conv2d(32, outputs, 3),
    )
