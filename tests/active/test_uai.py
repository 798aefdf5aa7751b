"""UAI: what its scores are, what a round trains and costs, and over which detectors."""

import copy
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from _public import deep_detectors, learned, small
from numpy.testing import assert_array_equal
from scipy.special import expit
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import Callback
from torch import nn

from anomaly_estimators import (
    DAGMM,
    KDE,
    SSDGM,
    UAI,
    AnoDM,
    Autoencoder,
    DeepClassifier,
    DeepSAD,
    DeepSVDD,
    DenoisingAutoencoder,
    LabelConsistency,
)
from anomaly_estimators.base import threshold
from anomaly_estimators.nn.autoencoder import AutoencoderNetwork
from anomaly_estimators.training import placement
from anomaly_estimators.training.batches import ResidentBatches, StreamedBatches
from anomaly_estimators.training.rounds import AuditedRows
from anomaly_estimators.training.rows import RowSource


def make_table(n_rows=60, n_columns=4):
    """Rows near a plane, the last column a number of few kinds; anomalies lie off it."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n_rows, 2)) @ rng.normal(size=(2, n_columns))
    truth = np.where(np.arange(n_rows) % 6 == 1, -1, 1)
    rows += np.where(truth < 0, 1.5, 0.1)[:, None] * rng.normal(size=rows.shape)
    rows[:, -1] = np.arange(n_rows) % 3
    return rows, truth


def make_clusters():
    """Two clusters apart from the many rows; which of them is the expert's, nothing tells."""
    table = np.random.default_rng(0).normal(size=(200, 4))
    table[:20, 0] += 5.0
    table[20:40, 1] += 5.0
    truths = [np.where(np.isin(np.arange(200), rows), -1, 1) for rows in (range(20), range(20, 40))]
    return table, truths


X, TRUTH = make_table()
CLUSTERS, WANTED = make_clusters()
IMAGES = np.random.default_rng(1).normal(size=(60, 64))


def uai(base=None, **params):
    base = small(Autoencoder) if base is None else base
    defaults = {"n_steps": 5, "audited_batch_size": 8, "cold_start": 0, "random_state": 0}
    return UAI(base, **{**defaults, **params})


def over_clusters(**params):
    base = small(
        Autoencoder, hidden_layer_sizes=(8,), latent_dim=3, max_iter=10, learning_rate=1e-3
    )
    return uai(base, **{"n_steps": 40, **params}).fit(CLUSTERS)


def audit(detector, X=X, truth=TRUTH, rounds=2, k=6):
    for _ in range(rounds):
        rows = detector.query(X, k=k)
        detector.teach(rows, truth[rows])
    return detector


def base_scores(detector, X=X):
    """s of eq 2, from the detector below."""
    return -detector.estimator_.score_samples(X)


def log_odds(detector, X=X):
    """Eq 3 before the sigmoid, from the public parts."""
    latent = detector.estimator_.transform(X)
    return (
        np.column_stack([latent, base_scores(detector, X)]) @ detector.coef_ + detector.intercept_
    )


def cross_entropy(detector, X, rows, verdicts):
    """Of audited rows."""
    p = expit(log_odds(detector, X)[rows])
    return -np.log(np.where(verdicts < 0, p, 1 - p)).mean()


# Any detector below


class Plain(nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(n_features, 3), nn.BatchNorm1d(3), nn.ReLU())
        self.decoder = nn.Linear(3, n_features)

    def forward(self, X):
        code = self.encoder(X)
        return code, self.decoder(code)


def module(n_features):
    torch.manual_seed(3)
    return Plain(n_features)


BASES = {
    **{cls.__name__: (partial(small, cls), X) for cls in deep_detectors()},
    # Of its score an UAI layer takes the reconstruction error alone.
    "AnoDM": (partial(small, AnoDM, alpha=1.0, scale_terms=False, n_draws=0), X),
    "batch norm": (partial(small, Autoencoder, batch_norm=True), X),
    "batch norm DAGMM": (partial(small, DAGMM, batch_norm=True), X),
    "batch norm classifier": (partial(small, DeepClassifier, batch_norm=True), X),
    "images": (partial(small, Autoencoder, input_shape=(1, 8, 8), channels=(2,)), IMAGES),
    "noisy images": (
        partial(small, DenoisingAutoencoder, input_shape=(1, 8, 8), channels=(2,)),
        IMAGES,
    ),
    "images on a sphere": (
        partial(small, DeepSAD, input_shape=(1, 8, 8), channels=(2,), pretrain=None),
        IMAGES,
    ),
    "own network": (partial(small, Autoencoder, network=module), X),
    "own module": (
        partial(small, Autoencoder, network=AutoencoderNetwork(nn.Linear(4, 2), nn.Linear(2, 4))),
        X,
    ),
    "pre-trained": (partial(small, DeepSAD, pretrain="layerwise", pretrain_max_iter=1), X),
    "soft boundary": (partial(small, DeepSVDD, objective="soft_boundary"), X),
    "averaged": (partial(small, Autoencoder, ema_decay=0.9, lr_schedule="cosine"), X),
    "stopped": (partial(small, DeepClassifier, early_stopping=True), X),
    "unscaled": (partial(small, Autoencoder, scaler=None, optimizer="sgd"), X),
}
bases = pytest.mark.parametrize(("base", "table"), BASES.values(), ids=BASES)


@bases
def test_both_scores_are_those_of_the_paper(base, table):
    detector = uai(base(), cold_start=1).fit(table)
    audit(detector, table, rounds=1)
    assert detector.chosen_score_ == "uai"
    logits = log_odds(detector, table)
    np.testing.assert_allclose(
        -detector.score_samples(table), logits, rtol=1e-4, atol=1e-5 * np.ptp(logits)
    )
    assert np.isfinite(logits).all() and len(np.unique(logits)) > 10
    assert detector.coef_.shape == (detector.estimator_.transform(table).shape[1] + 1,)
    assert isinstance(detector.intercept_, float)
    own = detector.estimator_
    assert own.offset_ == threshold(own.score_samples(table), own.contamination)
    detector.set_params(cold_start=9)
    audit(detector, table, rounds=1)
    assert detector.chosen_score_ == "base"
    assert_array_equal(-detector.score_samples(table), base_scores(detector, table))
    assert detector.offset_ == detector.estimator_.offset_


@bases
@pytest.mark.filterwarnings("ignore:No row is labelled")
def test_before_the_first_verdict_the_rows_are_those_of_the_detector(base, table):
    alone = base().fit(table)
    detector = uai(base(), cold_start="auto").fit(table)
    assert detector.chosen_score_ == "base"
    assert_array_equal(detector.score_samples(table), alone.score_samples(table))
    assert_array_equal(detector.predict(table), alone.predict(table))
    expected = np.argsort(alone.score_samples(table), kind="stable")
    assert_array_equal(detector.query(table, k=60), expected)
    # The head ranks as the score does, but for what its type cannot tell apart.
    detector = uai(FrozenEstimator(alone), cold_start=0).fit(table)
    assert detector.chosen_score_ == "uai"
    scores, expected = detector.score_samples(table), alone.score_samples(table)
    np.testing.assert_allclose(
        (scores - scores.mean()) / scores.std(),
        (expected - expected.mean()) / expected.std(),
        rtol=1e-4,
        atol=1e-4,
    )


few_bases = pytest.mark.parametrize(
    ("base", "table"),
    [BASES[name] for name in ("DAGMM", "DeepSAD", "SSDGM", "batch norm", "images", "own network")],
    ids=lambda part: "",
)


@few_bases
def test_a_round_trains_head_and_network_and_nothing_of_before(base, table):
    detector = audit(uai(base()).fit(table), table, rounds=1)
    before, W = detector.estimator_, detector.coef_.copy()
    kept = learned(before)
    audit(detector, table, rounds=1)
    assert learned(before) == kept
    assert detector.estimator_ is not before and (detector.coef_ != W).all()
    old, new = (dict(d.module_.named_parameters()) for d in (before, detector.estimator_))
    assert old.keys() == new.keys()
    assert any(not torch.equal(old[name], new[name]) for name in old)
    assert not detector.estimator_.module_.training
    assert all(parameter.requires_grad for parameter in new.values())
    assert repr(detector.estimator_.get_params()) == repr(base().get_params())


@bases
@pytest.mark.filterwarnings("ignore:No row is labelled")
def test_frozen_detectors_are_taken_as_they_are(base, table):
    own = base().fit(table)
    before = learned(own)
    detector = uai(FrozenEstimator(own), cold_start=10).fit(table)
    assert_array_equal(detector.score_samples(table), own.score_samples(table))
    assert learned(detector.estimator_) == before and detector.estimator_ is not own
    audit(detector, table, rounds=1)
    detector.partial_fit(table[::-1][:40].copy(), TRUTH[:40])
    assert learned(own) == before
    assert learned(detector.estimator_) != before
    # And so it begins again where the frozen one is.
    assert_array_equal(detector.fit(table).score_samples(table), own.score_samples(table))
    assert learned(own) == before


def test_frozen_detector_of_other_rows():
    """It need not have seen the table, but has its threshold set by it."""
    own = small(Autoencoder).fit(X[:30], None)
    before = learned(own)
    detector = uai(FrozenEstimator(own), cold_start=3).fit(X)
    # Not trained on it either.
    assert_array_equal(detector.score_samples(X), own.score_samples(X))
    assert (detector.predict(X) == -1).sum() == 6
    assert detector.estimator_.offset_ != own.offset_ and learned(own) == before
    with pytest.raises(ValueError, match="features"):
        uai(FrozenEstimator(own)).fit(X[:, :3])
    with pytest.raises(ValueError, match="1 sample"):
        uai(FrozenEstimator(own)).fit(X[:1])
    assert learned(own) == before


def test_frozen_with_labels_starts_warm():
    own = small(Autoencoder).fit(X)
    before = learned(own)
    detector = uai(FrozenEstimator(own), cold_start="auto").fit(X, TRUTH)
    assert detector.chosen_score_ == "uai" and learned(own) == before


@pytest.mark.parametrize(
    "estimator",
    [
        IsolationForest(),
        KDE(),
        UAI(),
        FrozenEstimator(IsolationForest().fit(X)),
        FrozenEstimator(FrozenEstimator(small(Autoencoder).fit(X))),
        FrozenEstimator(UAI()),
    ],
    ids=lambda estimator: str(estimator)[:40],
)
def test_only_deep_detectors_can_be_built_upon(estimator):
    detector = uai(estimator)
    before = learned(detector)
    with pytest.raises(TypeError, match="UAI builds upon a deep detector"):
        detector.fit(X)
    assert learned(detector) == before


def test_what_is_no_detector_is_refused():
    for estimator in (3, "Autoencoder", object()):
        with pytest.raises(ValueError, match="'estimator' parameter of UAI"):
            uai(estimator).fit(X)
    with pytest.raises(TypeError):
        uai(Autoencoder).fit(X)
    with pytest.raises(NotFittedError, match="Autoencoder"):
        uai(FrozenEstimator(small(Autoencoder))).fit(X)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [({"latent_dim": 0}, "latent_dim"), ({"device": "abacus"}, "abacus"), ({"noise": -1}, "noise")],
)
def test_parameters_of_the_detector_are_checked_before_any_work(wrong, error, monkeypatch):
    monkeypatch.setattr(DenoisingAutoencoder, "_fit_rows", None)
    with pytest.raises(ValueError, match=error):
        uai(small(DenoisingAutoencoder, **wrong)).fit(X)


@pytest.mark.parametrize(
    "wrong",
    [
        {"cold_start": -1},
        {"cold_start": 0.5},
        {"cold_start": "never"},
        {"n_steps": 0},
        {"audited_batch_size": 0},
        {"audit_weight": 0.0},
        {"optimizer": "newton"},
        {"learning_rate": 0.0},
        {"head_learning_rate": None},
        {"random_state": "seed"},
    ],
    ids=str,
)
def test_own_parameters_are_checked_before_any_work(wrong, monkeypatch):
    monkeypatch.setattr(Autoencoder, "_fit_rows", None)
    with pytest.raises(ValueError, match=f"'{next(iter(wrong))}' parameter of UAI"):
        uai(**wrong).fit(X)


def test_default_detector_is_that_of_the_paper():
    detector = UAI(n_steps=1, random_state=0)
    assert detector.estimator is None
    detector.fit(X)
    assert type(detector.estimator_) is DenoisingAutoencoder and detector.estimator is None
    explicit = UAI(DenoisingAutoencoder(), n_steps=1, random_state=0).fit(X)
    assert_array_equal(explicit.score_samples(X), detector.score_samples(X))


# Labels within the data


@pytest.mark.parametrize("kind", ["column", "first column", "frame", "frame of strings"])
def test_given_labels_may_be_in_the_table(kind):
    table, column = X, -1
    if kind == "first column":
        table, column = X[:, ::-1].copy(), 0
    elif kind.startswith("frame"):
        table, column = pd.DataFrame(X, columns=[*"abc", "kind"]), "kind"
    if kind == "frame of strings":
        table = table.assign(kind=np.array(["cat", "dog", "emu"])[X[:, -1].astype(int)])
    base = small(LabelConsistency, label_column=column)
    detector = audit(uai(base, cold_start=1).fit(table), table, rounds=3)
    place = column if isinstance(column, int) else -1
    assert_array_equal(detector.estimator_.classes_, np.unique(np.asarray(table)[:, place]))
    assert detector.n_features_in_ == 4
    logits = log_odds(detector, table)
    np.testing.assert_allclose(
        -detector.score_samples(table), logits, rtol=1e-4, atol=1e-5 * np.ptp(logits)
    )
    assert_array_equal(detector.query(table.copy(), k=5), detector.query(table, k=5))
    if kind == "frame of strings":
        # The same as with numbers, and what the copy of the audit knows the table by.
        again = copy.deepcopy(detector)
        assert_array_equal(again.query(table.copy()), detector.query(table))
        with pytest.raises(ValueError, match="not the table under audit"):
            detector.query(table.assign(kind=table["kind"].to_numpy()[::-1]))
    detector.partial_fit(table)


def test_given_labels_beside_the_table_are_refused_with_the_cure():
    """There y holds the verdicts."""
    with pytest.raises(ValueError, match="label_column"):
        uai(small(LabelConsistency, label_column=None)).fit(X)
    with pytest.raises(ValueError, match="label_column"):
        uai(small(LabelConsistency, label_column=None)).fit(X, TRUTH)


def test_feature_names_are_those_of_the_detector():
    frame = pd.DataFrame(X, columns=list("abcd"))
    detector = audit(uai().fit(frame), frame)
    assert list(detector.feature_names_in_) == list("abcd")
    with pytest.raises(ValueError, match="feature names"):
        detector.query(frame.rename(columns={"a": "e"}))
    assert not hasattr(detector.fit(X), "feature_names_in_")


# What a round teaches


@pytest.mark.parametrize("truth", WANTED, ids=["one", "other"])
def test_cross_entropy_falls_and_anomalies_rise(truth):
    """Also those that are like the audited ones."""
    detector = over_clusters()
    shown = np.r_[0:5, 20:25, 50:60]
    verdicts = truth[shown]
    entropies, ranks = [], []
    for n_rounds in range(6):
        if n_rounds:
            detector.teach(shown, verdicts)
        entropies.append(cross_entropy(detector, CLUSTERS, shown, verdicts))
        places = np.argsort(np.argsort(detector.score_samples(CLUSTERS)))
        ranks.append(places[shown][verdicts < 0].mean())
    assert all(np.diff(entropies) < 0) and entropies[-1] < 0.3 * entropies[0]
    assert ranks[-1] < ranks[0] and ranks[-1] < 15
    left = detector.query(CLUSTERS, k=15)
    assert (truth[left] < 0).mean() > 0.6 > 0.2 > (truth[left] > 0).sum() / 160
    assert len(detector.loss_curve_) == 5 and detector.loss_curve_[-1] < detector.loss_curve_[0]
    assert all(type(loss) is float for loss in detector.loss_curve_)


def test_more_anomalies_are_found_than_by_the_detector_alone():
    """Rare digits, which an autoencoder finds no more unusual than others."""
    digits, kinds = load_digits(return_X_y=True)
    gains = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        rare = 3 + seed
        keep = np.sort(
            np.r_[
                rng.choice(np.flatnonzero(kinds == rare), 40, replace=False),
                rng.choice(np.flatnonzero(kinds != rare), 500, replace=False),
            ]
        )
        table, truth = digits[keep], np.where(kinds[keep] == rare, -1, 1)
        base = small(
            Autoencoder,
            hidden_layer_sizes=(32,),
            latent_dim=8,
            max_iter=25,
            learning_rate=1e-3,
            random_state=seed,
        )
        detector = UAI(base, n_steps=50, random_state=seed).fit(table)
        unsupervised = (truth[detector.query(table, k=80)] < 0).sum()
        audit(detector, table, truth, rounds=8, k=10)
        found = (detector.labels_ < 0).sum()
        gains.append((found, unsupervised))
    found, unsupervised = np.mean(gains, axis=0)
    assert found > 2 * unsupervised, gains


# Which score chooses


@pytest.mark.parametrize("cold_start", [0, 1, 3])
def test_cold_start_counts_rounds(cold_start):
    detector = uai(cold_start=cold_start).fit(X)
    for n_rounds in range(5):
        chosen = "base" if n_rounds < cold_start else "uai"
        assert detector.n_rounds_ == n_rounds and detector.chosen_score_ == chosen
        expected = base_scores(detector) if chosen == "base" else log_odds(detector)
        np.testing.assert_allclose(-detector.score_samples(X), expected, rtol=1e-4, atol=1e-6)
        # A round of one kind alone counts, and so does one that teaches nothing new.
        if n_rounds % 2:
            detector.partial_fit(X)
        else:
            rows = detector.query(X, k=2)
            detector.teach(rows, [1, 1])


@pytest.mark.parametrize("cold_start", ["auto", 3])
def test_known_labels_of_both_kinds_start_warm(cold_start):
    for y, chosen in [
        (TRUTH, "uai"),
        (np.where(np.arange(60) < 2, TRUTH, 0), "uai"),
        (np.where(TRUTH > 0, 1, 0), "base"),
        (None, "base"),
    ]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            detector = uai(cold_start=cold_start).fit(X, y)
        assert detector.chosen_score_ == chosen
        assert len(detector.loss_curve_) == (y is not None)
    detector = uai(cold_start=3).fit(X, np.where(TRUTH < 0, -1, 0))
    assert detector.chosen_score_ == "base"
    detector = uai(cold_start=3).fit(X, TRUTH)
    audit(detector, rounds=1)
    assert detector.chosen_score_ == "uai"
    assert detector.fit(X).chosen_score_ == "base"


def test_auto_follows_the_head_when_it_promises_more():
    """Against the books kept by hand, over audits in which both sides come up."""
    seen = set()
    for seed, truth in [(0, WANTED[0]), (1, WANTED[1]), (2, WANTED[1])]:
        detector = over_clusters(cold_start="auto", n_steps=10, random_state=seed)
        expected = found = audited = hits = 0.0
        for _ in range(6):
            rows = detector.query(CLUSTERS, k=5)
            p = expit(log_odds(detector, CLUSTERS)[rows])
            anomalies = (truth[rows] < 0).sum()
            expected, found = 0.8 * expected + p.sum(), 0.8 * found + anomalies
            if detector.chosen_score_ == "base":
                audited, hits = 0.8 * audited + 5, 0.8 * hits + anomalies
            detector.teach(rows, truth[rows])
            left = expit(log_odds(detector, CLUSTERS)[detector.labels_ == 0])
            promised = np.sort(left)[-10:].mean() * (found + 1) / (expected + 1)
            bar = (hits + 1) / (audited + 2)
            # Too near to one another, they could not be told apart in single precision.
            assert abs(promised - bar) > 1e-5
            any_found = bool((detector.labels_ < 0).any())
            chosen = "uai" if any_found and promised > bar else "base"
            assert detector.chosen_score_ == chosen
            seen.add((chosen, any_found))
    assert seen == {("uai", True), ("base", True), ("base", False)}


def test_auto_has_an_answer_when_nothing_is_left():
    detector = uai(cold_start="auto").fit(X)
    detector.teach(np.arange(60), TRUTH)
    assert detector.chosen_score_ in ("base", "uai") and len(detector.query(X)) == 0


# Steps


def with_optimizer(**params):
    return audit(uai(small(Autoencoder, optimizer="sgd", learning_rate=1e-2), **params).fit(X))


def test_optimizer_and_rate_are_the_detectors_unless_given():
    usual = with_optimizer()
    same = with_optimizer(optimizer="sgd", learning_rate=1e-2)
    assert_array_equal(usual.score_samples(X), same.score_samples(X))
    for other in ({"optimizer": "adam"}, {"learning_rate": 1e-3}, {"optimizer": torch.optim.SGD}):
        assert (with_optimizer(**other).score_samples(X) != usual.score_samples(X)).any()
    for other in ({"head_learning_rate": 1e-3}, {"audit_weight": 2.0}, {"audited_batch_size": 4}):
        assert (with_optimizer(**other).score_samples(X) != usual.score_samples(X)).any()


def test_head_and_network_have_rates_of_their_own():
    start = uai().fit(X)
    head_alone = audit(uai(learning_rate=1e-30).fit(X))
    assert_array_equal(base_scores(head_alone), base_scores(start))
    assert (head_alone.coef_ != start.coef_).all()
    network_alone = audit(uai(head_learning_rate=1e-30).fit(X))
    np.testing.assert_allclose(network_alone.coef_, start.coef_, rtol=1e-6, atol=1e-20)
    assert (base_scores(network_alone) != base_scores(start)).any()


def test_weight_of_the_verdicts():
    """Next to none leaves the detector's own loss."""
    own = {}
    for weight in (1e-30, 1.0):
        detector = with_optimizer(audit_weight=weight)
        own[weight] = base_scores(detector)
        moved = (detector.coef_ != with_optimizer(audit_weight=1e-30).coef_).any()
        assert moved == (weight == 1.0)
    assert (own[1e-30] != own[1.0]).any()


class Counter:
    """Counts the rows that go through the layers, those that are read, and the batches."""

    def __init__(self, monkeypatch):
        self.counts = {"layers": 0, "read": 0, "batches": 0, "audited": 0}
        forward, prepare, draw = nn.Linear.forward, RowSource.prepare, AuditedRows.draw

        def counted_forward(layer, rows):
            self.counts["layers"] += len(rows)
            return forward(layer, rows)

        def counted_prepare(source, rows):
            self.counts["read"] += len(rows)
            return prepare(source, rows)

        def counted_draw(dataset, generator):
            self.counts["audited"] += dataset.n_audited
            return draw(dataset, generator)

        monkeypatch.setattr(nn.Linear, "forward", counted_forward)
        monkeypatch.setattr(RowSource, "prepare", counted_prepare)
        monkeypatch.setattr(AuditedRows, "draw", counted_draw)
        for batches in (ResidentBatches, StreamedBatches):
            monkeypatch.setattr(batches, "__iter__", self.counting(batches.__iter__))

    def counting(self, whole):
        def iterate(batches):
            for batch in whole(batches):
                self.counts["batches"] += 1
                yield batch

        return iterate

    def of(self, call, *args):
        self.counts.update(dict.fromkeys(self.counts, 0))
        call(*args)
        return dict(self.counts)


@pytest.mark.parametrize("where", ["memory", "file"])
@pytest.mark.parametrize("base", [Autoencoder, DAGMM])
def test_a_round_costs_the_same_however_many_rows_were_audited(base, where, monkeypatch, tmp_path):
    table, truth = make_table(2400)
    if where == "file":
        np.save(tmp_path / "X.npy", table)
        table = np.load(tmp_path / "X.npy", mmap_mode="r")
        monkeypatch.setattr(placement, "_STREAM_BYTES", 0)
    counter, costs = Counter(monkeypatch), []
    news = np.arange(2300, 2310)
    own = FrozenEstimator(small(base, max_iter=1).fit(table, truth))
    for n_known in (10, 300, 2000):
        y = np.where(np.arange(2400) < n_known, truth, 0)
        detector = uai(own, n_steps=4, audited_batch_size=16).fit(table, y)
        costs.append(
            [
                counter.of(detector.teach, news, truth[news]),
                counter.of(detector.query, table),
                counter.of(detector.teach, news, truth[news]),
            ]
        )
    assert costs[0] == costs[1] == costs[2]
    first, query, second = costs[0]
    # The table is placed once, by the fit, and scored once a round: there is no more to a query.
    assert query == {"layers": 0, "read": 0, "batches": 0, "audited": 0}
    assert first == second
    assert first["audited"] == 4 * 16 and first["batches"] == 4
    # What was audited, the steps, the threshold, and DAGMM's mixture.
    steps = 2400 + 4 * 16 if where == "file" else 0
    assert first["read"] == 10 + steps + 2400 + 2400 * (base is DAGMM)


def test_a_fit_with_labels_stands_for_ten_rounds(monkeypatch):
    counter = Counter(monkeypatch)
    own = FrozenEstimator(small(Autoencoder).fit(X))
    assert counter.of(uai(own).fit, X, TRUTH)["audited"] == 10 * 5 * 8
    detector = uai(own)
    assert counter.of(detector.fit, X)["audited"] == 0
    assert counter.of(detector.partial_fit, X)["audited"] == 0
    assert counter.of(detector.partial_fit, X, TRUTH)["audited"] == 5 * 8
    assert len(detector.loss_curve_) == 1 and detector.n_rounds_ == 2


def test_every_round_draws_anew(monkeypatch):
    drawn, draw = [], AuditedRows.draw

    def noted(dataset, generator):
        rows, verdicts = draw(dataset, generator)
        drawn[-1].append(rows.tolist())
        return rows, verdicts

    monkeypatch.setattr(AuditedRows, "draw", noted)
    detector = uai().fit(X)
    for _ in range(3):
        drawn.append([])
        # The verdicts are the same, and their number is.
        detector.teach(np.arange(30), TRUTH[:30])
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]


@pytest.mark.parametrize("where", ["memory", "file"])
def test_the_loss_of_the_detector_sees_the_verdicts(where, monkeypatch, tmp_path):
    table = X
    if where == "file":
        np.save(tmp_path / "X.npy", X)
        table = np.load(tmp_path / "X.npy", mmap_mode="r")
        monkeypatch.setattr(placement, "_STREAM_BYTES", 0)
    seen, whole = [], DeepSAD._loss

    def loss(self, distances, y):
        assert len(distances) == len(y)
        seen.append(sorted(y.tolist()))
        return whole(self, distances, y)

    detector = uai(small(DeepSAD, pretrain=None, batch_size=60), n_steps=2).fit(table)
    monkeypatch.setattr(DeepSAD, "_loss", loss)
    detector.teach([1, 2, 7], [-1, 1, -1])
    assert seen == [[-1, -1] + 57 * [0] + [1]] * 2
    seen.clear()
    detector.teach([7, 13], [1, -1], revise=True)
    assert seen == [[-1, -1] + 56 * [0] + [1, 1]] * 2


def test_the_detector_is_fitted_with_what_is_known():
    y = np.where(np.arange(60) < 20, TRUTH, 0)
    for cls in (DeepSAD, SSDGM):
        assert_array_equal(
            base_scores(uai(small(cls, batch_norm=False), learning_rate=1e-30).fit(X, y)),
            -small(cls, batch_norm=False).fit(X, y).score_samples(X),
        )


@pytest.mark.parametrize("cls", [Autoencoder, DeepSAD])
def test_rows_of_a_file_are_streamed_to_the_same_end(cls, monkeypatch, tmp_path):
    np.save(tmp_path / "X.npy", X)
    table = np.load(tmp_path / "X.npy", mmap_mode="r")
    own = FrozenEstimator(small(cls).fit(X))
    usual = audit(uai(own, n_steps=60).fit(X))
    monkeypatch.setattr(placement, "_STREAM_BYTES", 0)
    detector = audit(uai(own, n_steps=60).fit(table), table)
    # The order of the rows differs, not what is learned of them.
    assert np.corrcoef(detector.score_samples(X), usual.score_samples(X))[0, 1] > 0.9
    assert learned(audit(uai(own, n_steps=60).fit(table), table)) == learned(detector)


def test_audited_rows_leave_no_trace_in_the_running_statistics():
    """Whatever they are: here, rows that are far off, in a table that hardly meets them."""
    table = np.vstack([X, np.full((1, 4), 50.0)])
    own = FrozenEstimator(small(Autoencoder, batch_norm=True, scaler=None, batch_size=31).fit(X))
    moved = {}
    for row in (0, 60):
        detector = uai(own, learning_rate=1e-30, n_steps=1).fit(table)
        detector.teach([row], [-1])
        state = detector.estimator_.module_.state_dict()
        moved[row] = {name: t for name, t in state.items() if "running" in name}
    assert moved[0]
    for name, value in moved[0].items():
        assert torch.equal(value, moved[60][name])


# Rounds that fail


class Fail(Callback):
    """Raises an error within a batch of a round, where it is told to."""

    error = None

    def __repr__(self):
        return "Fail()"

    def on_batch_end(self, net, training=True, **kwargs):
        if Fail.error is not None and net.phase_.name == "round":
            raise Fail.error


@pytest.fixture
def failing():
    yield
    Fail.error = None


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("call", ["teach", "partial_fit", "fit"])
def test_a_round_that_is_broken_off_is_none(error, call, failing):
    detector, other = (
        audit(uai(small(Autoencoder, callbacks=[Fail()], batch_norm=True)).fit(X)) for _ in range(2)
    )
    before = vars(detector).copy()
    rows = detector.query(X, k=3)
    Fail.error = error()
    with warnings.catch_warnings(), pytest.raises(error):
        warnings.simplefilter("ignore", ConvergenceWarning)
        if call == "teach":
            detector.teach(rows, TRUTH[rows])
        else:
            getattr(detector, call)(X, TRUTH)
    Fail.error = None
    assert vars(detector).keys() == before.keys()
    assert all(vars(detector)[name] is value for name, value in before.items())
    assert learned(detector) == learned(other)
    for each in (detector, other):
        audit(each)
    assert learned(detector) == learned(other)


def test_an_interrupted_round_is_not_said_to_be_kept(failing):
    detector = uai(small(Autoencoder, callbacks=[Fail()])).fit(X)
    Fail.error = KeyboardInterrupt()
    with warnings.catch_warnings(record=True) as told, pytest.raises(KeyboardInterrupt):
        warnings.simplefilter("always")
        detector.teach([0], [1])
    assert not [w for w in told if "is fitted with the weights reached" in str(w.message)]


@pytest.mark.parametrize("place", ["_finish", "_make_net"])
def test_a_failure_after_the_steps_leaves_all_as_it_was(place, monkeypatch):
    detector, other = (audit(uai(small(DAGMM)).fit(X)) for _ in range(2))
    whole = getattr(DAGMM, place)

    def fail(self, *args):
        whole(self, *args)
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(DAGMM, place, fail)
        with pytest.raises(ZeroDivisionError):
            detector.teach([0], [TRUTH[0]], revise=True)
    assert learned(detector) == learned(other)
    for each in (detector, other):
        audit(each)
    assert learned(detector) == learned(other)


def test_steps_that_are_too_large_leave_finite_scores():
    detector = uai(optimizer="sgd", learning_rate=1e38, head_learning_rate=1e38).fit(X)
    with pytest.warns(ConvergenceWarning):
        audit(detector, rounds=1)
    assert np.isfinite(detector.score_samples(X)).all()
    assert all(t.isfinite().all() for t in detector.estimator_.module_.state_dict().values())
    assert np.isfinite(detector.coef_).all()


# Seeds, and fits that come one after another


def test_random_state_decides_unless_the_detector_has_its_own():
    free = small(Autoencoder, random_state=None)

    def scores(base, seed):
        return audit(uai(base, random_state=seed).fit(X)).score_samples(X)

    assert_array_equal(scores(free, 0), scores(free, 0))
    assert (scores(free, 0) != scores(free, 1)).any()
    start = [base_scores(uai(free, random_state=seed).fit(X)) for seed in (0, 1)]
    assert (start[0] != start[1]).any()
    own = [base_scores(uai(small(Autoencoder), random_state=seed).fit(X)) for seed in (0, 1)]
    assert_array_equal(*own)
    assert_array_equal(own[0], -small(Autoencoder).fit(X).score_samples(X))
    assert (scores(small(Autoencoder), 0) != scores(small(Autoencoder), 1)).any()
    assert_array_equal(
        scores(free, np.random.RandomState(3)), scores(free, np.random.RandomState(3))
    )
    assert free.random_state is None


def test_the_detector_that_is_given_is_cloned():
    base = small(Autoencoder).fit(X[:20])
    before = learned(base)
    detector = audit(uai(base).fit(X))
    assert detector.estimator is base and learned(base) == before


@pytest.mark.parametrize(
    "other",
    [
        {"scaler": "minmax"},
        {"scaler": None},
        {"scaler": "robust", "latent_dim": 3},
    ],
    ids=str,
)
def test_another_fit_scales_the_table_anew(other):
    detector = audit(uai().fit(X))
    detector.set_params(estimator=small(Autoencoder, **other)).fit(X)
    fresh = uai(small(Autoencoder, **other)).fit(X)
    for each in (detector, fresh):
        audit(each)
    assert_array_equal(detector.score_samples(X), fresh.score_samples(X))
    assert learned(detector) == learned(fresh)


def test_another_fit_may_be_of_a_detector_that_reads_labels():
    detector = audit(uai(small(DeepSAD, scaler=None)).fit(X))
    detector.set_params(estimator=small(Autoencoder, scaler=None)).fit(X)
    fresh = uai(small(Autoencoder, scaler=None)).fit(X)
    for each in (detector, fresh):
        audit(each)
    assert learned(detector) == learned(fresh)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("adam", "sgd"),
        ("adam", "rmsprop"),
        ("sgd", "adam"),
        ("rmsprop", "adamw"),
        ("adam", torch.optim.Adagrad),
        (torch.optim.Adagrad, "adam"),
    ],
)
def test_another_optimizer_begins_anew(old, new):
    detector = audit(uai(optimizer=old).fit(X), rounds=1)
    detector.set_params(optimizer=new)
    audit(detector)
    assert np.isfinite(detector.score_samples(X)).all()
    assert detector.n_rounds_ == 3


def test_parameters_of_the_rounds_may_change_between_them():
    detector = audit(uai().fit(X), rounds=1)
    detector.set_params(n_steps=2, audited_batch_size=3, learning_rate=1e-3, cold_start=9)
    audit(detector, rounds=1)
    assert detector.chosen_score_ == "base"


def test_an_estimator_param_that_changed_waits_for_the_next_fit():
    detector, other = (audit(uai().fit(X), rounds=1) for _ in range(2))
    detector.set_params(estimator=small(DAGMM))
    audit(detector)
    audit(other)
    assert type(detector.estimator_) is Autoencoder
    assert_array_equal(detector.score_samples(X), other.score_samples(X))


def test_partial_fit_of_the_same_labels_is_the_same_step():
    """Whoever comes by way of y gets the network that teaching gives."""
    taught, told = (uai().fit(X) for _ in range(2))
    y = np.zeros(60)
    for rows in ([1, 2], [7, 9], [20]):
        taught.teach(rows, TRUTH[rows])
        y[rows] = TRUTH[rows]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            told.partial_fit(X, y)
    assert_array_equal(taught.score_samples(X), told.score_samples(X))
    assert_array_equal(taught.coef_, told.coef_)
    assert taught.loss_curve_ == told.loss_curve_
