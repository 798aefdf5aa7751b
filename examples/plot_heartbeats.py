"""
====================================
Heartbeats, and how they are redrawn
====================================

A network that has seen enough heartbeats of the usual kinds can redraw one from a few numbers. Beats of a
kind that it has not seen come out wrong; or they come out well, and give themselves away by where
their few numbers lie. :class:`~anomaly_estimators.AnoDM` adds the two: the error of the drawing, and the
distance to the nearest known beat in a t-SNE map. This is figure 6 of its paper, on few rows.
"""

# %%
# The beats
# ---------
#
# :func:`~anomaly_estimators.datasets.fetch_heartbeats` reads single beats of the MIT-BIH records in five
# classes. Paced and unclassifiable ones, Q, are the anomalies; all others are for the network to learn.
# :func:`~anomaly_estimators.datasets.fetch_ecg5000` has beats of a single patient, normal or not. Neither
# set is downloaded: the fetchers say where the files come from and where to put them. Where none is at
# hand, the example goes on with beats that it puts together from five bumps.

import argparse
import sys

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.metrics import roc_auc_score, roc_curve

from anomaly_estimators import AnoDM
from anomaly_estimators.datasets import fetch_ecg5000, fetch_heartbeats


def heartbeats(rng, variant="derived"):
    beats = fetch_heartbeats(variant=variant)
    return beats.data, beats.target_names[beats.target], "Q"


def ecg5000(rng):
    X, y = fetch_ecg5000(return_X_y=True)
    low, high = X.min(axis=1, keepdims=True), X.max(axis=1, keepdims=True)
    return (X - low) / (high - low), np.where(y == 1, "normal", "abnormal"), "abnormal"


def simulated(rng):
    # Centre, width and height of five waves. An ectopic beat has no first one, and is wide.
    normal = np.array([(30, 5, 0.15), (48, 2, -0.1), (54, 3, 1), (60, 2, -0.2), (95, 9, 0.3)])
    ectopic = np.array([(30, 5, 0), (40, 5, -0.2), (54, 9, 1), (72, 6, -0.3), (110, 12, -0.3)])
    abnormal = rng.random(4_000) < 0.1
    waves = np.where(abnormal[:, None, None], ectopic, normal)
    waves = waves * rng.normal(1, (0.03, 0.15, 0.15), waves.shape)
    centre, width, height = np.moveaxis(waves[:, None], -1, 0)
    time = np.arange(187)[:, None]
    X = (height * np.exp(-(((time - centre) / width) ** 2))).sum(axis=2)
    X += rng.normal(scale=0.02, size=X.shape)
    return X.astype(np.float32), np.where(abnormal, "ectopic", "normal"), "ectopic"


DATA = {
    "heartbeats": heartbeats,
    "kaggle": lambda rng: heartbeats(rng, "kaggle"),
    "ecg5000": ecg5000,
    "simulated": simulated,
}

parser = argparse.ArgumentParser(description="Heartbeats, their reconstructions and their map.")
parser.add_argument(
    "--data", choices=DATA, nargs="+", default=list(DATA), help="first that is there"
)
parser.add_argument("--encoder", choices=["conv", "tcn", "lstm"], default="conv")
parser.add_argument("--epochs", type=int, default=60, help="of training")
parser.add_argument("--seed", type=int, default=0, help="decides rows and model")
parser.add_argument("--output", default="heartbeats.png", help="where to write the picture")
# In a notebook the arguments are those of the kernel.
args = parser.parse_args([] if "ipykernel" in sys.modules else None)

rng = np.random.default_rng(args.seed)
for data in args.data:
    try:
        X, kind, anomaly = DATA[data](rng)
        break
    except OSError as error:
        print(f"{data}: {error}\n")
else:
    sys.exit("No beats to work with.")

known = kind != anomaly
order = rng.permutation(len(X))
train = order[known[order]][:2_000]
test = np.setdiff1d(order, train, assume_unique=True)
# Two normal beats to an anomaly.
abnormal, normal = test[~known[test]][:300], test[known[test]][:600]
test = np.concatenate([normal, abnormal])
anomalous = ~known[test]
print(
    f"{data}: {len(train)} beats to learn from; {len(normal)} and {len(abnormal)} {anomaly} to score"
)

# %%
# The detector
# ------------
#
# Convolutions of stride 2 along the time, and deconvolutions back; ``--encoder tcn`` takes the temporal
# convolutional network of the paper, which sees the whole beat, and takes its time. ``transductive=True``
# maps the beats to score and the known ones together, as the paper does.

detector = AnoDM(
    encoder=args.encoder,
    input_shape=(1, X.shape[1]),
    channels=(16, 32, 32),
    latent_dim=16,
    beta=0.01,
    batch_norm=False,
    scaler=None,
    batch_size=50,
    learning_rate=2e-3,
    lr_schedule="cosine",
    max_iter=args.epochs,
    transductive=True,
    random_state=args.seed,
).fit(X[train])
terms = detector.score_terms(X[test])
redrawn = detector.inverse_transform(detector.transform(X[test]))

# %%
# What the terms find
# -------------------
#
# Both are divided by their means over the training rows. How they are weighed is up to ``alpha``: half
# and half here, where no label has a part in it.

scores = {"error, D_RE": terms[:, 0], "map, D_map": terms[:, 1], "both": terms.sum(axis=1)}
for name, score in scores.items():
    print(f"{name:12} AUC {roc_auc_score(anomalous, score):.3f}")

# %%
# The pictures
# ------------
#
# On the left, beats as they are, in grey, and redrawn: of either kind the one with the median error,
# and the one with the ninth decile. In the middle the map of known and new beats, in which most paced
# beats lie in islands of their own. On the right, how many anomalies each of the terms finds for how
# many false alarms.


def at_quantile(rows, q):
    """The row of some that has the given quantile of the errors."""
    return rows[np.argsort(terms[rows, 0])[int(q * (len(rows) - 1))]]


figure, axes = plt.subplot_mosaic(
    [["n5", "n9", "map", "roc"], ["a5", "a9", "map", "roc"]],
    figsize=(13, 4.4),
    width_ratios=[1, 1, 1.9, 1.6],
    layout="constrained",
)
for letter, title, rows in (("n", "normal", ~anomalous), ("a", anomaly, anomalous)):
    for digit, q in (("5", 0.5), ("9", 0.9)):
        ax, row = axes[letter + digit], at_quantile(np.flatnonzero(rows), q)
        ax.plot(X[test][row], color="0.6", lw=2)
        ax.plot(redrawn[row], color="C3" if letter == "a" else "C0", lw=1)
        ax.set_title(f"{title}, quantile {q:g}", fontsize=9)
        ax.set(ylim=(X[test].min() - 0.1, X[test].max() + 0.1), xticks=[])

codes = np.concatenate([detector.landmark_codes_, detector.transform(X[test])])
positions = clone(detector.embedding_).fit_transform(codes)
old, new = np.split(positions, [len(detector.map_)])
ax = axes["map"]
ax.scatter(*old.T, color="0.75", s=4, lw=0, label="known beats")
ax.scatter(*new[~anomalous].T, color="C0", s=5, lw=0, label="new, normal")
ax.scatter(*new[anomalous].T, color="C3", marker="x", s=12, lw=0.8, label=f"new, {anomaly}")
ax.set(xticks=[], yticks=[], title="Map of the codes")
ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3, frameon=False, fontsize=8,
          handletextpad=0.1, columnspacing=1)  # fmt: skip

ax = axes["roc"]
for name, score in scores.items():
    false_alarms, found, _ = roc_curve(anomalous, score)
    ax.plot(false_alarms, found, label=f"{name} ({roc_auc_score(anomalous, score):.3f})")
ax.plot([0, 1], [0, 1], ":", color="0.7")
ax.set(xlabel="false alarms", ylabel="anomalies found", title="ROC curves (area)")
ax.legend(loc="lower right")
figure.savefig(args.output, dpi=130)
print(f"\nThe picture is in {args.output}")
