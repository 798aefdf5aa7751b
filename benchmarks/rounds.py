"""What a round of an audit costs, as the labels grow from ten to thousands.

``python -m benchmarks.rounds`` teaches UAI and AAD on shuttle (49,097 rows) up to each number of labels,
and times one more round of ten verdicts: learning, and scoring the table anew. A round of UAI is taken
apart into the scoring, and the steps beside the same steps in a bare PyTorch loop.
"""

import argparse
import time

import numpy as np
import torch
from sklearn.ensemble import IsolationForest
from torch.nn import functional as F

from anomaly_estimators import AAD, LODA, UAI, DenoisingAutoencoder
from anomaly_estimators.datasets import fetch_odds
from anomaly_estimators.functional.reconstruction import squared_error
from benchmarks.reproduce.runner import RESULTS, ResultFile, made_by

LABELS = (10, 100, 500, 1_000, 2_000)
_ROUND = 10


def detectors(seed: int) -> dict:
    """The active detectors, at their defaults; UAI with a base that is trained briefly."""
    # Every row is a label of its own, for what so many labels cost.
    settings = {"duplicates": "each", "random_state": seed}
    return {
        "UAI": UAI(DenoisingAutoencoder(max_iter=2), **settings),
        "LODA-AAD": AAD(LODA(), **settings),
        "Tree-AAD": AAD(IsolationForest(), **settings),
    }


def with_labels(detector, X: np.ndarray, truth: np.ndarray, n_labels: int, seed: int):
    """A detector that has learned the verdicts on some rows, a tenth of them anomalies."""
    rng = np.random.default_rng(seed)
    anomalies = rng.choice(np.flatnonzero(truth < 0), n_labels // 10, replace=False)
    normal = rng.choice(np.flatnonzero(truth > 0), n_labels - len(anomalies), replace=False)
    y = np.zeros(len(X))
    y[anomalies], y[normal] = -1, 1
    return detector.fit(X, y)


def seconds_a_round(detector, X: np.ndarray, truth: np.ndarray, n_rounds: int) -> list[float]:
    """Seconds of each of some rounds."""
    seconds = []
    for _ in range(n_rounds):
        rows = detector.query(X, _ROUND)
        started = time.perf_counter()
        detector.teach(rows, truth[rows])
        seconds.append(time.perf_counter() - started)
    return seconds


def seconds_of_bare_steps(detector: UAI, X: np.ndarray) -> float:
    """Seconds of as many steps as a round has, on batches of the same sizes, without the library."""
    module = detector.estimator_.module_
    head = torch.nn.Linear(len(detector.coef_), 1)
    parameters = [*module.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-4, fused=True)
    rows = torch.from_numpy(detector.scaler_.transform(X)).float()
    batch, n_audited = detector.estimator_.net_.batch_size, detector.audited_batch_size
    target = torch.zeros(n_audited)
    module.train()
    order = torch.randperm(len(rows))
    started = time.perf_counter()
    for step in range(detector.n_steps):
        ordinary = rows[order[step * batch % len(rows) :][:batch]]
        audited = rows[torch.randint(len(rows), (n_audited,))]
        _, reconstruction = module(ordinary)
        code, audited_reconstruction = module(audited)
        score = squared_error(audited, audited_reconstruction).detach()
        logits = head(torch.cat([code, score[:, None]], dim=1))[:, 0]
        loss = squared_error(ordinary, reconstruction).mean()
        loss = loss + F.binary_cross_entropy_with_logits(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seconds = time.perf_counter() - started
    module.eval()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rounds", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds to time (default: 5)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", default=RESULTS, help="folder of the CSV file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    file = ResultFile(
        "active_rounds",
        ["method", "labels", "seed", "seconds", "scoring_seconds", "bare_seconds"],
        [
            "Seconds of a round of an audit of shuttle (49,097 rows): the least of "
            f"{arguments.rounds}, one thread.",
            "scoring_seconds: scoring the table from its rows, which is a part of UAI's rounds, while AAD "
            "keeps what it needs. bare_seconds: UAI's steps in a bare loop.",
            made_by(parser, arguments),
        ],
        arguments.results,
    )
    X, truth = fetch_odds("shuttle", return_X_y=True, dtype=np.float32)
    for name in detectors(0):
        for n_labels in LABELS:
            detector = detectors(arguments.seed)[name]
            detector = with_labels(detector, X, truth, n_labels, arguments.seed)
            seconds = min(seconds_a_round(detector, X, truth, arguments.rounds))
            started = time.perf_counter()
            detector.score_samples(X)
            scoring = time.perf_counter() - started
            bare = f"{seconds_of_bare_steps(detector, X):.4f}" if name == "UAI" else ""
            row = {
                "method": name,
                "labels": n_labels,
                "seed": arguments.seed,
                "seconds": f"{seconds:.4f}",
                "scoring_seconds": f"{scoring:.4f}",
                "bare_seconds": bare,
            }
            print(row, flush=True)
            file.append([row])


if __name__ == "__main__":
    main()
