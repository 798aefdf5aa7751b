"""Cases: what one fit is given, drawn from a seed and the number of the case."""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.hostile import containers, values
from benchmarks.hostile.detectors import DETECTORS, make

__all__ = ["AXES", "Case", "Problem", "draw"]

SIZES = [2, 3, 4, 7, 16, 33, 64, 97, 150]
WIDTHS = [1, 2, 3, 5, 8, 20]
WIDE = 5_000
CONTAMINATIONS = [1e-3, 0.01, 0.12, 0.25, 0.29, 1 / 3, 0.5, "auto"]
RANDOM_STATES = ["int", "int64", "2**32 - 1", "None", "RandomState"]
# Parameters beside those of a small detector, for those that have them.
SETTINGS = {
    "batch_size=1": {"batch_size": 1},
    "batch_size=3": {"batch_size": 3},
    "batch_size=10**9": {"batch_size": 10**9},
    "scaler=minmax": {"scaler": "minmax"},
    "scaler=robust": {"scaler": "robust"},
    "scaler=None": {"scaler": None},
    "early_stopping": {"early_stopping": True},
    "warm_start": {"warm_start": True},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.1},
    "huge steps": {"learning_rate": 1e6},
    "latent_dim=50": {"latent_dim": 50},
    "n_components=4": {"n_components": 4},
    "max_iter=1": {"max_iter": 1},
}
NO_SETTINGS = {
    "max_iter=0": {"max_iter": 0},
    "learning_rate=-1": {"learning_rate": -1.0},
    "latent_dim=0": {"latent_dim": 0},
    "scaler=abacus": {"scaler": "abacus"},
    "device=abacus": {"device": "abacus"},
}
# What no detector can be fitted with.
NO_CONTAMINATIONS = ["0", "0.6", "nan", "none"]
NO_RANDOM_STATES = ["Generator", "-1"]
# What happens around the fit: see situations.py.
SITUATIONS = [
    "plain",
    "threads",
    "fork",
    "kill",
    "clone",
    "parameters set after the fit",
    "failed fit before",
    "audit",
    "float64 as torch's default",
    "no_grad",
    "inference mode",
    "frames as scikit-learn's output",
]
LABELS = [
    "some of each",
    "None",
    "anomalies only",
    "all normal",
    "all unlabelled",
    "all anomalies",
    "one anomaly",
    "truth of 0 and 1",
    "bool",
    "fractions",
    "large numbers",
    "strings",
    "strings of numbers",
    "nan",
    "inf",
    "one too few",
    "column",
    "two columns",
    "series",
    "list",
    "tensor",
    "int8",
    "uint8",
    "object",
]


@dataclass(frozen=True)
class Case:
    """What one fit is given."""

    number: int
    detector: str
    values: str
    rows: int
    columns: int
    dtype: str
    container: str
    shape: str
    labels: str
    contamination: str
    random_state: str
    setting: str
    situation: str


# Columns of the log that the summary counts by.
AXES = [name for name in Case.__annotations__ if name != "number"]


def draw(seed: int, number: int) -> Case:
    """The case of a number: the same wherever and whenever it is drawn.

    Each axis is hostile in a part of the cases only, since a fit that fails for one reason says nothing
    of the others.
    """
    rng = np.random.default_rng([seed, number])

    def pick(options, share=1.0):
        """One of the options, and the first of them in the rest of the cases."""
        options = list(options)
        return options[rng.integers(len(options))] if rng.random() < share else options[0]

    detector = pick(DETECTORS)
    kind = pick(values.VALUES, 0.7)
    if kind in values.REFUSED:
        kind = pick(["small integers", kind], 0.7)
    wide = rng.random() < 0.01
    rows = pick([33, *SIZES], 0.7)
    columns = pick([4, *WIDTHS], 0.6)
    dtype = pick(["float64", "float32", *containers.DTYPES], 0.5)
    if dtype in containers.REFUSED:
        dtype = pick(["float64", dtype], 0.7)
    container = "frame"
    if dtype not in containers.FRAME_DTYPES:
        cell = containers.cast(np.ones((2, 1)), dtype).dtype
        holding = [name for name, it in containers.CONTAINERS.items() if it.holds(cell)]
        container = pick(holding, 0.5)
    shape = pick(["2-d", *containers.MISSHAPEN], 0.05)
    if dtype in containers.FRAME_DTYPES:
        shape = "2-d"
    if shape != "2-d":
        container = "ndarray"
    return Case(
        number=number,
        detector=detector,
        values=kind,
        rows=min(rows, 16) if wide else rows,
        columns=WIDE if wide else columns,
        dtype=dtype,
        container=container,
        shape=shape,
        labels=pick(LABELS, 0.3),
        contamination=pick([str(pick([0.1, *CONTAMINATIONS], 0.5)), *NO_CONTAMINATIONS], 0.02),
        random_state=pick([pick(RANDOM_STATES, 0.2), *NO_RANDOM_STATES], 0.02),
        setting=pick([pick(["none", *SETTINGS], 0.3), *NO_SETTINGS], 0.02),
        situation=pick(SITUATIONS, 0.3),
    )


class Problem:
    """The objects that a case stands for.

    Parameters
    ----------
    case : Case
    seed : int
        Of the campaign.
    folder : Path
        For the files of memory maps.

    Attributes
    ----------
    rows : ndarray or None
        The table as the detector is to see it, for other calls with the same values; None where there
        is none.
    refused : bool
        Whether no sense can be made of the case, so that a fit has to fail.
    """

    def __init__(self, case: Case, seed: int, folder: Path):
        self.case, self.seed, self.folder = case, seed, folder
        rng = np.random.default_rng([seed, case.number, 1])
        X = values.table(case.values, case.rows, case.columns, rng)
        if "label_column" in self.detector().get_params():
            X = np.column_stack([X, np.arange(len(X)) % min(3, max(2, len(X) // 2))])
        self._cells = containers.cast(X, case.dtype)
        self.y = labels(case.labels, len(X), rng)
        self.rows = None
        # Labels that are strings are others than the numbers in them.
        labelled = "label_column" in self.detector().get_params()
        strings = case.dtype in ("strings of numbers", "datetime")
        if case.shape == "2-d" and not (labelled and strings):
            self.rows = _as_seen(self._cells, case.container)
        axes = {case.values, case.dtype, case.container, case.shape}
        known_dtype = case.dtype not in ("strings of numbers", "datetime", "column of dates")
        self.refused = (
            bool(axes & (containers.REFUSED | values.REFUSED - _made_finite(case.dtype)))
            or (known_dtype and self.rows is not None and not np.isfinite(self.rows).all())
            or not self.parameters_are_possible
        )

    @cached_property
    def X(self):
        """What is passed to ``fit``."""
        return self.table()

    def table(self):
        """The table in its container, made anew."""
        if self.case.shape != "2-d":
            return containers.misshape(self._cells, self.case.shape)
        if isinstance(self._cells, pd.DataFrame):
            return self._cells.copy()
        return containers.contain(self._cells, self.case.container, self.folder)

    def detector(self, **parameters):
        """The detector of the case, not fitted."""
        contamination = self.case.contamination
        if contamination not in ("auto", "none"):
            contamination = float(contamination)
        state = {
            "int": 0,
            "int64": np.int64(7),
            "2**32 - 1": 2**32 - 1,
            "None": None,
            "RandomState": np.random.RandomState(3),
            "Generator": np.random.default_rng(3),
            "-1": -1,
        }[self.case.random_state]
        given = {"contamination": contamination, "random_state": state}
        given |= (SETTINGS | NO_SETTINGS).get(self.case.setting, {})
        return make(self.case.detector, **{**given, **parameters})

    @property
    def repeatable(self) -> bool:
        """Whether two fits are to have the same outcome."""
        return self.case.random_state != "None"

    @property
    def parameters_are_possible(self) -> bool:
        """Whether the detector can be fitted at all."""
        case, had = self.case, self.detector().get_params(deep=False).keys()
        return not (
            case.contamination in NO_CONTAMINATIONS
            or NO_SETTINGS.get(case.setting, {}).keys() & had
            or (case.random_state in NO_RANDOM_STATES and "random_state" in had)
        )

    def describe(self) -> str:
        """The case in words, an axis a line."""
        return "\n".join(f"{name:14}{value}" for name, value in asdict(self.case).items())


def _made_finite(dtype: str) -> set[str]:
    """Values that are gone once they are cast to a type without them."""
    whole = dtype in ("Int64", "Int64 with NA", "boolean", "bool", "datetime")
    return values.REFUSED if whole or dtype.startswith(("int", "uint")) else set()


def _as_seen(cells, container: str) -> np.ndarray | None:
    """The values in the precision in which a detector computes; None if they are no numbers."""
    try:
        if isinstance(cells, pd.DataFrame):
            seen = cells.to_numpy(dtype=np.float64, na_value=np.nan)
        elif container == "tensor, bfloat16":
            seen = torch.from_numpy(cells).bfloat16().double().numpy()
        elif container == "frame, types by column":
            seen = containers.contain(cells, container, None).to_numpy(np.float64)
        else:
            with np.errstate(over="ignore"):
                seen = np.asarray(cells).astype(np.float64)
    except (TypeError, ValueError):
        return None
    single = getattr(cells, "dtype", None) == np.float32 and "list" not in container
    return np.ascontiguousarray(seen, dtype=np.float32 if single else np.float64)


def labels(kind: str, n: int, rng: np.random.Generator):
    """What is passed to ``fit`` as ``y``."""
    y = np.zeros(n)
    y[::10], y[5::10] = -1, 1
    truth = (y < 0).astype(float)
    with_gap = y.copy()
    with_gap[0] = np.inf if kind == "inf" else np.nan
    one = np.zeros(n)
    one[rng.integers(n)] = -1
    return {
        "some of each": y,
        "None": None,
        "anomalies only": np.minimum(y, 0),
        "all normal": np.ones(n),
        "all unlabelled": np.zeros(n),
        "all anomalies": -np.ones(n),
        "one anomaly": one,
        "truth of 0 and 1": truth,
        "bool": truth > 0,
        "fractions": y / 3,
        "large numbers": y * 1e300,
        "strings": np.where(y < 0, "bad", "good"),
        "strings of numbers": y.astype(int).astype(str),
        "nan": with_gap,
        "inf": with_gap,
        "one too few": y[:-1],
        "column": y[:, None],
        "two columns": np.c_[y, y],
        "series": pd.Series(y, index=rng.permutation(n) + 5),
        "list": y.tolist(),
        "tensor": torch.from_numpy(y.copy()),
        "int8": y.astype(np.int8),
        "uint8": truth.astype(np.uint8),
        "object": y.astype(object),
    }[kind]
