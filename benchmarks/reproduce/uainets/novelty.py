"""Figure 4: what a detector that was audited on one table finds in another, with attacks of new types."""

import numpy as np

from anomaly_estimators import active_search
from anomaly_estimators.active.base import ActiveDetector
from anomaly_estimators.datasets import fetch_kddcup99
from benchmarks.reproduce.uainets.audits import in_rounds_of
from benchmarks.reproduce.uainets.methods import make
from benchmarks.reproduce.uainets.problems import Problem

__all__ = ["BUDGETS", "recall_by_budget"]

# Rows audited in the training table by the time of each look at the test set.
BUDGETS = (500, 1_000, 2_000, 4_000, 8_000)


def recall_by_budget(method: str, seed: int, k: int) -> list[dict]:
    """Recall of seen and of unseen types of attacks, as the audit goes on.

    As many rows of the test set are flagged as it has attacks.
    """
    train = fetch_kddcup99(variant="reversed", random_state=seed)
    test = fetch_kddcup99(variant="reversed", subset="test", random_state=seed)
    seen = np.isin(test.attack_type, train.attack_type)
    attacks = test.target < 0
    problem = Problem(train.data, train.target, scaler="minmax")
    detector = in_rounds_of(k, 10, make(method, seed, problem))
    if not isinstance(detector, ActiveDetector):
        scores = detector.fit(train.data, None).score_samples(test.data)
        return [_row(method, k, 0, 0, scores, attacks, seen)]
    rows = []

    def look(found: int) -> None:
        scores = detector.score_samples(test.data)
        rows.append(
            _row(method, k, int((detector.labels_ != 0).sum()), found, scores, attacks, seen)
        )

    def expert(indices: np.ndarray) -> np.ndarray:
        # Asked at the start of a round: the detector has learned all verdicts up to here.
        audited = int((detector.labels_ != 0).sum())
        if len(rows) < len(BUDGETS) and audited >= BUDGETS[len(rows)]:
            look(int((detector.labels_ < 0).sum()))
        return train.target[indices]

    active_search(detector, train.data, expert, BUDGETS[-1], k, verbose=0)
    look(int((detector.labels_ < 0).sum()))
    return rows


def _row(method, k, audited, found, scores, attacks, seen) -> dict:
    flagged = np.zeros(len(scores), dtype=bool)
    flagged[np.argsort(scores, kind="stable")[: attacks.sum()]] = True
    return {
        "method": method,
        "k": k,
        "budget": audited,
        "found": found,
        "seen": f"{flagged[attacks & seen].mean():.4f}",
        "unseen": f"{flagged[attacks & ~seen].mean():.4f}",
    }
