"""Why DAGMM's F1 on KDDCUP jumps from epoch to epoch, and what calms it.

Each variant changes one thing about the paper's setting. A run is traced: every few epochs the mixture is
estimated and the test rows are ranked, as a fit that ended there would have done.
"""

import copy
from functools import partial

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from skorch.callbacks import Callback
from torch import nn

from anomaly_estimators import DAGMM
from anomaly_estimators.metrics import f1_at_ratio
from anomaly_estimators.nn.autoencoder import mlp_autoencoder
from benchmarks.reproduce.dagmm.methods import dagmm_settings
from benchmarks.reproduce.dagmm.problems import Problem
from benchmarks.reproduce.runner import Job, ResultFile

__all__ = ["VARIANTS", "jobs", "result_file", "summarise"]

# Test rows that a trace ranks: enough for F1 to 0.003, at a tenth of the time of all.
_RANKED = 40_000
_EPOCHS, _EVERY = 40, 5


def torch_initialised(n_features: int) -> nn.Module:
    """The paper's autoencoder with torch's default initialisation."""
    network = mlp_autoencoder(n_features, (60, 30, 10), 1)
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
    return network


VARIANTS = {
    "paper": {},
    "torch's default initialisation": {"network": torch_initialised},
    "standard scaling": {"scaler": StandardScaler},
    "lambda2 = 0.0001": {"lambda2": 0.0001},
    "cosine distance": {"reconstruction_features": ("relative_euclidean", "cosine_distance")},
    "weight averaging, 0.999": {"ema_decay": 0.999},
    "learning rate to 0 (cosine)": {"lr_schedule": "cosine"},
    "no dropout": {"dropout": 0.0},
}


COLUMNS = (
    "f1",
    "f1_lowest",
    "f1_highest",
    "jump",
    "roc_auc",
    "rows_at_threshold",
    "largest_weight",
)


class Trace(Callback):
    """Ranks the test rows every few epochs.

    Parameters
    ----------
    detector : DAGMM
        Fitted on a few rows, for the code that estimates the mixture and scores.
    X_train, X_test, y_test : ndarray
        Scaled.
    every : int
        Epochs between two points.
    """

    rows: list[dict] = []

    def __init__(self, detector, X_train, X_test, y_test, every):
        self.data = (detector, X_train, X_test, y_test)
        self.every = every

    def __deepcopy__(self, memo):
        return self  # the data are not to be copied with the callback

    def on_epoch_end(self, net, **kwargs):
        epoch = len(net.history)
        if epoch % self.every:
            return
        detector, X_train, X_test, y_test = self.data
        # The estimator's own code, on a copy of the network as it stands; dropout's and the batches'
        # generators are left alone by scoring.
        with net.evaluation():
            detector.net_.module_.load_state_dict(copy.deepcopy(net.module_.state_dict()))
        detector._finish(X_train)
        scores = detector.score_samples(X_test)
        normal = y_test > 0
        ratio = float(np.mean(y_test < 0))
        cut = np.quantile(scores, ratio)
        spread = np.std(scores[normal])
        type(self).rows.append(
            {
                "f1": f1_at_ratio(y_test, scores, ratio),
                "roc_auc": roc_auc_score(y_test, scores),
                # Share of the rows within a hundredth of the scores' spread from the threshold.
                "rows_at_threshold": np.mean(np.abs(scores - cut) < 0.01 * spread),
                "largest_weight": detector.weights_.max(),
            }
        )


def run(variant: str, seed: int, max_iter: int, every: int) -> list[dict]:
    """Train once, with a trace."""
    problem = Problem("KDDCUP", seed)
    X_train, X_test, y_test = problem.X_train, problem.X_test, problem.y_test
    rows = np.random.default_rng(seed).choice(len(X_test), _RANKED, replace=False)
    parameters = dict(VARIANTS[variant])
    scaler = parameters.pop("scaler", MinMaxScaler)().fit(X_train)
    X_train, X_test = scaler.transform(X_train), scaler.transform(X_test[rows])
    make = partial(
        DAGMM,
        **{**dagmm_settings(problem), **parameters, "scaler": None},
    )
    probe = make(max_iter=1, ema_decay=None).fit(X_train[:2000])
    trace = Trace(probe, X_train, X_test, y_test[rows], every)
    Trace.rows = []
    make(max_iter=max_iter, callbacks=[trace]).fit(X_train)
    return [{"method": variant, **summarise(Trace.rows)}]


def summarise(points: list[dict]) -> dict[str, str]:
    """The last point of a trace, and how F1 moved over its second half."""
    late = np.array([float(point["f1"]) for point in points[len(points) // 2 :]])
    row = {key: float(value) for key, value in points[-1].items()}
    row |= {
        "f1_lowest": late.min(),
        "f1_highest": late.max(),
        "jump": np.abs(np.diff(late)).mean(),
    }
    return {key: f"{value:.4f}" for key, value in row.items()}


def jobs(n_runs: int) -> list[Job]:
    """All variants, seed by seed."""
    return [
        Job(
            table="dagmm_jumps",
            key={"dataset": "KDDCUP"},
            seed=seed,
            function=run,
            arguments={"variant": variant, "seed": seed, "max_iter": _EPOCHS, "every": _EVERY},
            methods=(variant,),
        )
        for seed in range(n_runs)
        for variant in VARIANTS
    ]


def result_file(folder, made: str) -> ResultFile:
    """Return the file of the traces."""
    columns = ["dataset", "method", "seed", *COLUMNS]
    comments = [
        f"DAGMM on KDDCUP, {_EPOCHS} epochs of the paper's setting; each variant changes one thing about "
        "it.",
        f"F1 every {_EVERY} epochs: the last, the lowest and highest of the second half, and its mean "
        "change from one to the next (jump).",
        made,
    ]
    return ResultFile("dagmm_jumps", columns, comments, folder)
