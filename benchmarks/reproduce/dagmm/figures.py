"""The pictures: figures 3 to 6 of the paper, and the losses, from the first seed's runs."""

from pathlib import Path

import numpy as np

from benchmarks.reproduce.dagmm.outcomes import outcome
from benchmarks.reproduce.dagmm.problems import Problem
from benchmarks.reproduce.dagmm.settings import DATASETS
from benchmarks.reproduce.dagmm.who_finds import PAIR, found_by

__all__ = ["FIGURES", "draw"]

_BLUE, _RED = "tab:blue", "tab:red"
# Points of a kind in a panel: more hide each other.
_POINTS = 1_500


def _cloud(axes, z, kinds) -> None:
    """Draw rows in the space of z; ``kinds`` holds a mask and a colour each."""
    random = np.random.default_rng(0)
    for mask, colour in kinds:
        rows = np.flatnonzero(mask)
        rows = random.choice(rows, min(len(rows), _POINTS), replace=False)
        axes.scatter(*z[rows].T, s=4, alpha=0.35, color=colour, linewidths=0)
    axes.set(xlabel="code", ylabel="relative distance", zlabel="cosine similarity")
    axes.tick_params(labelsize=6, pad=-2)


def _spaces(plt, *shape):
    """A figure of panels in three dimensions, with the meaning of the colours."""
    figure, panels = plt.subplots(
        *shape, figsize=(9, 1 + 3.5 * shape[0]), subplot_kw={"projection": "3d"}
    )
    figure.subplots_adjust(left=0.02, right=0.9, bottom=0.05, top=0.93, wspace=0.12, hspace=0.12)
    marks = [plt.Line2D([], [], marker="o", linestyle="", color=c) for c in (_BLUE, _RED)]
    figure.legend(marks, ["normal rows", "anomalies"], loc="upper left")
    return figure, panels.ravel()


def learned_spaces(plt, max_iter):
    """Figure 3: what four methods make of the same rows."""
    problem = Problem("KDDCUP", 0, max_iter=max_iter)
    anomalies = problem.y_test < 0
    figure, panels = _spaces(plt, 2, 2)
    for axes, name in zip(panels, ("DAGMM", "PAE", "DAGMM-p", "DCN"), strict=True):
        _cloud(axes, outcome(problem, name).z, [(~anomalies, _BLUE), (anomalies, _RED)])
        axes.set_title(name)
    return figure


def energies(plt, max_iter):
    """Figure 4: how the energy of DAGMM is distributed, and where the anomalies are."""
    figure, panels = plt.subplots(2, 2, figsize=(8, 6), layout="constrained")
    for axes, name in zip(panels.ravel(), DATASETS, strict=True):
        problem = Problem(name, 0, max_iter=max_iter)
        energy = -outcome(problem, "DAGMM").scores["DAGMM"]
        anomalies = problem.y_test < 0
        for mask, label, colour in (
            (np.ones_like(anomalies), "all rows", "black"),
            (~anomalies, "normal rows", _BLUE),
            (anomalies, "anomalies", _RED),
        ):
            ordered = np.sort(energy[mask])
            axes.plot(
                ordered, np.arange(1, len(ordered) + 1) / len(ordered), color=colour, label=label
            )
        axes.axhline(1 - problem.ratio, color="grey", linewidth=0.8, linestyle=":")
        # Linear where most rows are; single rows have energies of tens of thousands.
        axes.set_xscale("symlog", linthresh=10)
        axes.set(title=name, xlabel="energy", ylabel="share of rows", xlim=(energy.min(), None))
    panels[0, 0].legend(loc="lower right", fontsize=8)
    return figure


def energy_features(plt, max_iter):
    """Figure 5: the last layer of DSEBM."""
    problem = Problem("KDDCUP", 0, max_iter=max_iter)
    codes, anomalies = outcome(problem, "DSEBM").z[:, 0], problem.y_test < 0
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    bins = np.linspace(*np.quantile(codes, [0.0, 1.0]), 80)
    for mask, label, colour in ((~anomalies, "normal rows", _BLUE), (anomalies, "anomalies", _RED)):
        axes.hist(codes[mask], bins, alpha=0.6, color=colour, label=label, log=True)
    axes.set(xlabel="output of the last layer", ylabel="rows")
    axes.legend()
    return figure


def joint_and_decoupled(plt, max_iter):
    """Figure 6: the anomalies that both find, and those that joint training alone finds."""
    problem = Problem("KDDCUP", 0, max_iter=max_iter)
    normal, groups = problem.y_test > 0, found_by(problem)
    rows = {
        "all anomalies": ~normal,
        "found by both": groups["both"],
        f"found by {PAIR[0]} only": groups[f"{PAIR[0]} only"],
    }
    figure, panels = _spaces(plt, 3, 2)
    panels = iter(panels)
    for title, mask in rows.items():
        for name in PAIR:
            axes = next(panels)
            _cloud(axes, outcome(problem, name).z, [(normal, _BLUE), (mask, _RED)])
            axes.set_title(f"{name}: {title} ({mask.sum():,})", fontsize=10)
    return figure


def losses(plt, max_iter):
    """What the training minimises, epoch by epoch: reconstruction alone, and the joint objective."""
    problem = Problem("KDDCUP", 0, max_iter=max_iter)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for axes, names, title in (
        (left, ("PAE", "E2E-AE"), "reconstruction error"),
        (right, ("DAGMM", "DAGMM-p", "PAE-GMM"), "objective, eq 7"),
    ):
        for name in names:
            history = outcome(problem, name).history
            axes.plot([row["loss"] for row in history if row["phase"] == "training"], label=name)
        axes.set(xlabel="epoch", title=title)
        axes.legend()
    left.set_yscale("log")
    right.set_yscale("symlog", linthresh=1)
    return figure


#: The pictures by their file.
FIGURES = {
    "dagmm_figure3": learned_spaces,
    "dagmm_figure4": energies,
    "dagmm_figure5": energy_features,
    "dagmm_figure6": joint_and_decoupled,
    "dagmm_losses": losses,
}


def draw(folder, max_iter: int | None = None) -> None:
    """Draw all of them into ``folder/figures``."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    folder = Path(folder) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in FIGURES.items():
        figure = picture(pyplot, max_iter)
        figure.savefig(folder / f"{name}.png", dpi=90)
        pyplot.close(figure)
        print(f"{folder / name}.png", flush=True)
