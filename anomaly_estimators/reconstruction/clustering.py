"""DCN: an autoencoder whose codes are drawn to the centres of clusters."""

from collections.abc import Iterable
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from anomaly_estimators.autoencoding import ReconstructingDetector, code_width
from anomaly_estimators.functional.clustering import (
    center_distance,
    clustering_loss,
    nearest_center,
)
from anomaly_estimators.nn.clustering import ClusteringNetwork
from anomaly_estimators.nn.randomness import generator_for
from anomaly_estimators.row_blocks import join
from anomaly_estimators.training.phases import Phase
from anomaly_estimators.training.placement import hold_out

__all__ = ["DCN"]


class DCN(ReconstructingDetector):
    """Deep clustering network (Yang et al. 2017): far from every cluster is an anomaly.

    An autoencoder is trained layer by layer and as a whole, k-means finds clusters among its codes, and
    then both are trained together: the network on the reconstruction error and on the distance of a
    code to the centre of its cluster, and the centres as running means of the codes [1]_.
    The score is the negative distance of a code to the nearest centre, as in the comparison of
    [2]_, section 4.2.

    Parameters
    ----------
    n_clusters : int, default=2
        Number of clusters. No more than there are training rows.
    clustering_weight : float, default=0.1
        Weight lambda of the squared distances to the centres in the objective, of which the half counts
        [1]_, against the squared reconstruction errors. 0 leaves the codes to the autoencoder,
        and the centres follow them.
    n_init : int, default=10
        Runs of k-means after the pre-training, of which the best is taken.
    pretrain : {"layerwise", "end_to_end"} or None, default="layerwise"
        Training of the autoencoder before there are clusters: layer after layer as denoising
        autoencoders and then as a whole, as in the paper, or as a whole from the start. ``None`` if
        ``network`` is trained already: then k-means starts from its codes.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, latent_dim)
        Centres among the codes that :meth:`transform` returns.
    cluster_counts_ : ndarray of shape (n_clusters,), dtype int64
        Codes that each centre is the mean of: those of its cluster in k-means, and those assigned to it
        in every step since.

    See Also
    --------
    Autoencoder : The reconstruction error alone.
    DAGMM : A mixture of Gaussians over the code and the error in the place of clusters.
    DeepSVDD : One centre, which stays where it is.

    Notes
    -----
    The counts start from the sizes of the clusters of k-means, which has assigned every row once before
    the first step. A centre is thus the mean of all codes that were ever assigned to it and moves less
    with every epoch. A batch is assigned by the codes that its step was computed from, so that one
    forward pass serves the step and the centres.

    The defaults serve data of unknown kind: where anomalies are among the training rows, with many clusters
    one is theirs. For KDDCUP the paper of [2]_ takes ``hidden_layer_sizes=(60, 30, 10), latent_dim=1,
    batch_size=1024, max_iter=200``, and tells neither the number of clusters nor lambda.

    There is no ``labels_``: ``fit_predict`` is that of every detector, -1 for anomalies and +1 for
    normal rows, and :meth:`predict_cluster` tells the clusters.

    References
    ----------
    .. [1] Yang, Fu, Sidiropoulos and Hong, "Towards K-means-friendly Spaces: Simultaneous Deep Learning
       and Clustering", ICML 2017. https://proceedings.mlr.press/v70/yang17b.html
    .. [2] Zong et al., "Deep Autoencoding Gaussian Mixture Model for Unsupervised Anomaly
       Detection", ICLR 2018. https://openreview.net/forum?id=BJJLHbb0-

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from anomaly_estimators import DCN
    >>> X, _ = load_breast_cancer(return_X_y=True)
    >>> detector = DCN(max_iter=5, random_state=0).fit(X)
    >>> int((detector.predict(X) == -1).sum())
    56
    >>> detector.cluster_centers_.shape
    (2, 8)
    >>> detector.predict_cluster(X).shape
    (569,)
    """

    _parameter_constraints: dict = {
        **ReconstructingDetector._parameter_constraints,
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "clustering_weight": [Interval(Real, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        *,
        n_clusters=2,
        clustering_weight=0.1,
        n_init=10,
        pretrain="layerwise",
        **inherited,
    ):
        super().__init__(pretrain=pretrain, **inherited)
        self.n_clusters = n_clusters
        self.clustering_weight = clustering_weight
        self.n_init = n_init

    def _fit(self, X: np.ndarray, labels: np.ndarray | None) -> None:
        if self.warm_start and "net_" in vars(self):
            n_centers = len(self.module_.centers)
            if n_centers != self.n_clusters:
                raise ValueError(
                    f"n_clusters={self.n_clusters}, but the fit that warm_start=True goes on from had "
                    f"{n_centers}. Fit a new estimator, or set warm_start=False."
                )
        else:
            self._check_rows(X.shape[0])
        super()._fit(X, labels)

    def _check_rows(self, n_rows: int) -> None:
        if self.early_stopping:
            n_rows = len(hold_out(np.zeros(n_rows), self.validation_fraction, 0)[0])
        if self.n_clusters > n_rows:
            raise ValueError(
                f"n_clusters={self.n_clusters}, but there are n_samples={n_rows} rows to train on: a "
                "cluster needs one at least. Lower n_clusters, or give more rows."
            )

    def _build_module(self, n_features: int) -> nn.Module:
        autoencoder = self._build_autoencoder(n_features)
        width = code_width(autoencoder.encoder, n_features)
        return ClusteringNetwork(autoencoder, width, self.n_clusters)

    def _phases(self, module: nn.Module) -> list[Phase]:
        def loss(outputs, X: Tensor, y: Tensor) -> Tensor:
            code, reconstruction = outputs
            return clustering_loss(code, reconstruction, X, module.centers, self.clustering_weight)

        def begin(batches: Iterable[tuple[Tensor, Tensor]]) -> None:
            generator = generator_for(torch.device("cpu"))
            seed = int(torch.randint(2**31 - 1, (), generator=generator, device="cpu"))
            module.place((X for X, _ in batches), n_init=self.n_init, seed=seed)

        return [
            *self._pretraining_phases(module.autoencoder, fine_tune=True),
            Phase(
                name="training",
                loss=loss,
                max_iter=self.max_iter,
                begin=begin,
                observe=module.follow,
            ),
        ]

    def _finish(self, X: np.ndarray) -> None:
        self.cluster_centers_ = self.module_.centers.cpu().numpy().copy()
        self.cluster_counts_ = self.module_.counts.cpu().numpy().copy()

    def _module_transform(self, module: nn.Module, X: Tensor) -> Tensor:
        return module.encode(X)

    def _module_decode(self, module: nn.Module, codes: Tensor) -> Tensor:
        return module.decode(codes)

    def _module_score(self, module: nn.Module, X: Tensor) -> Tensor:
        return center_distance(module.encode(X), module.centers)

    def _module_latent_and_score(self, module: nn.Module, X: Tensor) -> tuple[Tensor, Tensor]:
        codes = module.encode(X)
        return codes, center_distance(codes, module.centers)

    def predict_cluster(self, X) -> np.ndarray:
        """Assign rows to the clusters.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,), dtype int64
            Number of the centre in ``cluster_centers_`` that is nearest to the code of a row.
        """
        check_is_fitted(self)
        X = self._validate_rows(X, reset=False)
        return join(self._map(_clusters, X), X.shape[0]).astype(np.int64)


def _clusters(module: ClusteringNetwork, X: Tensor) -> Tensor:
    return nearest_center(module.encode(X), module.centers)
