"""Pictures of faces laid on one mean face: every triangle of the mesh is moved to its place there."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial import Delaunay

from stylegan_surv._types import Floats

MARGIN = 0.12  # around the mean face, of the picture's side
HEADROOM = 0.10  # of the side, more above the face than below: hair


class FaceWarp:
    """The mean face as the place where faces are compared.

    Parameters
    ----------
    mean : array of float, shape (k, 2)
        The mean of superimposed meshes, any unit.
    side : int
        Of the pictures, pixels.

    Attributes
    ----------
    points : array of float, shape (k, 2)
        The mean face in pixels of the pictures.
    inside : array of bool, shape (side, side)
        Pixels within the face's hull; what lies outside is moved as a whole, not by triangles.
    """

    def __init__(self, mean: Floats, side: int) -> None:
        low, high = mean.min(axis=0), mean.max(axis=0)
        scale = (1 - 2 * MARGIN - HEADROOM) * side / float((high - low).max())
        shift = np.array([side / 2, side * (0.5 + HEADROOM / 2)]) - scale * (low + high) / 2
        self.side, self.points = side, np.asarray(mean * scale + shift, float)
        mesh = Delaunay(self.points)
        rows, columns = np.meshgrid(np.arange(side) + 0.5, np.arange(side) + 0.5, indexing="ij")
        at = np.stack([columns.ravel(), rows.ravel()], axis=1)
        where = mesh.find_simplex(at)
        self.inside = (where >= 0).reshape(side, side)
        affine = mesh.transform[np.maximum(where, 0)]
        two = np.einsum("nij,nj->ni", affine[:, :2], at - affine[:, 2])
        self._weights = np.column_stack([two, 1 - two.sum(axis=1)])
        self._corners = mesh.simplices[np.maximum(where, 0)]
        self._at = at

    def lay(self, picture: Floats, points: Floats, beyond: float = 0.0) -> Floats:
        """A picture as it looks on the mean face.

        Parameters
        ----------
        picture : array of float, shape (h, w) or (h, w, c)
        points : array of float, shape (k, 2)
            Its mesh, in its pixels.
        beyond : float
            What lies outside the picture.

        Returns
        -------
        array of float, shape (side, side) or (side, side, c)
        """
        source = np.einsum("nk,nkj->nj", self._weights, points[self._corners])
        outside = ~self.inside.ravel()
        source[outside] = self._whole(points, self._at[outside])
        place = [source[:, 1] - 0.5, source[:, 0] - 0.5]
        layers = picture[..., None] if picture.ndim == 2 else picture
        laid = [
            map_coordinates(layers[..., c], place, order=1, mode="grid-constant", cval=beyond)
            for c in range(layers.shape[2])
        ]
        stacked = np.stack(laid, axis=-1).reshape(self.side, self.side, -1)
        return stacked[..., 0] if picture.ndim == 2 else stacked

    def _whole(self, points: Floats, at: Floats) -> Floats:
        """Places outside the face by the one similarity that fits all landmarks best."""
        z, target = self.points @ (1, 1j), points @ (1, 1j)
        turn = np.vdot(z - z.mean(), target - target.mean()) / np.vdot(z - z.mean(), z - z.mean())
        found = (at @ np.array([1, 1j]) - z.mean()) * turn + target.mean()
        return np.stack([found.real, found.imag], axis=1)
