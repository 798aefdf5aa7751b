"""Experimental protocols: which rows a detector is trained on, and which it is tested on."""

import warnings
from numbers import Real

import numpy as np
from sklearn.utils import _safe_indexing, check_random_state, indexable

from ..labels import read_labels

__all__ = ["one_class_split"]


def one_class_split(
    X,
    y,
    *,
    train_size: float = 0.5,
    contamination: float = 0.0,
    random_state: int | np.random.RandomState | None = None,
) -> tuple:
    """Split rows at random and train on the normal ones: the protocol of section 4.4 of [1]_.

    A random share of all rows, not stratified, is set aside for training; all other rows are the
    test set. Of the share set aside the normal rows are kept, together with a share
    `contamination` of its anomalies. The remaining anomalies of that share are in neither set.

    Parameters
    ----------
    X : array-like, sparse matrix or frame of shape (n_samples, ...)
        The rows. Row numbers (``np.arange(n_samples)``) give the split as indices.
    y : array-like of shape (n_samples,)
        Labels: positive for normal rows, negative for anomalies.
    train_size : float, default=0.5
        Share of the rows that is set aside for training, between 0 and 1; the number of rows is
        rounded down.
    contamination : float, default=0.0
        Share of the anomalies set aside that stays in the training set, between 0 and 1; the number
        of rows is rounded to the nearest. With the default the training set is clean.
    random_state : int, RandomState instance or None, default=None
        Draws the rows. Two calls that differ only in `contamination` have the same test set and
        the same normal training rows.

    Returns
    -------
    X_train, X_test, y_train, y_test : tuple
        Of the types of `X` and `y`; rows are in random order.

    Raises
    ------
    ValueError
        If `X` and `y` differ in length, a label is missing or 0, a share is out of range, or the
        training set would have no normal row or the test set no row at all.

    Warns
    -----
    UserWarning
        If `contamination` is above 0, but rounds to no anomaly at all; or if there are labels other
        than -1 and +1, which are read by their sign.

    See Also
    --------
    sklearn.model_selection.train_test_split : A split that keeps every row.

    Notes
    -----
    [1]_ trains on all normal rows of one half "mixed with c % of samples from the anomaly class".
    That is read here as c % of the anomalies of that half, so that the trained-on share of
    anomalies follows from the set; it is not read as a training set of which c % are anomalies.

    References
    ----------
    .. [1] B. Zong, Q. Song, M. R. Min, W. Cheng, C. Lumezanu, D. Cho and H. Chen, "Deep
           Autoencoding Gaussian Mixture Model for Unsupervised Anomaly Detection", ICLR 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from anomaly_estimators.datasets import one_class_split
    >>> X = np.arange(100).reshape(50, 2)
    >>> y = np.where(np.arange(50) < 10, -1, 1)
    >>> X_train, X_test, y_train, y_test = one_class_split(X, y, random_state=0)
    >>> X_test.shape, bool((y_train == 1).all())
    ((25, 2), True)
    """
    _check_share("train_size", train_size)
    _check_share("contamination", contamination)
    X, y = indexable(X, y)
    labels = read_labels(y)
    if not labels.all():
        raise ValueError(
            "y holds 0, which means unlabelled: leave these rows out, or turn 0/1 labels into "
            "+1/-1 with np.where(y == 1, -1, 1) where 1 is the anomaly"
        )
    n_samples = len(labels)
    n_train = int(train_size * n_samples)
    if n_train == n_samples:
        raise ValueError(f"train_size={train_size} leaves no row to test on: choose a smaller one")

    order = check_random_state(random_state).permutation(n_samples)
    train, test = order[:n_train], order[n_train:]
    is_anomaly = labels[train] < 0
    if is_anomaly.all():
        raise ValueError(
            f"none of the {n_train} training rows is normal: choose a larger train_size or give "
            "more normal rows"
        )
    # `train` is in random order already, so its first anomalies are a random draw of them.
    n_anomalies = np.count_nonzero(is_anomaly)
    n_kept = int(np.floor(contamination * n_anomalies + 0.5))
    if contamination > 0 and n_kept == 0:
        warnings.warn(
            f"contamination={contamination} of {n_anomalies} anomalies rounds to none: the "
            "training set is clean",
            stacklevel=2,
        )
    train = train[~is_anomaly | (np.cumsum(is_anomaly) <= n_kept)]
    return tuple(_safe_indexing(part, rows) for part in (X, y) for rows in (train, test))


def _check_share(name: str, share: float) -> None:
    if not isinstance(share, Real) or not 0 <= share <= 1:
        raise ValueError(f"{name} must be a share between 0 and 1, got {share!r}")
