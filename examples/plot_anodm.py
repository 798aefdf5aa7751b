"""
=================================
A map of digits, and one left out
=================================

An autoencoder may reproduce an anomaly well, and then its error says nothing. But where does the
anomaly's code lie? :class:`~anomaly_estimators.AnoDM` draws a t-SNE map of the codes of normal rows, and
adds the distance to the nearest of them in that map to the error of reconstruction.

Here the network learns from nine of the ten handwritten digits that come with scikit-learn, and the tenth
is the anomaly. By default it is the 7, as in figure 3 of the paper.
"""

# %%
# The rows
# --------
#
# From the root of a checkout, ``python examples/plot_anodm.py --data mnist`` does the same with
# 10,000 images of MNIST, which is downloaded, and a convolutional network; ``--digit`` leaves out
# another digit.

import argparse
import sys
import tempfile
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neighbors import KDTree

from anomaly_estimators import AnoDM
from anomaly_estimators.datasets import fetch_mnist
from anomaly_estimators.model_selection import roc_auc_scorer


def digits():
    X, digit = load_digits(return_X_y=True)
    return X / 16, digit, {}


def mnist():
    X, digit = fetch_mnist(subset="test", return_X_y=True)
    return X / 255, digit, {"encoder": "conv", "input_shape": (1, 28, 28)}


DATA = {"digits": digits, "mnist": mnist}

parser = argparse.ArgumentParser(description="Map of nine digits, and of the tenth in it.")
parser.add_argument("--data", choices=DATA, default="digits", help="data set")
parser.add_argument("--digit", type=int, default=7, choices=range(10), help="the anomaly")
parser.add_argument("--seed", type=int, default=0, help="decides rows and model")
parser.add_argument("--output", default="anodm.png", help="where to write the picture")
# In a notebook the arguments are those of the kernel.
args = parser.parse_args([] if "ipykernel" in sys.modules else None)

X, digit, network = DATA[args.data]()
X = X.astype(np.float32)
truth = np.where(digit == args.digit, -1, 1)
train, test = train_test_split(
    np.arange(len(X)), test_size=0.4, stratify=digit, random_state=args.seed
)
train = train[truth[train] == 1]
print(
    f"{len(train)} rows to learn from, {len(test)} to score, {np.sum(truth[test] == -1)} anomalies"
)

# %%
# Sixteen weights, two kinds of map, one fit
# ------------------------------------------
#
# The score is ``alpha * D_RE + (1 - alpha) * D_map``. With ``memory`` a search over ``alpha`` fits a
# single network and a single map, and computes the terms of the rows once. That goes for
# ``transductive`` too: by default each new row is placed in the map that is there, by itself; with
# ``transductive=True`` the new rows and the old are mapped together, as in the paper.
#
# As in the paper, too, the best ``alpha`` is found by the labels of the rows that it is judged on. It
# shows what the two terms are good for together, and promises too much for other rows.

ALPHAS = (0, 0.005, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)

folder = tempfile.TemporaryDirectory()
detector = AnoDM(
    scaler=None,
    latent_dim=16,
    beta=0.01,
    reconstruction_error="normalised",
    learning_rate=1e-3,
    memory=folder.name,
    random_state=args.seed,
    **network,
)
started = perf_counter()
search = GridSearchCV(
    detector,
    {"transductive": [False, True], "alpha": ALPHAS},
    scoring=roc_auc_scorer,
    cv=[(train, test)],
    refit=False,
).fit(X, truth)
print(f"32 candidates: {perf_counter() - started:.1f} s")

# %%
# A fit with what is in the memory takes no time.

started = perf_counter()
detector.fit(X[train])
print(f"the same fit once more: {perf_counter() - started:.1f} s")

# %%
# What the terms find
# -------------------
#
# Area under the ROC curve. "sum" is ``alpha=0.5``: each term was divided by its mean over the training
# rows, and no label has a part in it. Beside the map stand the codes themselves: the distance to the
# nearest code of a training row, without t-SNE.

anomalous = truth[test] == -1
curves = dict(
    zip(("placed", "together"), search.cv_results_["mean_test_score"].reshape(-1, 2).T, strict=True)
)
print(f"\n{'':10}{'D_RE':>8}{'D_map':>8}{'sum':>8}{'best':>8}  alpha")
for name, curve in curves.items():
    cells = (curve[-1], curve[0], curve[ALPHAS.index(0.5)], curve.max())
    print(f"{name:10}" + "".join(f"{c:8.3f}" for c in cells) + f"  {ALPHAS[curve.argmax()]}")
codes = detector.transform(X[test])
to_codes = KDTree(detector.landmark_codes_).query(codes)[0][:, 0]
print(f"{'codes':10}{'':8}{roc_auc_score(anomalous, to_codes):8.3f}")

# %%
# The maps
# --------
#
# On the left the map of the training rows, in which each row of the digit that was left out has been
# placed. A row is drawn to the training rows that are most like it: it lands near their islands, or on
# them. In the middle all rows are mapped together, by which the detector with ``transductive=True``
# scores. There the rows of the tenth digit are neighbours of one another, and make an island of their
# own.
#
# So where many new rows come at once, and may hold anomalies of one kind, a map of all of them tells
# more. Where rows come one by one, or a row's score must not depend on the others, there is the map on
# the left. On the right the areas for all values of ``alpha``: with the map of all rows half and half is
# better than the error alone, with the other map hardly any weight is.

together = clone(detector.embedding_).fit_transform(
    np.concatenate([detector.landmark_codes_, codes])
)
n_landmarks = len(detector.map_)
MAPS = {
    "placed one by one": (detector.map_, detector.transform_map(X[test])),
    "mapped with the others": (together[:n_landmarks], together[n_landmarks:]),
}
# The landmarks are training rows in their order, all of them if there are few.
rows = {tuple(code): d for code, d in zip(detector.transform(X[train]), digit[train], strict=True)}
of_landmark = np.array([rows[tuple(code)] for code in detector.landmark_codes_])

figure, axes = plt.subplots(1, 3, figsize=(13, 4.4), layout="constrained")
for ax, (title, (landmarks, placed)) in zip(axes, MAPS.items(), strict=False):
    ax.scatter(*landmarks.T, c=of_landmark, cmap="tab10", vmin=0, vmax=9, s=4, alpha=0.6, lw=0)
    ax.scatter(
        *placed[anomalous].T, color="black", marker="x", s=14, lw=0.8, label=f"the {args.digit}"
    )
    for value in np.unique(of_landmark):
        centre = np.median(landmarks[of_landmark == value], axis=0)
        ax.annotate(str(value), centre, ha="center", va="center", fontsize=13, weight="bold")
    ax.set_title(f"The {args.digit}: {title}")
    ax.set(xticks=[], yticks=[])
    ax.legend(loc="lower right")
positions = np.arange(len(ALPHAS))
for name, curve in curves.items():
    axes[2].plot(positions, curve, marker="o", markersize=4, label=name)
axes[2].set_title("ROC AUC by alpha")
axes[2].set_xticks(positions, [f"{alpha:g}" for alpha in ALPHAS], rotation=60)
axes[2].set_xlabel("weight of the reconstruction error, alpha")
axes[2].grid(alpha=0.3)
axes[2].legend()
figure.savefig(args.output, dpi=130)
print(f"\nThe picture is in {args.output}")
folder.cleanup()
