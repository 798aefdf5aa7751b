"""What one fit of AnoDM is measured by."""

import time

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KDTree

from anomaly_estimators import AnoDM
from anomaly_estimators.functional.reconstruction import normalised_squared_error
from anomaly_estimators.functional.variational import reparametrise
from anomaly_estimators.manifold import TSNEMap
from benchmarks.reproduce.anodm.methods import anodm
from benchmarks.reproduce.anodm.problems import Problem, problem
from benchmarks.reproduce.anodm.published import paper_figures

__all__ = ["ALPHAS", "measure", "sweep"]

#: The paper's values of alpha.
ALPHAS = (0.0, 0.005, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


def sweep(terms: np.ndarray, anomalous: np.ndarray) -> list[float]:
    """Area under the ROC curve for each alpha.

    Parameters
    ----------
    terms : ndarray of shape (n, 2)
        D_RE and D_map.
    anomalous : ndarray of shape (n,), dtype bool

    Examples
    --------
    >>> terms = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> areas = sweep(terms, np.array([True, False]))
    >>> areas[0], areas[8], areas[-1]
    (1.0, 0.5, 0.0)
    """
    return [float(roc_auc_score(anomalous, terms @ [a, 1.0 - a])) for a in ALPHAS]


def measure(
    dataset: str,
    anomaly: int,
    encoder: str,
    beta: float,
    seed: int,
    max_iter: int,
    n_train: int | None,
) -> list[dict]:
    """Fit once, and score the test set in all the ways of tables 1 and 2 and figure 4."""
    parts = problem(dataset, anomaly, seed, n_train)
    started = time.perf_counter()
    detector = anodm(dataset, encoder, beta, max_iter, seed).fit(parts.X)
    seconds = f"{time.perf_counter() - started:.1f}"
    placed = detector.score_terms(parts.X_test)
    joint = detector.set_params(transductive=True).score_terms(parts.X_test)
    # No label has a part in it.
    scaled = joint / joint.mean(axis=0)
    areas = {
        "AnoDM, means": sweep(joint, parts.anomalous),
        "AnoDM, draws": sweep(terms_of_draws(detector, parts, seed), parts.anomalous),
        "AnoDM, placed": sweep(placed, parts.anomalous),
    }
    rows = []
    for method, curve in areas.items():
        best = int(np.argmax(curve))
        listed = " ".join(f"{a:g}:{area:.4f}" for a, area in zip(ALPHAS, curve, strict=True))
        rows.append(
            {"method": method, "roc_auc": curve[best], "alpha": ALPHAS[best], "curve": listed}
        )
    nearest = KDTree(detector.landmark_codes_).query(detector.transform(parts.X_test), k=1)[0]
    for method, score, alpha in (
        ("AnoDM, equal terms", scaled.sum(axis=1), ""),
        ("beta-VAE", joint[:, 0], 1.0),
        ("map", joint[:, 1], 0.0),
        ("codes", nearest[:, 0], ""),
    ):
        area = roc_auc_score(parts.anomalous, score)
        rows.append({"method": method, "roc_auc": area, "alpha": alpha, "curve": ""})
    for row in rows:
        paper = paper_figures(dataset, anomaly, row["method"])
        row |= {
            "roc_auc": f"{row['roc_auc']:.4f}",
            "paper_roc_auc": paper.get("roc_auc", ""),
            "seconds": seconds,
        }
    return rows


def terms_of_draws(detector: AnoDM, parts: Problem, seed: int) -> np.ndarray:
    """The paper's z-based variant, with a new draw for each row, in a map of both sets together."""
    generator = torch.Generator().manual_seed(seed)
    chosen = np.random.default_rng(seed).permutation(len(parts.X))[: len(detector.map_)]
    both = torch.from_numpy(np.concatenate([parts.X[chosen], parts.X_test]))
    module = detector.module_
    codes, errors = [], []
    with torch.inference_mode():
        for rows in both.split(1_000):
            posterior = module.encoder(rows)
            z = reparametrise(*posterior, torch.randn(posterior.mean.shape, generator=generator))
            outputs = module.decoder.likelihood.mean(module.decoder(z))
            errors.append(normalised_squared_error(rows, outputs))
            codes.append(z)
    places = TSNEMap(max_iter=1_000, random_state=seed).fit(torch.cat(codes).numpy()).embedding_
    landmarks, tested = np.split(places, [len(chosen)])
    distances = KDTree(landmarks).query(tested, k=1)[0][:, 0]
    return np.column_stack([torch.cat(errors).numpy()[len(chosen) :], distances])
