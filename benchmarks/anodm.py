"""Time of AnoDM as the rows double, and what a search over alpha adds to one fit.

``python -m benchmarks.anodm`` fits rows of the shuttle set, scores 1,000 new ones, and tells the network,
the map and the placing of rows apart; openTSNE embeds the same codes beside it. Then a search tries the
16 values of alpha of the paper with ``memory``. The results are ``anodm_scaling.csv`` and
``anodm_alphas.csv`` in ``benchmarks/results``. A run that was stopped goes on where it was.

Times are those of the processor, on one thread: other work on the machine has little part in them, and each
ratio compares two measurements of one run, taken one after the other.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from openTSNE import TSNE
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from anomaly_estimators import AnoDM
from anomaly_estimators.datasets import fetch_odds
from anomaly_estimators.manifold import TSNEMap
from anomaly_estimators.model_selection import roc_auc_scorer
from benchmarks.reproduce.anodm.measures import ALPHAS
from benchmarks.reproduce.runner import RESULTS, ResultFile, made_by

SIZES = [1000 * 2**i for i in range(6)]
SEARCH_SIZES = (1_000, 4_000)
_N_NEW = 1_000
_FOLDS = StratifiedKFold(3, shuffle=True, random_state=0)

_SCALING = [
    "rows",
    "fit_seconds",
    "network_seconds",
    "map_seconds",
    "placing_seconds",
    "ratio",
    "scoring_seconds",
    "new_placing_seconds",
    "opentsne_seconds",
    "opentsne_new_seconds",
    "all_rows_seconds",
    "seed",
]
_SEARCH = ["rows", "search", "one_seconds", "sixteen_seconds", "ratio", "wall_ratio", "seed"]


class TimedMap(TSNEMap):
    """The map of the library, with a stopwatch."""

    def fit(self, X, y=None):
        self.fit_seconds_ = seconds_of(lambda: super(TimedMap, self).fit(X))
        self.placing_seconds_ = 0.0
        return self

    def transform(self, X) -> np.ndarray:
        placed = []
        self.placing_seconds_ += seconds_of(
            lambda: placed.append(super(TimedMap, self).transform(X))
        )
        return placed[0]


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds of the processor that some work takes."""
    started = time.process_time()
    work()
    return time.process_time() - started


@cache
def rows_and_labels(n: int, seed: int) -> tuple[np.ndarray, ...]:
    """Rows of the set to fit, their labels, and new rows with theirs."""
    X, y = fetch_odds("shuttle", return_X_y=True, dtype=np.float32)
    order = np.random.default_rng(seed).permutation(len(X))
    rows, new = order[:n], order[n : n + _N_NEW]
    return X[rows], y[rows], X[new], y[new]


def scaling(n: int, seed: int, max_all: int) -> dict:
    """Times of a fit of some rows, and of new rows, with openTSNE's beside."""
    X, _, X_new, _ = rows_and_labels(n, seed)
    embedding = TimedMap(max_iter=AnoDM().embedding_max_iter, random_state=seed)
    detector = AnoDM(embedding=embedding, random_state=seed)
    fit = seconds_of(lambda: detector.fit(X))
    timed = detector.embedding_
    placing = timed.placing_seconds_
    scoring = seconds_of(lambda: detector.score_samples(X_new))
    new_codes = detector.transform(X_new)
    alone = opentsne(timed.rows_, new_codes, timed, seed)
    together = None
    if n <= max_all:
        # As long as all rows are landmarks it is the same.
        every = len(timed.rows_) == n
        together = alone if every else opentsne(detector.transform(X), new_codes, timed, seed)
    return {
        "fit_seconds": f"{fit:.2f}",
        "network_seconds": f"{fit - timed.fit_seconds_ - placing:.2f}",
        "map_seconds": f"{timed.fit_seconds_:.2f}",
        "placing_seconds": f"{placing:.2f}",
        "scoring_seconds": f"{scoring:.3f}",
        "new_placing_seconds": f"{timed.placing_seconds_ - placing:.3f}",
        "opentsne_seconds": f"{alone[0]:.2f}",
        "opentsne_new_seconds": f"{alone[1]:.3f}",
        "all_rows_seconds": "" if together is None else f"{together[0]:.2f}",
    }


def opentsne(
    codes: np.ndarray, new_codes: np.ndarray, ours: TSNEMap, seed: int
) -> tuple[float, float]:
    """Seconds of openTSNE's own fit, with as many iterations as ours, and of its placing."""
    early = ours.max_iter // 3
    tsne = TSNE(
        perplexity=ours.perplexity,
        early_exaggeration_iter=early,
        n_iter=ours.max_iter - early,
        neighbors="exact",
        n_jobs=1,
        random_state=seed,
    )
    fitted = []
    seconds = seconds_of(lambda: fitted.append(tsne.fit(codes.astype(np.float64))))
    return seconds, seconds_of(lambda: fitted[0].transform(new_codes.astype(np.float64)))


def searches(n: int, seed: int) -> list[dict]:
    """A search over all alphas with ``memory``, beside the same with one alpha and without."""
    X, y, X_new, y_new = rows_and_labels(n, seed)
    both, labels = np.concatenate([X, X_new]), np.concatenate([y, y_new])
    split = [(np.arange(n), np.arange(n, n + _N_NEW))]
    rows = []
    for name, table, truth, options in (
        ("one split", both, labels, {"cv": split, "refit": False}),
        ("3 folds, and a fit of all", X, y, {"cv": _FOLDS, "refit": True}),
    ):
        one, one_wall = timed_search(AnoDM(random_state=seed), (0.5,), table, truth, options)
        with tempfile.TemporaryDirectory() as folder:
            detector = AnoDM(memory=folder, random_state=seed)
            many, many_wall = timed_search(detector, ALPHAS, table, truth, options)
        rows.append(
            {
                "search": name,
                "one_seconds": f"{one:.2f}",
                "sixteen_seconds": f"{many:.2f}",
                "ratio": f"{many / one:.3f}",
                "wall_ratio": f"{many_wall / one_wall:.3f}",
            }
        )
    return rows


def timed_search(
    detector: AnoDM, alphas: tuple, X: np.ndarray, y: np.ndarray, options: dict
) -> tuple[float, float]:
    """Seconds of the processor, and of the clock, of a search."""
    search = GridSearchCV(
        detector, {"alpha": alphas}, scoring=roc_auc_scorer, error_score="raise", **options
    )
    started = time.perf_counter()
    seconds = seconds_of(lambda: search.fit(X, y))
    return seconds, time.perf_counter() - started


def result_files(folder, max_all: int, made: str) -> tuple[ResultFile, ResultFile]:
    """The two files, with their headings."""
    thread = "Seconds of the processor, one thread, rows of shuttle, defaults."
    return (
        ResultFile(
            "anodm_scaling",
            _SCALING,
            [
                f"Time of AnoDM as the rows double. {thread}",
                "fit_seconds are those of the network, of the map of 2,000 landmarks at most, and of "
                "placing the other training rows for the threshold. ratio: fit_seconds over those of half "
                "as many rows. scoring_seconds: of 1,000 new rows, and new_placing_seconds the part of "
                "placing them in the map.",
                "opentsne_seconds, opentsne_new_seconds: openTSNE.TSNE alone on the codes of the "
                "landmarks, with as many iterations, and its placing of the codes of the new rows. "
                "all_rows_seconds: its fit on the codes of all rows, which is what landmarks save; up to "
                f"{max_all:,} rows.",
                made,
            ],
            folder,
        ),
        ResultFile(
            "anodm_alphas",
            _SEARCH,
            [
                f"A search over 16 values of alpha with memory, beside one value without. {thread}",
                "one split: fits the rows and scores 1,000 others. 3 folds, and a fit of all: "
                "GridSearchCV with cv=3 and refit=True. ratio: sixteen_seconds over one_seconds. "
                "wall_ratio: the same by the clock, with the time of the disk and of other work on the "
                "machine.",
                made,
            ],
            folder,
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anodm", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=("scaling", "alphas"),
                        default=("scaling", "alphas"))  # fmt: skip
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--search-sizes", type=int, nargs="+", default=SEARCH_SIZES)
    parser.add_argument("--max-all", type=int, default=8_000,
                        help="most rows that openTSNE embeds without landmarks")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", default=RESULTS, help="folder of the CSV files")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seed = arguments.seed
    file, search_file = result_files(
        arguments.results, arguments.max_all, made_by(parser, arguments)
    )
    warm_up()
    for n in arguments.sizes if "scaling" in arguments.parts else ():
        done = {int(row["rows"]): float(row["fit_seconds"]) for row in file.rows()}
        if n in done:
            continue
        row = {"rows": n, "seed": seed, **scaling(n, seed, arguments.max_all)}
        half = done.get(n // 2)
        row["ratio"] = f"{float(row['fit_seconds']) / half:.2f}" if half else ""
        print(row, flush=True)
        file.append([row])
    for n in arguments.search_sizes if "alphas" in arguments.parts else ():
        if any(row["rows"] == str(n) for row in search_file.rows()):
            continue
        rows = [{"rows": n, "seed": seed, **row} for row in searches(n, seed)]
        print(*rows, sep="\n", flush=True)
        search_file.append(rows)


def warm_up() -> None:
    """Load what is loaded at the first fit, which no measurement should have a part in."""
    X = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    AnoDM(max_iter=1, embedding_max_iter=10, random_state=0).fit(X).score_samples(X)


if __name__ == "__main__":
    main()
