"""Rows with a label among their features: the label as the number of a class, the features scaled."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.metaestimators import available_if

__all__ = [
    "LabelledScaler",
    "are_numbers",
    "check_no_gaps",
    "distinct_labels",
    "encode_labels",
]


def are_numbers(labels: np.ndarray) -> bool:
    """Tell whether labels are numbers, also in an array of objects.

    Examples
    --------
    >>> are_numbers(np.array([1, 2.5], dtype=object)), are_numbers(np.array(["1", "2"]))
    (True, False)
    """
    if labels.dtype != object:
        return labels.dtype.kind in "biuf"
    return all(isinstance(label, Real | np.bool_) for label in labels)


def distinct_labels(labels: np.ndarray) -> np.ndarray:
    """Return the labels that occur, sorted.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        Numbers; or strings or other objects that can be compared with one another.

    Returns
    -------
    ndarray of shape (n_classes,)
        Of the dtype of the labels if that is a numeric one, else of dtype object.

    Raises
    ------
    ValueError
        If the labels cannot be compared, or if one is missing.

    Examples
    --------
    >>> distinct_labels(np.array([2, 0, 2])), distinct_labels(np.array(["b", "a"]))
    (array([0, 2]), array(['a', 'b'], dtype=object))
    """
    check_no_gaps(labels)
    if labels.dtype.kind in "biuf":
        return np.unique(labels)
    try:
        found = sorted(set(labels.astype(object)))
    except TypeError as error:
        raise ValueError(
            f"The given labels must be all numbers or all strings, to be told apart: {error}."
        ) from error
    classes = np.empty(len(found), dtype=object)
    classes[:] = found
    return classes


def encode_labels(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Number the labels by the classes that they stand for.

    Numbers are compared in the lower precision of both, so that rows in float32 have the labels of
    those in float64, also once they are cast to float64.

    Parameters
    ----------
    labels : ndarray of shape (n,)
    classes : ndarray of shape (n_classes,)
        What :func:`distinct_labels` returned.

    Returns
    -------
    ndarray of shape (n,), dtype int64
        Positions in ``classes``; -1 for a label that is not among them.

    Examples
    --------
    >>> encode_labels(np.array([2.0, 1.0]), np.array([0.0, 2.0]))
    array([ 1, -1])
    """
    if classes.dtype.kind in "biuf" and labels.dtype.kind in "biuf":
        single = np.float32 in (labels.dtype, classes.dtype)
        dtype = np.float32 if single else np.result_type(labels, classes)
        # Far values may pass the range of float32, and are no label then.
        with np.errstate(over="ignore"):
            labels, classes = labels.astype(dtype), classes.astype(dtype)
            rounded = classes.astype(np.float32).astype(dtype)
        codes = _positions(labels, classes)
        return np.where(codes < 0, _positions(labels, rounded), codes)
    numbers = {label: number for number, label in enumerate(classes.tolist())}
    try:
        codes = [numbers.get(label, -1) for label in labels.tolist()]
    except TypeError as error:
        raise ValueError(f"The given labels must be numbers or strings: {error}.") from error
    return np.array(codes, dtype=np.int64)


def _positions(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Positions of numbers among sorted ones; -1 for those that are not among them."""
    codes = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
    return np.where(classes[codes] == labels, codes, -1).astype(np.int64)


def check_no_gaps(labels: np.ndarray) -> None:
    """Refuse missing labels.

    Raises
    ------
    ValueError
    """
    if labels.dtype.kind in "biu":
        return
    missing = np.isnan(labels) if labels.dtype.kind == "f" else [_is_gap(v) for v in labels]
    if np.any(missing):
        raise ValueError(
            f"{np.count_nonzero(missing)} of {len(labels)} given labels are missing (NaN or None), the "
            f"first of them in row {int(np.argmax(missing))}: drop these rows, or give them a label of "
            "their own."
        )


def _is_gap(label) -> bool:
    # The markers of pandas cannot be compared, and those of numbers are unlike themselves.
    if label is None or type(label).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(label, Real) and label != label


class LabelledScaler(BaseEstimator):
    """Scale the features of rows and number their labels.

    A scaled row holds its features and, at the end, the number of its class: -1 for a label without
    a class, and for all rows that come without a label.

    Parameters
    ----------
    scaler : transformer or None, default=None
        What scales the features.
    label_column : int, default=0
        Place of the label in a row, counted from the start.
    classes : ndarray of shape (n_classes,), default=None
        The labels that have a class, sorted numbers.

    Examples
    --------
    >>> rows = np.array([[1.0, 7.0], [5.0, 9.0]])
    >>> LabelledScaler(label_column=1, classes=np.array([7.0, 9.0])).fit(rows).transform(rows)
    array([[1., 0.],
           [5., 1.]])
    """

    _parameter_constraints: dict = {
        "scaler": [HasMethods(["fit", "transform"]), None],
        "label_column": [Interval(Integral, 0, None, closed="left")],
        "classes": [np.ndarray, None],
    }

    def __init__(self, *, scaler=None, label_column=0, classes=None):
        self.scaler = scaler
        self.label_column = label_column
        self.classes = classes

    def fit(self, X, y=None):
        """Fit the scaler of the features."""
        features = self._begin(X)
        if self.scaler is not None:
            self.scaler_ = clone(self.scaler).fit(features)
        return self

    @available_if(lambda self: self.scaler is None or hasattr(self.scaler, "partial_fit"))
    def partial_fit(self, X, y=None):
        """Go on fitting the scaler of the features."""
        features = self._begin(X)
        if self.scaler is not None:
            self.scaler_ = getattr(self, "scaler_", None) or clone(self.scaler)
            self.scaler_.partial_fit(features)
        return self

    def transform(self, X) -> np.ndarray:
        """Scale the features, and put the numbers of the labels behind them."""
        labelled = X.shape[1] > self.n_features_
        features = _without(X, self.label_column) if labelled else X
        scaled = features if self.scaler is None else np.asarray(self.scaler_.transform(features))
        # float32 holds every whole number below 2 ** 24.
        rows = np.empty(
            (len(scaled), scaled.shape[1] + 1), dtype=np.result_type(scaled.dtype, np.float32)
        )
        rows[:, :-1] = scaled
        rows[:, -1] = encode_labels(X[:, self.label_column], self.classes) if labelled else -1
        return rows

    def inverse_transform(self, X) -> np.ndarray:
        """Return rows with the features, and with the labels that are nearest by their number.

        Rows without a number get the first label.
        """
        features, numbers = X[:, : self.n_features_], X[:, self.n_features_ :]
        if hasattr(self.scaler, "inverse_transform"):
            features = self.scaler_.inverse_transform(features)
        if numbers.shape[1] == 0:
            numbers = np.zeros((len(X), 1))
        codes = np.rint(numbers[:, 0]).clip(0, len(self.classes) - 1).astype(np.int64)
        return np.insert(features, self.label_column, self.classes[codes], axis=1)

    def _begin(self, X: np.ndarray) -> np.ndarray:
        self.n_features_ = X.shape[1] - 1
        return _without(X, self.label_column)


def _without(X: np.ndarray, column: int) -> np.ndarray:
    # No copy where the column is the last one.
    return X[:, :column] if column == X.shape[1] - 1 else np.delete(X, column, axis=1)
