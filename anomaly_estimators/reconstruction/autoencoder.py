"""Autoencoder: reconstruction error as the anomaly score, and its code as a transformer."""

from sklearn.utils._param_validation import StrOptions
from torch import Tensor, nn

from anomaly_estimators.autoencoding import ReconstructingDetector
from anomaly_estimators.functional.reconstruction import append_features, squared_error
from anomaly_estimators.reconstruction_features import (
    check_features,
    feature_functions,
    feature_names,
)
from anomaly_estimators.training.phases import Phase
from anomaly_estimators.training.pretraining import reconstruction_loss

__all__ = ["Autoencoder"]


class Autoencoder(ReconstructingDetector):
    """Autoencoder: rows that a narrow code cannot reproduce are anomalies.

    The score is the negative squared reconstruction error of the scaled row, summed over the
    features (L of [1]_, eq 7). As a transformer the estimator returns the code, so that
    ``make_pipeline(Autoencoder(), OneClassSVM())`` is the hybrid that the papers compare with, and
    beside it, if asked for, how well the row was reconstructed.

    Parameters
    ----------
    latent_dim : int, default=4
        Width of the code.
    reconstruction_features : tuple of str or callable, default=()
        What :meth:`transform` appends to the code, z_r of [1]_, eq 2: "euclidean",
        "relative_euclidean", "cosine_similarity", "cosine_distance", "squared_error", or functions
        ``f(X, reconstruction)`` of two tensors of shape (n, n_features) that return one of shape
        (n,). With them a density estimate at the end of a pipeline sees both of the ways in which a
        row can be unusual. They have no part in the training and the score.
    pretrain : {"layerwise"} or None, default=None
        "layerwise" trains layer after layer as a denoising autoencoder before the whole [2]_.
    max_iter : int or None, default=None
        Number of epochs. ``None`` takes as many as make 2,000 steps, within 20 and 200. Where
        anomalies are among the training rows, a long training learns to reproduce them too.
    learning_rate : float, default=1e-4
        Step size of the optimizer.

    See Also
    --------
    DAGMM : Models the code and the reconstruction error together, by a mixture.

    References
    ----------
    .. [1] Zong et al., "Deep Autoencoding Gaussian Mixture Model for Unsupervised Anomaly
       Detection", ICLR 2018.
    .. [2] Vincent et al., "Stacked Denoising Autoencoders: Learning Useful Representations in a
       Deep Network with a Local Denoising Criterion", JMLR 11, 2010.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from anomaly_estimators import Autoencoder
    >>> X, _ = load_breast_cancer(return_X_y=True)
    >>> detector = Autoencoder(max_iter=5, random_state=0).fit(X)
    >>> int((detector.predict(X) == -1).sum())
    56
    >>> detector.transform(X).shape
    (569, 4)
    """

    _parameter_constraints: dict = {
        **ReconstructingDetector._parameter_constraints,
        "pretrain": [StrOptions({"layerwise"}), None],
        "reconstruction_features": [tuple, list],
    }

    def __init__(
        self, *, reconstruction_features=(), latent_dim=4, learning_rate=1e-4, **inherited
    ):
        super().__init__(latent_dim=latent_dim, learning_rate=learning_rate, **inherited)
        self.reconstruction_features = reconstruction_features

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_features(self.reconstruction_features)

    def _build_module(self, n_features: int) -> nn.Module:
        return self._build_autoencoder(n_features)

    def _phases(self, module: nn.Module) -> list[Phase]:
        return [
            *self._pretraining_phases(module, fine_tune=False),
            Phase(name="training", loss=reconstruction_loss, max_iter=self.max_iter),
        ]

    def _module_score(self, module: nn.Module, X: Tensor) -> Tensor:
        _, reconstruction = module(X)
        return squared_error(X, reconstruction)

    def _module_encode(self, module: nn.Module, X: Tensor) -> Tensor:
        return module.encoder(X)

    def _module_transform(self, module: nn.Module, X: Tensor) -> Tensor:
        if not self.reconstruction_features:
            return self._module_encode(module, X)
        return self._module_latent_and_score(module, X)[0]

    def _module_latent_and_score(self, module: nn.Module, X: Tensor) -> tuple[Tensor, Tensor]:
        # In one pass.
        code, reconstruction = module(X)
        features = feature_functions(self.reconstruction_features)
        latent = append_features(code, X, reconstruction, features)
        return latent, squared_error(X, reconstruction)

    def _appended_names(self) -> list[str]:
        return feature_names(self.reconstruction_features)

    def _module_decode(self, module: nn.Module, codes: Tensor) -> Tensor:
        return module.decoder(codes)
