"""Rows whose given label does not suit their features."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from safetensors import safe_open
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.datasets import load_digits, load_wine
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from skorch.callbacks import Callback
from torch import nn

from anomaly_estimators import Autoencoder, DeepDetector, LabelConsistency, load
from anomaly_estimators.classification import label_consistency
from anomaly_estimators.model_selection import roc_auc_scorer
from anomaly_estimators.training.rows import RowSource

FEATURES, LABELS = load_wine(return_X_y=True)
NAMES = [f"f{i}" for i in range(13)]
KINDS = np.array(["barbera", "barolo", "grignolino"])


def make(**params):
    defaults = {
        "hidden_layer_sizes": (8, 6),
        "latent_dim": 4,
        "max_iter": 3,
        "pretrain_max_iter": 3,
        "learning_rate": 0.01,
        "random_state": 0,
        "device": "cpu",
    }
    return LabelConsistency(**{**defaults, **params})


def table(column=13, labels=LABELS, features=FEATURES):
    return np.insert(features, column, labels, axis=1)


def frame(column, labels, library=pd):
    columns = {name: FEATURES[:, i] for i, name in enumerate(NAMES)}
    items = list(columns.items())
    return library.DataFrame(dict([*items[:column], ("kind", labels), *items[column:]]))


@pytest.fixture(scope="module")
def X():
    return table()


@pytest.fixture(scope="module")
def scores(X):
    return make().fit(X).score_samples(X)


# The score


def plain_logits(detector, features, activation, batch_norm):
    layers, sizes = [], [features.shape[1], 8, 6, 4]
    for n_in, n_out in zip(sizes, sizes[1:], strict=False):
        norm = [nn.BatchNorm1d(n_out, affine=False)] if batch_norm and n_out != 4 else []
        layers += [nn.Linear(n_in, n_out), *norm, activation]
    network = nn.Sequential(*layers, nn.Linear(4, len(detector.classes_))).double().eval()
    state = detector.module_.state_dict().values()
    network.load_state_dict(dict(zip(network.state_dict(), state, strict=True)))
    with torch.no_grad():
        rows = torch.from_numpy(features)
        return network(rows).numpy(), network[:-1](rows).numpy()


@pytest.mark.parametrize(
    ("name", "activation"), [("leaky_relu", nn.LeakyReLU(0.1)), ("tanh", nn.Tanh())]
)
@pytest.mark.parametrize("batch_norm", [True, False])
def test_score_is_the_cross_entropy_that_a_plain_network_gives(name, activation, batch_norm, X):
    detector = make(activation=name, batch_norm=batch_norm).fit(X)
    scaled = (FEATURES - FEATURES.mean(0)) / FEATURES.std(0)
    logits, code = plain_logits(detector, scaled, activation, batch_norm)
    expected = log_softmax(logits, axis=1)[np.arange(178), LABELS]
    np.testing.assert_allclose(detector.score_samples(X), expected, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(detector.transform(X), code, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(detector.predict_label_proba(X), softmax(logits, 1), rtol=1e-8)
    np.testing.assert_array_equal(detector.predict_label(X), logits.argmax(1))


@pytest.mark.filterwarnings("ignore:Training did not move:UserWarning")
@pytest.mark.parametrize("batch_size", [178, 32])
def test_loss_is_the_mean_cross_entropy(batch_size, X):
    network = nn.Linear(13, 4)
    detector = make(network=network, max_iter=1, learning_rate=1e-12, batch_size=batch_size).fit(X)
    assert detector.loss_curve_[0] == pytest.approx(-detector.score(X), rel=1e-5)


def test_gradients_reach_every_parameter(X):
    detector = make().fit(X)
    module = detector._build_module(14)
    (phase,) = detector._phases(module)
    rows = RowSource(X, detector.scaler_, np.float32).load()
    phase.loss(module(rows), rows, None).backward()
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())


def test_network_works_on_scaled_rows_with_the_number_of_the_label(X):
    """What a layer on top of the network can rely on."""
    detector = make(label_column=4).fit(table(4, 10.0 * LABELS + 3))
    rows = RowSource(table(4, 10.0 * LABELS + 3), detector.scaler_, np.float64).load()
    np.testing.assert_array_equal(rows[:, -1], LABELS)
    np.testing.assert_allclose(rows[:, :-1].mean(0), 0.0, atol=1e-12)
    module = detector.module_.double()
    with torch.no_grad():
        score = detector._module_score(module, rows)
        loss = detector._phases(module)[-1].loss(module(rows), rows, None)
        code = detector._module_transform(module, rows)
    assert score.shape == (178,) and code.shape == (178, 4)
    assert loss.item() == pytest.approx(score.mean().item())
    rows[:, -1] = 0.0
    with torch.no_grad():
        assert torch.equal(detector._module_transform(module, rows), code)


# What it finds


def switched(labels, share, seed=0):
    """Labels of which some are another one, drawn at random; and which these are."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(labels), round(share * len(labels)), replace=False)
    n_classes = labels.max() + 1
    given = labels.copy()
    given[rows] = (labels[rows] + rng.integers(1, n_classes, len(rows))) % n_classes
    return given, np.isin(np.arange(len(labels)), rows)


def test_switched_labels_of_digits_rank_on_top():
    features, digits = load_digits(return_X_y=True)
    given, wrong = switched(digits, 0.05)
    rows = np.column_stack([features, given])
    detector = LabelConsistency(contamination=0.05, random_state=0, device="cpu").fit(rows)
    assert roc_auc_score(wrong, -detector.score_samples(rows)) > 0.97
    flagged = detector.predict(rows) == -1
    assert wrong[flagged].mean() > 0.8
    # The features speak for the true label.
    assert (detector.predict_label(rows)[wrong] == digits[wrong]).mean() > 0.8
    # An untrained network knows nothing.
    untrained = LabelConsistency(max_iter=1, learning_rate=1e-9, random_state=0, device="cpu").fit(
        rows
    )
    assert roc_auc_score(wrong, -untrained.score_samples(rows)) < 0.7


def test_rows_of_another_class_under_the_same_label_are_found():
    """The construction of the paper: a thinned class, its labels changed to those of the others."""
    features, digits = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    zeros = np.flatnonzero(digits == 0)
    rows = np.sort(np.r_[np.flatnonzero(digits), zeros[: len(zeros) // 10]])
    truth = digits[rows] == 0
    given = np.where(truth, rng.integers(1, 10, len(rows)), digits[rows])
    detector = LabelConsistency(label_column=None, random_state=0, device="cpu")
    scores = detector.fit(features[rows], given).score_samples(features[rows], given)
    assert roc_auc_score(truth, -scores) > 0.9


# Where the label is


@pytest.mark.parametrize("column", [0, 5, 13])
def test_place_of_the_label_is_of_no_matter(column, scores):
    for label_column in (column, column - 14):
        rows = table(column)
        detector = make(label_column=label_column).fit(rows)
        np.testing.assert_array_equal(detector.score_samples(rows), scores)
        assert detector.n_features_in_ == 14


@pytest.mark.parametrize("values", [[0.0, 1e-30, 1e30], [-7, 0, 1], [10, 20, 30]], ids=str)
def test_label_is_no_quantity(values, scores):
    rows = table(13, np.array(values)[LABELS])
    detector = make().fit(rows)
    np.testing.assert_array_equal(detector.score_samples(rows), scores)
    np.testing.assert_array_equal(detector.classes_, values)
    assert set(detector.predict_label(rows)) <= set(values)


@pytest.mark.parametrize("library", [pd, pl], ids=["pandas", "polars"])
@pytest.mark.parametrize("column", [0, 6, 13])
@pytest.mark.parametrize("labels", [LABELS, KINDS[LABELS], LABELS > 0], ids=["int", "str", "bool"])
def test_column_of_a_frame_by_name_or_place(library, column, labels, scores):
    rows = frame(column, labels, library)
    if labels.dtype == bool:
        scores = make().fit(table(13, labels)).score_samples(table(13, labels))
    for label_column in ("kind", column, column - 14):
        detector = make(label_column=label_column).fit(rows)
        np.testing.assert_array_equal(detector.score_samples(rows), scores)
        assert list(detector.feature_names_in_) == list(rows.columns)
        assert detector.n_features_in_ == 14
        np.testing.assert_array_equal(detector.classes_, np.unique(labels))
        assert set(detector.predict_label(rows)) <= set(labels.tolist())
    with pytest.raises(ValueError, match="feature names should match"):
        detector.score_samples(rows[list(rows.columns)[::-1]])
    with pytest.raises(ValueError, match="(feature names should match|features)"):
        detector.score_samples(rows[list(rows.columns)[:-1]])


@pytest.mark.parametrize(
    "convert",
    [
        lambda labels: pd.Categorical(KINDS[labels]),
        lambda labels: pd.array(KINDS[labels], dtype="string"),
        lambda labels: pd.array(labels, dtype="Int64"),
        lambda labels: labels.astype(object),
        lambda labels: labels.astype(np.float32),
    ],
    ids=["categorical", "string", "nullable", "object", "float32"],
)
def test_kinds_of_columns(convert, scores):
    rows = frame(3, convert(LABELS))
    detector = make(label_column="kind").fit(rows)
    np.testing.assert_array_equal(detector.score_samples(rows), scores)


def test_array_of_objects(scores):
    rows = np.insert(FEATURES.astype(object), 2, KINDS[LABELS], axis=1)
    detector = make(label_column=2).fit(rows)
    np.testing.assert_array_equal(detector.score_samples(rows), scores)
    assert detector.classes_.tolist() == KINDS.tolist()
    numbers = table().astype(object)
    np.testing.assert_array_equal(make().fit(numbers).score_samples(numbers), scores)


def test_integer_names_of_a_frame_are_no_places(scores):
    rows = pd.DataFrame(table(2)).rename(columns=lambda i: 13 - i)
    np.testing.assert_array_equal(make(label_column=2).fit(rows).score_samples(rows), scores)


@pytest.mark.parametrize(
    "y",
    [
        LABELS,
        LABELS.tolist(),
        LABELS[:, None],
        KINDS[LABELS],
        KINDS[LABELS].tolist(),
        pd.Series(KINDS[LABELS], index=np.arange(178)[::-1]),
        pl.Series(KINDS[LABELS]),
        LABELS.astype(np.float32),
    ],
    ids=["array", "list", "column", "strings", "list of strings", "pandas", "polars", "float32"],
)
@pytest.mark.filterwarnings("ignore:A column-vector y")
def test_labels_beside_the_rows(y, X, scores):
    detector = make(label_column=None, contamination=0.05)
    predicted = detector.fit_predict(FEATURES, y)
    np.testing.assert_array_equal(detector.score_samples(FEATURES, y), scores)
    np.testing.assert_array_equal(detector.predict(FEATURES, y), predicted)
    np.testing.assert_array_equal(
        detector.decision_function(FEATURES, y), scores - detector.offset_
    )
    assert detector.score(FEATURES, y) == pytest.approx(scores.mean())
    assert (predicted == -1).sum() == 8
    assert detector.n_features_in_ == 13
    # What looks at the features alone needs no labels.
    whole = make().fit(X)
    np.testing.assert_array_equal(detector.transform(FEATURES), whole.transform(X))
    np.testing.assert_array_equal(
        detector.predict_label_proba(FEATURES), whole.predict_label_proba(X)
    )
    assert detector.get_feature_names_out().tolist() == ["code0", "code1", "code2", "code3"]
    assert detector.fit_transform(FEATURES, y).shape == (178, 4)


def test_labels_beside_the_rows_must_come():
    detector = make(label_column=None)
    with pytest.raises(ValueError, match="pass them to fit.*label_column"):
        detector.fit(FEATURES)
    detector.fit(FEATURES, LABELS)
    for method in ("score_samples", "decision_function", "predict", "score"):
        with pytest.raises(ValueError, match="pass them to fit.*label_column"):
            getattr(detector, method)(FEATURES)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        detector.score_samples(FEATURES, LABELS[:-1])
    with pytest.raises(ValueError, match="13 features"):
        detector.score_samples(table(), LABELS)


def test_y_is_ignored_where_a_column_holds_the_label(X, scores):
    for y in (LABELS[::-1], "text", [np.nan] * 178, -LABELS):
        detector = make().fit(X, y)
        np.testing.assert_array_equal(detector.score_samples(X, y), scores)
        np.testing.assert_array_equal(detector.predict(X, y), detector.predict(X))
        np.testing.assert_array_equal(
            detector.decision_function(X, y), detector.decision_function(X)
        )


# Labels that say nothing


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_unseen_label_is_more_abnormal_than_any(dtype, X):
    rows = X.astype(dtype)
    detector = make().fit(rows)
    others = rows[:4].copy()
    others[:, -1] = [3, -1, 0.5, 1e30]
    found = detector.score_samples(others)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, -1e30, rtol=1e-6)
    assert (detector.predict(others) == -1).all()
    assert np.isfinite(detector.score(np.r_[others, rows]))
    # The label has no part in what the features speak for.
    np.testing.assert_array_equal(detector.transform(others), detector.transform(rows[:4]))
    np.testing.assert_array_equal(detector.predict_label(others), detector.predict_label(rows[:4]))


def test_unseen_strings_and_labels_of_another_kind():
    strings = make(label_column="kind").fit(frame(0, KINDS[LABELS]))
    new = KINDS[LABELS].astype(object)
    new[3] = "merlot"
    expected = strings.score_samples(frame(0, KINDS[LABELS]))
    expected[3] = -1e30
    np.testing.assert_array_equal(strings.score_samples(frame(0, new)), expected)
    assert (strings.score_samples(frame(0, LABELS)) == -1e30).all()
    with pytest.warns(UserWarning, match="feature names"):
        assert (strings.score_samples(table(0)) == -1e30).all()
    numbers = make(label_column="kind").fit(frame(0, LABELS))
    assert (numbers.score_samples(frame(0, KINDS[LABELS])) == -1e30).all()
    beside = make(label_column=None).fit(FEATURES, LABELS)
    assert (beside.score_samples(FEATURES, LABELS + 5) == -1e30).all()
    assert (beside.score_samples(FEATURES, KINDS[LABELS]) == -1e30).all()


def test_labels_in_single_precision_are_the_same_labels():
    rows = table(13, LABELS / 10)
    detector = make().fit(rows)
    np.testing.assert_allclose(
        detector.score_samples(rows.astype(np.float32)), detector.score_samples(rows), atol=1e-4
    )
    single = make().fit(rows.astype(np.float32))
    assert single.score_samples(rows).min() > -1e3


def test_missing_labels_are_refused(X):
    gap = KINDS[LABELS].astype(object)
    gap[5] = None
    for fitting in (
        lambda: make(label_column="kind").fit(frame(2, gap)),
        lambda: make(label_column="kind").fit(frame(2, gap, pl)),
        lambda: make(label_column="kind").fit(frame(2, pd.array([1, pd.NA] * 89, dtype="Int64"))),
        lambda: make(label_column=None).fit(FEATURES, gap),
        lambda: make(label_column=None).fit(FEATURES, np.where(LABELS, 1.0, np.nan)),
        lambda: make(label_column=None).fit(FEATURES, ["a", np.nan] * 89),
        lambda: make().fit(np.where(X == 2, np.nan, X)),
        lambda: make(label_column="kind").fit(frame(2, KINDS[LABELS])).predict(frame(2, gap)),
    ):
        with pytest.raises(ValueError, match="NaN"):
            fitting()


@pytest.mark.parametrize(
    ("params", "rows", "message"),
    [
        ({}, table(13, np.ones(178)), "All rows have the label 1.0"),
        ({"label_column": "kind"}, frame(1, ["a"] * 178), "All rows have the label a"),
        ({}, LABELS[:, None].astype(float), "n_features = 1"),
        ({"label_column": "kind"}, frame(1, KINDS[LABELS])[["kind"]], "n_features = 1"),
        ({"label_column": 14}, table(), "label_column=14 is no column.*-14 and 13"),
        ({"label_column": -15}, table(), "label_column=-15 is no column"),
        ({"label_column": 14}, frame(1, KINDS[LABELS]), "label_column=14 is no column"),
        ({"label_column": "kind"}, table(), "no data frame"),
        ({"label_column": "sort"}, frame(1, LABELS), "'sort' is no column of X.*f0, kind"),
        ({"label_column": "kind"}, frame(1, [1, "a"] * 89), "all numbers or all strings"),
        ({"label_column": "f3"}, frame(1, KINDS[LABELS]), "could not convert string to float"),
        ({"label_column": 1.5}, table(), "'label_column' parameter"),
        ({"input_shape": (2, 7)}, table(), "X has 13 features"),
    ],
    ids=str,
)
def test_bad_input_is_refused(params, rows, message):
    detector = make(**params)
    with pytest.raises(ValueError, match=message):
        detector.fit(rows)
    assert vars(detector).keys() == detector.get_params().keys()


def test_labels_that_hardly_repeat_are_warned_of(X):
    rows = table(13, np.arange(178))
    with pytest.warns(UserWarning, match="178 rows have 178 different labels") as caught:
        detector = make().fit(rows)
    assert caught[0].filename == __file__
    assert detector.predict_label_proba(rows).shape == (178, 178)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make().fit(X)
        make().fit(table(13, np.arange(178) // 2))
    with pytest.raises(ValueError, match="10001 rows have 10001 different labels"):
        make(label_column=0).fit(np.random.default_rng(0).normal(size=(10_001, 2)))


def test_many_labels_are_scored_in_parts(monkeypatch):
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.normal(size=(1000, 3)), rng.permutation(1000) % 400])
    detector = make(max_iter=2).fit(rows)
    assert detector.module_.head.out_features == 400
    whole = detector.score_samples(rows), detector.predict_label(rows)
    monkeypatch.setattr(label_consistency, "_LOGITS", 7 * 400)
    sizes = []
    monkeypatch.setattr(
        nn.Linear,
        "forward",
        lambda self, X, forward=nn.Linear.forward: (sizes.append(len(X)), forward(self, X))[1],
    )
    np.testing.assert_allclose(detector.score_samples(rows), whole[0], rtol=1e-10)
    np.testing.assert_array_equal(detector.predict_label(rows), whole[1])
    assert sizes.count(7) == 2 * (1000 // 7)


def test_far_rows_have_probabilities(X):
    far = X[:3].copy()
    far[:, :-1] *= np.array([[1e30], [1e200], [-1e300]])
    with np.errstate(all="ignore"):
        probabilities = make().fit(X).predict_label_proba(far)
    np.testing.assert_allclose(probabilities.sum(1), 1.0)


# Networks


class Begin(Callback):
    """Keeps the weights of the encoder at the start of every phase, in a list of the class."""

    taken: list = []

    def on_train_begin(self, net, **kwargs):
        encoder = net.module_.encoder.state_dict()
        self.taken.append((net.phase_.name, {k: v.clone() for k, v in encoder.items()}))


@pytest.mark.parametrize("how", ["end_to_end", "layerwise"])
@pytest.mark.parametrize("shape", [{}, {"input_shape": (1, 13), "channels": (2,)}], ids=str)
def test_training_starts_from_the_weights_of_an_autoencoder_of_the_features(how, shape):
    Begin.taken.clear()
    shared = {
        "hidden_layer_sizes": (8, 6),
        "latent_dim": 4,
        "learning_rate": 0.01,
        "random_state": 0,
        "device": "cpu",
        "pretrain_max_iter": 3,
        "corruption": 0.0,
        **shape,
    }
    layers = None if how == "end_to_end" else how
    autoencoder = Autoencoder(max_iter=3, pretrain=layers, **shared).fit(FEATURES)
    detector = make(label_column=5, pretrain=how, callbacks=[Begin()], corruption=0.0, **shape).fit(
        table(5)
    )
    name, start = Begin.taken[-1]
    assert name == "training"
    for key, tensor in autoencoder.module_.encoder.state_dict().items():
        # The features are a part of the row there, and sums are rounded in another order.
        torch.testing.assert_close(start[key], tensor, rtol=1e-3, atol=1e-4)
        assert not torch.allclose(detector.module_.encoder.state_dict()[key], tensor, atol=1e-3)
    assert detector.module_.autoencoder is None


def test_images_are_folded_and_convolved():
    features, digits = load_digits(return_X_y=True)
    given, wrong = switched(digits[:600], 0.05)
    rows = np.column_stack([given, features[:600]])
    detector = make(
        label_column=0, input_shape=(1, 8, 8), channels=(8,), max_iter=20, latent_dim=16
    ).fit(rows)
    assert any(isinstance(layer, nn.Conv2d) for layer in detector.module_.modules())
    assert roc_auc_score(wrong, -detector.score_samples(rows)) > 0.9


def test_own_networks_see_the_features_alone(X):
    widths = []

    def build(n_features):
        widths.append(n_features)
        return nn.Linear(n_features, 3)

    detector = make(network=build).fit(X)
    assert set(widths) == {13}
    assert detector.transform(X).shape == (178, 3)
    encoder = nn.Linear(13, 5)
    assert make(network=encoder).fit(X).transform(X).shape == (178, 5)
    with pytest.raises(ValueError, match="13 features"):
        make(network=nn.Linear(14, 5)).fit(X)


# Life of an estimator


def test_memory_maps(tmp_path, scores, monkeypatch):
    from anomaly_estimators.training import placement

    np.save(tmp_path / "X.npy", table(3))
    np.save(tmp_path / "features.npy", FEATURES)
    rows = np.load(tmp_path / "X.npy", mmap_mode="r")
    detector = make(label_column=3).fit(rows)
    np.testing.assert_allclose(detector.score_samples(rows), scores, rtol=1e-4)
    np.testing.assert_array_equal(detector.score_samples(table(3)), detector.score_samples(rows))
    features = np.load(tmp_path / "features.npy", mmap_mode="r")
    beside = make(label_column=None).fit(features, LABELS)
    np.testing.assert_allclose(beside.score_samples(features, LABELS), scores, rtol=1e-4)
    # Larger than memory: from the file, batch by batch.
    monkeypatch.setattr(placement, "_STREAM_BYTES", 1)
    streamed = make(label_column=3, max_iter=40).fit(rows)
    assert streamed.loss_curve_[-1] < 0.5 * streamed.loss_curve_[0]
    labels = (10 * table(3)).astype(np.int16)
    np.save(tmp_path / "int.npy", labels)
    whole = np.load(tmp_path / "int.npy", mmap_mode="r")
    assert make(label_column=3).fit(whole).classes_.tolist() == [0, 10, 20]
    np.save(tmp_path / "gap.npy", np.where(table(3) == 2, np.nan, table(3)))
    with pytest.raises(ValueError, match="NaN"):
        make(label_column=3).fit(np.load(tmp_path / "gap.npy", mmap_mode="r"))


MODES = {
    "column": ({}, (table(),)),
    "first": (
        {"label_column": 0, "scaler": None},
        (table(0, 5.5 * LABELS, features=StandardScaler().fit_transform(FEATURES)),),
    ),
    "strings": ({"label_column": "kind"}, (frame(4, KINDS[LABELS]),)),
    "beside": ({"label_column": None, "scaler": "minmax"}, (FEATURES, LABELS)),
    "strings beside": ({"label_column": None}, (FEATURES, KINDS[LABELS])),
    "own scaler": ({"scaler": MinMaxScaler((-1, 1)), "pretrain": "end_to_end"}, (table(),)),
}
modes = pytest.mark.parametrize(("params", "data"), MODES.values(), ids=MODES)


@modes
def test_files_and_pickles(params, data, tmp_path):
    detector = make(**params).fit(*data)
    detector.save(tmp_path / "model")
    for other in (load(tmp_path / "model"), pickle.loads(pickle.dumps(detector))):
        assert repr(other.get_params()) == repr(detector.get_params())
        np.testing.assert_array_equal(other.classes_, detector.classes_)
        assert other.classes_.dtype == detector.classes_.dtype
        np.testing.assert_array_equal(other.score_samples(*data), detector.score_samples(*data))
        np.testing.assert_array_equal(other.predict_label(data[0]), detector.predict_label(data[0]))
        scores = detector.score_samples(*data)
        np.testing.assert_array_equal(other.fit(*data).score_samples(*data), scores)


@modes
def test_damaged_weights_are_found_out(params, data, tmp_path):
    """The rows by which a file is checked have labels that the model knows."""
    from anomaly_estimators.persistence import LoadError, container

    path = tmp_path / "model"
    make(**params).fit(*data).save(path)
    document, arrays = container.unpack(path.read_bytes())
    arrays["attribute.module.head.weight"] *= 1.5
    path.write_bytes(container.pack({**document, "digest": "0" * 64}, arrays))
    with pytest.raises(LoadError, match="does not score as the one that was saved"):
        load(path)


def test_file_holds_no_autoencoder_and_no_odd_labels(X, tmp_path):
    make(pretrain="end_to_end").fit(X).save(tmp_path / "model")
    with safe_open(tmp_path / "model", framework="pt") as file:
        assert not [name for name in file.keys() if "coder" in name and ".encoder." not in name]
    days = np.array([np.datetime64("2020-01-01"), np.datetime64("2021-01-01")]).astype(object)
    detector = make(label_column=None).fit(FEATURES, days[LABELS // 2])
    assert set(detector.predict_label(FEATURES)) <= set(days)
    with pytest.raises(ValueError, match="classes_"):
        detector.save(tmp_path / "model")


class Stop(Callback):
    def on_batch_begin(self, net, training, **kwargs):
        if len(net.history) == 4:
            raise RuntimeError("power cut")


@modes
def test_stopped_fit_ends_as_an_uninterrupted_one(params, data, tmp_path, monkeypatch):
    monkeypatch.setattr(DeepDetector, "_checkpoint_interval", 0.0)
    params, path = {**params, "max_iter": 6}, tmp_path / "fit.pt"
    with pytest.raises(RuntimeError, match="power cut"):
        make(checkpoint=path, callbacks=[Stop()], **params).fit(*data)
    resumed = make(checkpoint=path, **params).fit(*data)
    expected = make(**params).fit(*data).score_samples(*data)
    np.testing.assert_array_equal(resumed.score_samples(*data), expected)


@modes
def test_warm_start_goes_on(params, data):
    detector = make(warm_start=True, max_iter=20, **params).fit(*data)
    first = detector.loss_curve_
    detector.fit(*data)
    assert detector.n_iter_ == 40 and detector.loss_curve_[20] < 0.5 * first[0]
    # Rows of some of the labels will do.
    if isinstance(data[0], np.ndarray):
        detector.fit(*(part[LABELS > 0] for part in data))
        assert len(detector.classes_) == 3 and detector.n_iter_ == 60


def test_warm_start_takes_no_new_labels(X):
    detector = make(warm_start=True).fit(X)
    before = detector.score_samples(X)
    for rows in (table(13, LABELS + 1), frame(13, KINDS[LABELS])):
        with pytest.raises(ValueError, match="(3.0|barbera).*were not among"):
            detector.fit(rows)
        np.testing.assert_array_equal(detector.score_samples(X), before)
    with pytest.raises(ValueError, match="in column 2, but was in column 13"):
        clone(detector).fit(X).set_params(label_column=2).fit(table(2))
    fresh = detector.set_params(warm_start=False).fit(table(13, LABELS + 1))
    assert fresh.classes_.tolist() == [1, 2, 3]


def test_early_stopping(X):
    detector = make(early_stopping=True, max_iter=200, n_iter_no_change=5, ema_decay=0.9).fit(X)
    assert detector.n_iter_ < 200
    assert (detector.predict_label(X) == LABELS).mean() > 0.9


def test_searches():
    given, wrong = switched(LABELS, 0.06)
    rows, truth = table(13, given), np.where(wrong, -1, 1)
    grid = {"learning_rate": [1e-9, 0.01]}
    folds = KFold(2, shuffle=True, random_state=0)
    search = GridSearchCV(make(max_iter=30), grid, scoring=roc_auc_scorer, cv=folds)
    assert search.fit(rows, truth).best_params_["learning_rate"] == 0.01
    # The labels beside the rows reach the score too.
    beside = GridSearchCV(make(max_iter=30, label_column=None), grid, cv=folds)
    assert beside.fit(FEATURES, given).best_params_["learning_rate"] == 0.01


def test_pipeline_keeps_the_label_in_its_column(X, scores):
    pipeline = make_pipeline(StandardScaler(), make(scaler=None)).fit(X)
    np.testing.assert_allclose(pipeline.score_samples(X), scores, rtol=1e-3, atol=1e-5)
    assert clone(pipeline).fit(X).predict(X).shape == (178,)
