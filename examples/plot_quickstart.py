"""
==========================================
DAGMM beside two detectors of scikit-learn
==========================================

A first look: :class:`~anomaly_estimators.DAGMM` is fitted next to scikit-learn's
:class:`~sklearn.ensemble.IsolationForest` and :class:`~sklearn.svm.OneClassSVM`, on real data. A
table tells how well each of them ranks the anomalies and how long it takes; a picture shows the
scores, and the space that DAGMM learned.

The protocol is the one of the DAGMM paper, which
:func:`~anomaly_estimators.datasets.one_class_split` carries out. The rows are split into two
halves. The detectors learn from the *normal* rows of the first half; the second half, anomalies
included, is scored. For the F1 score as many rows are flagged as there are anomalies, so no
threshold has to be tuned. All of it is repeated with several seeds, since a single run proves
little.

By default this runs on the handwritten digits that come with scikit-learn: 0 to 4 are normal, and 5
to 9 are anomalies, thinned out at random until they make up a tenth of the rows. From the root of a
checkout, ``python examples/plot_quickstart.py --help`` lists the other data sets.
"""

# %%
# The data
# --------
#
# One entry a data set: how to get rows and labels (+1 normal, -1 anomaly). DAGMM runs with its
# defaults; only KDDCUP takes the paper's network, for a tenth of the paper's 200 epochs at ten times
# its learning rate, to keep this quick.

import argparse
import sys
from time import perf_counter

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits

from anomaly_estimators import datasets

ANOMALY_SHARE = 0.1
LARGE = 20_000


def thin_out_anomalies(X, y, rng):
    """Keep as many anomalies as make up ANOMALY_SHARE of the rows."""
    normal, anomalies = np.flatnonzero(y == 1), np.flatnonzero(y == -1)
    n_kept = round(normal.size * ANOMALY_SHARE / (1 - ANOMALY_SHARE))
    rows = np.r_[normal, rng.choice(anomalies, size=n_kept, replace=False)]
    return X[rows], y[rows]


def breast_cancer(rng):
    X, benign = load_breast_cancer(return_X_y=True)
    return thin_out_anomalies(X, np.where(benign == 1, 1, -1), rng)


def digits(rng):
    X, digit = load_digits(return_X_y=True)
    return thin_out_anomalies(X, np.where(digit < 5, 1, -1), rng)


def fetched(name):
    return lambda rng: getattr(datasets, f"fetch_{name}")(return_X_y=True)


# DAGMM's settings where they are not its defaults.
PAPER_KDDCUP = {
    "hidden_layer_sizes": (60, 30, 10),
    "latent_dim": 1,
    "n_components": 4,
    "reconstruction_features": ("relative_euclidean", "cosine_similarity"),
    "scaler": "minmax",
    "max_iter": 20,
    "batch_size": 1024,
}
DATA = {
    "digits": (digits, {}),
    "breast_cancer": (breast_cancer, {}),
    "kddcup99": (fetched("kddcup99"), PAPER_KDDCUP),
    **{
        name: (fetched(name), {})
        for name in ("arrhythmia", "cardio", "mammography", "satellite", "shuttle", "thyroid")
    },
}

parser = argparse.ArgumentParser(description="Compare DAGMM with two detectors of scikit-learn.")
parser.add_argument("--data", choices=DATA, default="digits", help="data set")
parser.add_argument("--seed", type=int, default=0, help="first seed: decides splits and models")
parser.add_argument("--runs", type=int, help="number of seeds (5, or 1 for large data sets)")
parser.add_argument("--output", default="quickstart.png", help="where to write the picture")
# In a notebook the arguments are those of the kernel.
args = parser.parse_args([] if "ipykernel" in sys.modules else None)

load, dagmm_parameters = DATA[args.data]
X, y = load(np.random.default_rng(args.seed))
runs = args.runs or (5 if len(X) < LARGE else 1)
print(f"{args.data}: {len(X):,} rows with {X.shape[1]} features, {np.sum(y == -1):,} anomalies")

# %%
# The detectors
# -------------
#
# All three set their threshold so that one training row in twenty falls below it. The time that a
# one-class SVM needs grows with the square of the rows and more, so it learns from at most 5,000 of
# them; a line above the table says so where that happens.

from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from anomaly_estimators import DAGMM

CONTAMINATION = 0.05
MAX_SVM_ROWS = 5_000


def make_detectors(seed):
    return {
        "DAGMM": DAGMM(contamination=CONTAMINATION, random_state=seed, **dagmm_parameters),
        "IsolationForest": IsolationForest(contamination=CONTAMINATION, random_state=seed),
        "OneClassSVM": make_pipeline(StandardScaler(), OneClassSVM(nu=CONTAMINATION)),
    }


# %%
# The comparison
# --------------
#
# ROC AUC and average precision judge the ranking as a whole; chance level is 0.5 for the first, and
# the share of anomalies for the second. Each cell is the mean over the seeds, and the standard
# deviation.

from collections import defaultdict

from sklearn.metrics import average_precision_score, roc_auc_score

from anomaly_estimators.metrics import f1_at_ratio

results = defaultdict(list)
for seed in range(args.seed, args.seed + runs):
    X_train, X_test, _, y_test = datasets.one_class_split(X, y, random_state=seed)
    detectors = make_detectors(seed)
    for name, detector in detectors.items():
        # The split shuffles the rows, so the first ones are drawn at random.
        rows = X_train[:MAX_SVM_ROWS] if name == "OneClassSVM" else X_train
        start = perf_counter()
        detector.fit(rows)
        fitted = perf_counter()
        scores = detector.score_samples(X_test)
        scored = perf_counter()
        results[name].append(
            {
                "ROC AUC": roc_auc_score(y_test, scores),
                "avg. precision": average_precision_score(y_test == -1, -scores),
                "F1": f1_at_ratio(y_test, scores),
                "fit (s)": fitted - start,
                "score (s)": scored - fitted,
            }
        )


def cell(values):
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


print(f"{len(X_train):,} normal rows to learn from, {len(X_test):,} rows to score, runs: {runs}")
if len(X_train) > MAX_SVM_ROWS:
    print(f"OneClassSVM learned from {MAX_SVM_ROWS:,} rows, drawn at random")
columns = list(results["DAGMM"][0])
print(f"\n{'':<16}" + "".join(f"{column:>16}" for column in columns))
for name, measures in results.items():
    cells = [cell([measure[column] for measure in measures]) for column in columns]
    print(f"{name:<16}" + "".join(f"{text:>16}" for text in cells))

# %%
# The data decide who wins. The digits fall into groups, which a mixture can describe, and there are
# a few hundred of them to learn from. With ``--data breast_cancer`` there is one group, with less
# than half as many rows, and the two shallow detectors are the better choice.
#
# The picture
# -----------
#
# It shows the last run. Above, the scores of the test rows, with the threshold that each detector
# chose by itself. Below, what DAGMM makes of a row: its code, and how badly it is rebuilt from
# that code. The mixture of Gaussians lives in this space, and a row where it is thin
# has a low score.

import matplotlib.pyplot as plt

from anomaly_estimators.inspection import LatentMapDisplay, ScoreDistributionDisplay

figure = plt.figure(figsize=(13, 7.4), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=[1, 1.1])
above.suptitle("Scores of the test rows", fontsize="large", fontweight="bold")
below.suptitle("The space that DAGMM learned", fontsize="large", fontweight="bold")

for ax, (name, detector) in zip(above.subplots(1, 3), detectors.items(), strict=True):
    ScoreDistributionDisplay.from_estimator(detector, X_test, y_test, ax=ax, name=name)
LatentMapDisplay.from_estimator(
    detectors["DAGMM"],
    X_test,
    y_test,
    features=[0, -2, -1],
    ax=below.subplots(1, 3),
    name="",
)
figure.savefig(args.output, dpi=130)
print(f"\nThe picture is in {args.output}")
