"""Anomalies of three kinds from a classified set: rare classes, hard rows, rows off a subspace."""

import warnings
from collections.abc import Iterable
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import (
    Bunch,
    _safe_indexing,
    check_array,
    check_random_state,
    column_or_1d,
    indexable,
)

from ..model_selection.scenarios import _class_values, _member

__all__ = ["make_hard_rows", "make_pca_rows", "make_rare_classes"]


def make_rare_classes(
    X,
    classes: ArrayLike,
    rare_classes: Iterable,
    *,
    keep: float = 0.1,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    r"""Make some classes rare, and give their rows wrong labels: section 4.1 of [1]_.

    Of each rare class a random share of the rows is kept. These rows are the anomalies, and the
    label that is given to them is drawn uniformly from the other classes. All rows of the other
    classes are kept with their own class as the label.

    Parameters
    ----------
    X : array-like, sparse matrix or frame of shape (n_samples, ...)
        The rows.
    classes : array-like of shape (n_samples,)
        The class of each row: numbers or strings.
    rare_classes : iterable of classes
        The classes to make rare; at least one class must be left.
    keep : float, default=0.1
        Share of the rows of a rare class that is kept, above 0 and at most 1; in each class the
        number of rows is rounded to the nearest.
    random_state : int, RandomState instance or None, default=None
        Draws the rows and their labels.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        With the attributes

        data : array-like of shape (n_kept, ...)
            The rows that were kept, of the type of `X`, in its order.
        label : ndarray of shape (n_kept,)
            The class that the row is said to have.
        target : ndarray of shape (n_kept,) and dtype int64
            +1 for normal rows, -1 for anomalies.
        indices : ndarray of shape (n_kept,) and dtype int64
            The rows of `X` that were kept.

    Raises
    ------
    ValueError
        If `X` and `classes` differ in length, a rare class has no row, all classes are rare, the
        share is out of range, or no row of any rare class would be kept.

    See Also
    --------
    make_hard_rows : Rows that a weak classifier gets wrong.
    make_pca_rows : Rows far from the plane of their class.
    anomaly_estimators.model_selection.make_semi_supervised_scenario : One class as the normal one.

    Notes
    -----
    MNIST\ :sub:`0` of [1]_ makes the class 0 rare, MNIST\ :sub:`0-2` the classes 0, 1 and 2. By its
    counts (602 of 5,923 rows, for one) [1]_ kept each row with a probability of 0.1; here the share
    is exact.

    References
    ----------
    .. [1] Pimentel et al., "UaiNets: From Unsupervised to Active Deep Anomaly Detection", 2018,
           section 4.1 and table 2.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from anomaly_estimators.datasets import make_rare_classes
    >>> X, classes = load_digits(return_X_y=True)
    >>> rare = make_rare_classes(X, classes, [0], random_state=0)
    >>> rare.data.shape, int((rare.target == -1).sum())
    ((1637, 64), 18)
    >>> 0 in rare.label
    False
    """
    if not isinstance(keep, Real) or not 0 < keep <= 1:
        raise ValueError(f"keep must be a share above 0 and at most 1, got {keep!r}")
    X, classes, values = _check_rows(X, classes)
    rare_classes = _check_rare(rare_classes, values)
    random_state = check_random_state(random_state)

    is_rare = np.isin(classes, rare_classes)
    kept = [np.flatnonzero(~is_rare)]
    for value in rare_classes:
        rows = np.flatnonzero(classes == value)
        kept.append(random_state.choice(rows, int(np.floor(keep * len(rows) + 0.5)), replace=False))
    rows = np.sort(np.concatenate(kept))
    if not is_rare[rows].any():
        raise ValueError(f"keep={keep} leaves no row of {rare_classes}: raise it")
    others = np.unique(classes[~is_rare])
    label = classes[rows]
    label[is_rare[rows]] = random_state.choice(others, np.count_nonzero(is_rare[rows]))
    return _bunch(_safe_indexing(X, rows), label, is_rare[rows], rows)


def make_hard_rows(
    X,
    classes: ArrayLike,
    *,
    classifier=None,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    r"""Call the rows anomalies that a weak classifier gets wrong: section 4.1 of [1]_.

    A weak classifier is fitted to all rows. Those to which it then gives another class than their
    own are the anomalies. All rows keep their class as the label.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The rows.
    classes : array-like of shape (n_samples,)
        The class of each row: numbers or strings.
    classifier : classifier, default=None
        An estimator with ``fit`` and ``predict``; a clone is fitted. With the default, a
        :class:`~sklearn.neural_network.MLPClassifier` with one hidden layer of 128 units that goes
        through the rows once, in batches of 256 rows with Adam and a learning rate of 0.01, on
        features divided by their largest absolute value.
    random_state : int, RandomState instance or None, default=None
        The initial weights and the order of the rows of the default classifier. A `classifier`
        that is given has a ``random_state`` of its own.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        With the attributes

        data : array-like of shape (n_samples, n_features)
            `X` itself.
        label : ndarray of shape (n_samples,)
            The class of each row.
        target : ndarray of shape (n_samples,) and dtype int64
            +1 for normal rows, -1 for anomalies.
        indices : ndarray of shape (n_samples,) and dtype int64
            All rows.

    Raises
    ------
    ValueError
        If `X` and `classes` differ in length, there are fewer than two classes, or the classifier
        gets every row right, or every row wrong.

    See Also
    --------
    make_rare_classes : Rows of rare classes with wrong labels.
    make_pca_rows : Rows far from the plane of their class.

    Notes
    -----
    MNIST\ :sub:`hard` of [1]_, where "a weak one hidden layer MLP" gets 2,108 of the 60,000 rows of
    MNIST and 9,656 of Fashion-MNIST wrong. [1]_ does not say what made the network weak. The default
    here is a single pass with the batches and the learning rate of the other networks of [1]_; it
    gets about 2,000 and 8,600 rows wrong, on average over five seeds.

    References
    ----------
    .. [1] Pimentel et al., "UaiNets: From Unsupervised to Active Deep Anomaly Detection", 2018,
           section 4.1 and tables 2 and 4.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.naive_bayes import BernoulliNB
    >>> from anomaly_estimators.datasets import make_hard_rows
    >>> X, classes = load_digits(return_X_y=True)
    >>> hard = make_hard_rows(X, classes, classifier=BernoulliNB(binarize=8))
    >>> hard.data.shape, int((hard.target == -1).sum())
    ((1797, 64), 188)
    """
    X, classes, values = _check_rows(X, classes)
    if len(values) < 2:
        raise ValueError(f"there is only the class {values}: give at least two")
    if classifier is None:
        classifier = _weak_classifier(len(classes), check_random_state(random_state))
    else:
        classifier = clone(classifier)
    with warnings.catch_warnings():
        # It is meant to be stopped early.
        warnings.simplefilter("ignore", ConvergenceWarning)
        is_wrong = classifier.fit(X, classes).predict(X) != classes
    if is_wrong.all() or not is_wrong.any():
        raise ValueError(
            f"the classifier gets {'no' if is_wrong.all() else 'every'} row right: give a "
            f"{'stronger' if is_wrong.all() else 'weaker'} one"
        )
    return _bunch(X, classes, is_wrong, np.arange(len(classes)))


def make_pca_rows(X, classes: ArrayLike, *, n_components: int = 2, share: float = 0.05) -> Bunch:
    r"""Call the rows anomalies that are far from the plane of their class: section 4.1 of [1]_.

    In each class a principal component analysis reduces the rows to a few components. The rows
    with the largest squared reconstruction errors are the anomalies, the same share of each class.
    All rows keep their class as the label.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The rows.
    classes : array-like of shape (n_samples,)
        The class of each row: numbers or strings.
    n_components : int, default=2
        Number of components, at least 1 and below the number of features. Each class needs more
        rows.
    share : float, default=0.05
        Share of each class that is anomalous, above 0 and below 1; the number of rows is rounded
        down.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        With the attributes

        data : array-like of shape (n_samples, n_features)
            `X` itself.
        label : ndarray of shape (n_samples,)
            The class of each row.
        target : ndarray of shape (n_samples,) and dtype int64
            +1 for normal rows, -1 for anomalies.
        indices : ndarray of shape (n_samples,) and dtype int64
            All rows.

    Raises
    ------
    ValueError
        If `X` and `classes` differ in length, a number is out of range, a class has too few rows,
        or the share rounds to no row in every class.

    See Also
    --------
    make_rare_classes : Rows of rare classes with wrong labels.
    make_hard_rows : Rows that a weak classifier gets wrong.

    Notes
    -----
    MNIST\ :sub:`pca` of [1]_: 2,996 anomalies among the 60,000 training rows of MNIST and 3,000 among
    those of Fashion-MNIST, which are the counts of the default. Rows with equal errors count as
    larger in the order of the rows. No part of this is random.

    References
    ----------
    .. [1] Pimentel et al., "UaiNets: From Unsupervised to Active Deep Anomaly Detection", 2018,
           section 4.1 and tables 2 and 4.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from anomaly_estimators.datasets import make_pca_rows
    >>> X, classes = load_digits(return_X_y=True)
    >>> far = make_pca_rows(X, classes)
    >>> far.data.shape, int((far.target == -1).sum())
    ((1797, 64), 86)
    """
    if not isinstance(share, Real) or not 0 < share < 1:
        raise ValueError(f"share must be above 0 and below 1, got {share!r}")
    X, classes, values = _check_rows(X, classes)
    rows_of = [np.flatnonzero(classes == value) for value in values]
    values_of_x = check_array(X, dtype=None, input_name="X")
    _check_components(n_components, values_of_x.shape[1], min(map(len, rows_of)))

    is_far = np.zeros(len(classes), dtype=bool)
    for rows in rows_of:
        error = _pca_error(values_of_x[rows].astype(np.float64), int(n_components))
        # Not rounded down where the product is a whole number but for the last bit.
        n_far = int(np.floor(share * len(rows) * (1 + 1e-12)))
        is_far[rows[np.argsort(-error, kind="stable")[:n_far]]] = True
    if not is_far.any():
        raise ValueError(
            f"share={share} rounds to no row in a class of {max(map(len, rows_of))} rows: raise it"
        )
    return _bunch(X, classes, is_far, np.arange(len(classes)))


def _pca_error(X: NDArray[np.float64], n_components: int) -> NDArray[np.float64]:
    """Squared distance of each row from the plane of the first components, of shape (n_samples,)."""
    from sklearn.decomposition import PCA

    # Of the exact solvers, so that nothing is random.
    pca = PCA(n_components, svd_solver="full" if X.shape[1] > len(X) else "covariance_eigh")
    return np.square(X - pca.inverse_transform(pca.fit_transform(X))).sum(axis=1)


def _weak_classifier(n_samples: int, random_state: np.random.RandomState):
    """One hidden layer, one pass over the rows."""
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MaxAbsScaler

    network = MLPClassifier(
        hidden_layer_sizes=(128,),
        batch_size=min(256, n_samples),
        learning_rate_init=0.01,
        max_iter=1,
        random_state=random_state,
    )
    return make_pipeline(MaxAbsScaler(), network)


def _check_rows(X, classes: ArrayLike) -> tuple:
    """The rows, the class of each as an array of our own, and the sorted classes."""
    X, classes = indexable(X, classes)
    classes = np.array(column_or_1d(classes))
    return X, classes, _class_values(classes)


def _check_rare(rare_classes: Iterable, values: list) -> list:
    """The rare classes, sorted, as the list of classes has them."""
    if isinstance(rare_classes, str) or not isinstance(rare_classes, Iterable):
        raise ValueError(f"rare_classes must be a sequence of classes, got {rare_classes!r}")
    rare = {_member("rare_classes", value, values) for value in rare_classes}
    if not 0 < len(rare) < len(values):
        raise ValueError(
            f"rare_classes names {'all' if rare else 'none'} of the classes {values}: name at least "
            "one, and leave at least one"
        )
    return sorted(rare)


def _check_components(n_components, n_features: int, n_rows: int) -> None:
    if not isinstance(n_components, Integral) or not 1 <= n_components < n_features:
        raise ValueError(
            f"n_components must be an integer of at least 1 and below the {n_features} features, "
            f"got {n_components!r}"
        )
    if n_rows <= n_components:
        raise ValueError(
            f"a class has {n_rows} rows, too few for n_components={n_components}: leave that class "
            "out or lower n_components"
        )


def _bunch(data, label: NDArray, is_anomaly: NDArray[np.bool_], rows: NDArray) -> Bunch:
    target = np.where(is_anomaly, -1, 1).astype(np.int64, copy=False)
    return Bunch(data=data, label=label, target=target, indices=rows)
