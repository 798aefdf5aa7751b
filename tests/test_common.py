"""scikit-learn's own checks, over every public estimator; none is expected to fail."""

import pytest
from _public import deep_detectors, known, public_detectors, small
from sklearn.utils.estimator_checks import check_param_validation, parametrize_with_checks

from anomaly_estimators import (
    DAGMM,
    DCN,
    DSEBM,
    GMM,
    VAE,
    AnoDM,
    Autoencoder,
    DeepClassifier,
    DeepSAD,
    DeepSVDD,
)

# What the checks do not know to give: labels of anomalies.
pytestmark = pytest.mark.filterwarnings(
    "ignore:(No row is labelled|Labels are read by their sign):UserWarning"
)

VARIANTS = [
    DAGMM(
        objective="nvi",
        pretrain="end_to_end",
        pretrain_max_iter=1,
        freeze_codes=True,
        max_iter=2,
    ),
    DAGMM(early_stopping=True, ema_decay=0.9, max_iter=5, scaler="minmax"),
    Autoencoder(pretrain="layerwise", pretrain_max_iter=1, max_iter=2, contamination="auto"),
    Autoencoder(reconstruction_features=("relative_euclidean", "cosine_similarity"), max_iter=2),
    DCN(n_clusters=1, pretrain="end_to_end", pretrain_max_iter=1, ema_decay=0.9, max_iter=2),
    DSEBM(anomaly_score="reconstruction", pretrain="layerwise", pretrain_max_iter=1, max_iter=2),
    GMM(n_components=1, covariance_type="full", scaler=None),
    DeepSVDD(objective="soft_boundary", nu=0.3, pretrain=None, max_iter=2),
    DeepSAD(eta=10.0, batch_norm=False, pretrain="layerwise", pretrain_max_iter=1, max_iter=2),
    DeepSAD(early_stopping=True, ema_decay=0.9, max_iter=5, pretrain_max_iter=1),
    DeepClassifier(class_weight="balanced", pretrain="end_to_end", max_iter=2),
    VAE(flow="planar", kl_schedule="cyclical", anomaly_score="elbo", n_draws=10, max_iter=2),
    VAE(flow="iaf", kl_schedule="capacity", scaler="minmax", likelihood="bernoulli", max_iter=2),
    AnoDM(latent="sample", n_draws=2, embedding_max_iter=50, scaler="standard", max_iter=2),
    AnoDM(embedding="passthrough", n_landmarks=20, alpha=0.5, n_neighbors=3, max_iter=1),
]


# All other settings as they are. The checks themselves set max_iter=5 where it is not None.
BRIEF = [
    cls(**known(cls, max_iter=5, pretrain_max_iter=5, embedding_max_iter=100))
    for cls in deep_detectors()
]


@parametrize_with_checks([*[small(cls) for cls in public_detectors()], *BRIEF, *VARIANTS])
def test_scikit_learn_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize("cls", public_detectors(), ids=lambda cls: cls.__name__)
def test_parameters_are_validated(cls):
    check_param_validation(cls.__name__, small(cls))
