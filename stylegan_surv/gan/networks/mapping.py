"""The mapping network: z, and a label where there is one, to the style vectors w."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stylegan_surv.gan.networks.layers import FullyConnected, unit_rms

# the mapping's learning-rate multiplier (StyleGAN, arXiv 1812.04948, appendix C); weights are stored divided by it
MAPPING_LR = 0.01


class Mapping(nn.Module):
    """z (and a label) to ``[n, num_ws, w_dim]``; the running mean ``w_avg`` is the point of truncation.

    With ``num_ws=0`` the result is one vector a row, ``[n, w_dim]`` (a conditional discriminator's use).
    """

    w_avg: Tensor

    def __init__(self, z_dim: int, c_dim: int, w_dim: int, layers: int, num_ws: int) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.num_ws, self.layers = z_dim, c_dim, num_ws, layers
        if c_dim:
            self.embed = FullyConnected(c_dim, w_dim)
        for i in range(layers):
            inputs = w_dim if i else z_dim + (w_dim if c_dim else 0)
            self.add_module(f"fc{i}", FullyConnected(inputs, w_dim, activate=True, lr=MAPPING_LR))
        if num_ws:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self,
        z: Tensor | None,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """Map latents to styles.

        Parameters
        ----------
        z : Tensor, shape (n, z_dim)
            Standard normal.
        c : Tensor, shape (n, c_dim)
            One-hot or continuous labels; needed where the network is conditional.
        truncation_psi : float
            1 keeps w, 0 gives ``w_avg``; ``w_avg + ψ(w − w_avg)``.
        truncation_cutoff : int, optional
            Truncate only the first so many of the num_ws styles.

        Returns
        -------
        Tensor, shape (n, num_ws, w_dim)
        """
        x = self._input(z, c)
        for i in range(self.layers):
            x = self.get_submodule(f"fc{i}")(x)
        if not self.num_ws:
            return x
        ws = x.unsqueeze(1).repeat(1, self.num_ws, 1)
        if truncation_psi == 1:
            return ws
        head, tail = ws[:, :truncation_cutoff], ws[:, ws.shape[1] :]
        if truncation_cutoff is not None:
            tail = ws[:, truncation_cutoff:]
        return torch.cat([self.w_avg.lerp(head, truncation_psi), tail], dim=1)

    def _input(self, z: Tensor | None, c: Tensor | None) -> Tensor:
        parts = []
        if self.z_dim:
            if z is None or z.ndim != 2 or z.shape[1] != self.z_dim:
                got = None if z is None else list(z.shape)
                raise ValueError(f"z has shape {got}; expected [n, {self.z_dim}]")
            parts.append(unit_rms(z))
        if self.c_dim:
            if c is None or c.ndim != 2 or c.shape[1] != self.c_dim:
                got = None if c is None else list(c.shape)
                raise ValueError(
                    f"c has shape {got}; this network is conditional: expected [n, {self.c_dim}]"
                )
            parts.append(unit_rms(self.embed(c)))
        return torch.cat(parts, dim=1)
