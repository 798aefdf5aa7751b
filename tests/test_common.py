"""scikit-learn's own checks, over every public estimator; none is expected to fail."""

import pytest
from _public import public_detectors, small
from sklearn.utils.estimator_checks import check_param_validation, parametrize_with_checks

from anomaly_estimators import DAGMM, Autoencoder

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
]


@parametrize_with_checks(
    [
        *[cls() for cls in public_detectors()],
        *[small(cls) for cls in public_detectors()],
        *VARIANTS,
    ]
)
def test_scikit_learn_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize("cls", public_detectors(), ids=lambda cls: cls.__name__)
def test_parameters_are_validated(cls):
    check_param_validation(cls.__name__, small(cls))
