"""
=====================
An expert in the loop
=====================

Somebody looks at the rows on top of the list anyway. What if the detector learned from what they say?
This example gives seven methods the same budget of looks at the same table, and counts the anomalies
that each has found. Four of them learn from the verdicts, ten rows a round.

The data are the handwritten digits that come with scikit-learn, made into a puzzle as in the paper of
the UaiNets: most of the zeros and ones are taken away, and those that are left carry the label of
another digit. They are the anomalies. They lie in two small dense groups, which a detector of rare
places overlooks, but an expert knows one when seeing it.
"""

# %%
# The table
# ---------
#
# :func:`~anomaly_estimators.datasets.make_rare_classes` thins out the classes and draws the wrong
# labels. From the root of a checkout, ``python examples/plot_active.py --data shuttle`` (or
# ``thyroid``, ``mammography``) audits a real table instead, without a given label.

import argparse
import sys

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest

from anomaly_estimators import (
    AAD,
    LODA,
    UAI,
    AuditHistory,
    DenoisingAutoencoder,
    LabelConsistency,
    active_search,
)
from anomaly_estimators.datasets import fetch_aad, fetch_odds, make_rare_classes
from anomaly_estimators.inspection import FoundCurveDisplay


def digits():
    X, digit = load_digits(return_X_y=True)
    made = make_rare_classes(X, digit, [0, 1], random_state=0)
    return made.data, made.target, made.label


DATA = {
    "digits": digits,
    "thyroid": lambda: (*fetch_odds("thyroid", return_X_y=True), None),
    "mammography": lambda: (*fetch_aad("mammography", return_X_y=True), None),
    "shuttle": lambda: (*fetch_aad("shuttle_1v23567", return_X_y=True), None),
}

parser = argparse.ArgumentParser(description="Anomalies found against the rows audited.")
parser.add_argument("--data", choices=DATA, default="digits", help="data set")
parser.add_argument("--budget", type=int, default=250, help="rows that the expert looks at")
parser.add_argument("--k", type=int, default=10, help="rows in a round")
parser.add_argument("--runs", type=int, default=2, help="number of seeds")
parser.add_argument("--output", default="active.png", help="where to write the picture")
# In a notebook the arguments are those of the kernel.
args = parser.parse_args([] if "ipykernel" in sys.modules else None)

X, truth, label = DATA[args.data]()
print(f"{len(X)} rows, {(truth == -1).sum()} anomalies, {args.budget} looks")

# %%
# The expert
# ----------
#
# In earnest a person; here the truth stands in. :func:`~anomaly_estimators.active_search` asks it for
# ``k`` rows a round, and any active detector learns from the answers. With ``path=`` every verdict would
# be on the disk before it is learned, and a session that was killed would go on where it stood.


def expert(rows):
    return truth[rows]


def audited(make, table, seed):
    # A look for every row, also for identical ones, as the rankings beside it count them.
    detector = make(seed).set_params(duplicates="each")
    return active_search(detector, table, expert, args.budget, args.k)


def ranked(make, table, seed):
    scores = make(seed).fit(table).score_samples(table)
    return AuditHistory.from_scores(scores, truth, args.k)


# %%
# The methods
# -----------
#
# :class:`~anomaly_estimators.UAI` makes any deep detector an active one,
# :class:`~anomaly_estimators.AAD` learns weights for the members of an ensemble. Beside each stands
# what it builds upon, without an expert. :class:`~anomaly_estimators.LabelConsistency` asks whether the
# given label, a column of the table, suits the rest of the row. The autoencoder has a wider code than
# by default: what the head upon it can tell apart is what is in the code.


def autoencoder(seed):
    return DenoisingAutoencoder(hidden_layer_sizes=(256, 64), latent_dim=32, random_state=seed)


METHODS = {
    "forest": (ranked, lambda seed: IsolationForest(random_state=seed), X),
    "forest + AAD": (audited, lambda seed: AAD(random_state=seed), X),
    "LODA + AAD": (audited, lambda seed: AAD(LODA(), random_state=seed), X),
    "autoencoder": (ranked, autoencoder, X),
    "autoencoder + UAI": (audited, lambda seed: UAI(autoencoder(seed), random_state=seed), X),
}
if label is not None:
    labelled = np.column_stack([X, label])
    METHODS |= {
        "label": (ranked, lambda seed: LabelConsistency(random_state=seed), labelled),
        "label + UAI": (
            audited,
            lambda seed: UAI(LabelConsistency(), random_state=seed),
            labelled,
        ),
    }

histories = {}
for name, (run, make, table) in METHODS.items():
    histories[name] = [run(make, table, seed) for seed in range(args.runs)]
    found = [history.found_at(args.budget) for history in histories[name]]
    print(f"{name:20} found {np.mean(found):5.1f}")

# %%
# What they have found
# --------------------
#
# A line is the median over the seeds, its band reaches from the least to the most. The grey lines are
# what a perfect and a random order would find. Forest and autoencoder alone are hardly better than
# chance here. With an expert they leave it far behind, once the first anomalies have turned up, which
# takes some luck. A detector that asks the right question, whether the label suits the row, finds most
# of them on its own.

display = FoundCurveDisplay.from_histories(
    histories, budget=args.budget, n_anomalies=int((truth == -1).sum()), n_rows=len(X)
)
display.ax_.set_title(f"Anomalies found among {args.data}")
display.figure_.savefig(args.output, dpi=150)
