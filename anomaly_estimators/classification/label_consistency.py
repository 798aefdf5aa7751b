"""Label consistency: rows whose given label does not suit their features."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from numbers import Integral
from typing import NamedTuple

import numpy as np
import torch
from sklearn.utils import _safe_indexing, check_array, check_consistent_length
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from anomaly_estimators.autoencoding import AutoencodingDetector, code_width
from anomaly_estimators.classification._given_labels import (
    distinct_in_column,
    find_column,
    has_kinds,
    read_given_labels,
    strings_in_column,
)
from anomaly_estimators.functional.classification import label_cross_entropy
from anomaly_estimators.nn.mlp import ACTIVATIONS, initialise
from anomaly_estimators.row_blocks import join
from anomaly_estimators.training.labelled import (
    LabelledScaler,
    check_no_gaps,
    distinct_labels,
    encode_labels,
)
from anomaly_estimators.training.phases import Phase
from anomaly_estimators.training.scaling import fit_scaler, make_scaler
from anomaly_estimators.validation import explained

__all__ = ["LabelConsistency"]

# Logits that are computed at a time in scoring: some ten MB, however many labels there are.
_LOGITS = 2**21
# From so many labels on, labels that hardly repeat are warned of, or refused for what they would cost.
_MANY_LABELS, _TOO_MANY_LABELS = 100, 10_000


class LabelledRows(NamedTuple):
    """Rows whose labels come beside them."""

    X: object
    y: object


class LabelNetwork(nn.Module):
    """Encoder and softmax head over the labels.

    It takes rows with the number of the label behind the features, which it leaves out; ``forward``
    returns the logits of the labels.

    Parameters
    ----------
    encoder : torch.nn.Module
        Maps ``(n, n_features)`` to ``(n, latent_dim)``.
    latent_dim : int
        Width of the code.
    activation : str
        Activation between the code and the head.
    n_classes : int
        Number of labels.
    autoencoder : torch.nn.Module, default=None
        Autoencoder whose encoder it is, for the pre-training.
    """

    def __init__(
        self,
        encoder: nn.Module,
        latent_dim: int,
        activation: str,
        n_classes: int,
        autoencoder: nn.Module | None = None,
    ):
        super().__init__()
        self.encoder = encoder
        self.activation = ACTIVATIONS[activation]()
        self.head = nn.Linear(latent_dim, n_classes)
        initialise(self.head, "identity")
        self.autoencoder = autoencoder

    def code(self, X: Tensor) -> Tensor:
        """Last hidden layer."""
        return self.activation(self.encoder(X[:, :-1]))

    def forward(self, X: Tensor) -> Tensor:
        return self.head(self.code(X))

    def by_parts(self, function: Callable[[Tensor, Tensor], Tensor], X: Tensor) -> Tensor:
        """Apply ``function(logits, numbers of the given labels)``, without all logits at once."""
        size = max(1, _LOGITS // self.head.out_features)
        parts = zip(self.code(X).split(size), X[:, -1].split(size), strict=True)
        return torch.cat([function(self.head(code), given) for code, given in parts])


class _WithoutLabel(nn.Module):
    """A network of the features, called with labelled rows."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, X: Tensor):
        return self.network(X[:, :-1])


_LABELS_BESIDE = (
    "label_column=None takes the labels as y: pass them to fit and to the methods that score, or say "
    "by label_column which column of X holds them. Within UAI, they have to be in X."
)


class LabelConsistency(AutoencodingDetector):
    """Classifier of a given label: rows whose label does not suit their features are anomalies.

    One column of the data is a label that every row has been given: a class, a diagnosis, a product
    group. It says nothing of anomalies, so this is an unsupervised detector. A network learns to tell
    the label from the other columns, and the score is the negative cross-entropy of the label that
    the row has (the model Class of [1]_, eq 7): an anomaly is a row of which the network is certain
    that it belongs under another label.

    Parameters
    ----------
    label_column : int, str or None, default=-1
        The column of X that holds the label: its position, where negative ones count from the end; or
        its name, for data frames. The labels are numbers; in a data frame or an array of objects
        they may be strings. ``None`` if the labels come beside the rows, as ``y`` of ``fit`` and of
        the methods that score; otherwise ``y`` is ignored.
    hidden_layer_sizes : tuple of int, default=(64, 32)
        Widths of the hidden layers before the last one, at least 1 each. In a convolutional network,
        those of the dense layers between the convolutions and the last one.
    latent_dim : int, default=32
        Width of the last hidden layer, which :meth:`transform` returns.
    input_shape : tuple of int or None, default=None
        What the features of a row, without the label, are folded to: (channels, height, width) for
        images, (channels, length) for series. The network is then convolutional. ``None`` takes them
        as they are, for a fully connected network.
    network : torch.nn.Module, callable or None, default=None
        Own encoder in the place of the default one: a plain module from flat features, without the
        label, to codes, or one with ``encoder`` (and ``decoder``, for ``pretrain``), which is copied
        with its weights; or a callable that takes the number of features and returns such a module.
    pretrain : {"end_to_end", "layerwise"} or None, default=None
        Training of the encoder as a part of an autoencoder of the features before the classifier.
    max_iter : int or None, default=None
        Number of epochs. ``None`` takes as many as make 2,000 steps, within 20 and 200. A long
        training, or one in long steps, learns the wrong labels by heart.
    learning_rate : float, default=1e-4
        Step size of the optimizer.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels of the training rows, sorted.

    See Also
    --------
    DeepClassifier : Learns from labels that say which rows are anomalies.
    DenoisingAutoencoder : The other detector of the paper; it looks for rows unlike all others.

    Notes
    -----
    A row with a label that no training row had gets the score -1e30: it is more abnormal than any
    other. The label itself is not scaled.

    The network of [1]_ (appendix A.1) has the hidden layers 256, 64 and 8, and is trained by RMSProp
    with a learning rate of 0.01 on batches of 256 rows for 5,000 steps:
    ``LabelConsistency(hidden_layer_sizes=(256, 64), latent_dim=8, optimizer="rmsprop",
    learning_rate=0.01, batch_size=256, max_iter=n)`` with as many epochs n as make 5,000 batches.

    References
    ----------
    .. [1] Pimentel et al., "UaiNets: From Unsupervised to Active Deep Anomaly Detection", 2018.
       https://arxiv.org/abs/1805.09411

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_wine
    >>> from anomaly_estimators import LabelConsistency
    >>> X, cultivar = load_wine(return_X_y=True)
    >>> cultivar[7] = 2  # a mistake
    >>> detector = LabelConsistency(contamination=0.01, random_state=0)
    >>> predicted = detector.fit_predict(np.column_stack([X, cultivar]))
    >>> np.flatnonzero(predicted == -1)
    array([7])
    """

    _parameter_constraints: dict = {
        **AutoencodingDetector._parameter_constraints,
        "label_column": [Integral, str, None],
    }
    _scores_compare = True

    def __init__(self, *, label_column=-1, latent_dim=32, learning_rate=1e-4, **inherited):
        super().__init__(latent_dim=latent_dim, learning_rate=learning_rate, **inherited)
        self.label_column = label_column

    # The face: y is the label where no column is

    def fit(self, X, y=None):
        """Fit the detector.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows, at least two, with their labels in one of the columns.
        y : array-like of shape (n_samples,), default=None
            The labels if ``label_column=None``; ignored otherwise.

        Returns
        -------
        self : object
            The fitted estimator. If the fit fails, the estimator is left as it was.

        Raises
        ------
        ValueError
            If a parameter is impossible; if X has missing or infinite values or too few rows; or if
            the labels are missing, all the same, the only column of X, or more than 10,000 that
            hardly repeat.

        Warns
        -----
        UserWarning
            If more than 100 labels hardly repeat: more than half as many as there are rows.
        """
        return super().fit(self._labelled(X, y))

    def score_samples(self, X, y=None) -> np.ndarray:
        """Score rows: the higher, the better a label suits the features.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            The labels if ``label_column=None``; ignored otherwise.

        Returns
        -------
        ndarray of shape (n_samples,)
            The negative cross-entropy of the given label; float32 for float32 rows, else float64.
        """
        return super().score_samples(self._labelled(X, y))

    def decision_function(self, X, y=None) -> np.ndarray:
        """Score rows relative to the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            The labels if ``label_column=None``; ignored otherwise.

        Returns
        -------
        ndarray of shape (n_samples,), dtype float64
            ``score_samples(X) - offset_``: negative for rows that are predicted as anomalies.
        """
        return super().decision_function(self._labelled(X, y))

    def predict(self, X, y=None) -> np.ndarray:
        """Tell rows with a label that does not suit them from the others.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            The labels if ``label_column=None``; ignored otherwise.

        Returns
        -------
        ndarray of shape (n_samples,), dtype int64
            -1 for anomalies, +1 for normal rows.
        """
        return super().predict(self._labelled(X, y))

    def fit_predict(self, X, y=None) -> np.ndarray:
        """Fit the detector and tell the anomalies among the training rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            The labels if ``label_column=None``; ignored otherwise.

        Returns
        -------
        ndarray of shape (n_samples,), dtype int64
            -1 for anomalies, +1 for normal rows.
        """
        return super().fit_predict(self._labelled(X, y))

    def score(self, X, y=None) -> float:
        """Mean score of rows, for a search without knowledge of anomalies.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            The labels if ``label_column=None``; ignored otherwise, with a warning where it holds labels
            of more than one kind.

        Returns
        -------
        float
            Mean of ``score_samples(X)``: the mean log probability of the given labels, which compares
            scalers and networks on the same rows. A label that no training row had decides it alone.
        """
        beside = self.label_column is None
        return super().score(self._labelled(X, y), None if beside else y)

    def predict_label(self, X) -> np.ndarray:
        """Tell the label that the features speak for.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows as in :meth:`fit`; their own labels have no part in the result.

        Returns
        -------
        ndarray of shape (n_samples,)
            Of the kind of ``classes_``.
        """
        codes = self._map_parts(lambda logits, given: logits.argmax(dim=1), X)
        return self.classes_[codes.astype(np.int64)]

    def predict_label_proba(self, X) -> np.ndarray:
        """Tell the probability of every label, given the features.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows as in :meth:`fit`; their own labels have no part in the result.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``; float32 for float32 rows, else float64.
        """
        return self._map_parts(lambda logits, given: logits.nan_to_num().softmax(dim=1), X)

    def _map_parts(self, function: Callable[[Tensor, Tensor], Tensor], X) -> np.ndarray:
        check_is_fitted(self)
        rows = self._validate_rows(X, reset=False)
        return join(self._map(lambda module, X: module.by_parts(function, X), rows), rows.shape[0])

    # The network

    def _build_module(self, n_features: int) -> nn.Module:
        encoder, autoencoder = self._build_encoder(n_features - 1)
        width = code_width(encoder, n_features - 1)
        return LabelNetwork(encoder, width, self.activation, len(self.classes_), autoencoder)

    def _phases(self, module: nn.Module) -> list[Phase]:
        def loss(logits: Tensor, X: Tensor, y: Tensor) -> Tensor:
            return label_cross_entropy(logits, X[:, -1]).mean()

        return [
            *map(_of_features, self._encoder_pretraining(module.autoencoder)),
            Phase(name="training", loss=loss, max_iter=self.max_iter),
        ]

    def _trim(self, module: nn.Module) -> None:
        module.autoencoder = None

    def _module_transform(self, module: nn.Module, X: Tensor) -> Tensor:
        return module.code(X)

    def _module_score(self, module: nn.Module, X: Tensor) -> Tensor:
        return module.by_parts(label_cross_entropy, X)

    # The labels on their way to the network: a validated row has its label as a number

    def _labelled(self, X, y):
        if self.label_column is not None or isinstance(X, LabelledRows):
            return X
        return LabelledRows(X, y)

    def _validate_rows(self, X, *, reset: bool) -> np.ndarray:
        if isinstance(X, LabelledRows):
            return self._validate_pair(*X, reset=reset)
        if self.label_column is None:
            if reset:
                raise ValueError(_LABELS_BESIDE)
            # Without labels, for the methods that look at the features alone.
            return super()._validate_rows(X, reset=reset)
        labels = None
        if has_kinds(X):
            validate_data(self, X, reset=reset, skip_check_array=True)
            column = self._find_column() if reset else self._label_column
            labels = strings_in_column(X, column)
        if labels is None:
            return self._validate_numbers(X, reset=reset)
        others = np.delete(np.arange(self.n_features_in_), column)
        rest = _safe_indexing(X, others, axis=1)
        with explained(rest):
            features = check_array(
                rest,
                dtype=[np.float64, np.float32],
                order="C",
                ensure_min_samples=2 if reset else 1,
                estimator=self,
                input_name="X",
            )
        return self._join(features, labels, column, reset=reset)

    def _validate_numbers(self, X, *, reset: bool) -> np.ndarray:
        """Validate rows whose labels are numbers, which stay where they are."""
        rows = super()._validate_rows(X, reset=reset)
        if reset:
            column = self._find_column()
            self._set_classes(distinct_in_column(rows, column), rows.shape[0], column)
        elif self.classes_.dtype == object:
            # Numbers are no labels where these are strings.
            rows = np.array(rows, dtype=np.float32 if rows.dtype == np.float32 else np.float64)
            rows[:, self._label_column] = np.nan
        return rows

    def _validate_pair(self, X, y, *, reset: bool) -> np.ndarray:
        """Validate rows whose labels come beside them."""
        if y is None:
            raise ValueError(_LABELS_BESIDE)
        features, labels = super()._validate_rows(X, reset=reset), read_given_labels(y)
        check_consistent_length(features, labels)
        return self._join(features, labels, features.shape[1], reset=reset)

    def _find_column(self) -> int:
        names = vars(self).get("feature_names_in_")
        return find_column(self.label_column, self.n_features_in_, names)

    def _join(
        self, features: np.ndarray, labels: np.ndarray, column: int, *, reset: bool
    ) -> np.ndarray:
        """Put numbers in the place of the labels; NaN for those without a class."""
        check_no_gaps(labels)
        if reset:
            self._set_classes(distinct_labels(labels), len(labels), column)
        codes = encode_labels(labels, self.classes_)
        numbers = np.where(codes < 0, np.nan, self._class_numbers()[codes])
        single = features.dtype == np.float32
        features = np.asarray(features, dtype=np.float32 if single else np.float64)
        return np.insert(features, column, numbers, axis=1)

    def _set_classes(self, found: np.ndarray, n_rows: int, column: int) -> None:
        if self.warm_start and "net_" in vars(self):
            if column != self._label_column:
                raise ValueError(
                    f"The label is in column {column}, but was in column {self._label_column} in the fit "
                    "that warm_start=True goes on from: fit a new estimator, or set warm_start=False."
                )
            new = found[encode_labels(found, self.classes_) < 0]
            if len(new):
                raise ValueError(
                    f"The labels {new[:5].tolist()} were not among those of the fit that warm_start=True "
                    "goes on from: fit a new estimator, or set warm_start=False."
                )
            return
        if len(found) < 2:
            raise ValueError(
                f"All rows have the label {found[0]}, and there is nothing to tell it from: see that "
                f"label_column={self.label_column!r} is the column of the labels."
            )
        if len(found) > max(_MANY_LABELS, n_rows / 2):
            message = (
                f"The {n_rows} rows have {len(found)} different labels, and what hardly repeats cannot "
                f"be learned: see that label_column={self.label_column!r} is the column of the labels."
            )
            if len(found) > _TOO_MANY_LABELS:
                raise ValueError(message)
            warnings.warn(message, UserWarning, stacklevel=6)
        self._label_column = column
        self.classes_ = found

    def _class_numbers(self) -> np.ndarray:
        """What stands for the classes in validated rows: themselves if they are numbers in a column."""
        in_place = self.label_column is not None and self.classes_.dtype != object
        return self.classes_ if in_place else np.arange(len(self.classes_), dtype=np.float64)

    def _fit_scaler(self, X: np.ndarray) -> LabelledScaler:
        scaler = LabelledScaler(
            scaler=make_scaler(self.scaler),
            label_column=self._label_column,
            classes=self._class_numbers(),
        )
        return fit_scaler(scaler, X)


def _of_features(phase: Phase) -> Phase:
    """Leave the label out of a phase of pre-training."""

    def loss(outputs, X: Tensor, y: Tensor) -> Tensor:
        return phase.loss(outputs, X[:, :-1], y)

    return replace(phase, module=_WithoutLabel(phase.module), loss=loss)
