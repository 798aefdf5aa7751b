"""DAGMM: an autoencoder and a Gaussian mixture of its codes and errors, trained together."""

import copy
from collections.abc import Callable, Sequence
from functools import partial, reduce
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from anomaly_estimators.autoencoding import AutoencodingDetector, check_layer_sizes, code_width
from anomaly_estimators.functional.mixture import (
    MixtureMoments,
    component_log_density,
    covariance_penalty,
    merge_moments,
    mixture_moments,
    mixture_parameters,
    negative_evidence_bound,
    regularised_cholesky,
)
from anomaly_estimators.functional.mixture_objective import mixture_objective
from anomaly_estimators.functional.reconstruction import append_features, squared_error
from anomaly_estimators.nn.mixture import MixtureHead
from anomaly_estimators.reconstruction_features import (
    check_features,
    feature_functions,
    feature_names,
)
from anomaly_estimators.row_blocks import join
from anomaly_estimators.training.phases import Phase

__all__ = ["DAGMM"]


class DAGMMOutput(NamedTuple):
    """What the network makes of a batch."""

    z: Tensor  # (n, d)           code and reconstruction features, eq 3
    reconstruction: Tensor  # (n, n_features)  eq 1
    logits: Tensor  # (n, K)           p of eq 4


class DAGMMNetwork(nn.Module):
    """Compression network, reconstruction features and estimation network (eq 1 to 4 of [1]_).

    Parameters
    ----------
    autoencoder : torch.nn.Module
        Returns ``(code, reconstruction)``.
    features : sequence of callables
        Reconstruction features f of eq 2: each takes the rows and their reconstructions and returns
        one value a row.
    head : MixtureHead
        Estimation network and mixture.
    freeze_codes : bool
        Whether the estimation network learns on the codes as they are, without moving them.

    References
    ----------
    .. [1] Zong et al., "Deep Autoencoding Gaussian Mixture Model for Unsupervised Anomaly
       Detection", ICLR 2018.
    """

    def __init__(
        self,
        autoencoder: nn.Module,
        features: Sequence[Callable[[Tensor, Tensor], Tensor]],
        head: MixtureHead,
        freeze_codes: bool = False,
    ):
        super().__init__()
        self.autoencoder = autoencoder
        self.features = tuple(features)
        self.head = head
        self.freeze_codes = freeze_codes

    def represent(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Return z = [z_c, z_r] (eq 3) and the reconstructions."""
        code, reconstruction = self.autoencoder(X)
        return append_features(code, X, reconstruction, self.features), reconstruction

    def forward(self, X: Tensor) -> DAGMMOutput:
        if self.freeze_codes:
            with torch.no_grad():
                z, reconstruction = self.represent(X)
        else:
            z, reconstruction = self.represent(X)
        return DAGMMOutput(z, reconstruction, self.head(z))


def energy_loss(
    outputs: DAGMMOutput, X: Tensor, y: Tensor, *, reconstruction_weight, lambda1, lambda2
) -> Tensor:
    """Objective of DAGMM, eq 7."""
    energy, penalty = mixture_objective(outputs.z, torch.softmax(outputs.logits, dim=1))
    error = squared_error(X, outputs.reconstruction).mean()
    return reconstruction_weight * error + lambda1 * energy + lambda2 * penalty


def evidence_loss(
    outputs: DAGMMOutput, X: Tensor, y: Tensor, *, reconstruction_weight, lambda1, lambda2
) -> Tensor:
    """Objective of DAGMM-NVI: eq 7 with the bound of eq 8 in the place of the energy."""
    z, log_gamma = outputs.z.double(), torch.log_softmax(outputs.logits.double(), dim=1)
    weights, means, covariances = mixture_parameters(mixture_moments(z, log_gamma.exp()))
    log_density = component_log_density(z, weights, means, regularised_cholesky(covariances))
    bound = negative_evidence_bound(log_density, log_gamma).mean()
    error = squared_error(X, outputs.reconstruction).mean()
    penalty = covariance_penalty(covariances)
    return reconstruction_weight * error + lambda1 * bound + lambda2 * penalty


_OBJECTIVES = {"energy": energy_loss, "nvi": evidence_loss}


class DAGMM(AutoencodingDetector):
    """Deep autoencoding Gaussian mixture model (Zong et al. 2018).

    An autoencoder compresses a row to a short code; the code and how well the row was reconstructed
    make up its representation ``z = [z_c, z_r]``. A second network predicts to which component of a
    Gaussian mixture over ``z`` the row belongs. Both are trained together on the reconstruction
    error and the energy, the negative log-likelihood of ``z`` ([1]_, eq 7), which is also the
    anomaly score (eq 6).

    Parameters
    ----------
    latent_dim : int, default=4
        Width of the code z_c.
    n_components : int, default=2
        Number of components K of the mixture.
    lambda1 : float, default=0.1
        Weight of the energy in the objective, eq 7.
    lambda2 : float, default=0.005
        Weight of the penalty on small variances, eq 7.
    objective : {"energy", "nvi"}, default="energy"
        "energy" takes the energy of eq 6 into the objective; "nvi" its upper bound by neural
        variational inference, eq 8 to 10.
    reconstruction_features : tuple of str or callable, default=("euclidean",)
        The features z_r, eq 2: "euclidean", "relative_euclidean", "cosine_similarity",
        "cosine_distance", "squared_error", or functions ``f(X, reconstruction)`` of two tensors of
        shape (n, n_features) that return one of shape (n,). The paper takes
        ``("relative_euclidean", "cosine_similarity")``, which suits rows in [0, 1]
        (``scaler="minmax"``); among standardised rows those near the mean have a tiny norm, and
        what is relative to it says little.
    estimation_layer_sizes : tuple of int, default=(10,)
        Widths of the hidden layers of the estimation network.
    estimation_network : torch.nn.Module or None, default=None
        Own estimation network in the place of the fully connected one: it maps z, of shape (n, d),
        to logits of shape (n, n_components), and is copied with its weights.
    dropout : float, default=0.5
        Probability with which a hidden unit of the estimation network is dropped in training. (The
        paper gives the probability to keep it.)
    reconstruction_weight : float, default=1.0
        Weight of the reconstruction error in the objective; 0 gives the paper's GMM-EN.
    freeze_codes : bool, default=False
        Whether the autoencoder stays as its pre-training left it (the paper's PAE-GMM) instead of
        being fine-tuned with the mixture (DAGMM-p). Needs ``pretrain`` or a trained ``network``.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        Weights of the mixture, estimated from all training rows after the training (eq 5).
    means_ : ndarray of shape (n_components, d)
        Means of the mixture; d is ``latent_dim`` plus the number of reconstruction features.
    covariances_ : ndarray of shape (n_components, d, d)
        Covariances of the mixture.

    See Also
    --------
    Autoencoder : The reconstruction error alone.

    Notes
    -----
    The mixture is computed in float64 with a ridge relative to the variances, so that singular
    components have a finite energy. Training starts from random weights, and seeds differ: compare
    means over several values of ``random_state``.

    The defaults serve data of unknown kind and are the same for all: ``benchmarks/defaults.py``
    compares them over ten sets. The paper's settings for KDDCUP are ``hidden_layer_sizes=(60, 30, 10),
    latent_dim=1, n_components=4, reconstruction_features=("relative_euclidean",
    "cosine_similarity"), learning_rate=1e-4, batch_size=1024, max_iter=200``; it does not tell how
    it scaled the features, and its tables are regenerated here with ``scaler="minmax"``.

    References
    ----------
    .. [1] Zong et al., "Deep Autoencoding Gaussian Mixture Model for Unsupervised Anomaly
       Detection", ICLR 2018. https://openreview.net/forum?id=BJJLHbb0-

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from anomaly_estimators import DAGMM
    >>> X, _ = load_breast_cancer(return_X_y=True)
    >>> detector = DAGMM(max_iter=5, random_state=0).fit(X)
    >>> int((detector.predict(X) == -1).sum())
    56
    >>> detector.transform(X).shape
    (569, 5)
    """

    _parameter_constraints: dict = {
        **AutoencodingDetector._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "lambda1": [Interval(Real, 0, None, closed="left")],
        "lambda2": [Interval(Real, 0, None, closed="left")],
        "objective": [StrOptions(set(_OBJECTIVES))],
        "reconstruction_features": [tuple, list],
        "estimation_layer_sizes": ["array-like"],
        "estimation_network": [nn.Module, None],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "reconstruction_weight": [Interval(Real, 0, None, closed="left")],
        "freeze_codes": ["boolean"],
    }

    def __init__(
        self,
        *,
        n_components=2,
        lambda1=0.1,
        lambda2=0.005,
        objective="energy",
        reconstruction_features=("euclidean",),
        estimation_layer_sizes=(10,),
        estimation_network=None,
        dropout=0.5,
        reconstruction_weight=1.0,
        freeze_codes=False,
        latent_dim=4,
        **inherited,
    ):
        super().__init__(latent_dim=latent_dim, **inherited)
        self.n_components = n_components
        self.lambda1 = lambda1
        self.lambda2 = lambda2
        self.objective = objective
        self.reconstruction_features = reconstruction_features
        self.estimation_layer_sizes = estimation_layer_sizes
        self.estimation_network = estimation_network
        self.dropout = dropout
        self.reconstruction_weight = reconstruction_weight
        self.freeze_codes = freeze_codes

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_layer_sizes("estimation_layer_sizes", self.estimation_layer_sizes)
        check_features(self.reconstruction_features)
        if self.freeze_codes and self.pretrain is None and not isinstance(self.network, nn.Module):
            raise ValueError(
                "freeze_codes=True keeps an autoencoder that was never trained: set "
                "pretrain='layerwise' or 'end_to_end', or pass a trained network."
            )

    def _build_module(self, n_features: int) -> nn.Module:
        autoencoder = self._build_autoencoder(n_features)
        features = feature_functions(self.reconstruction_features)
        width = code_width(autoencoder.encoder, n_features) + len(features)
        head = MixtureHead(
            width,
            self.n_components,
            self.estimation_layer_sizes,
            self.activation,
            self.dropout,
            self._own_estimation_network(width),
        )
        return DAGMMNetwork(autoencoder, features, head, self.freeze_codes)

    def _own_estimation_network(self, width: int) -> nn.Module | None:
        """Copy the user's network, if it fits."""
        if self.estimation_network is None:
            return None
        network = copy.deepcopy(self.estimation_network).float()
        try:
            with torch.no_grad():
                shape = tuple(network.eval()(torch.zeros(2, width)).shape)
        except RuntimeError as error:
            shape = error
        if shape != (2, self.n_components):
            raise ValueError(
                f"estimation_network must map z, of shape (n, {width}), to logits of shape "
                f"(n, n_components={self.n_components}); for two rows it gave {shape}. z is the code "
                "and one column for each of reconstruction_features."
            )
        return network.train()

    def _phases(self, module: nn.Module) -> list[Phase]:
        loss = partial(
            _OBJECTIVES[self.objective],
            reconstruction_weight=self.reconstruction_weight,
            lambda1=self.lambda1,
            lambda2=self.lambda2,
        )
        return [
            *self._pretraining_phases(module.autoencoder, fine_tune=True),
            Phase(name="training", loss=loss, max_iter=self.max_iter),
        ]

    def _finish(self, X: np.ndarray) -> None:
        moments = reduce(merge_moments, map(self._moments, self._map(_memberships, X)))
        weights, means, covariances = mixture_parameters(moments)
        head = self.module_.head
        with torch.no_grad():
            head.weights.copy_(weights)
            head.means.copy_(means)
            head.covariances.copy_(covariances)
            head.cholesky.copy_(regularised_cholesky(covariances))
        self.weights_ = weights.numpy()
        self.means_ = means.numpy()
        self.covariances_ = covariances.numpy()

    def _moments(self, memberships: np.ndarray) -> MixtureMoments:
        z, gamma = np.split(memberships.astype(np.float64), [-self.n_components], axis=1)
        return mixture_moments(torch.from_numpy(z), torch.from_numpy(gamma))

    def _module_transform(self, module: nn.Module, X: Tensor) -> Tensor:
        return module.represent(X)[0]

    def _appended_names(self) -> list[str]:
        return feature_names(self.reconstruction_features)

    def _module_score(self, module: nn.Module, X: Tensor) -> Tensor:
        return module.head.energy(self._module_transform(module, X))

    def _module_latent_and_score(self, module: nn.Module, X: Tensor) -> tuple[Tensor, Tensor]:
        z = self._module_transform(module, X)
        return z, module.head.energy(z)

    def predict_component_proba(self, X) -> np.ndarray:
        """Memberships of rows in the components of the mixture, by the estimation network (eq 4).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Rows that sum to 1; float32 for float32 rows, else float64.
        """
        check_is_fitted(self)
        X = self._validate_rows(X, reset=False)
        return join(self._map(_memberships, X), X.shape[0])[:, -self.n_components :]


def _memberships(module: DAGMMNetwork, X: Tensor) -> Tensor:
    """z and gamma of a batch, side by side."""
    z, _ = module.represent(X)
    return torch.cat([z, torch.softmax(module.head(z), dim=1)], dim=1)
