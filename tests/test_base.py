"""The threshold, and the contract of a detector that has no network."""

import numpy as np
import pytest

from anomaly_estimators import OutlierDetector


class Distance(OutlierDetector):
    """Distance from the mean of the training rows, or from the known normal ones."""

    _uses_labels = True

    def _fit(self, X, labels):
        known = labels == 1
        self.centre_ = X[known if known.any() else labels == 0].mean(axis=0)

    def _anomaly_score(self, X):
        return np.linalg.norm(X - self.centre_.astype(X.dtype), axis=1)


def test_labels_reach_a_detector_that_uses_them():
    X = np.array([[0.0], [0.0], [10.0], [11.0]])
    plain, taught = Distance().fit(X), Distance().fit(X, [1, 1, 0, -1])
    assert plain.centre_ == 5.25 and taught.centre_ == 0.0
    np.testing.assert_array_equal(taught.score_samples(X), [0.0, 0.0, -10.0, -11.0])
    detector = Distance(contamination=0.25)
    assert detector.fit_predict(X, [1, 1, 0, -1]).tolist() == [1, 1, 1, -1]
    assert detector.centre_ == 0.0, "fit_predict passes the labels on"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_score_that_is_not_finite_becomes_the_lowest_number(value, dtype):
    class Broken(Distance):
        def _anomaly_score(self, X):
            return np.where(X[:, 0] > 5, value, 1.0).astype(X.dtype)

    X = np.array([[0.0], [1.0], [9.0]], dtype=dtype)
    scores = Broken().fit(X).score_samples(X)
    assert scores.tolist() == [-1.0, -1.0, np.finfo(dtype).min]
    assert scores.dtype == dtype


def test_rows_that_are_all_anomalies_tell_nothing():
    with pytest.raises(ValueError, match=r"add unlabelled rows \(0\) or known normal ones"):
        Distance().fit([[1.0], [2.0]], [-1, -1])
    assert Distance().fit([[1.0], [2.0]], [-1, 0]).centre_ == 2.0


def test_failed_fit_leaves_no_trace():
    detector = Distance()
    with pytest.raises(ValueError):
        detector.fit([[1.0], [2.0]], ["a", "b"])
    assert set(vars(detector)) == {"contamination"}
