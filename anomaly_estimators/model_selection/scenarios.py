"""Scenarios of semi-supervised anomaly detection: partly labelled training sets from full labels."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import train_test_split
from sklearn.utils import _safe_indexing, check_random_state, column_or_1d, indexable

from ..labels import how_read, label_values, read_labels

__all__ = [
    "Scenario",
    "ScenarioSetup",
    "iter_setups",
    "make_semi_supervised_scenario",
    "semi_supervised_split",
]

_UNUSED = 2  # beside the labels -1, 0 and +1


@dataclass(frozen=True, eq=False)
class Scenario:
    """A partly labelled training set; immutable.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
        The training rows, of the type that was given, in random order.
    y : ndarray of shape (n_samples,) and dtype int64
        What is revealed of them: 0 unlabelled, -1 known anomaly, +1 known normal row.
    truth : ndarray of shape (n_samples,) and dtype int64
        What they are: +1 normal, -1 anomaly. Where `y` is 0 and `truth` is -1, the row is pollution.
    indices : ndarray of shape (n_samples,) and dtype int64
        Which of the given rows they are.
    normal_class : int or str
        The normal class.
    known_classes : tuple
        The anomaly classes from which the labelled anomalies were drawn.

    See Also
    --------
    make_semi_supervised_scenario : Draws one.

    Examples
    --------
    >>> import numpy as np
    >>> from anomaly_estimators.model_selection import make_semi_supervised_scenario
    >>> classes = np.arange(300) % 3
    >>> scenario = make_semi_supervised_scenario(
    ...     np.arange(300), classes, normal_class=0, pollution=0.2, random_state=0
    ... )
    >>> hidden = (scenario.y == 0) & (scenario.truth == -1)
    >>> len(scenario.y), int(hidden.sum())
    (132, 25)
    """

    X: Any
    y: NDArray[np.int64]
    truth: NDArray[np.int64]
    indices: NDArray[np.int64]
    normal_class: Any
    known_classes: tuple


@dataclass(frozen=True)
class ScenarioSetup:
    """One experiment of a series: arguments of `make_semi_supervised_scenario`; immutable.

    Parameters
    ----------
    normal_class : int or str
        The normal class.
    known_classes : tuple
        The anomaly classes of the labelled anomalies.
    random_state : int
        The seed of the experiment.

    See Also
    --------
    iter_setups : Enumerates them.

    Examples
    --------
    >>> from anomaly_estimators.model_selection import ScenarioSetup
    >>> setup = ScenarioSetup(normal_class=3, known_classes=(5,), random_state=0)
    >>> vars(setup)
    {'normal_class': 3, 'known_classes': (5,), 'random_state': 0}
    """

    normal_class: Any
    known_classes: tuple
    random_state: int


class _Shares(NamedTuple):
    labelled_ratio: float
    pollution: float
    labelled_normal_ratio: float


def make_semi_supervised_scenario(
    X,
    classes: ArrayLike,
    *,
    normal_class,
    labelled_ratio: float = 0.05,
    pollution: float = 0.1,
    n_known_classes: int | None = None,
    known_classes: Iterable | None = None,
    labelled_normal_ratio: float = 0.0,
    random_state: int | np.random.RandomState | None = None,
) -> Scenario:
    r"""Make a partly labelled training set out of classes: section 4.2 of [1]_.

    All rows of one class are normal, and make up the unlabelled part of the training set; the rows of
    all other classes are anomalies. A few anomalies of *any* anomaly class are hidden in the
    unlabelled part (the pollution), and a few anomalies of the *known* anomaly classes are added with
    their label. All other anomalies are left out.

    Parameters
    ----------
    X : array-like, sparse matrix or frame of shape (n_samples, ...)
        The rows to train on. Row numbers (``np.arange(n_samples)``) give the scenario as indices.
    classes : array-like of shape (n_samples,)
        The class of each row: numbers or strings. With two classes, +1 and -1, and
        ``normal_class=1`` there is one anomaly class.
    normal_class : int or str
        The class that is normal.
    labelled_ratio : float, default=0.05
        :math:`\gamma_l` of [1]_, at least 0 and below 1: the number of labelled anomalies
        :math:`m` is such that :math:`m / (n + m) = \gamma_l`, where :math:`n` counts the unlabelled
        rows, pollution included.
    pollution : float, default=0.1
        :math:`\gamma_p` of [1]_, at least 0 and below 1: the share of the unlabelled rows that are
        anomalies.
    n_known_classes : int, default=None
        :math:`k_l` of [1]_: how many anomaly classes the labelled anomalies come from. These
        classes are drawn at random. 0 means no labelled anomalies, whatever `labelled_ratio` is.
        With the default, 1, unless `known_classes` are given.
    known_classes : iterable of classes, default=None
        These classes in place of a draw.
    labelled_normal_ratio : float, default=0.0
        Share of the rows of the normal class that get the label +1 and are no longer in the
        unlabelled part, at least 0 and below 1. [1]_ labels none.
    random_state : int, RandomState instance or None, default=None
        Draws the classes and the rows. Of two calls with the same seed that differ only in

        - `labelled_ratio`, both have the same unlabelled rows, and the larger has all labelled
          rows of the smaller;
        - `pollution`, the larger has all polluting rows of the smaller;
        - `n_known_classes`, the larger has all known classes of the smaller.

    Returns
    -------
    scenario : Scenario
        With the attributes ``X``, ``y`` (what is revealed: 0, -1, +1), ``truth`` (+1, -1),
        ``indices``, ``normal_class`` and ``known_classes``. Rows are in random order.

    Raises
    ------
    ValueError
        If `X` and `classes` differ in length, a class is missing or there is no such class, a share
        is out of range, `known_classes` and `n_known_classes` contradict each other, or there are too
        few anomalies for what is asked.

    Warns
    -----
    UserWarning
        If a share is above 0, but rounds to no row at all.

    See Also
    --------
    iter_setups : The series of experiments of [1]_.
    semi_supervised_split : Train and test sets from one set of normal rows and anomalies.

    Notes
    -----
    The defaults are those of section 4.3 of [1]_. Scenario (i) of [1]_ varies `labelled_ratio` over
    0, 0.01, 0.05, 0.1 and 0.2 without pollution; scenario (ii) varies `pollution` over 0, 0.01, 0.05,
    0.1 and 0.2; scenario (iii) varies `n_known_classes` over 0, 1, 2, 3 and 5.

    Counts are rounded to the nearest, so both shares are met to within half a row. Polluting and
    labelled rows are drawn without replacement from the rows of all anomaly classes, or of all known
    classes, and no row is both.

    Test on the whole test set of the publisher: ``np.where(classes_test == normal_class, 1, -1)``.

    References
    ----------
    .. [1] L. Ruff, R. A. Vandermeulen, N. Görnitz, A. Binder, E. Müller, K.-R. Müller and M. Kloft,
           "Deep Semi-Supervised Anomaly Detection", ICLR 2020, section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from anomaly_estimators.model_selection import make_semi_supervised_scenario
    >>> X, classes = load_digits(return_X_y=True)
    >>> scenario = make_semi_supervised_scenario(
    ...     X, classes, normal_class=3, labelled_ratio=0.05, pollution=0.1, random_state=0
    ... )
    >>> scenario.X.shape, scenario.known_classes
    ((214, 64), (8,))
    >>> for revealed in (0, -1):
    ...     truth = scenario.truth[scenario.y == revealed]
    ...     print(revealed, len(truth), round(float((truth == -1).mean()), 2))
    0 203 0.1
    -1 11 1.0
    """
    shares = _Shares(labelled_ratio, pollution, labelled_normal_ratio)
    _check_shares(shares)
    X, classes = indexable(X, classes)
    classes = column_or_1d(classes)
    values = _class_values(classes)
    normal_class = _member("normal_class", normal_class, values)
    anomaly_classes = [value for value in values if value != normal_class]
    random_state = check_random_state(random_state)
    known_classes = _known_classes(anomaly_classes, n_known_classes, known_classes, random_state)
    rows, y, truth = _draw(
        classes == normal_class,
        np.isin(classes, np.array(known_classes, dtype=classes.dtype)),
        shares,
        random_state,
    )
    return Scenario(_safe_indexing(X, rows), y, truth, rows, normal_class, known_classes)


def semi_supervised_split(
    X,
    y: ArrayLike,
    *,
    train_size: float = 0.6,
    labelled_ratio: float = 0.01,
    pollution: float = 0.0,
    labelled_normal_ratio: float = 0.0,
    random_state: int | np.random.RandomState | None = None,
) -> tuple:
    r"""Split a set with known anomalies, and label a few of those to train on: appendix B of [1]_.

    The rows are split at random with the same share of anomalies on both sides. The normal rows to
    train on are left unlabelled; a few anomalies to train on get their label, or are hidden among the
    unlabelled rows. Anomalies of the training side that are neither are left out.

    Parameters
    ----------
    X : array-like, sparse matrix or frame of shape (n_samples, ...)
        The rows. Row numbers (``np.arange(n_samples)``) give the split as indices.
    y : array-like of shape (n_samples,)
        What the rows are: positive for normal rows, negative for anomalies.
    train_size : float, default=0.6
        Share of the rows on the training side, between 0 and 1.
    labelled_ratio : float, default=0.01
        :math:`\gamma_l` of [1]_, at least 0 and below 1: the number of labelled anomalies :math:`m` is
        such that :math:`m / (n + m) = \gamma_l`, where :math:`n` counts the unlabelled rows.
    pollution : float, default=0.0
        :math:`\gamma_p` of [1]_, at least 0 and below 1: the share of the unlabelled training rows
        that are anomalies.
    labelled_normal_ratio : float, default=0.0
        Share of the normal training rows that get the label +1 and are no longer unlabelled, at
        least 0 and below 1. [1]_ labels none.
    random_state : int, RandomState instance or None, default=None
        Draws the rows. Two calls that differ only in the three shares have the same test set, and
        their training rows are nested as with `make_semi_supervised_scenario`.

    Returns
    -------
    X_train : array-like of shape (n_train, ...)
        The rows to train on, of the type of `X`, in random order.
    y_train : ndarray of shape (n_train,) and dtype int64
        What is revealed of them: 0 unlabelled, -1 known anomaly, +1 known normal row.
    truth_train : ndarray of shape (n_train,) and dtype int64
        What they are: +1 normal, -1 anomaly.
    X_test : array-like of shape (n_test, ...)
        The rows to test on, of the type of `X`, in random order.
    truth_test : ndarray of shape (n_test,) and dtype int64
        What they are: +1 normal, -1 anomaly.

    Raises
    ------
    ValueError
        If `X` and `y` differ in length, a label is missing or 0, a share is out of range, or there are
        too few anomalies for what is asked.

    Warns
    -----
    UserWarning
        If a share is above 0, but rounds to no row at all; or if there are labels other than -1 and
        +1, which are read by their sign.

    See Also
    --------
    make_semi_supervised_scenario : From classes, with a test set of its own.
    anomaly_estimators.datasets.one_class_split : Without labels to train on.

    Notes
    -----
    [1]_ splits 60:40, labels 1 % of the training set, standardises the features and repeats this for
    ten seeds. Fit the scaler on the training rows: put it into a pipeline with the detector.

    References
    ----------
    .. [1] L. Ruff, R. A. Vandermeulen, N. Görnitz, A. Binder, E. Müller, K.-R. Müller and M. Kloft,
           "Deep Semi-Supervised Anomaly Detection", ICLR 2020, appendix B.

    Examples
    --------
    >>> import numpy as np
    >>> from anomaly_estimators.model_selection import semi_supervised_split
    >>> X = np.arange(2000).reshape(1000, 2)
    >>> y = np.where(np.arange(1000) < 100, -1, 1)
    >>> X_train, y_train, truth_train, X_test, truth_test = semi_supervised_split(
    ...     X, y, random_state=0
    ... )
    >>> X_train.shape, int((y_train == -1).sum()), int((truth_train == -1).sum())
    ((545, 2), 5, 5)
    >>> X_test.shape, int((truth_test == -1).sum())
    ((400, 2), 40)
    """
    shares = _Shares(labelled_ratio, pollution, labelled_normal_ratio)
    _check_shares(shares)
    if not isinstance(train_size, Real) or not 0 < train_size < 1:
        raise ValueError(f"train_size must be a share above 0 and below 1, got {train_size!r}")
    X, y = indexable(X, y)
    labels = read_labels(y).astype(np.int64)
    if np.unique(labels).tolist() != [-1, 1]:
        raise ValueError(
            "y must hold normal rows (+1) and anomalies (-1), and nothing else: leave unlabelled rows "
            f"(0) out. {how_read(label_values(y))}"
        )
    random_state = check_random_state(random_state)
    train, test = train_test_split(
        np.arange(len(labels)), train_size=train_size, stratify=labels, random_state=random_state
    )
    is_normal = labels[train] == 1
    rows, y_train, truth_train = _draw(is_normal, ~is_normal, shares, random_state)
    return (
        _safe_indexing(X, train[rows]),
        y_train,
        truth_train,
        _safe_indexing(X, test),
        labels[test],
    )


def iter_setups(
    classes: ArrayLike,
    *,
    scenario: str = "i",
    n_known_classes: int = 1,
    n_seeds: int = 10,
    first_seed: int = 0,
) -> Iterator[ScenarioSetup]:
    """Enumerate the experiments of a scenario of [1]_, evenly spread.

    Scenarios (i) and (ii) pair every normal class with every anomaly class: 90 experiments for ten
    classes. Scenario (iii) repeats every normal class with several draws of the known anomaly
    classes: 100 experiments for ten classes and ten draws.

    Any beginning of the series is spread evenly, so that a benchmark may take a fraction of it: with
    `K` classes, the first ``j * K`` experiments have every class ``j`` times as the normal one, and in
    scenarios (i) and (ii) also ``j`` times as the known anomaly.

    Parameters
    ----------
    classes : array-like
        The classes, or the class of every row.
    scenario : {"i", "ii", "iii"}, default="i"
        Scenario of [1]_. (i) and (ii) have the same setups: they differ in the shares that are varied.
    n_known_classes : int, default=1
        :math:`k_l` of [1]_, from 0 to one less than the number of classes, for scenario (iii); the
        others have one known class. A larger number adds classes to those of a smaller one.
    n_seeds : int, default=10
        Number of draws of the known classes in scenario (iii); the others do not use it.
    first_seed : int, default=0
        The ``random_state`` of the first experiment; every further experiment has the next number.

    Returns
    -------
    setups : iterator of ScenarioSetup
        Each with ``normal_class``, ``known_classes`` and ``random_state``. ``**vars(setup)`` passes
        all three to `make_semi_supervised_scenario`.

    Raises
    ------
    ValueError
        If the scenario is unknown, there are fewer than two classes, or a number is out of range.

    See Also
    --------
    make_semi_supervised_scenario : Makes the training set of a setup.

    Notes
    -----
    An experiment has the same seed whatever is varied over it, so that the training sets of one
    experiment are nested: the curve over a share is not blurred by new draws at each point.

    References
    ----------
    .. [1] L. Ruff, R. A. Vandermeulen, N. Görnitz, A. Binder, E. Müller, K.-R. Müller and M. Kloft,
           "Deep Semi-Supervised Anomaly Detection", ICLR 2020, section 4.2.

    Examples
    --------
    >>> from itertools import islice
    >>> from anomaly_estimators.model_selection import iter_setups
    >>> for setup in islice(iter_setups(range(10)), 2):
    ...     print(setup)
    ScenarioSetup(normal_class=0, known_classes=(1,), random_state=0)
    ScenarioSetup(normal_class=1, known_classes=(2,), random_state=1)
    >>> len(list(iter_setups(range(10)))), len(list(iter_setups(range(10), scenario="iii")))
    (90, 100)
    """
    if scenario not in ("i", "ii", "iii"):
        raise ValueError(f"scenario must be one of 'i', 'ii', 'iii', got {scenario!r}")
    for name, number, least in (("n_seeds", n_seeds, 1), ("first_seed", first_seed, 0)):
        if not isinstance(number, Integral) or number < least:
            raise ValueError(f"{name} must be an integer of at least {least}, got {number!r}")
    values = _class_values(np.ravel(np.asarray(classes)))
    if len(values) < 2:
        raise ValueError(f"there is only the class {values}: give at least two")
    _check_n_known(n_known_classes, len(values) - 1)
    if scenario != "iii":
        if n_known_classes != 1:
            raise ValueError(
                f"scenario {scenario!r} has one known class by definition, got "
                f'n_known_classes={n_known_classes}: take scenario="iii"'
            )
        return _pairs(values, int(first_seed))
    return _draws(values, int(n_known_classes), int(n_seeds), int(first_seed))


def _pairs(values: list, seed: int) -> Iterator[ScenarioSetup]:
    """Every normal class with every other class, round by round."""
    n_classes = len(values)
    for distance in range(1, n_classes):
        for index, normal in enumerate(values):
            yield ScenarioSetup(normal, (values[(index + distance) % n_classes],), seed)
            seed += 1


def _draws(values: list, n_known: int, n_seeds: int, seed: int) -> Iterator[ScenarioSetup]:
    """Every normal class with random other classes, round by round."""
    for _ in range(n_seeds):
        for normal in values:
            others = [value for value in values if value != normal]
            known = _draw_known(others, n_known, check_random_state(seed))
            yield ScenarioSetup(normal, known, seed)
            seed += 1


def _draw_known(anomaly_classes: list, n_known: int, random_state: np.random.RandomState) -> tuple:
    """The beginning of a random order, so that more classes include fewer."""
    order = random_state.permutation(len(anomaly_classes))
    return tuple(anomaly_classes[index] for index in order[:n_known])


def _known_classes(
    anomaly_classes: list,
    n_known: int | None,
    known: Iterable | None,
    random_state: np.random.RandomState,
) -> tuple:
    """The known classes: those that are named, else a draw."""
    if known is None:
        n_known = 1 if n_known is None else n_known
        _check_n_known(n_known, len(anomaly_classes))
        return _draw_known(anomaly_classes, n_known, random_state)
    if isinstance(known, str) or not isinstance(known, Iterable):
        raise ValueError(f"known_classes must be a sequence of classes, got {known!r}")
    known = tuple(_member("known_classes", value, anomaly_classes) for value in known)
    if len(set(known)) < len(known):
        raise ValueError(f"known_classes names a class twice: {known}")
    if n_known not in (None, len(known)):
        raise ValueError(
            f"n_known_classes={n_known} contradicts known_classes={known}: give one of the two"
        )
    # Drawn and dropped, so that the rows are the same whether these classes are named or drawn.
    _draw_known(anomaly_classes, 0, random_state)
    return known


def _draw(
    is_normal: NDArray[np.bool_],
    is_known: NDArray[np.bool_],
    shares: _Shares,
    random_state: np.random.RandomState,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Draw the training rows; return them, what is revealed of them, and what they are.

    Every draw is the beginning or the end of a random order that depends on nothing but the seed:
    that is what nests the rows of a smaller share in those of a larger one.
    """
    order = random_state.permutation(len(is_normal))
    normal, anomalies = order[is_normal[order]], order[~is_normal[order]]
    n_known_normal = _round("labelled_normal_ratio", shares.labelled_normal_ratio, len(normal))
    known_normal, unlabelled = normal[:n_known_normal], normal[n_known_normal:]
    if not len(unlabelled):
        raise ValueError(
            f"none of the {len(normal)} normal rows is left unlabelled: lower "
            f"labelled_normal_ratio={shares.labelled_normal_ratio} or give more normal rows"
        )

    n_pollution = _round("pollution", _odds(shares.pollution), len(unlabelled))
    if n_pollution > len(anomalies):
        raise ValueError(
            f"pollution={shares.pollution} takes {n_pollution} anomalies beside the "
            f"{len(unlabelled)} unlabelled normal rows, and there are {len(anomalies)}: lower the "
            "pollution or give more anomalies"
        )
    # Polluting rows from one end and labelled rows from the other: they meet as late as possible.
    polluting, others = anomalies[:n_pollution], anomalies[n_pollution:]
    candidates = others[is_known[others]]
    n_unlabelled = len(unlabelled) + n_pollution
    n_labelled = 0
    if is_known.any():
        n_labelled = _round("labelled_ratio", _odds(shares.labelled_ratio), n_unlabelled)
    if n_labelled > len(candidates):
        raise ValueError(
            f"labelled_ratio={shares.labelled_ratio} takes {n_labelled} labelled anomalies beside the "
            f"{n_unlabelled} unlabelled rows, and of the {np.count_nonzero(is_known)} rows of known "
            f"anomaly classes {len(candidates)} are left beside the pollution: lower labelled_ratio "
            "or pollution, or name more known classes"
        )

    revealed = np.full(len(is_normal), _UNUSED)
    revealed[unlabelled] = revealed[polluting] = 0
    revealed[known_normal] = 1
    revealed[candidates[len(candidates) - n_labelled :]] = -1
    # Another random order: in the first one the place of an anomaly betrays its part.
    order = random_state.permutation(len(is_normal))
    rows = order[revealed[order] != _UNUSED]
    return rows, revealed[rows], np.where(is_normal[rows], 1, -1)


def _odds(share: float) -> float:
    """How many rows to add to one row so that they make up the share of the whole."""
    return share / (1 - share)


def _round(name: str, ratio: float, n_rows: int) -> int:
    """Number of rows, rounded to the nearest; warns where nothing comes of something."""
    number = int(np.floor(ratio * n_rows + 0.5))
    if ratio > 0 and number == 0:
        warnings.warn(
            f"{name} rounds to no row at all beside {n_rows} rows: raise it or give more rows",
            stacklevel=4,
        )
    return number


def _check_shares(shares: _Shares) -> None:
    for name, share in shares._asdict().items():
        if not isinstance(share, Real) or not 0 <= share < 1:
            raise ValueError(f"{name} must be a share of at least 0 and below 1, got {share!r}")


def _check_n_known(n_known, n_anomaly_classes: int) -> None:
    if not isinstance(n_known, Integral) or not 0 <= n_known <= n_anomaly_classes:
        raise ValueError(
            f"n_known_classes must be an integer from 0 to the number of anomaly classes, "
            f"{n_anomaly_classes}, got {n_known!r}"
        )


def _class_values(classes: NDArray) -> list:
    """The distinct classes, sorted, as Python's own numbers or strings."""
    if classes.dtype.kind == "f" and np.isnan(classes).any():
        raise ValueError("classes holds NaN: leave out the rows without a class")
    try:
        return np.unique(classes).tolist()
    except TypeError as error:
        raise ValueError(
            "classes must be numbers or strings, not a mixture, and none may be missing"
        ) from error


def _member(name: str, value, values: list):
    """The value as the list has it."""
    if value not in values:
        raise ValueError(f"{name}: there is no class {value!r} among {values}")
    return values[values.index(value)]
