"""The runs behind the tables and figures, and the files that they fill."""

from collections.abc import Sequence

from benchmarks.reproduce.anodm.measures import measure
from benchmarks.reproduce.anodm.methods import EPOCHS
from benchmarks.reproduce.anodm.problems import is_there
from benchmarks.reproduce.runner import Job, ResultFile

__all__ = ["BETAS", "PARTS", "jobs", "result_files"]

PARTS = ("tables", "figure2", "figure5")
#: Values of beta in figure 2, from what table 2 names as the best.
BETAS = (0.01, 0.05, 0.2, 0.4, 1.0, 10.0)
# The class that figure 2 leaves out, where the paper's text tells it.
_OF_FIGURE2 = {"mnist": 7, "fashion_mnist": 1, "cifar10": 9, "heartbeats": 4}
_N_CLASSES = {"smallnorb": 5, "heartbeats": 5}
_METHODS = (
    "AnoDM, means",
    "AnoDM, draws",
    "AnoDM, placed",
    "AnoDM, equal terms",
    "beta-VAE",
    "map",
    "codes",
)


def jobs(
    parts: Sequence[str],
    datasets: Sequence[str],
    classes: Sequence[int],
    betas: Sequence[float],
    n_runs: int,
    max_iter: int | None = None,
    n_train: int | None = None,
) -> list[Job]:
    """All runs, seed by seed.

    Parameters
    ----------
    parts, datasets : sequence of str
    classes : sequence of int
        Those to leave out, of each set that has them.
    betas : sequence of float
        Of the tables and figure 5; figure 2 has its own.
    n_runs : int
    max_iter, n_train : int or None
        Epochs and training rows at most; ``None`` takes the paper's.
    """
    listed = []
    for seed in range(n_runs):
        for dataset in filter(is_there, datasets):
            own = [c for c in classes if c < _N_CLASSES.get(dataset, 10)]
            usual = "tcn" if dataset == "heartbeats" else "conv"
            runs = []
            if "tables" in parts:
                runs += [("tables", c, usual, beta) for c in own for beta in betas]
            if "figure5" in parts and dataset == "heartbeats":
                runs += [("figure5", c, e, betas[0]) for c in own for e in ("tcn", "conv", "lstm")]
            if "figure2" in parts and dataset in _OF_FIGURE2:
                runs += [("figure2", _OF_FIGURE2[dataset], usual, beta) for beta in BETAS]
            for part, anomaly, encoder, beta in runs:
                epochs = max_iter or EPOCHS[dataset]
                key = {
                    "dataset": dataset,
                    "class": str(anomaly),
                    "encoder": encoder,
                    "beta": f"{beta:g}",
                    "epochs": str(epochs),
                    "train_rows": str(n_train or "all"),
                }
                arguments = {
                    "dataset": dataset,
                    "anomaly": anomaly,
                    "encoder": encoder,
                    "beta": beta,
                    "seed": seed,
                    "max_iter": epochs,
                    "n_train": n_train,
                }
                listed.append(Job(f"anodm_{part}", key, seed, measure, arguments, _METHODS))
    return listed


def result_files(folder, made: str) -> dict[str, ResultFile]:
    """Return the files, with their headings."""
    columns = ["dataset", "class", "encoder", "beta", "epochs", "train_rows", "method", "seed"]
    columns += ["roc_auc", "paper_roc_auc", "alpha", "seconds", "curve"]
    comments = [
        "class: the one left out of the training rows, and the anomaly among 5,000 rows of the test set.",
        "AnoDM, means and draws: train and test rows in one map, and alpha the best by the test labels, "
        "both as in the paper. placed: the test rows join a map of the training rows, alpha as before. "
        "equal terms: one map, each term over its mean, no label used. beta-VAE: D_RE alone. map: "
        "the neighbour distance in the map alone. codes: the same among the codes.",
        "curve: area under the ROC curve by alpha.",
        "cifar10 is the 10,000 images of the reduced file, with 5,000 others to test on; heartbeats are "
        "the set that was made in the likeness of the published one. seconds: of the fit.",
    ]
    titles = {
        "tables": "tables 1 and 2, and figure 4",
        "figure2": "figure 2: other values of beta",
        "figure5": "figure 5: other encoders of heartbeats",
    }
    files = {
        f"anodm_{part}": ResultFile(
            f"anodm_{part}",
            columns,
            [f"AnoDM (2019), {title}.", *comments, made],
            folder,
        )
        for part, title in titles.items()
    }
    files["anodm_choice"] = ResultFile(
        "anodm_choice",
        ["dataset", "encoder", "epochs", "train_rows", "method", "class", "beta", "alpha", "seed"]
        + ["roc_auc", "best_roc_auc"],
        [
            "AnoDM (2019), tables 1 and 2, with the alpha and beta that are best on average over the other "
            "classes of the same set: no label of the class that is scored has a part in it.",
            "best_roc_auc: with the best ones by the labels of the class itself, as in the paper.",
            made,
        ],
        folder,
    )
    return files
