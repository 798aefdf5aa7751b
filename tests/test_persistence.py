"""Saved files: the same estimator comes back, or none at all."""

import errno
import io
import json
import os
import pickle
import stat
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, QuantileTransformer, RobustScaler, StandardScaler
from sklearn.utils import check_random_state
from skorch.callbacks import Callback
from torch import nn

import anomaly_estimators
from anomaly_estimators import DAGMM, Autoencoder, DeepDetector, load, save
from anomaly_estimators.base import OutlierDetector
from anomaly_estimators.nn.autoencoder import AutoencoderNetwork
from anomaly_estimators.persistence import LoadError, container, register, registry
from anomaly_estimators.persistence.values import Decoder, Encoder, NotStorableError

METHODS = (
    "score_samples",
    "decision_function",
    "predict",
    "transform",
    "predict_component_proba",
)
BASES = {"ActiveDetector", "DeepDetector", "OutlierDetector"}
PUBLIC = [
    cls
    for name in sorted(anomaly_estimators._PUBLIC)
    if (cls := registry.find_class(name)) and name not in BASES
]
SMALL = {"hidden_layer_sizes": (4,), "latent_dim": 2, "max_iter": 2, "random_state": 0}


def make_rows(n_rows=60, n_features=3):
    return np.random.default_rng(0).normal(5.0, 3.0, size=(n_rows, n_features))


def fitted(cls=DAGMM, X=None, **parameters):
    known = cls().get_params(deep=False)
    small = SMALL if issubclass(cls, DeepDetector) else {}
    parameters = {k: v for k, v in (small | parameters).items() if k in known}
    X = make_rows() if X is None else X
    y = np.where(np.arange(len(X)) % 10 == 0, -1, 0) if cls._uses_labels else None
    return cls(**parameters).fit(X, y)


def saved(estimator, folder):
    path = folder / "model.safetensors"
    save(estimator, path)
    return path


def assert_same(one, other, X):
    for dtype in (np.float64, np.float32):
        for method in METHODS:
            if hasattr(one, method):
                found, expected = (
                    getattr(other, method)(X.astype(dtype)),
                    getattr(one, method)(X.astype(dtype)),
                )
                assert found.dtype == expected.dtype
                np.testing.assert_array_equal(found, expected, err_msg=method)
    for name in ("history_", "loss_curve_", "n_iter_", "n_features_in_", "offset_"):
        assert getattr(one, name, None) == getattr(other, name, None), name


def forge(data, edit):
    """Change a file and give it a digest that fits, as anyone can."""
    document, arrays = container.unpack(data)
    document["digest"] = "0" * 64
    edit(document, arrays)
    return container.pack(document, arrays)


@pytest.fixture(scope="module")
def model():
    return fitted()


@pytest.fixture(scope="module")
def data(model, tmp_path_factory):
    return saved(model, tmp_path_factory.mktemp("model")).read_bytes()


@pytest.fixture
def attempt(tmp_path):
    def load_bytes(content):
        path = tmp_path / "attempt.safetensors"
        path.write_bytes(content)
        return load(path)

    return load_bytes


# Round trips


@pytest.mark.parametrize("cls", PUBLIC)
def test_round_trip(cls, tmp_path):
    estimator = fitted(cls)
    restored = load(saved(estimator, tmp_path))
    assert type(restored) is cls
    assert repr(restored.get_params()) == repr(estimator.get_params())
    # All but the table under audit.
    kept = vars(estimator).keys() - getattr(cls, "_table_attributes", frozenset())
    assert vars(restored).keys() == kept
    assert_same(estimator, restored, make_rows())
    for name, value in vars(estimator).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(restored, name), value)
            assert getattr(restored, name).flags.writeable


@pytest.mark.parametrize(
    "parameters",
    [
        {"scaler": None},
        {"scaler": "minmax"},
        {"scaler": "robust"},
        {"scaler": StandardScaler(with_std=False)},
        {"scaler": MinMaxScaler(feature_range=(-1, 1)).fit(make_rows())},
        {"scaler": RobustScaler(quantile_range=(10.0, 90.0))},
        {"hidden_layer_sizes": [5, 3], "max_iter": np.int64(2), "learning_rate": np.float32(1e-3)},
        {"hidden_layer_sizes": np.array([5, 3])},
        {"pretrain": "layerwise", "corruption": 0.2, "early_stopping": True, "ema_decay": 0.9},
        {"callbacks": [], "contamination": "auto", "lr_schedule": "cosine", "optimizer": "sgd"},
        {"reconstruction_features": ["euclidean"], "objective": "nvi", "dropout": 0.0},
    ],
)
def test_round_trip_of_parameters(parameters, tmp_path):
    estimator = fitted(**parameters)
    path = saved(estimator, tmp_path)
    restored = load(path)
    assert repr(restored.get_params()) == repr(estimator.get_params())
    assert_same(estimator, restored, make_rows())
    # Saved again, it gives the same file.
    assert saved(restored, tmp_path).read_bytes() == path.read_bytes()


def test_feature_names_and_set_output(tmp_path):
    X = pd.DataFrame(make_rows(), columns=["a", "b", "ä"])
    estimator = fitted(Autoencoder, X).set_output(transform="pandas")
    restored = load(saved(estimator, tmp_path))
    assert list(restored.feature_names_in_) == list(X)
    assert restored.feature_names_in_.dtype == object
    pd.testing.assert_frame_equal(restored.transform(X), estimator.transform(X))
    with pytest.raises(ValueError, match="feature names"):
        restored.predict(X.rename(columns={"a": "c"}))


def test_method_and_function_are_the_same(model, data, tmp_path):
    model.save(tmp_path / "a")
    model.save(str(tmp_path / "b"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == data


def test_the_file_is_plain_safetensors(model, data, tmp_path):
    (tmp_path / "a").write_bytes(data)
    with safe_open(tmp_path / "a", framework="pt") as file:
        document = json.loads(file.metadata()["anomaly_estimators"])
        weight = file.get_tensor("attribute.module.autoencoder.encoder.0.weight")
    assert document["class"] == "DAGMM"
    assert document["format_version"] == 1
    assert document["library_version"] == anomaly_estimators.__version__
    assert torch.equal(weight, model.module_.autoencoder.encoder[0].weight)


def test_life_goes_on_after_a_load(data, attempt):
    X, restored = make_rows(), attempt(data)
    again = pickle.loads(pickle.dumps(restored))
    assert_same(restored, again, X)
    refitted = clone(restored).fit(X)
    np.testing.assert_array_equal(refitted.score_samples(X), restored.score_samples(X))
    assert restored.fit(X[:, :2]).n_features_in_ == 2


@pytest.mark.parametrize("random_state", [0, None, "instance"])
def test_warm_start_continues(random_state, tmp_path):
    X = make_rows()
    if random_state == "instance":
        random_state = np.random.RandomState(3)
        random_state.normal()  # leaves half a pair of normal numbers behind
    estimator = fitted(warm_start=True, random_state=random_state, pretrain="end_to_end")
    restored = load(saved(estimator, tmp_path))
    if random_state is None:
        estimator.set_params(random_state=1)
        restored.set_params(random_state=1)
    estimator.fit(X)
    restored.fit(X)
    assert [row["phase"] for row in restored.history_] == [
        row["phase"] for row in estimator.history_
    ]
    np.testing.assert_array_equal(restored.score_samples(X), estimator.score_samples(X))


def test_loading_leaves_the_random_numbers_alone(data, attempt):
    before, before_numpy = torch.get_rng_state(), check_random_state(None).get_state()
    attempt(data)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(check_random_state(None).get_state()[1], before_numpy[1])


def test_module_is_as_after_a_fit(model, data, attempt):
    restored = attempt(data)
    assert not restored.module_.training
    assert restored.net_.batch_size == model.net_.batch_size
    assert all(parameter.requires_grad for parameter in restored.module_.parameters())


def test_device(model, tmp_path):
    path = saved(clone(model).set_params(device="cpu").fit(make_rows()), tmp_path)
    assert load(path, device="auto").device == "auto"
    with pytest.raises(ValueError, match="not known") as caught:
        load(path, device="abacus")
    assert not isinstance(caught.value, LoadError)


def test_a_device_that_is_missing(data, attempt):
    def edit(document, arrays):
        document["parameters"]["device"] = "cuda:99"

    restored = attempt(forge(data, edit))
    assert restored.device == "cuda:99"
    assert next(restored.module_.parameters()).device.type == "cpu"


def test_checkpoint_is_not_carried_to_other_machines(data, tmp_path, attempt):
    estimator = fitted(checkpoint=tmp_path / "state")
    assert load(saved(estimator, tmp_path)).checkpoint is None

    def edit(document, arrays):
        document["parameters"]["checkpoint"] = "/somewhere"

    with pytest.raises(LoadError, match="'checkpoint'"):
        attempt(forge(data, edit))


# Pickles


class NoTensors(pickle.Pickler):
    def reducer_override(self, obj):
        assert not isinstance(obj, torch.Tensor | torch.UntypedStorage | torch.TypedStorage)
        return NotImplemented


@pytest.mark.parametrize("cls", PUBLIC)
def test_pickles_hold_tensors_only_where_they_change_devices(cls):
    # skorch pickles module_ apart, so that it can be put on another device.
    estimator = fitted(cls)
    NoTensors(io.BytesIO()).dump(estimator)
    restored = pickle.loads(pickle.dumps(estimator))
    if hasattr(restored, "net_"):
        assert restored.net_.module is restored.module_


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_models_fitted_on_cuda_load_without_it(tmp_path):
    estimator = fitted(device="cuda")
    X = make_rows()
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(estimator))
    saved(estimator, tmp_path)
    np.savez(tmp_path / "rows", X=X, scores=estimator.score_samples(X))
    program = (
        "import pickle, numpy as np; from anomaly_estimators import load\n"
        "rows = np.load('rows.npz')\n"
        "for model in pickle.load(open('model.pickle', 'rb')), load('model.safetensors'):\n"
        "    assert model.module_.head.means.device.type == 'cpu'\n"
        "    np.testing.assert_allclose(model.score_samples(rows['X']), rows['scores'])\n"
    )
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    assert next(load(tmp_path / "model.safetensors").module_.parameters()).is_cuda


# What cannot be saved


class OwnDetector(OutlierDetector):
    """Distance from the median; no network."""

    def _fit(self, X, labels):
        self.median_ = np.median(X, axis=0)
        self.infinite_ = [float("inf"), float("-inf")]

    def _anomaly_score(self, X):
        return np.abs(X - self.median_).sum(axis=1)


class OwnDAGMM(DAGMM):
    """A method of the library, changed."""


class ProbabilityScaler(QuantileTransformer):
    pass


def own_schedule(progress):
    return 1.0


def own_feature(X, reconstruction):
    return (X - reconstruction).abs().sum(dim=1)


def own_network(n_features):
    return AutoencoderNetwork(nn.Linear(n_features, 2), nn.Linear(2, n_features))


@pytest.mark.parametrize(
    "name, value",
    [
        ("network", own_network(3)),
        ("network", own_network),
        ("estimation_network", nn.Linear(3, 2)),
        ("lr_schedule", own_schedule),
        ("optimizer", torch.optim.Adam),
        ("reconstruction_features", (own_feature,)),
        ("callbacks", [Callback()]),
        ("scaler", ProbabilityScaler(n_quantiles=10)),
        ("random_state", np.random.RandomState(np.random.PCG64(0))),
    ],
)
def test_code_is_refused(name, value, tmp_path):
    estimator = fitted(**{name: value})
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"older")
    with pytest.raises(ValueError, match=rf"parameter {name} .*pickle"):
        save(estimator, path)
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_bytes() == b"older"


def test_unfitted_is_refused(tmp_path):
    with pytest.raises(NotFittedError):
        DAGMM().save(tmp_path / "a")
    assert not os.listdir(tmp_path)


def test_other_objects_are_refused(model, tmp_path):
    with pytest.raises(TypeError, match="Pipeline"):
        save(make_pipeline(StandardScaler(), model), tmp_path / "a")
    with pytest.raises(TypeError, match="OwnDAGMM.*register"):
        save(fitted(OwnDAGMM), tmp_path / "a")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "change", [{"activation": "relu"}, {"n_components": 3}, {"dropout": 0.1}, {"max_iter": -1}]
)
def test_parameters_that_changed_after_the_fit_are_refused(change, tmp_path):
    estimator = fitted().set_params(**change)
    with pytest.raises(ValueError, match="fit again"):
        saved(estimator, tmp_path)
    assert not os.listdir(tmp_path)


def test_an_attribute_that_is_no_number_is_refused(tmp_path):
    estimator = fitted()
    estimator.note_ = {1, 2}
    with pytest.raises(ValueError, match="attribute note_ .*set"):
        saved(estimator, tmp_path)


# Own classes


def test_registered_classes(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_REGISTERED", {})
    for cls in (OwnDetector, OwnDAGMM):
        assert register(cls) is cls
        estimator = fitted(cls)
        path = saved(estimator, tmp_path)
        restored = load(path, device="cpu")
        assert type(restored) is cls
        assert_same(estimator, restored, make_rows())
    assert load(saved(fitted(OwnDetector), tmp_path)).infinite_ == [np.inf, -np.inf]
    monkeypatch.setattr(registry, "_REGISTERED", {})
    with pytest.raises(LoadError, match="OwnDetector.*registered"):
        load(path)
    with pytest.raises(TypeError):
        register(StandardScaler)


# Writing


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk(failing, model, monkeypatch, tmp_path):
    def fail(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "model.safetensors"
    path.write_bytes(b"older")
    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(
        OSError, match="model.safetensors could not be written .*[Nn]o space"
    ) as caught:
        save(model, path)
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_bytes() == b"older"


def test_an_interrupt_while_writing(model, monkeypatch, tmp_path):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(model, tmp_path / "a")
    assert not os.listdir(tmp_path)


def test_a_folder_that_is_missing(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="could not be written"):
        save(model, tmp_path / "nowhere" / "a")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere" / "a")


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions and links")
def test_permissions_and_links(model, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    before = os.umask(0o027)
    try:
        save(model, tmp_path / "link")
    finally:
        os.umask(before)
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE((tmp_path / "target").stat().st_mode) == 0o640


# Damage


def test_flipped_bits(data, attempt):
    header = 8 + int.from_bytes(data[:8], "little")
    random = np.random.default_rng(0)
    positions = {
        *range(16),
        *random.integers(header, size=150),
        *random.integers(len(data), size=150),
    }
    for position in positions | {len(data) - 1}:
        damaged = bytearray(data)
        damaged[position] ^= 1 << int(random.integers(8))
        with pytest.raises(LoadError):
            attempt(bytes(damaged))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_cut_and_lengthened_files(data, attempt, choose):
    start = choose.draw(st.integers(0, len(data)))
    stop = choose.draw(st.integers(start, len(data)))
    changed = data[:start] + choose.draw(st.binary(max_size=20)) + data[stop:]
    if changed != data:
        with pytest.raises(LoadError):
            attempt(changed)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=200), st.booleans())
def test_noise(attempt, noise, with_length):
    with pytest.raises(LoadError):
        attempt(struct.pack("<Q", len(noise)) + noise if with_length else noise)


# Malice


class Malice:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def with_header(header, rest=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


def test_pickles_are_not_read(attempt, tmp_path):
    flag = tmp_path / "flag"
    buffer = io.BytesIO()
    torch.save({"model": Malice(flag)}, buffer)
    for content in (pickle.dumps(Malice(flag)), buffer.getvalue()):
        with pytest.raises(LoadError):
            attempt(content)
    assert not flag.exists()


def test_foreign_containers(attempt):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../weights", bytes(10**7))
    huge = {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}
    nested = b'{"__metadata__":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    deep_document = {"__metadata__": {"anomaly_estimators": "[" * 100_000}}
    for content in (
        b"",
        buffer.getvalue(),
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2**64 - 1),
        with_header({"x": huge}),
        with_header({"x": {**huge, "data_offsets": [0, 0]}}),
        with_header({"x": {"data_offsets": ["a", "b"]}}),
        with_header(nested),
        with_header(deep_document),
        with_header({}),
        with_header([]),
        with_header({"__metadata__": 1}),
        with_header({"__metadata__": {"anomaly_estimators": "1"}}),
        with_header({"__metadata__": {"other": "{}"}}),
        with_header({"__metadata__": {"anomaly_estimators": '{"format": NaN}'}}),
        with_header({"__metadata__": {"anomaly_estimators": '{"digest": "\\ud800"}'}}),
        with_header(b'{"__metadata__": {"anomaly_estimators": "{\\"x\\": ' + b"9" * 5000 + b'}"}}'),
    ):
        with pytest.raises(LoadError):
            attempt(content)


@pytest.mark.parametrize("version", [0, 2, 1.0, True, "1", None, [1]])
def test_other_versions_of_the_format(version, data, attempt):
    def edit(document, arrays):
        document["format_version"] = version

    with pytest.raises(LoadError, match="reads only version 1"):
        attempt(forge(data, edit))


def test_other_versions_of_the_library(model, data, attempt):
    def newer(document, arrays):
        document["library_version"] = "99.0"

    assert_same(model, attempt(forge(data, newer)), make_rows())

    def unknown(document, arrays):
        newer(document, arrays)
        document["parameters"]["temperature"] = 1.0

    with pytest.raises(LoadError, match="'temperature'.*99.0"):
        attempt(forge(data, unknown))

    def older(document, arrays):
        del document["parameters"]["freeze_codes"]  # takes its default

    assert_same(model, attempt(forge(data, older)), make_rows())


@pytest.mark.parametrize(
    "name",
    ["os.system", "builtins.eval", "save", "load", "OutlierDetector", "DeepDetector", "__version__",
     "datasets", "", None, 1, ["DAGMM"], {"a": 1}, "anomaly_estimators.mixture.dagmm.DAGMM"],
)  # fmt: skip
def test_classes_that_no_file_may_name(name, data, attempt):
    def edit(document, arrays):
        document["class"] = name

    with pytest.raises(LoadError):
        attempt(forge(data, edit))


WEIGHT = "attribute.module.autoencoder.encoder.0.weight"


def _drop_weight(document, arrays):
    del arrays[WEIGHT]


def _drop_weight_everywhere(document, arrays):
    del arrays[WEIGHT]
    del document["state"]["module"]["dict"]["autoencoder.encoder.0.weight"]


def _extra_weight(document, arrays):
    arrays["extra"] = np.ones(3)
    document["state"]["module"]["dict"]["extra"] = {"array": "extra"}


def _extra_array(document, arrays):
    arrays["extra"] = np.ones(3)


def _transposed_weight(document, arrays):
    arrays[WEIGHT] = arrays[WEIGHT].T


def _float64_weight(document, arrays):
    arrays[WEIGHT] = arrays[WEIGHT].astype(np.float64)


def _integer_weight(document, arrays):
    arrays[WEIGHT] = arrays[WEIGHT].astype(np.int32)


def _nan_weight(document, arrays):
    arrays[WEIGHT] = np.full_like(arrays[WEIGHT], np.nan)


def _other_weight(document, arrays):
    arrays[WEIGHT] = 2 * arrays[WEIGHT]


def _scaler_of_another_width(document, arrays):
    for name in ("mean_", "scale_", "var_"):
        arrays[f"attribute.scaler_.{name}"] = np.ones(7)


def _no_probes(document, arrays):
    document["probe_scores"] = None


def _nan_probes(document, arrays):
    arrays["probe_scores"] = np.full(4, np.nan)


@pytest.mark.parametrize(
    "edit",
    [_drop_weight, _drop_weight_everywhere, _extra_weight, _extra_array, _transposed_weight,
     _float64_weight, _integer_weight, _nan_weight, _other_weight, _scaler_of_another_width,
     _no_probes, _nan_probes],
)  # fmt: skip
def test_forged_arrays(edit, data, attempt):
    with pytest.raises(LoadError):
        attempt(forge(data, edit))


@pytest.mark.parametrize(
    "part, name, value",
    [
        ("parameters", "hidden_layer_sizes", {"tuple": [10**6, 10**6]}),
        ("parameters", "hidden_layer_sizes", {"tuple": [10**15, 10**15]}),
        ("parameters", "hidden_layer_sizes", {"tuple": [-1]}),
        ("parameters", "hidden_layer_sizes", "os.system"),
        ("parameters", "latent_dim", 10**30),
        ("parameters", "n_components", 10**9),
        ("parameters", "activation", "relu"),
        ("parameters", "activation", "eval"),
        ("parameters", "reconstruction_features", {"tuple": ["euclidean", "eval"]}),
        ("parameters", "optimizer", "LBFGS"),
        ("parameters", "contamination", {"float": "nan"}),
        ("parameters", "contamination", {"float": "inf"}),
        ("parameters", "learning_rate", {"float": "inf", "more": 1}),
        ("parameters", "network", {"module": "torch.nn.Linear"}),
        ("parameters", "scaler", {"scaler": ["FunctionTransformer", {"dict": {"func": "eval"}}]}),
        ("parameters", "scaler", {"scaler": ["StandardScaler", {"dict": {"copy": "eval"}}]}),
        ("parameters", "scaler", {"scaler": ["StandardScaler", {"dict": {"transform": 1}}]}),
        ("parameters", "scaler", {"scaler": ["StandardScaler", {"tuple": []}]}),
        ("parameters", "scaler__with_mean", True),
        ("parameters", "random_state", -1),
        ("parameters", "random_state", {"random_state": {"dict": {}}}),
        ("parameters", "device", 1),
        ("state", "scaler_", None),
        ("state", "scaler_", "standard"),
        ("state", "scaler_", {"scaler": ["StandardScaler", {"dict": {}}]}),
        ("state", "offset_", {"float": "nan"}),
        ("state", "offset_", "0"),
        ("state", "offset_", None),
        ("state", "n_features_in_", 4),
        ("state", "n_features_in_", 10**15),
        ("state", "n_features_in_", -3),
        ("state", "n_features_in_", {"array": "probe_scores"}),
        ("state", "feature_names_in_", {"strings": ["a"]}),
        ("state", "feature_names_in_", ["a", "b", "c"]),
        ("state", "_n_trained_features", 10**15),
        ("state", "_n_trained_features", "3"),
        ("state", "module", []),
        ("state", "module", {"dict": {}}),
        ("state", "history", 3),
        ("state", "history", [1]),
        ("state", "score_samples", {"array": "probe_scores"}),
        ("state", "_anomaly_score", 1),
        ("state", "module_", 1),
        ("state", "max_iter", 1),
        ("state", "__class__", "DAGMM"),
        ("state", "a b", 1),
        ("state", "x", {"array": 1}),
        ("state", "x", {"scalar": "probe_scores"}),
        ("state", "x", {"float": "1e999"}),
        ("state", "x", {"strings": [1]}),
        ("state", "x", {}),
    ],
)
def test_forged_values(part, name, value, data, attempt):
    def edit(document, arrays):
        document[part][name] = value

    with pytest.raises(LoadError):
        attempt(forge(data, edit))


def test_forged_networks_take_no_memory(data, attempt):
    def edit(document, arrays):
        document["parameters"]["hidden_layer_sizes"] = [30_000, 30_000]  # 7 GB

    with pytest.raises(LoadError, match="make a network"):
        attempt(forge(data, edit))


@pytest.mark.parametrize("part", ["parameters", "state"])
def test_forged_nesting(part, data, attempt):
    for depth in (500, 100_000):
        text = '{"tuple": [' * depth + "]}" * depth

        def edit(document, arrays, text=text):
            document[part]["x"] = "NESTED"

        forged = forge(data, edit)
        header = json.loads(forged[8 : 8 + int.from_bytes(forged[:8], "little")])
        document = header["__metadata__"]["anomaly_estimators"].replace('"NESTED"', text)
        header["__metadata__"]["anomaly_estimators"] = document
        with pytest.raises(LoadError):
            attempt(with_header(header, forged[8 + int.from_bytes(forged[:8], "little") :]))


@pytest.mark.parametrize(
    "entry", ["class", "parameters", "state", "probe_scores", "library_version"]
)
def test_missing_and_unknown_entries(entry, data, attempt):
    def remove(document, arrays):
        del document[entry]

    def add(document, arrays):
        document[entry + "_"] = document[entry]

    def replace(document, arrays):
        document[entry] = [document[entry]]

    for edit in (remove, add) if entry == "library_version" else (remove, add, replace):
        with pytest.raises(LoadError):
            attempt(forge(data, edit))


def _state(**changes):
    state = np.random.RandomState(0).get_state(legacy=False)
    state["state"].update({k: v for k, v in changes.items() if k in ("key", "pos")})
    state.update({k: v for k, v in changes.items() if k not in ("key", "pos")})
    encoder = Encoder()
    return {"random_state": encoder.encode(state, "x")}, encoder.arrays


@pytest.mark.parametrize(
    "changes",
    [
        {"pos": 625},
        {"pos": -1},
        {"pos": 10**9},
        {"pos": 1.0},
        {"key": np.zeros(1, dtype=np.uint32)},
        {"key": np.zeros(624)},
        {"has_gauss": 2},
        {"gauss": float("nan")},
        {"bit_generator": "PCG64"},
    ],
)
def test_forged_random_states(changes):
    # numpy would read outside of its memory with some of these.
    encoded, arrays = _state(**changes)
    with pytest.raises(LoadError, match="random state"):
        Decoder(arrays).decode(encoded)


# Values

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=50, deadline=None)
@given(plain)
def test_plain_values(value):
    encoder = Encoder()
    document, arrays = container.unpack(
        container.pack({"value": encoder.encode(value, "x")}, {"a": np.zeros(1), **encoder.arrays})
    )
    # In repr also the types and NaN are equal to themselves.
    assert repr(Decoder(arrays).decode(document["value"])) == repr(value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3).T,
        np.arange(3, dtype=">f8"),
        np.array(True),
        np.zeros((0, 3), dtype=np.float32),
        np.array([np.nan, np.inf, -0.0]),
        np.array(["a", "b"]),
        np.array(["a", "ä"], dtype=object),
        np.array([], dtype=object),
        np.uint8(3),
        np.float16(0.5),
    ],
)
def test_arrays(array):
    encoder = Encoder()
    encoded = encoder.encode(array, "x")
    document, arrays = container.unpack(
        container.pack({"value": encoded}, {"a": np.zeros(1), **encoder.arrays})
    )
    found = Decoder(arrays).decode(document["value"])
    np.testing.assert_array_equal(found, array)
    assert type(found) is type(array)
    assert found.shape == array.shape


@pytest.mark.parametrize(
    "value",
    [
        {1: 2}, {1, 2}, b"bytes", 1j, len, DAGMM, object(), torch.zeros(2), np.complex128(1),
        np.array([1, "a"], dtype=object), np.array([[object()]]), np.datetime64("2020-01-01"),
        np.ma.masked_array([1.0], [True]), np.longdouble(1),
    ],
)  # fmt: skip
def test_values_that_are_refused(value):
    with pytest.raises(NotStorableError):
        Encoder().encode([value], "x")


def test_colliding_names():
    encoder = Encoder()
    value = {"a.b": np.zeros(1), "a": {"b": np.ones(1)}}
    found = Decoder(encoder.arrays).decode(encoder.encode(value, "x"))
    assert found["a.b"] == 0
    assert found["a"]["b"] == 1
