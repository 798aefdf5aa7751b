"""Detectors within detectors, in files: as parameters, frozen, and as what was learned."""

import copy
import os

import numpy as np
import pytest
import torch
from _public import deep_detectors, learned, small
from numpy.testing import assert_array_equal
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import MinMaxScaler
from skorch.callbacks import Callback
from torch import nn

import anomaly_estimators as ae
from anomaly_estimators import (
    DAGMM,
    KDE,
    SSDGM,
    UAI,
    Autoencoder,
    DeepSAD,
    DeepSVDD,
    DenoisingAutoencoder,
    load,
)
from anomaly_estimators.nn.autoencoder import AutoencoderNetwork
from anomaly_estimators.persistence import LoadError, container, register, registry

X = np.random.default_rng(0).normal(5.0, 3.0, size=(40, 4))
X[:, -1] = np.arange(40) % 3
TRUTH = np.where(np.arange(40) % 5 == 2, -1, 1)


def audit(detector, rounds=2):
    for _ in range(rounds):
        rows = detector.query(X, k=4)
        detector.teach(rows, TRUTH[rows])
    return detector


def uai(base=None, **params):
    base = small(DenoisingAutoencoder) if base is None else base
    defaults = {"n_steps": 3, "audited_batch_size": 8, "cold_start": 1, "random_state": 0}
    return UAI(base, **{**defaults, **params})


def saved(detector, folder):
    detector.save(folder / "model")
    return folder / "model"


def assert_goes_on_the_same(detector, other):
    assert_array_equal(other.query(X), detector.query(X))
    assert learned(audit(other)) == learned(audit(detector))
    assert_array_equal(other.score_samples(X), detector.score_samples(X))


# Round trips


@pytest.mark.parametrize("cls", deep_detectors(), ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("frozen", [False, True], ids=["fitted here", "frozen"])
def test_an_audit_goes_on_from_a_file_bit_for_bit(cls, frozen, tmp_path):
    y = np.where(np.arange(40) < 6, TRUTH, 0)
    base = FrozenEstimator(small(cls).fit(X, y)) if frozen else small(cls)
    detector = audit(uai(base).fit(X))
    path = saved(detector, tmp_path)
    restored = load(path)
    assert learned(restored) == learned(detector)
    assert type(restored.estimator_) is cls
    # Saved again, it gives the same file.
    contents = path.read_bytes()
    assert saved(restored, tmp_path).read_bytes() == contents
    assert_goes_on_the_same(detector, restored)
    # And so does a fit from the start.
    for each in (detector, restored):
        each.fit(X, y)
    assert learned(restored) == learned(detector)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd"])
def test_moments_go_on_from_a_file(optimizer, tmp_path):
    detector = audit(uai(optimizer=optimizer).fit(X))
    restored = load(saved(detector, tmp_path))
    forgetful = load(tmp_path / "model")
    forgetful._moments = {}
    assert_array_equal(forgetful.query(X), restored.query(X))
    assert_goes_on_the_same(detector, restored)
    audit(forgetful)
    assert (forgetful.score_samples(X) != restored.score_samples(X)).any()


def test_before_the_first_round_too(tmp_path):
    detector = uai().fit(X)
    assert_goes_on_the_same(detector, load(saved(detector, tmp_path)))


def test_the_table_is_not_in_the_file(tmp_path):
    detector = audit(uai().fit(X))
    _, arrays = container.unpack(saved(detector, tmp_path).read_bytes())
    assert not [
        name for name, array in arrays.items() if array.shape[:1] == (40,) and array.ndim > 1
    ]
    assert [name for name, array in arrays.items() if array.shape == (40,)] == ["attribute.labels_"]
    with pytest.raises(ValueError, match=r"query\(X\)"):
        load(tmp_path / "model").teach([0], [1])


@pytest.mark.parametrize(
    "base",
    [
        small(Autoencoder, scaler=MinMaxScaler(feature_range=(-1, 1))),
        small(Autoencoder, random_state=np.random.RandomState(3)),
        small(DAGMM, batch_norm=True, reconstruction_features=["euclidean"]),
        small(DeepSVDD, objective="soft_boundary", nu=0.2),
        small(SSDGM, contamination="auto"),
        None,
    ],
    ids=lambda base: type(base).__name__,
)
def test_parameters_that_are_detectors_come_back(base, tmp_path):
    detector = UAI(base, n_steps=1, random_state=0).fit(X)
    restored = load(saved(detector, tmp_path))
    assert type(restored.estimator) is type(base)
    assert restored.get_params().keys() == detector.get_params().keys()
    assert learned(restored) == learned(detector)
    restored.set_params(contamination=0.3)
    if base is not None:
        restored.set_params(estimator__max_iter=1)
        assert restored.estimator.max_iter == 1 and detector.estimator.max_iter == 2


def test_what_a_parameter_has_learned_is_left_out(tmp_path):
    """It is cloned before it is fitted."""
    base = small(DenoisingAutoencoder).fit(X[:30])
    detector = uai(base).fit(X)
    restored = load(saved(detector, tmp_path))
    assert not hasattr(restored.estimator, "offset_") and hasattr(base, "offset_")
    plain = uai().fit(X)
    names = container.unpack((tmp_path / "model").read_bytes())[1].keys()
    assert names == container.unpack(saved(plain, tmp_path).read_bytes())[1].keys()


def test_a_frozen_parameter_keeps_what_it_has_learned(tmp_path):
    own = small(DAGMM).fit(X[:30])
    detector = audit(uai(FrozenEstimator(own)).fit(X))
    restored = load(saved(detector, tmp_path))
    assert type(restored.estimator) is FrozenEstimator
    assert learned(restored.estimator.estimator) == learned(own)
    assert_array_equal(restored.estimator.score_samples(X), own.score_samples(X))
    assert learned(restored.estimator_) != learned(own)
    restored.fit(X)
    assert learned(restored) == learned(detector.fit(X))


@pytest.mark.skipif(not hasattr(ae, "AAD"), reason="there is no ensemble to take one")
def test_a_forest_is_kept_by_its_parameters(tmp_path):
    forest = IsolationForest(n_estimators=7, max_features=0.5, random_state=3)
    detector = audit(ae.AAD(forest, random_state=0).fit(X))
    restored = load(saved(detector, tmp_path))
    assert type(restored.estimator) is IsolationForest
    assert restored.estimator.get_params() == forest.get_params()
    assert not hasattr(restored.estimator, "estimators_")
    assert_goes_on_the_same(detector, restored)


def test_names_of_columns_come_back(tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=["a", "b", "ä", "kind"])
    detector = uai().fit(frame)
    restored = load(saved(detector, tmp_path))
    for each in (restored, restored.estimator_):
        assert list(each.feature_names_in_) == list(frame)
    assert_array_equal(restored.query(frame), detector.query(frame))
    with pytest.raises(ValueError, match="feature names"):
        restored.query(frame.rename(columns={"a": "c"}))


# Devices and other machines


@pytest.fixture
def forge():
    """Change a file and give it a digest that fits, as anyone can."""

    def forged(path, edit):
        document, arrays = container.unpack(path.read_bytes())
        document["digest"] = "0" * 64
        edit(document, arrays)
        path.write_bytes(container.pack(document, arrays))
        return path

    return forged


def put(device):
    def edit(document, arrays):
        for place in (document["state"]["estimator_"], document["parameters"]["estimator"]):
            place.get("frozen", place)["detector"]["parameters"]["device"] = device

    return edit


@pytest.mark.parametrize("frozen", [False, True])
def test_device_reaches_the_detectors_within(frozen, forge, tmp_path):
    base = small(DenoisingAutoencoder)
    detector = audit(uai(FrozenEstimator(base.fit(X)) if frozen else base).fit(X))
    path = forge(saved(detector, tmp_path), put("auto"))
    assert load(path).estimator_.device == "auto"
    restored = load(path, device="cpu")
    given = restored.estimator.estimator if frozen else restored.estimator
    assert restored.estimator_.device == given.device == "cpu"
    assert_array_equal(restored.score_samples(X), detector.score_samples(X))
    with pytest.raises(ValueError, match="not known") as caught:
        load(path, device="abacus")
    assert not isinstance(caught.value, LoadError)
    # One that this machine lacks is no obstacle.
    restored = load(forge(path, put("cuda:99")))
    assert restored.estimator_.device == "cuda:99"
    assert next(restored.estimator_.module_.parameters()).device.type == "cpu"
    restored.query(X)
    restored.teach([0], [1], revise=True)
    assert next(restored.estimator_.module_.parameters()).device.type == "cpu"
    restored = load(path, device="cpu")
    restored.fit(X)


def test_a_checkpoint_within_is_not_carried_along(forge, tmp_path):
    base = small(DenoisingAutoencoder, checkpoint=tmp_path / "state")
    path = saved(uai(base).fit(X), tmp_path)
    restored = load(path)
    assert restored.estimator.checkpoint is None and restored.estimator_.checkpoint is None

    def edit(document, arrays):
        document["state"]["estimator_"]["detector"]["parameters"]["checkpoint"] = "/somewhere"

    with pytest.raises(LoadError, match="'checkpoint'"):
        load(forge(path, edit))


# What cannot be saved


class OwnAutoencoder(Autoencoder):
    """A method of the library, changed."""


def own_network(n_features):
    return AutoencoderNetwork(nn.Linear(n_features, 2), nn.Linear(2, n_features))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("network", own_network),
        ("network", own_network(4)),
        ("optimizer", torch.optim.Adam),
        ("lr_schedule", lambda share: 1.0),
        ("callbacks", [Callback()]),
    ],
    ids=lambda value: str(value)[:12],
)
@pytest.mark.parametrize("frozen", [False, True])
def test_code_within_is_refused(name, value, frozen, tmp_path):
    base = small(Autoencoder, **{name: value})
    detector = uai(FrozenEstimator(base.fit(X)) if frozen else base).fit(X)
    (tmp_path / "model").write_bytes(b"older")
    with pytest.raises(ValueError, match=rf"parameter {name} of Autoencoder .*pickle"):
        saved(detector, tmp_path)
    assert os.listdir(tmp_path) == ["model"]
    assert (tmp_path / "model").read_bytes() == b"older"


def test_classes_within_have_to_be_registered(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_REGISTERED", {})
    detector = audit(uai(small(OwnAutoencoder)).fit(X))
    with pytest.raises(ValueError, match=r"holds an object of type OwnAutoencoder"):
        saved(detector, tmp_path)
    assert not os.listdir(tmp_path)
    register(OwnAutoencoder)
    restored = load(saved(detector, tmp_path))
    assert type(restored.estimator_) is type(restored.estimator) is OwnAutoencoder
    assert_goes_on_the_same(detector, restored)
    monkeypatch.setattr(registry, "_REGISTERED", {})
    with pytest.raises(LoadError, match="OwnAutoencoder.*registered"):
        load(tmp_path / "model")


def test_an_estimator_that_does_not_suit_is_refused(tmp_path):
    detector = uai().fit(X).set_params(estimator=nn.Linear(3, 2))
    with pytest.raises(ValueError, match="estimator"):
        saved(detector, tmp_path)
    detector.set_params(estimator=FrozenEstimator(IsolationForest().fit(X)))
    with pytest.raises(ValueError, match="estimator"):
        saved(detector, tmp_path)
    assert not os.listdir(tmp_path)


# Forged files


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    return saved(audit(uai().fit(X)), tmp_path_factory.mktemp("file")).read_bytes()


@pytest.fixture(scope="module")
def frozen_contents(tmp_path_factory):
    detector = uai(FrozenEstimator(small(DenoisingAutoencoder).fit(X)))
    return saved(audit(detector.fit(X)), tmp_path_factory.mktemp("file")).read_bytes()


@pytest.fixture
def attempt(forge, tmp_path):
    def load_forged(contents, edit):
        path = tmp_path / "attempt"
        path.write_bytes(contents)
        return load(forge(path, edit))

    return load_forged


def within(document):
    """The JSON object of the detector that was learned."""
    return document["state"]["estimator_"]["detector"]


@pytest.mark.parametrize(
    "name",
    ["Unknown", "os.system", "IsolationForest", "DeepDetector", "active_search", 3, None, ""],
)
def test_unknown_classes_within_are_refused(name, contents, attempt):
    for find in (within, lambda document: document["parameters"]["estimator"]["detector"]):

        def edit(document, arrays, find=find):
            find(document)["class"] = name

        with pytest.raises(LoadError):
            attempt(contents, edit)


@pytest.mark.parametrize("other", ["KDE", "UAI", "OutlierDetector", "DAGMM", "DeepSVDD"])
def test_other_classes_within_are_refused(other, contents, attempt):
    def edit(document, arrays):
        within(document)["class"] = other

    with pytest.raises(LoadError):
        attempt(contents, edit)


def test_a_detector_within_that_is_no_network_is_refused(contents, attempt, tmp_path):
    foreign = saved(KDE().fit(X), tmp_path).read_bytes()
    other, others_arrays = container.unpack(foreign)

    def edit(document, arrays):
        for name in [name for name in arrays if name.startswith("attribute.estimator_")]:
            del arrays[name]
        arrays |= {n: array for n, array in others_arrays.items() if n != "probe_scores"}
        detector = {key: other[key] for key in ("class", "parameters", "state")}
        document["state"]["estimator_"] = {"detector": detector}

    with pytest.raises(LoadError):
        attempt(contents, edit)


@pytest.mark.parametrize(
    "state",
    [None, {}, [], 3, "state", "missing"],
    ids=str,
)
@pytest.mark.parametrize("kind", ["learned", "frozen"])
def test_what_a_detector_within_has_learned_must_be_there(
    state, kind, contents, frozen_contents, attempt
):
    def edit(document, arrays):
        place = within(document)
        prefix = "attribute.estimator_"
        if kind == "frozen":
            place = document["parameters"]["estimator"]["frozen"]["detector"]
            prefix = "parameter.estimator"
        place["state"] = state
        if state == "missing":
            del place["state"]
        for name in [name for name in arrays if name.startswith(prefix)]:
            del arrays[name]

    with pytest.raises(LoadError):
        attempt(frozen_contents if kind == "frozen" else contents, edit)


@pytest.mark.parametrize(
    "key",
    [
        "n_features_in_",
        "offset_",
        "module",
        "scaler_",
        "history",
        "net_batch_size",
        "_n_trained_features",
    ],
)
def test_every_part_of_a_detector_within_must_be_there(key, contents, attempt):
    def edit(document, arrays):
        del within(document)["state"][key]
        for name in [n for n in arrays if n.startswith(f"attribute.estimator_.attribute.{key}.")]:
            del arrays[name]

    with pytest.raises(LoadError):
        attempt(contents, edit)


@pytest.mark.parametrize("name", ["predict", "module_", "not an identifier", "_make_net", "noise"])
def test_nothing_of_the_class_within_can_be_hidden(name, contents, attempt):
    def edit(document, arrays):
        within(document)["state"][name] = 3

    with pytest.raises(LoadError):
        attempt(contents, edit)


@pytest.mark.parametrize("name", ["coef_", "scaler_", "_start", "query", "estimator"])
def test_nothing_of_the_class_can_be_hidden(name, contents, attempt):
    def edit(document, arrays):
        document["state"][name] = 3

    with pytest.raises(LoadError):
        attempt(contents, edit)


@pytest.mark.parametrize(
    "key",
    [
        "estimator_",
        "_head",
        "_trust",
        "_moments",
        "_seed",
        "labels_",
        "n_rounds_",
        "_answered",
        "chosen_score_",
        "loss_curve_",
        "_starts_warm",
        "_fingerprint",
        "n_features_in_",
        "offset_",
    ],
)
def test_every_part_must_be_there(key, contents, attempt):
    def edit(document, arrays):
        del document["state"][key]
        for name in [n for n in arrays if n.startswith(f"attribute.{key}")]:
            del arrays[name]

    with pytest.raises(LoadError):
        attempt(contents, edit)


@pytest.mark.parametrize("name", ["center", "scale", "linear.weight", "linear.bias"])
@pytest.mark.parametrize(
    "change", ["longer", "shorter", "flat", "empty", "other", "missing", "text"]
)
def test_a_head_that_is_none_is_refused(name, change, contents, attempt):
    def edit(document, arrays):
        key = f"attribute._head.{name}"
        array = arrays[key]
        changed = {
            "longer": np.concatenate([array, array], axis=-1),
            "shorter": array[..., :-1],
            "flat": array[None],
            "empty": np.empty((0, 0), dtype=np.float32),
            "other": array + np.float32(1e3),
        }
        if change in changed:
            arrays[key] = changed[change]
            return
        del arrays[key]
        if change == "missing":
            del document["state"]["_head"]["dict"][name]
        else:
            document["state"]["_head"]["dict"][name] = "text"

    with pytest.raises(LoadError):
        attempt(contents, edit)


def test_a_head_of_another_width_is_refused(contents, attempt):
    """All of its parts agree with one another, but not with the detector."""
    for width in (1, 3, 50):

        def edit(document, arrays, width=width):
            for name in ("center", "scale"):
                arrays[f"attribute._head.{name}"] = np.ones(width, dtype=np.float32)
            arrays["attribute._head.linear.weight"] = np.ones((1, width), dtype=np.float32)

        with pytest.raises(LoadError):
            attempt(contents, edit)


@pytest.mark.parametrize("number", [0, 6, 8, 9])
@pytest.mark.parametrize("moment", ["step", "exp_avg", "exp_avg_sq"])
def test_moments_of_another_network_are_refused(number, moment, contents, attempt):
    """The optimizer's kernels would read and write beyond them."""
    key = f"attribute._moments.{number}.{moment}"
    for change in (
        lambda array: np.zeros(7, dtype=np.float32),
        lambda array: np.zeros((1, 1, 1), dtype=np.float32),
        lambda array: np.zeros(0, dtype=np.float32),
    ):

        def edit(document, arrays, change=change):
            arrays[key] = change(arrays[key])

        with pytest.raises(LoadError):
            attempt(contents, edit)


@pytest.mark.parametrize(
    "moments",
    [
        {"dict": {"10": {"dict": {"step": 1.0}}}},
        {"dict": {"-1": {"dict": {"step": 1.0}}}},
        {"dict": {"first": {"dict": {}}}},
        {"dict": {"0": 3}},
        {"dict": {"0": {"dict": {"step": "text"}}}},
        [1, 2],
        None,
    ],
    ids=str,
)
def test_moments_that_are_none_are_refused(moments, contents, attempt):
    def edit(document, arrays):
        document["state"]["_moments"] = moments
        for name in [name for name in arrays if name.startswith("attribute._moments")]:
            del arrays[name]

    with pytest.raises(LoadError):
        attempt(contents, edit)


def test_weights_of_another_network_within_are_refused(contents, attempt):
    names = [n for n in container.unpack(contents)[1] if ".module." in n]
    assert len(names) == 8
    for name in names:

        def edit(document, arrays, name=name):
            arrays[name] = np.concatenate([arrays[name], arrays[name]])

        with pytest.raises(LoadError):
            attempt(contents, edit)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("chosen_score_", "both"),
        ("_trust", {"tuple": [1.0, 2.0]}),
        ("_trust", {"tuple": ["a", "b", "c", "d"]}),
        ("_trust", 3),
        ("n_features_in_", 3),
        ("n_features_in_", 5),
        ("n_features_in_", 10**9),
        ("offset_", {"float": "nan"}),
        ("labels_", None),
        ("labels_", [0, 1]),
        ("_answered", [0, 1]),
        ("loss_curve_", None),
        ("n_rounds_", "many"),
        ("_seed", -1),
        ("_seed", "seed"),
    ],
    ids=str,
)
def test_attributes_that_are_none_are_refused(key, value, contents, attempt):
    def edit(document, arrays):
        document["state"][key] = value
        if f"attribute.{key}" in arrays:
            del arrays[f"attribute.{key}"]

    with pytest.raises(LoadError):
        attempt(contents, edit)


def test_parameters_within_are_checked(contents, attempt):
    for name, value in [
        ("latent_dim", 0),
        ("latent_dim", 2),
        ("unknown", 1),
        ("optimizer", "newton"),
        ("scaler", {"detector": {"class": "KDE", "parameters": {}}}),
        ("noise", {"frozen": {"dict": {}}}),
    ]:

        def edit(document, arrays, name=name, value=value):
            within(document)["parameters"][name] = value

        with pytest.raises(LoadError):
            attempt(contents, edit)


FOREST = ["IsolationForest", {"dict": {"n_estimators": 5}}]


@pytest.mark.parametrize(
    "value",
    [
        {"frozen": {"dict": {}}},
        {"frozen": {"template": FOREST}},
        {"frozen": {"frozen": {"dict": {}}}},
        {"frozen": 3},
        {"template": ["RandomForestClassifier", {"dict": {}}]},
        {"template": ["IsolationForest", {"dict": {"n_estimators": -5}}]},
        {"template": ["IsolationForest", {"dict": {"unknown": 5}}]},
        {"template": ["IsolationForest", 3]},
        {"template": "IsolationForest"},
        {"template": [["IsolationForest"], {"dict": {}}]},
        {"detector": {"class": "KDE"}},
        {"detector": {"class": "KDE", "parameters": {}}},
        {"detector": {"class": "KDE", "parameters": {}, "state": 3}},
        {"detector": 3},
        {"pickle": "cos\nsystem"},
    ],
    ids=str,
)
def test_parameters_that_are_no_detectors_are_refused(value, contents, attempt):
    def edit(document, arrays):
        document["parameters"]["estimator"] = value

    with pytest.raises(LoadError):
        attempt(contents, edit)


def test_depth_is_no_way_to_bring_a_reader_down(contents, attempt):
    def edit(document, arrays):
        value = document["parameters"]["estimator"]
        for _ in range(20_000):
            value = {"frozen": value}
        document["parameters"]["estimator"] = value

    with pytest.raises((LoadError, RecursionError)):
        attempt(contents, edit)


def test_arrays_that_belong_to_nothing_are_refused(contents, attempt):
    def edit(document, arrays):
        arrays["attribute.estimator_.attribute.more"] = np.zeros(3)

    with pytest.raises(LoadError, match="belongs to nothing"):
        attempt(contents, edit)


def test_another_model_within_is_known_by_its_scores(contents, attempt):
    def edit(document, arrays):
        for name in arrays:
            if ".module." in name:
                arrays[name] = arrays[name] + np.float32(0.5)

    with pytest.raises(LoadError, match="does not score"):
        attempt(contents, edit)


def test_an_honest_copy_is_loaded(contents, attempt):
    """So that the others are refused for what they are."""
    assert isinstance(attempt(contents, lambda document, arrays: None), UAI)


def test_loading_leaves_the_random_numbers_alone(contents, tmp_path):
    (tmp_path / "model").write_bytes(contents)
    before = torch.get_rng_state(), copy.deepcopy(np.random.mtrand._rand.get_state(legacy=False))
    load(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), before[0])
    after = np.random.mtrand._rand.get_state(legacy=False)
    assert_array_equal(after["state"]["key"], before[1]["state"]["key"])
    assert after["state"]["pos"] == before[1]["state"]["pos"]


def test_labels_within_reach_a_detector_that_reads_them(tmp_path):
    detector = audit(uai(small(DeepSAD, pretrain=None)).fit(X))
    assert_goes_on_the_same(detector, load(saved(detector, tmp_path)))
