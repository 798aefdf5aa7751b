"""One audit of one table by one method."""

import time

import numpy as np
from sklearn.utils import check_random_state

from anomaly_estimators import UAI, AuditHistory, active_search
from anomaly_estimators.active.base import ActiveDetector
from anomaly_estimators.datasets import one_class_split
from anomaly_estimators.metrics import f1_at_ratio
from benchmarks.reproduce.uainets.methods import make, rows_of
from benchmarks.reproduce.uainets.problems import Problem

__all__ = ["audit", "audited_share", "rows_a_round", "semi_supervised_f1"]

# Section A.3.
_FEW_ANOMALIES = 100


def rows_a_round(problem: Problem) -> int:
    """Rows that the expert judges in a round: 10, or 3 where there are few anomalies (appendix A.3)."""
    return 3 if problem.n_anomalies < _FEW_ANOMALIES else 10


def audit(
    method: str, problem: Problem, seed: int, budget: int, k: int, noise: float = 0.0
) -> tuple[np.ndarray, float]:
    """Audit a table.

    Parameters
    ----------
    method : str
    problem : Problem
    seed : int
    budget : int
        Rows that the expert judges in all.
    k : int
        Rows in a round.
    noise : float
        Share of the verdicts that are wrong.

    Returns
    -------
    found : ndarray of int of shape (budget,)
        Number of true anomalies among the rows audited so far.
    seconds : float
        Time that the training, the choosing and the scoring took, without the first training of the
        paper's networks.
    """
    X = rows_of(method, problem)
    detector = in_rounds_of(k, rows_a_round(problem), make(method, seed, problem))
    started = time.perf_counter()
    if isinstance(detector, ActiveDetector):
        answers = noisy(problem.truth, noise, seed)
        history = active_search(detector, X, lambda rows: answers[rows], budget, k, verbose=0)
        rows = history.indices
    else:
        scores = detector.fit(X, None).score_samples(X)
        rows = AuditHistory.from_scores(scores, problem.truth, k).indices[:budget]
    seconds = time.perf_counter() - started
    return np.cumsum(problem.truth[rows] < 0), seconds


def in_rounds_of(k: int, usual: int, detector):
    """Suit a UAI to larger rounds than the paper's.

    The cold start takes as many rows as with the paper's, and at least a round; and a round has more
    steps, up to three times as many.
    """
    if isinstance(detector, UAI) and k > usual:
        if detector.cold_start != "auto":
            detector.cold_start = -(-detector.cold_start * usual // k)
        detector.n_steps *= min(3, k // usual)
    return detector


def noisy(truth: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """The verdicts of an expert who errs on a share of the rows, and always on the same ones."""
    wrong = check_random_state(seed).uniform(size=len(truth)) < noise
    return np.where(wrong, -truth, truth)


def semi_supervised_f1(method: str, problem: Problem, seed: int) -> tuple[float, float]:
    """F1 of a detector that learns from half of the normal rows, none of the anomalies among them."""
    X_train, X_test, _, y_test = one_class_split(problem.X, problem.truth, random_state=seed)
    started = time.perf_counter()
    scores = make(method, seed, problem).fit(X_train).score_samples(X_test)
    return f1_at_ratio(y_test, scores), time.perf_counter() - started


def audited_share(found: np.ndarray, budget: int, n_points: int) -> str:
    """The found-curve at evenly spread budgets, as a column of a table."""
    points = np.unique(np.linspace(1, budget, n_points).round().astype(int))
    return " ".join(f"{point}:{found[min(point, len(found)) - 1]}" for point in points)
