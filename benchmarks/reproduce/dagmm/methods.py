"""The methods of table 2, each as one expression over the public estimators."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import joblib
import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import SGDOneClassSVM
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import OneClassSVM

from anomaly_estimators import DAGMM, DCN, DSEBM, GMM, Autoencoder
from benchmarks.reproduce.dagmm.problems import Problem
from benchmarks.reproduce.dagmm.settings import COMMON, FEATURES, MIXTURE

__all__ = ["CACHE", "METHODS", "Method", "Untrained", "autoencoder", "dagmm_settings", "settings"]

#: Rows up to which OC-SVM is exact: libsvm's time grows with their square.
EXACT_ROWS = 20_000

#: Where the autoencoders are kept that several methods start from, and the first seed's outcomes.
CACHE = joblib.Memory(Path(__file__).parents[2] / ".cache" / "dagmm", verbose=0)


class Untrained(DAGMM):
    """The control: the network as it was drawn, with the mixture that its memberships give."""

    def _phases(self, module):
        return []


def network(problem: Problem) -> dict:
    """The autoencoder of a data set, and how long it is trained."""
    shorter = {} if problem.max_iter is None else {"max_iter": problem.max_iter}
    return {**problem.setting.network, **shorter}


def settings(problem: Problem) -> dict:
    """What all networks with an autoencoder are given."""
    return {**COMMON, **network(problem), "random_state": problem.seed}


def autoencoder(problem: Problem) -> Autoencoder:
    """PAE, which four other methods start from; trained once and kept on the disk."""
    return _autoencoder(**{**problem.key, "base": 1})


@CACHE.cache
def _autoencoder(**key) -> Autoencoder:
    problem = Problem(**key)
    pae = Autoencoder(pretrain="layerwise", reconstruction_features=FEATURES, **settings(problem))
    return pae.fit(problem.X_train)


def dagmm_settings(problem: Problem) -> dict:
    """What DAGMM and its variants are given."""
    weights = {name: MIXTURE[name] * problem.base for name in ("lambda1", "lambda2")}
    mixture = {"n_components": problem.setting.n_components, **MIXTURE, **weights}
    return {**settings(problem), **mixture}


def dagmm(problem: Problem, cls=DAGMM, **changes) -> DAGMM:
    """DAGMM and those of its variants that train everything from the start."""
    return cls(**{**dagmm_settings(problem), **changes}).fit(problem.X_train)


def dagmm_on(problem: Problem, **changes) -> DAGMM:
    """Train on from the pre-trained autoencoder: DAGMM(pretrain="layerwise") with its first half given."""
    return dagmm(problem, network=autoencoder(problem).module_, **changes)


def alone(problem: Problem, **changes) -> Autoencoder:
    """The autoencoder without a mixture."""
    return Autoencoder(**{**settings(problem), **changes}).fit(problem.X_train)


def em(problem: Problem):
    """EM on z; it stops as scikit-learn's does, by the likelihood, at the paper's 1e-6."""
    gmm = GMM(
        n_components=problem.setting.n_components,
        covariance_type="full",
        scaler=None,
        tol=1e-6,
        reg_covar=1e-6,
        max_iter=1_000,
        n_init=1,
        random_state=problem.seed,
    )
    return make_pipeline(FrozenEstimator(autoencoder(problem)), gmm).fit(problem.X_train)


def dcn(problem: Problem) -> DCN:
    return DCN(
        n_clusters=problem.setting.n_components,
        clustering_weight=0.1,
        network=autoencoder(problem).module_,
        pretrain=None,
        **settings(problem),
    ).fit(problem.X_train)


def dsebm(problem: Problem) -> DSEBM:
    *hidden, last = problem.setting.energy_layers
    layers = {"hidden_layer_sizes": tuple(hidden), "latent_dim": last, "activation": "softplus"}
    return DSEBM(**{**settings(problem), **layers, "noise": 0.1}).fit(problem.X_train)


def oc_svm(problem: Problem):
    """Exact, on a sample where there are many rows."""
    X = problem.X_train
    if len(X) > EXACT_ROWS:
        X = X[np.random.default_rng(problem.seed).choice(len(X), EXACT_ROWS, replace=False)]
    machine = OneClassSVM(nu=problem.setting.nu, gamma="auto", cache_size=1_000)
    return make_pipeline(MinMaxScaler(), machine).fit(X)


def merged(problem: Problem):
    """Exact on all rows: rows that are equal become one with a weight, which changes no score."""
    scaler = MinMaxScaler().fit(problem.X_train)
    rows, counts = np.unique(scaler.transform(problem.X_train), axis=0, return_counts=True)
    machine = OneClassSVM(nu=problem.setting.nu, gamma="auto", cache_size=1_000)
    return make_pipeline(scaler, machine.fit(rows, sample_weight=counts))


def nystroem(problem: Problem):
    """OC-SVM in linear time: the kernel approximated by 300 rows, the machine solved by SGD."""
    scaler = MinMaxScaler().fit(problem.X_train)
    X = scaler.transform(problem.X_train)
    # Of the distinct rows: half of KDDCUP's are copies of one, and the copies span nothing.
    kernel = Nystroem(gamma=1 / X.shape[1], n_components=300, random_state=problem.seed)
    kernel.fit(np.unique(X, axis=0))
    machine = SGDOneClassSVM(nu=problem.setting.nu, random_state=problem.seed)
    return make_pipeline(scaler, kernel, machine.fit(kernel.transform(X)))


@dataclass(frozen=True)
class Method:
    """How one or more rows of a table are made by one fit.

    Parameters
    ----------
    fit : callable
        ``fit(problem)`` -> fitted detector.
    rows : tuple of (str, dict)
        Names in the table, each with the parameters that are set after the fit.
    pretrained : bool
        Whether it starts from :func:`autoencoder`.
    own_threshold : bool
        Whether the detector's own threshold is the one that the paper used.
    """

    fit: Callable[[Problem], object]
    rows: tuple[tuple[str, dict], ...]
    pretrained: bool = False
    own_threshold: bool = False


def _one(name: str, fit, **options) -> Method:
    return Method(fit, ((name, {}),), **options)


METHODS = {
    "OC-SVM": _one("OC-SVM", oc_svm, own_threshold=True),
    "OC-SVM, all rows": _one("OC-SVM, all rows", merged, own_threshold=True),
    "OC-SVM, Nystroem": _one("OC-SVM, Nystroem", nystroem, own_threshold=True),
    "DSEBM": Method(
        dsebm,
        (
            ("DSEBM-r", {"anomaly_score": "reconstruction"}),
            ("DSEBM-e", {"anomaly_score": "energy"}),
        ),
    ),
    "DCN": _one("DCN", dcn, pretrained=True),
    "GMM-EN": _one("GMM-EN", partial(dagmm, reconstruction_weight=0, reconstruction_features=())),
    "PAE": _one("PAE", autoencoder, pretrained=True),
    "E2E-AE": _one("E2E-AE", alone),
    "PAE-GMM-EM": _one("PAE-GMM-EM", em, pretrained=True),
    "PAE-GMM": _one("PAE-GMM", partial(dagmm_on, freeze_codes=True), pretrained=True),
    "DAGMM-p": _one("DAGMM-p", dagmm_on, pretrained=True),
    "DAGMM-NVI": _one("DAGMM-NVI", partial(dagmm, objective="nvi")),
    "DAGMM": _one("DAGMM", dagmm),
    "DAGMM, untrained": _one("DAGMM, untrained", partial(dagmm, cls=Untrained)),
    **{
        f"{name}, standardised": _one(f"{name}, standardised", partial(fit, scaler="standard"))
        for name, fit in (
            ("DAGMM", dagmm),
            ("E2E-AE", alone),
            ("PAE", partial(alone, pretrain="layerwise")),
        )
    },
    "DAGMM, lambda2 = 0.0001": _one("DAGMM, lambda2 = 0.0001", partial(dagmm, lambda2=0.0001)),
    "DAGMM, unscaled": _one("DAGMM, unscaled", partial(dagmm, scaler=None)),
}
