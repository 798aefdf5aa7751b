"""UAI: a layer that makes any deep detector an active one."""

import copy
from itertools import chain
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from anomaly_estimators.active._joint_training import (
    arrays_of,
    head_of,
    train_round,
    untrained_head,
)
from anomaly_estimators.active._trust import Trust
from anomaly_estimators.active.base import ActiveDetector
from anomaly_estimators.base import finite_scores
from anomaly_estimators.deep import DeepDetector
from anomaly_estimators.nn.active import join
from anomaly_estimators.row_blocks import join as join_rows
from anomaly_estimators.row_blocks import precision_of
from anomaly_estimators.training.guards import warn_if_collapsed
from anomaly_estimators.training.moments import check_moments
from anomaly_estimators.training.net import OPTIMIZERS
from anomaly_estimators.training.placement import place_rows
from anomaly_estimators.training.rounds import AuditedRows
from anomaly_estimators.training.rows import RowSource

__all__ = ["UAI"]

# Rounds that a fit with labels stands for.
_ROUNDS_OF_A_FIT = 10
# Rows among which "auto" compares the scores before it knows how many are asked for in a round.
_COMPARED = 10
_COLUMNS = {"base": 0, "uai": 1}


class UAI(ActiveDetector):
    """Universal anomaly inference: a layer on a deep detector, trained by an expert's verdicts ([1]_).

    A logistic head takes the detector's latent representation l(x) and its anomaly score s(x) and
    gives the probability that an expert calls the row an anomaly (eq 3). Head and detector are trained
    together, on the cross-entropy of the audited rows and on the detector's own loss; the gradient
    passes through l, not through s. Until some rows were audited, the detector's own score chooses.

    Parameters
    ----------
    estimator : DeepDetector or None, default=None
        The detector to build upon, which is cloned: any deep one of this library. ``None`` takes a
        :class:`DenoisingAutoencoder`, as the paper does. A fitted detector in a
        :class:`sklearn.frozen.FrozenEstimator` is not trained anew, but taken as it is for the
        start.
    cold_start : int or "auto", default="auto"
        Rounds in which the detector's own score chooses the rows. "auto" decides after every round,
        by the number of anomalies that the head expects among the rows that it would choose.
    n_steps : int, default=100
        Steps of the optimizer in a round.
    audited_batch_size : int, default=64
        Audited rows in a step, drawn with replacement, beside a batch of the table.
    audit_weight : float, default=1.0
        Weight of the audited rows' cross-entropy, against 1 for the detector's own loss.
    optimizer : {"adam", "adamw", "rmsprop", "sgd"}, callable or None, default=None
        Optimizer of the rounds; ``None`` takes the detector's.
    learning_rate : float or None, default=None
        Step size of the detector's network in the rounds; ``None`` takes the detector's own.
    head_learning_rate : float, default=1e-2
        Step size of the head, which has to learn within a round or two.
    random_state : int, RandomState instance or None, default=None
        Decides the initial weights and the batches, also of the detector if that has no
        ``random_state`` of its own.

    Attributes
    ----------
    estimator_ : DeepDetector
        The detector as it was trained by now.
    coef_ : ndarray of shape (latent_dim + 1,)
        Weights W of the head, for the latent representation and then the score (eq 3).
    intercept_ : float
        Bias b of the head.
    chosen_score_ : {"base", "uai"}
        Which score ranks the rows by now: the detector's own, or the head's.
    loss_curve_ : list of float
        Mean training loss of every round.

    See Also
    --------
    active_search : The whole audit in one call.
    AAD : Active detection over an ensemble.
    DeepSAD : Learns from labels that are given once.

    Notes
    -----
    ``fit(X, y)`` reads ``y`` by its sign: +1 known normal, -1 known anomaly, 0 not audited. Where both
    kinds are known at once, the head chooses from the start.

    A round costs the same whether ten rows were audited or ten thousand.

    The paper's settings are ``DenoisingAutoencoder(hidden_layer_sizes=(256, 64), latent_dim=8)`` with
    RMSProp at a rate of 0.01, batches of 256 and 5,000 steps before the first round; ``cold_start=10``, the
    same rate for network and head, and k = 10 rows a round, or 3 where there are less than 100 anomalies.
    The defaults find more on most tables.

    References
    ----------
    .. [1] Pimentel et al., "UaiNets: From Unsupervised to Active Deep Anomaly Detection", 2018.
       https://openreview.net/forum?id=HJex0o05F7

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from anomaly_estimators import UAI, Autoencoder
    >>> X, malignant_is_0 = load_breast_cancer(return_X_y=True)
    >>> detector = UAI(Autoencoder(max_iter=5), cold_start=1, random_state=0).fit(X)
    >>> for _ in range(3):
    ...     rows = detector.query(X, k=10)
    ...     verdicts = [-1 if malignant_is_0[row] == 0 else 1 for row in rows]  # the expert
    ...     detector = detector.teach(rows, verdicts)
    >>> int((detector.labels_ != 0).sum())
    30
    """

    _parameter_constraints: dict = {
        **ActiveDetector._parameter_constraints,
        "estimator": [HasMethods(["fit", "score_samples"]), None],
        "cold_start": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "audited_batch_size": [Interval(Integral, 1, None, closed="left")],
        "audit_weight": [Interval(Real, 0, None, closed="neither")],
        "optimizer": [StrOptions(set(OPTIMIZERS)), callable, None],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "head_learning_rate": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
    }

    _table_attributes = ActiveDetector._table_attributes | {"_held"}

    def __init__(
        self,
        estimator=None,
        *,
        cold_start="auto",
        n_steps=100,
        audited_batch_size=64,
        audit_weight=1.0,
        optimizer=None,
        learning_rate=None,
        head_learning_rate=1e-2,
        random_state=None,
        **inherited,
    ):
        super().__init__(**inherited)
        self.estimator = estimator
        self.cold_start = cold_start
        self.n_steps = n_steps
        self.audited_batch_size = audited_batch_size
        self.audit_weight = audit_weight
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.head_learning_rate = head_learning_rate
        self.random_state = random_state

    # The detector below

    def _unfitted_base(self) -> DeepDetector:
        if self.estimator is None:
            from anomaly_estimators.reconstruction.denoising import DenoisingAutoencoder

            return DenoisingAutoencoder()
        if isinstance(self.estimator, FrozenEstimator):
            return copy.copy(self.estimator.estimator)
        return clone(self.estimator)

    def _check_parameters(self) -> None:
        base = self._unfitted_base()
        if not isinstance(base, DeepDetector) or not hasattr(base, "_module_transform"):
            raise TypeError(
                "UAI builds upon a deep detector with a latent representation, such as Autoencoder or "
                f"DAGMM; got {type(base).__name__}. For IsolationForest and LODA there is AAD."
            )
        if isinstance(self.estimator, FrozenEstimator):
            check_is_fitted(base)
        base._validate_params()
        base._check_parameters()

    def _validate_rows(self, X, *, reset: bool) -> np.ndarray:
        # By the detector below, which knows what columns it can read, and how.
        if not reset:
            return self.estimator_._validate_rows(X, reset=False)
        base = self._unfitted_base()
        frozen = isinstance(self.estimator, FrozenEstimator)
        rows = base._validate_rows(X, reset=not frozen)
        if frozen and len(rows) < 2:
            raise ValueError(f"Found array with {len(rows)} sample(s), where an audit needs 2.")
        vars(self).pop("feature_names_in_", None)
        for name in ("n_features_in_", "feature_names_in_"):
            if name in vars(base):
                setattr(self, name, getattr(base, name))
        self._base = base
        return rows

    @property
    def scaler_(self):
        return self.estimator_.scaler_

    # Learning

    def _start(self, X: np.ndarray, labels: np.ndarray) -> None:
        self._seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        base = vars(self).pop("_base")
        if not isinstance(self.estimator, FrozenEstimator):
            if base.random_state is None:
                base.random_state = self._seed
            base._fit_rows(X, labels if base._uses_labels else None)
        self.estimator_ = base
        self._moments: dict = {}
        self._moments_of = ""
        self.loss_curve_ = []
        self._head = self._new_head(X)
        self._trust = Trust()
        self._starts_warm = bool((labels < 0).any() and (labels > 0).any())
        self.chosen_score_ = "base"
        if labels.any():
            self._train(X, labels, n_steps=_ROUNDS_OF_A_FIT * self.n_steps)

    def _continue(self, X: np.ndarray, labels: np.ndarray, taught: np.ndarray) -> None:
        if len(taught):
            # What the head says of these rows before it learns their verdicts.
            logits = self._both_scores(X[taught])[:, _COLUMNS["uai"]]
            self._trust = self._trust.updated(self.chosen_score_, logits, labels[taught] < 0)
        if labels.any():
            self._train(X, labels, n_steps=self.n_steps)

    def _train(self, X: np.ndarray, labels: np.ndarray, n_steps: int) -> None:
        """Train the detector and the head together on some steps."""
        base = self.estimator_
        optimizer = base.optimizer if self.optimizer is None else self.optimizer
        # Moments mean something to the optimizer that they are of.
        name = optimizer if isinstance(optimizer, str) else repr(optimizer)
        moments = self._moments if name == self._moments_of else {}
        done = train_round(
            base,
            head_of(self._head),
            moments,
            self._place(X, labels, n_steps),
            optimizer=optimizer,
            learning_rate=base.learning_rate if self.learning_rate is None else self.learning_rate,
            head_learning_rate=self.head_learning_rate,
            audit_weight=self.audit_weight,
            # One for every round, whatever came between them.
            seed=int(
                np.random.SeedSequence([self._seed, len(self.loss_curve_)]).generate_state(1)[0]
            ),
        )
        done.base._finish(X)
        self.estimator_ = done.base
        self._head = arrays_of(done.head)
        self._moments, self._moments_of = done.moments, name
        self.loss_curve_ = [*self.loss_curve_, done.loss]

    def _place(self, X: np.ndarray, labels: np.ndarray, n_steps: int) -> AuditedRows:
        """Bring the table to the device, where it stays from round to round."""
        base = self.estimator_
        seen = labels if base._uses_labels else None
        held = vars(self).get("_held")
        if held is None or held[0] is not X:
            source = RowSource(X, base.scaler_, np.float32)
            rows, _ = place_rows(source, seen, base.net_.device)
            self._held = (X, rows)
        elif seen is not None:
            rows = held[1].relabelled(torch.from_numpy(seen))
        else:
            rows = held[1]
        audited = self._identical(X).one_of_each(labels)
        return AuditedRows(
            rows,
            torch.from_numpy(audited),
            torch.from_numpy(labels[audited]),
            n_steps,
            self.audited_batch_size,
        )

    def _new_head(self, X: np.ndarray) -> dict[str, np.ndarray]:
        base = self.estimator_
        inputs = base._map(
            lambda module, rows: join(*base._module_latent_and_score(module, rows)), X
        )
        inputs = (torch.from_numpy(piece) for piece in inputs)
        first = next(inputs)
        head = untrained_head(first.shape[1])
        head.standardise(chain([first], inputs))
        return arrays_of(head)

    @property
    def coef_(self) -> np.ndarray:
        return self._head["linear.weight"][0] / self._head["scale"]

    @property
    def intercept_(self) -> float:
        return float(self._head["linear.bias"][0] - self.coef_ @ self._head["center"])

    # Scores

    def _anomaly_score(self, X: np.ndarray) -> np.ndarray:
        return self._both_scores(X)[:, _COLUMNS[self.chosen_score_]]

    def _both_scores(self, X: np.ndarray, dtype=None) -> np.ndarray:
        """The detector's score and the head's log-odds, of shape (n, 2)."""
        base = self.estimator_
        dtype = precision_of(X) if dtype is None else dtype
        head = head_of(self._head).to(base.net_.device)
        head = head if dtype == np.float32 else head.double()

        def both(module: nn.Module, rows: Tensor) -> Tensor:
            latent, score = base._module_latent_and_score(module, rows)
            logits = head(latent, score)
            return torch.stack([score.to(logits.dtype), logits], dim=1)

        return join_rows(base._map(both, X, dtype=dtype), X.shape[0])

    def _seen_rounding(self, scores: np.ndarray, X: np.ndarray) -> float:
        # A round passes the table through the network once, and no row twice.
        return 0.0

    def _calibrate(self, X: np.ndarray) -> None:
        both = finite_scores(self._both_scores(X, np.float64))
        # Both thresholds from one pass. In a copy: a round that trained nothing may fail yet.
        self.estimator_ = copy.copy(self.estimator_)
        self.estimator_._take_scores(both[:, 0])
        left = self._identical(X).untouched(self.labels_)
        self.chosen_score_ = self._choose_score(both[left, _COLUMNS["uai"]])
        self._set_threshold(np.ascontiguousarray(both[:, _COLUMNS[self.chosen_score_]]), X)

    def _choose_score(self, scores: np.ndarray) -> str:
        """Name the score that is to rank the rows from now on, by the head's of those not audited."""
        if self._starts_warm:
            return "uai"
        if self.cold_start != "auto":
            return "base" if self.n_rounds_ < self.cold_start else "uai"
        if not (self.labels_ < 0).any():
            return "base"
        left = np.sort(scores)[:_COMPARED]
        return "uai" if len(left) and self._trust.prefers_head(-left) else "base"

    def _set_fitted_state(self, state: dict) -> None:
        super()._set_fitted_state(state)
        self._trust = Trust(*map(float, self._trust))
        if (
            len(self._trust) != len(state["_trust"])
            or self._seed < 0
            or not (isinstance(self._starts_warm, bool) and isinstance(self.loss_curve_, list))
        ):
            raise ValueError("the books of the audit are none")
        networks = (self.estimator_.module_, head_of(self._head))
        parameters = [p for part in networks for p in part.parameters() if p.requires_grad]
        check_moments(self._moments, parameters)
        # Refuses a head that is none, and one that does not suit the detector.
        self._both_scores(np.zeros((1, self.n_features_in_), dtype=np.float32))

    def _check_scores(self, scores: np.ndarray, X: np.ndarray) -> None:
        warn_if_collapsed(scores, X)
