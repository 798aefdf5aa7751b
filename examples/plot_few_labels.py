"""
===================
What few labels buy
===================

Most rows are unlabelled, and somebody has confirmed a handful of anomalies. How much better does a
detector get with every further label? Here :class:`~anomaly_estimators.DeepSAD` and
:class:`~anomaly_estimators.SSAD`, which learn from the labels without taking all anomalies to be alike,
stand beside :class:`~anomaly_estimators.DeepClassifier`, which does, and beside
:class:`~sklearn.svm.OneClassSVM`, which cannot use them.

The data are the handwritten digits that come with scikit-learn. One digit is normal. The labelled
anomalies are all of *one* other digit, and a few unlabelled ones of any kind hide among the training
rows. Two questions are asked of every detector: does it rank the digit that it was shown below the
normal one, and what of the eight digits of which it has seen no label?
:func:`~anomaly_estimators.model_selection.make_semi_supervised_scenario` draws the training rows as in
the paper of Deep SAD.
"""

# %%
# The scenario
# ------------
#
# The digits are halved into training and test rows. Anomalies of any kind hide among the unlabelled
# rows: a fifth of them, for there is much to clear up in an archive that nobody has looked at. From
# the root of a checkout, ``python examples/plot_few_labels.py --data mnist`` runs the same on MNIST,
# which is downloaded, and ``--runs`` repeats it more often.

import argparse
import sys

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from anomaly_estimators import datasets
from anomaly_estimators.model_selection import make_semi_supervised_scenario

N_LABELS = (0, 1, 3, 10, 20)
POLLUTION = 0.2


def mnist():
    X, digit = datasets.fetch_mnist(subset="test", return_X_y=True)
    return X[:, X.any(axis=0)], digit


DATA = {"digits": lambda: load_digits(return_X_y=True), "mnist": mnist}

parser = argparse.ArgumentParser(description="AUC against the number of labelled anomalies.")
parser.add_argument("--data", choices=DATA, default="digits", help="data set")
parser.add_argument("--seed", type=int, default=0, help="first seed: decides rows and models")
parser.add_argument("--runs", type=int, default=3, help="number of normal digits, with a seed each")
parser.add_argument("--output", default="few_labels.png", help="where to write the picture")
# In a notebook the arguments are those of the kernel.
args = parser.parse_args([] if "ipykernel" in sys.modules else None)

X, digit = DATA[args.data]()


def draw(seed):
    """Training rows with all the labels that will be revealed, and test rows with their digits."""
    normal, known = seed % 10, (seed + 5) % 10
    X_train, X_test, digit_train, digit_test = train_test_split(
        X, digit, train_size=0.5, stratify=digit, random_state=seed
    )
    n_unlabelled = np.sum(digit_train == normal) / (1 - POLLUTION)
    scenario = make_semi_supervised_scenario(
        X_train,
        digit_train,
        normal_class=normal,
        known_classes=(known,),
        labelled_ratio=max(N_LABELS) / (max(N_LABELS) + n_unlabelled),
        pollution=POLLUTION,
        random_state=seed,
    )
    return scenario, X_test, digit_test


# %%
# The detectors
# -------------
#
# All run with their defaults, on standardised rows.

from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from anomaly_estimators import SSAD, DeepClassifier, DeepSAD


def make_detectors(seed):
    return {
        "DeepSAD": DeepSAD(random_state=seed),
        "SSAD": make_pipeline(StandardScaler(), SSAD()),
        "DeepClassifier": DeepClassifier(random_state=seed),
        "OneClassSVM": make_pipeline(StandardScaler(), OneClassSVM()),
    }


# %%
# The comparison
# --------------
#
# The first labels are among the later ones, so a curve is not blurred by a new draw at each point.
# Without any label a classifier has nothing to learn and is left out.

from collections import defaultdict

from sklearn.metrics import roc_auc_score

results = defaultdict(lambda: defaultdict(list))  # (detector, kind of anomaly) -> n -> AUC of runs
for seed in range(args.seed, args.seed + args.runs):
    scenario, X_test, digit_test = draw(seed)
    labelled = np.flatnonzero(scenario.y == -1)
    normal = digit_test == scenario.normal_class
    known = np.isin(digit_test, scenario.known_classes)
    for n_labels in N_LABELS:
        rows = np.r_[np.flatnonzero(scenario.y == 0), labelled[:n_labels]]
        for name, detector in make_detectors(seed).items():
            if name == "DeepClassifier" and n_labels == 0:
                continue
            # The one-class SVM cannot use the labelled rows, and would take them for normal ones.
            taken = rows[scenario.y[rows] == 0] if name == "OneClassSVM" else rows
            scores = detector.fit(scenario.X[taken], scenario.y[taken]).score_samples(X_test)
            for kind, anomalies in (("the digit that was shown", known), ("new digits", ~known)):
                asked = normal | anomalies
                auc = roc_auc_score(normal[asked], scores[asked])
                results[name, kind][n_labels].append(auc)

print(
    f"{args.data}: {len(scenario.X)} rows to learn from, {len(X_test)} to score, runs: {args.runs}"
)
print(f"\n{'AUC by number of labels':<42}" + "".join(f"{n:>8}" for n in N_LABELS))
for (name, kind), curve in results.items():
    cells = [f"{np.mean(curve[n]):8.3f}" if n in curve else f"{'':>8}" for n in N_LABELS]
    print(f"{name + ', ' + kind:<42}" + "".join(cells))

# %%
# The picture
# -----------
#
# Lines are means over the runs, and bands reach one standard error to both sides. On the left, the
# digit that the labels show: there all who listen gain, and three labels are enough. On the right, the
# digits of which no label tells: what the classifier learned is of little use there, while the other two
# lose nothing. With little more than a hundred rows to learn from, the kernel method is a little ahead of
# the network.

import matplotlib.pyplot as plt

figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
positions = np.arange(len(N_LABELS))
markers = dict(zip(make_detectors(0), "osD^", strict=True))
for (name, kind), curve in results.items():
    ax = axes[int(kind == "new digits")]
    shown = [i for i, n in enumerate(N_LABELS) if n in curve]
    values = np.array([curve[N_LABELS[i]] for i in shown])
    mean, error = values.mean(axis=1), values.std(axis=1) / np.sqrt(values.shape[1])
    (line,) = ax.plot(positions[shown], mean, marker=markers[name], label=name)
    ax.fill_between(
        positions[shown], mean - error, mean + error, color=line.get_color(), alpha=0.15, lw=0
    )
    ax.set_title(f"Anomalies: {kind}")
    ax.set_xlabel("labelled anomalies, all of one digit")
    ax.set_xticks(positions, N_LABELS)
    ax.grid(alpha=0.3)
axes[0].set_ylabel("ROC AUC on the test rows")
axes[0].legend()
figure.savefig(args.output, dpi=130)
print(f"\nThe picture is in {args.output}")
