"""Fits a method once, and keeps what the tables and the figures say of it."""

import time
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import (
    average_precision_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from anomaly_estimators.functional.reconstruction import append_features, squared_error
from anomaly_estimators.metrics import precision_recall_f1_at_ratio
from anomaly_estimators.reconstruction_features import feature_functions
from benchmarks.reproduce.dagmm.methods import CACHE, METHODS, autoencoder
from benchmarks.reproduce.dagmm.problems import Problem
from benchmarks.reproduce.dagmm.settings import FEATURES

__all__ = ["MEASURES", "Outcome", "outcome", "rows"]

MEASURES = ("precision", "recall", "f1")


@dataclass(frozen=True)
class Outcome:
    """What is left of a fit.

    Parameters
    ----------
    scores : dict of str to ndarray of shape (n_test,)
        By the name of the row in the table: the lower, the more abnormal.
    flagged : dict of str to ndarray of shape (n_test,)
        Decisions by the detector's own threshold, where the paper used it.
    z : ndarray of shape (n_test, 3 or 4) or None
        Code and reconstruction features, where there is an autoencoder; else what transform gives.
    errors : ndarray of shape (n_test,) or None
        Squared reconstruction errors of the scaled rows.
    history : list of dict
        Epochs: phase and loss.
    seconds : float
        Of the fit, with its part of the pre-training.
    """

    scores: dict
    flagged: dict
    z: np.ndarray | None
    errors: np.ndarray | None
    history: list
    seconds: float


def outcome(problem: Problem, method: str) -> Outcome:
    """Fit and score; the first seed's outcome is kept on the disk, for the figures."""
    run = CACHE.cache(_outcome) if problem.seed == 0 else _outcome
    return run(method, **problem.key)


def _outcome(name: str, **key) -> Outcome:
    problem, method = Problem(**key), METHODS[name]
    seconds = 0.0
    if method.pretrained:
        seconds = sum(row["dur"] for row in autoencoder(problem).history_)
    started = time.perf_counter()
    with warnings.catch_warnings():
        if name.endswith("untrained"):
            warnings.simplefilter("ignore", ConvergenceWarning)
        detector = method.fit(problem)
    seconds += time.perf_counter() - started
    scores, flagged = {}, {}
    for row, parameters in method.rows:
        detector.set_params(**parameters)
        scores[row] = detector.score_samples(problem.X_test)
        if method.own_threshold:
            flagged[row] = detector.predict(problem.X_test) < 0
    z, errors = represent(detector, problem.X_test)
    history = [
        {"phase": row["phase"], "loss": row["train_loss"]}
        for row in getattr(detector, "history_", [])
    ]
    return Outcome(scores, flagged, z, errors, history, seconds)


@torch.inference_mode()
def represent(detector, X) -> tuple[np.ndarray | None, np.ndarray | None]:
    """z of eq 3, whatever the method makes of it, and the squared reconstruction errors."""
    if not hasattr(detector, "module_"):
        return None, None
    network = getattr(detector.module_, "autoencoder", None) or detector.module_
    if not hasattr(network, "decoder"):
        return detector.transform(X).astype(np.float32), None
    rows = X if detector.scaler_ is None else detector.scaler_.transform(X)
    z, errors = [], []
    for piece in torch.from_numpy(np.asarray(rows, dtype=np.float32)).split(65_536):
        code, rebuilt = network(piece.to(detector.net_.device))
        piece = piece.to(code.device)
        z.append(append_features(code, piece, rebuilt, feature_functions(FEATURES)).cpu())
        errors.append(squared_error(piece, rebuilt).cpu())
    return torch.cat(z).numpy(), torch.cat(errors).numpy()


def rows(problem: Problem, method: str, published: dict) -> list[dict]:
    """Rows of a table: one a score, by the known ratio, and one by the own threshold where it has one.

    Parameters
    ----------
    problem : Problem
    method : str
    published : dict of str to tuple
        The paper's figures, by the name of the row.
    """
    found = outcome(problem, method)
    y = problem.y_test
    table = []
    for name, scores in found.scores.items():
        ranked = {
            "roc_auc": roc_auc_score(y, scores),
            "average_precision": average_precision_score(y < 0, -scores),
            "fit_seconds": found.seconds,
        }
        if found.errors is not None:
            ranked["reconstruction_error"] = float(found.errors[y > 0].mean())
        at_ratio = precision_recall_f1_at_ratio(y, scores, problem.ratio)
        decisions = {name: at_ratio}
        if name in found.flagged:
            own = precision_recall_fscore_support(
                y < 0, found.flagged[name], average="binary", zero_division=0
            )[:3]
            # The paper's figures of OC-SVM are by its own threshold.
            decisions = {name: own, f"{name}, known ratio": at_ratio}
        for label, figures in decisions.items():
            row = {"method": label, **dict(zip(MEASURES, figures, strict=True)), **ranked}
            row = {key: v if key == "method" else _text(key, v) for key, v in row.items()}
            if label in published:
                paper = zip(MEASURES, published[label], strict=True)
                row |= {f"paper_{measure}": value for measure, value in paper}
            table.append(row)
    return table


def _text(key: str, value: float) -> str:
    return f"{value:.1f}" if key == "fit_seconds" else f"{value:.4f}"
