"""The runs behind table 1 and the rings, and the files that they fill."""

import time
from collections.abc import Sequence

import numpy as np
from sklearn.metrics import roc_auc_score

from anomaly_estimators.metrics import f1_at_ratio
from benchmarks.reproduce.runner import Job, ResultFile
from benchmarks.reproduce.vae_flows.methods import (
    MODELS,
    PUBLISHED,
    RING,
    RING_MODELS,
    SCORES,
    SETTINGS,
    SWEEP,
    Ranked,
    measured,
)
from benchmarks.reproduce.vae_flows.problems import RINGS, kddcup, uniform_points
from benchmarks.reproduce.vae_flows.published import paper_f1

__all__ = ["MODEL_NAMES", "PARTS", "jobs", "result_files"]

PARTS = ("table1", "settings", "ring", "sweep")
MODEL_NAMES = tuple(MODELS)
#: Share of the test rows that is flagged (section 5).
FLAGGED = 0.2
_SWEPT_RING = "0.05"
_N_TRAIN, _N_TEST, _N_UNIFORM = 4_000, 500, 250
_CEILING = "true density"


def _parameters(max_iter: int | None, *parts: dict) -> dict:
    """Parameters of a model, of which the later ones count, with other epochs if asked for."""
    merged = {name: value for part in parts for name, value in part.items()}
    return merged if max_iter is None else {**merged, "max_iter": max_iter}


def _detector(seed: int, max_iter: int | None, *parts: dict) -> Ranked:
    """Build a model by its parameters."""
    return Ranked(**_parameters(max_iter, *parts), random_state=seed)


def run_kddcup(setting: str, method: str, seed: int, max_iter: int | None) -> list[dict]:
    """Table 1: train once, and rank the test rows by each of the scores."""
    split = kddcup()
    detector = _detector(seed, max_iter, SETTINGS[setting], MODELS[method])
    started = time.perf_counter()
    detector.fit(split.train)
    fitted = time.perf_counter()
    figures = measured(detector, split.different)
    seconds = {
        "fit_seconds": f"{fitted - started:.1f}",
        "scoring_seconds": f"{time.perf_counter() - fitted:.1f}",
    }
    divergence = {"kl": f"{figures['KL'][split.position].mean(dtype=float):.3f}"}
    rows = []
    for score in SCORES:
        scores = figures[score][split.position]
        row = {"method": method, "score": score, **divergence, **seconds}
        # The paper ranks by A(x).
        row |= paper_f1(method) if score == SCORES[0] else {}
        row["f1"] = f"{f1_at_ratio(split.truth, scores, FLAGGED):.4f}"
        row["roc_auc"] = f"{roc_auc_score(split.truth, scores):.4f}"
        rows.append(row)
    return rows


def run_ring(noise: str, method: str, seed: int, changes: dict, max_iter: int | None) -> list[dict]:
    """Train on points of the ring, and measure the likelihood of others."""
    ring = RINGS[noise]
    # Even seeds for training points, odd ones for the others.
    test = ring.draw(_N_TEST, 2 * seed + 1)
    uniform = uniform_points(_N_UNIFORM, 2 * seed + 1)
    if method == _CEILING:
        own, others = ring.log_density(test), ring.log_density(uniform)
        auc = f"{_auc(own, others):.4f}"
        return [
            {
                "method": method,
                "log_likelihood": f"{own.mean():.4f}",
                "roc_auc": auc,
                "likelihood_auc": auc,
            }
        ]
    detector = _detector(seed, max_iter, RING, RING_MODELS[method], changes)
    started = time.perf_counter()
    detector.fit(ring.draw(_N_TRAIN, 2 * seed))
    seconds = time.perf_counter() - started
    own, others = measured(detector, test), measured(detector, uniform)
    means = {name: values.mean(dtype=np.float64) for name, values in own.items()}
    expected, bound, log_likelihood = (means[score] for score in SCORES)
    figures = {
        "log_likelihood": log_likelihood,
        "bound": bound,
        "gap": log_likelihood - bound,
        "kl": means["KL"],
        "reconstruction": expected,
        "roc_auc": _auc(own[SCORES[0]], others[SCORES[0]]),
        "likelihood_auc": _auc(own[SCORES[2]], others[SCORES[2]]),
    }
    rounded = {name: f"{value:.4f}" for name, value in figures.items()}
    return [{"method": method, **rounded, "fit_seconds": f"{seconds:.1f}"}]


def _auc(own: np.ndarray, others: np.ndarray) -> float:
    return roc_auc_score(np.repeat([1, 0], [len(own), len(others)]), np.r_[own, others])


def jobs(
    parts: Sequence[str],
    models: Sequence[str],
    n_runs: int,
    max_iter: int | None = None,
) -> list[Job]:
    """All runs, seed by seed, so that every cell has some early."""
    listed = []
    for seed in range(n_runs):
        for method in models if "table1" in parts else ():
            arguments = {"setting": PUBLISHED, "max_iter": max_iter}
            listed.append(_job("table1", {}, method, seed, run_kddcup, arguments))
        for setting in SETTINGS if "settings" in parts else ():
            if setting != PUBLISHED:
                key, arguments = {"setting": setting}, {"setting": setting, "max_iter": max_iter}
                listed.append(_job("settings", key, "base", seed, run_kddcup, arguments))
        for noise in RINGS if "ring" in parts else ():
            for method in (*RING_MODELS, _CEILING):
                arguments = {"noise": noise, "changes": {}, "max_iter": max_iter}
                listed.append(_job("ring", {"noise": noise}, method, seed, run_ring, arguments))
        for setting, changes in SWEEP.items() if "sweep" in parts else ():
            for method in RING_MODELS:
                if method == "base" and set(changes) == {"n_flows"}:
                    continue
                arguments = {"noise": _SWEPT_RING, "changes": changes, "max_iter": max_iter}
                listed.append(
                    _job("sweep", {"setting": setting}, method, seed, run_ring, arguments)
                )
    return listed


def _job(part: str, key: dict, method: str, seed: int, function, arguments: dict) -> Job:
    return Job(
        table=f"vae_flows_{part}",
        key=key,
        seed=seed,
        function=function,
        arguments={**arguments, "method": method, "seed": seed},
        methods=(method,),
    )


def result_files(folder, made: str, max_iter: int | None = None) -> dict[str, ResultFile]:
    """Return the files, with their headings: what was run, and by which command."""
    paper = "Shah & Sharpe (2020), {}."
    network = ", ".join(f"{name}={value!r}" for name, value in _parameters(max_iter, RING).items())
    ring = [
        f"{_N_TRAIN} points to train on, {_N_TEST} others to measure by, in nats a point. "
        f"log_likelihood: the bound of {RING['n_draws']} importance weighted draws; bound: the ELBO; gap: "
        "what it is below that; reconstruction: -A(x), the mean of log p(x|z).",
        "roc_auc, likelihood_auc: of the points of the ring against others that are uniform on the square "
        "about it, by A(x) and by log_likelihood.",
        f"The models: {network}.",
    ]
    on_kddcup = [
        *("score", "seed", "f1", "paper_f1", "paper_sd", "roc_auc", "kl"),
        *("fit_seconds", "scoring_seconds"),
    ]
    protocol = [
        "Trained on the attacks of 80 % of the rows; of the other 20 %, the fifth with the highest "
        "scores is flagged. One split for all runs. method: the flows and their number.",
        "fit_seconds: without the scores of the training rows, which fit makes for the threshold; "
        "scoring_seconds: of the different test rows, all scores at once.",
    ]
    measures = [
        *("log_likelihood", "bound", "gap", "kl", "reconstruction"),
        *("roc_auc", "likelihood_auc", "fit_seconds"),
    ]
    described = {
        "table1": (
            ["method", *on_kddcup],
            [
                paper.format("table 1: KDDCUP, whose attacks are the normal class"),
                *protocol,
                f"The models: {_parameters(max_iter, SETTINGS[PUBLISHED])}.",
            ],
        ),
        "settings": (
            ["setting", "method", *on_kddcup],
            [
                paper.format("the experiment of table 1 in other settings"),
                *protocol,
                *(
                    f"{name}: {_parameters(max_iter, parameters)}."
                    for name, parameters in SETTINGS.items()
                    if name != PUBLISHED
                ),
            ],
        ),
        "ring": (
            ["noise", "method", "seed", *measures],
            [
                paper.format(
                    "figures 1 to 4 in numbers: points on a circle of radius 1, with noise"
                ),
                *ring,
                "true density: the mean of the log-density that the points were drawn from.",
            ],
        ),
        "sweep": (
            ["setting", "method", "seed", *measures],
            [
                paper.format("what decides whether flows matter on the ring of figure 1"),
                f"Noise {_SWEPT_RING}. setting: what is changed of the models.",
                *ring,
            ],
        ),
    }
    return {
        f"vae_flows_{part}": ResultFile(f"vae_flows_{part}", columns, [*comments, made], folder)
        for part, (columns, comments) in described.items()
    }
