"""DeepSurv: a small network under Cox's partial likelihood, on in-fold principal components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from stylegan_surv._types import Array
from stylegan_surv.survival.cox.partial import PartialLikelihood
from stylegan_surv.survival.engines.base import RiskModel, check_survival, refuse
from stylegan_surv.survival.engines.components import principal_components
from stylegan_surv.survival.outcome import Outcome
from stylegan_surv.survival.validation.folds import as_folds


class DeepSurv(RiskModel):
    """Multilayer perceptron for the log hazard ratio (Katzman et al. 2018, BMC Med. Res. Methodol. 18:24).

    The loss is the mean negative log partial likelihood with Efron's ties. Training stops when the likelihood of
    an inner fold has not risen for `patience` epochs, and goes back to the best one. Fitting uses torch;
    the weights are kept, and used, as numpy arrays.

    Parameters
    ----------
    n_components : int
        Principal components of X that the network sees, divided by one common scale.
    hidden : sequence of int
        Units of the hidden layers (ReLU).
    dropout, weight_decay, lr : float
        AdamW (Loshchilov & Hutter 2019).
    max_epochs, patience : int
        Epochs are full batches.
    folds : int
        One of this many event-stratified folds decides when to stop.
    random_state : int

    Attributes
    ----------
    weights_, biases_ : list of array
    n_epochs_ : int
        The best epoch.
    """

    __module__ = "stylegan_surv.survival"  # the public path, which saved models carry
    refuses = ("entry", "strata")

    def __init__(
        self,
        n_components: int = 50,
        hidden: Sequence[int] = (32,),
        dropout: float = 0.2,
        weight_decay: float = 0.1,
        lr: float = 3e-3,
        max_epochs: int = 500,
        patience: int = 30,
        folds: int = 5,
        random_state: int = 0,
    ) -> None:
        self.n_components = n_components
        self.hidden = hidden
        self.dropout = dropout
        self.weight_decay = weight_decay
        self.lr = lr
        self.max_epochs = max_epochs
        self.patience = patience
        self.folds = folds
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Array,
        *,
        entry: Array | None = None,
        strata: Array | None = None,
        sample_weight: Array | None = None,
        groups: Array | None = None,
    ) -> DeepSurv:
        """Fit on X (n, p) and scikit-survival's y (n,). Left truncation and strata are refused."""
        refuse("DeepSurv", entry=entry, strata=strata)
        X = self._matrix(X, reset=True)
        outcome = check_survival(y, len(X), weight=sample_weight)
        self.pca_ = principal_components(X, self.n_components, self.random_state)
        self.scale_ = float(np.sqrt(self.pca_.explained_variance_.mean())) or 1.0
        Z = self._components(X)
        train, stop = as_folds(self.folds, outcome.event, groups=groups, seed=self.random_state)[0]
        self._train(Z, outcome, train, stop)
        self._keep_baseline(outcome, forward(Z, self.weights_, self.biases_), "efron")
        return self

    def _train(self, Z: Array, outcome: Outcome, train: Array, stop: Array) -> None:
        """Weights of the epoch with the best partial likelihood on `stop`; epoch 0 is the untrained network."""
        import torch

        likelihood = PartialLikelihood.of(outcome.subset(train))
        held_out = PartialLikelihood.of(outcome.subset(stop))
        events = max(int(outcome.event[train].sum()), 1)
        inputs = torch.from_numpy(Z[train].astype(np.float32))
        best = -np.inf
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            network = self._network(Z.shape[1])
            optimiser = torch.optim.AdamW(network.parameters(), lr=self.lr, weight_decay=self.weight_decay)
            for epoch in range(self.max_epochs + 1):
                weights, biases = layers(network)
                score = held_out.value(forward(Z[stop], weights, biases))
                if score > best:
                    best, self.n_epochs_, self.weights_, self.biases_ = score, epoch, weights, biases
                if epoch - self.n_epochs_ >= self.patience:
                    break
                eta = network(inputs)[:, 0]
                _, gradient, _, _ = likelihood.local(eta.detach().numpy().astype(np.float64))
                optimiser.zero_grad()
                eta.backward(torch.from_numpy((-gradient / events).astype(np.float32)))
                optimiser.step()

    def _network(self, width: int) -> Any:
        """Linear, ReLU, dropout, ..., linear; the last layer starts at 0, so that training starts from no risk."""
        from torch import nn

        modules: list[nn.Module] = []
        for units in self.hidden:
            modules += [nn.Linear(width, units), nn.ReLU(), nn.Dropout(self.dropout)]
            width = units
        last = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(last.weight)
        return nn.Sequential(*modules, last)

    def _components(self, X: Array) -> Array:
        return np.asarray(self.pca_.transform(X), np.float64) / self.scale_

    def predict(self, X: Any) -> Array:
        """Log hazard ratio, shape (n,); higher is worse. Needs no torch."""
        check_is_fitted(self, "weights_")
        return forward(self._components(self._matrix(X, reset=False)), self.weights_, self.biases_)


def layers(network: Any) -> tuple[list[Array], list[Array]]:
    """Weights (in, out) and biases (out,) of the linear layers, copied to float64."""
    linear = [m for m in network if hasattr(m, "weight")]
    weights = [m.weight.detach().numpy().T.astype(np.float64) for m in linear]
    biases = [np.zeros(w.shape[1]) if m.bias is None else m.bias.detach().numpy().astype(np.float64)
              for m, w in zip(linear, weights)]  # fmt: skip
    return weights, biases


def forward(Z: Array, weights: list[Array], biases: list[Array]) -> Array:
    """The network without dropout, shape (n,)."""
    for W, b in zip(weights[:-1], biases[:-1]):
        Z = np.maximum(Z @ W + b, 0.0)
    return np.asarray((Z @ weights[-1] + biases[-1])[:, 0])
