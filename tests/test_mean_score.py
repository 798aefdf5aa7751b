"""The mean score: which detectors it compares, and the warning of all others."""

import warnings
from functools import cache

import numpy as np
import pytest
from _public import fitted, public_detectors, small, suited
from scipy.integrate import trapezoid
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV, KFold

from anomaly_estimators import GMM, KDE, DeepSVDD, LabelConsistency
from anomaly_estimators.model_selection import roc_auc_scorer

COMPARES = [cls for cls in public_detectors() if cls._scores_compare]
detectors = pytest.mark.parametrize("cls", public_detectors(), ids=lambda cls: cls.__name__)
# Labels of anomalies that a small table does not have, and fits of two epochs.
pytestmark = pytest.mark.filterwarnings("ignore:No row is labelled:UserWarning")


# Rows of one feature, skewed, in large units.
X = 1e3 * np.random.default_rng(0).gamma(2.0, size=(80, 1)) + 5e3


@cache
def trained(cls):
    return fitted(cls, suited(cls, X))


def total_of_density(detector):
    places = np.linspace(-2e4, 5e4, 40_000)[:, None]
    return trapezoid(np.exp(detector.score_samples(places)), places[:, 0])


def total_of_labels(detector):
    rows = np.random.default_rng(1).normal(5e3, 2e3, size=(9, 1))
    each = [
        detector.score_samples(np.column_stack([rows, np.full(9, label)]))
        for label in detector.classes_
    ]
    return np.exp(each).sum(axis=0)


@detectors
def test_mean_scores_compare_log_probabilities_or_warn(cls):
    if not cls._scores_compare:
        rows, detector = suited(cls, X), trained(cls)
        with pytest.warns(UserWarning, match="does not compare models") as warned:
            mean = detector.score(rows)
        assert len(warned) == 1 and warned[0].filename == __file__
        assert mean == pytest.approx(detector.score_samples(rows).mean(), rel=1e-6)
        return
    # In whatever units the model counts, the probabilities of all there can be add up to 1.
    by_label = cls is LabelConsistency
    total = total_of_labels if by_label else total_of_density
    rows = np.column_stack([X, np.arange(len(X)) % 3]) if by_label else X
    for scaler in ("standard", "minmax", "robust", None):
        detector = fitted(cls, rows, scaler=scaler)
        np.testing.assert_allclose(total(detector), 1.0, rtol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            detector.score(rows)


def test_densities_are_among_those_that_compare():
    assert COMPARES == [GMM, KDE, LabelConsistency]


@detectors
def test_labels_that_are_ignored_are_spoken_of(cls):
    rows, detector = suited(cls, X), trained(cls)
    for y in (None, np.ones(len(X)), np.zeros(len(X))):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            detector.score(rows, y)
        assert not any("ignored" in str(warning.message) for warning in warned)
    signs = np.where(np.arange(len(X)) < 9, -1, 1)
    for y in (signs, signs.astype(float).tolist(), signs[:, None], signs < 0, signs.astype(str)):
        with pytest.warns(UserWarning, match="labels in y are ignored.*roc_auc_scorer") as warned:
            mean = detector.score(rows, y)
        assert len(warned) == 1
        assert mean == pytest.approx(detector.score_samples(rows).mean(), rel=1e-6)


def test_labels_beside_the_rows_are_not_ignored():
    labels = np.arange(len(X)) % 3
    detector = small(LabelConsistency, label_column=None).fit(X, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean = detector.score(X, labels)
    assert mean == pytest.approx(detector.score_samples(X, labels).mean(), rel=1e-6)


def test_search_without_a_scorer_says_that_labels_are_ignored_and_units_decide():
    X, benign = load_breast_cancer(return_X_y=True)
    rows = np.r_[np.flatnonzero(benign)[:90], np.flatnonzero(benign == 0)[:30]]
    X, y = X[rows], np.where(benign[rows] == 1, 1, -1)
    grid, folds = {"scaler": ["standard", None]}, KFold(2, shuffle=True, random_state=0)
    with pytest.warns(UserWarning, match="does not compare models.*labels in y are ignored"):
        GridSearchCV(small(DeepSVDD), grid, cv=folds).fit(X, y)
    with pytest.warns(UserWarning, match="^The labels in y are ignored"):
        GridSearchCV(KDE(bandwidth="scott"), grid, cv=folds).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        GridSearchCV(KDE(bandwidth="scott"), grid, cv=folds).fit(X)
        GridSearchCV(KDE(bandwidth="scott"), grid, cv=folds, scoring=roc_auc_scorer).fit(X, y)
