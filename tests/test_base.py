"""The threshold, and the contract of a detector that has no network."""

import numpy as np
import pytest

from anomaly_estimators import OutlierDetector
from anomaly_estimators.base import threshold


class Distance(OutlierDetector):
    """Distance from the mean of the training rows, or from the known normal ones."""

    _uses_labels = True

    def _fit(self, X, labels):
        known = labels == 1
        self.centre_ = X[known if known.any() else labels == 0].mean(axis=0)

    def _anomaly_score(self, X):
        return np.linalg.norm(X - self.centre_.astype(X.dtype), axis=1)


@pytest.mark.parametrize(
    ("scores", "contamination", "expected"),
    [
        ([1.0, 2.0, 3.0, 5.0], 0.25, 1.5),
        ([5.0, 3.0, 2.0, 1.0], 0.5, 2.5),
        ([1.0, 2.0, 3.0, 5.0], 0.1, 1.0),
        ([-1e308, 1e308], 0.5, 0.0),
        ([7.0], 0.5, 7.0),
        ([0.0, 0.0, 0.0, 1.0], 0.5, 0.0),
    ],
)
def test_threshold_lies_half_way_between_the_flagged_and_the_others(
    scores, contamination, expected
):
    assert threshold(np.array(scores), contamination) == expected


def test_threshold_between_neighbouring_numbers_flags_the_lower():
    below = 1.0
    above = np.nextafter(below, 2.0)
    offset = threshold(np.array([below, above]), 0.5)
    assert below < offset <= above


def test_rounding_of_the_share_does_not_lose_a_row():
    scores = np.arange(100.0)
    assert (scores < threshold(scores, 0.29)).sum() == 29  # 0.29 * 100 < 29 in floats


def test_equal_scores_are_on_one_side():
    scores = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    flagged = scores < threshold(scores, 0.3)
    assert len(set(flagged[:3])) == 1 and len(set(flagged[3:])) == 1


def test_automatic_threshold_is_the_fence_of_tukey():
    rng = np.random.default_rng(0)
    scores = np.r_[rng.normal(size=500), [-8.0, -9.0, -10.0]]
    lower, upper = np.percentile(scores, [25, 75])
    expected = scores < lower - 1.5 * (upper - lower)
    flagged = scores < threshold(scores, "auto")
    np.testing.assert_array_equal(flagged, expected)
    assert flagged[-3:].all()


def test_automatic_threshold_flags_the_lowest_score_at_least():
    scores = np.arange(10.0)
    assert (scores < threshold(scores, "auto")).sum() == 1


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
