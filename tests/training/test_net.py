"""Every verb of ``net_``, the skorch net of a fitted detector, works or says what to call instead."""

import io
import pickle
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import skorch
import torch
from sklearn.base import clone
from sklearn.utils.metadata_routing import MetadataRouter
from skorch.callbacks import EpochTimer, PrintLog
from skorch.exceptions import SkorchTrainingImpossibleError
from torch.utils.data import TensorDataset

sys.path.insert(0, str(Path(__file__).parents[1]))

from _public import deep_detectors, fitted, suited

from anomaly_estimators import DAGMM, Autoencoder, load

X = np.random.default_rng(0).normal(size=(50, 6))
KEPT: dict = {}


def detector_of(cls):
    if cls not in KEPT:
        KEPT[cls] = fitted(cls, suited(cls, X))
    return KEPT[cls]


@pytest.fixture(params=deep_detectors(), ids=lambda cls: cls.__name__)
def net(request):
    """A net of its own for every test, and rows on its scale."""
    detector = detector_of(request.param)
    shape = 40, detector._n_trained_features
    rows = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    return pickle.loads(pickle.dumps(detector.net_)), rows


def of_module(net, rows):
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        outputs = net.module_(torch.from_numpy(rows))
    return outputs


def seeded(function, *args, **kwargs):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return function(*args, **kwargs)


def _outputs(net, rows):
    net.batch_size = len(rows)
    expected = of_module(net, rows)
    for given in (rows, rows.astype(np.float64), torch.from_numpy(rows), rows.tolist()):
        found = seeded(net.forward, given)
        if isinstance(expected, tuple):
            assert found._fields == expected._fields
            assert found._asdict().keys() == expected._asdict().keys()
            pairs = zip(found, expected, strict=True)
        else:
            pairs = [(found, expected)]
        for a, b in pairs:
            torch.testing.assert_close(a, b)
    first = expected[0] if isinstance(expected, tuple) else expected
    for verb in (net.predict, net.predict_proba):
        np.testing.assert_allclose(seeded(verb, rows), first, rtol=1e-5, atol=1e-6)
    assert len(list(net.forward_iter(rows))) == 1
    batch = (torch.from_numpy(rows), torch.zeros(len(rows)))
    for found in (net.evaluation_step(batch), net.infer(batch[0]), net.infer(rows)):
        assert type(found).__name__ == type(expected).__name__
    net.batch_size = 7
    assert len(net.predict(rows)) == len(rows)
    assert not net.module_.training
    net.forward(rows, training=True)
    assert not net.module_.training


def _refused_training(net, rows):
    batch = (torch.from_numpy(rows), torch.zeros(len(rows)))
    before = pickle.dumps(net.history)
    for verb, args in (
        (net.fit, (rows,)),
        (net.fit, (rows, None)),
        (net.partial_fit, (rows,)),
        (net.fit_loop, (rows,)),
        (net.train_step, (batch,)),
        (net.train_step_single, (batch,)),
        (net.validation_step, (batch,)),
        (net.get_loss, (rows, rows)),
        (net.run_single_epoch, ([batch], True, "train", net.train_step)),
    ):
        with pytest.raises(SkorchTrainingImpossibleError, match="Call fit of the detector"):
            verb(*args)
    assert pickle.dumps(net.history) == before
    assert isinstance(net.initialize(), skorch.NeuralNet)


def _data(net, rows):
    dataset = net.get_dataset(rows, np.ones(len(rows), dtype=np.int8))
    assert net.get_dataset(dataset) is dataset
    assert net.get_split_datasets(dataset) == (dataset, None)
    (X, y), *_ = net.get_iterator(dataset)
    assert X.shape[1] == rows.shape[1] and (y == 1).all()
    assert net.check_data(rows) is None
    with pytest.raises(TypeError, match="scaler_.transform"):
        net.predict(TensorDataset(torch.from_numpy(rows)))
    with pytest.raises(ValueError, match="NaN"):
        net.predict(np.full_like(rows, np.nan))


def _files(net, rows):
    expected = seeded(net.predict, rows)
    for safe in (False, True):
        weights, before = io.BytesIO(), list(net.history)
        net.save_params(f_params=weights, use_safetensors=safe)
        with torch.no_grad():
            for parameter in net.module_.parameters():
                parameter.zero_()
        weights.seek(0)
        net.load_params(f_params=weights, use_safetensors=safe)
        np.testing.assert_array_equal(seeded(net.predict, rows), expected)
    with TemporaryDirectory() as folder:
        path = f"{folder}/history.json"
        net.save_params(f_history=path, f_criterion=io.BytesIO())
        net.history.clear()
        net.load_params(f_history=path)
    assert list(net.history) == before
    for verb in (net.save_params, net.load_params):
        with pytest.raises(AttributeError, match="optimizer"):
            verb(f_optimizer=io.BytesIO())


def _parameters(net, rows):
    params = net.get_params()
    assert params["batch_size"] == net.batch_size
    assert not [name for name in params if name.startswith("_")]
    assert net.set_params(batch_size=9).batch_size == 9
    for name in ("lr", "optimizer__lr", "optimizer", "module", "module__bias", "criterion"):
        with pytest.raises(ValueError, match=f"{name} cannot be set on the net of a detector"):
            net.set_params(**{name: 0.1})
    copied = clone(net)
    assert not copied.initialized_ and copied.weight_decay == net.weight_decay
    np.testing.assert_array_equal(
        seeded(copied.initialize().predict, rows), seeded(net.predict, rows)
    )
    assert net.get_params_for("callbacks") == {}
    _, options = net.get_params_for_optimizer("optimizer", net.get_all_learnable_params())
    assert options["lr"] == net.lr
    assert (
        dict(net.get_all_learnable_params()).keys() == dict(net.module_.named_parameters()).keys()
    )
    assert isinstance(net.get_metadata_routing(), MetadataRouter)
    for verb in (net.set_fit_request, net.set_partial_fit_request):
        with pytest.raises(RuntimeError, match="metadata"):
            verb()


def _parts(net, rows):
    assert "DetectorNet" in repr(net)
    assert [name for name, _ in net.get_default_callbacks()] == ["epoch_timer"]
    assert isinstance(dict(net.callbacks_)["epoch_timer"], EpochTimer)
    net.check_is_fitted()
    net.check_training_readiness()
    net.notify("on_train_end", X=None, y=None)
    assert net.torch_compile(net.module_, "module") is net.module_
    assert net.initialized_instance(net.module_, {}) is net.module_
    assert net.get_train_step_accumulator() is not None
    for part in ("callbacks", "criterion", "history", "module", "optimizer", "virtual_params"):
        with net._current_init_context(part):
            getattr(net, f"initialize_{part}")()
    for event in ("on_epoch_begin", "on_batch_begin", "on_batch_end", "on_epoch_end"):
        getattr(net, event)(net)
    for event in ("on_train_begin", "on_train_end"):
        getattr(net, event)(net)
    net.on_grad_computed(net, [])
    expected = seeded(net.predict, rows)
    net.trim_for_prediction()
    np.testing.assert_array_equal(seeded(net.predict, rows), expected)


# What tries which verbs; a new one of a later skorch belongs to none.
TRIED = {
    _outputs: "evaluation_step forward forward_iter infer predict predict_proba",
    _refused_training: "fit fit_loop get_loss initialize partial_fit run_single_epoch train_step "
    "train_step_single validation_step",
    _data: "check_data get_dataset get_iterator get_split_datasets",
    _files: "load_params save_params",
    _parameters: "get_all_learnable_params get_metadata_routing get_params get_params_for "
    "get_params_for_optimizer set_fit_request set_params set_partial_fit_request",
    _parts: "check_is_fitted check_training_readiness get_default_callbacks "
    "get_train_step_accumulator initialize_callbacks initialize_criterion initialize_history "
    "initialize_module initialize_optimizer initialize_virtual_params initialized_instance notify "
    "on_batch_begin on_batch_end on_epoch_begin on_epoch_end on_grad_computed on_train_begin "
    "on_train_end torch_compile trim_for_prediction",
}


def test_every_verb_is_tried():
    verbs = {
        name
        for name in dir(skorch.NeuralNet)
        if not name.startswith("_") and callable(getattr(skorch.NeuralNet, name))
    }
    assert verbs == set(" ".join(TRIED.values()).split())


@pytest.mark.parametrize("trial", TRIED, ids=lambda trial: trial.__name__.strip("_"))
def test_verbs_of_the_net(trial, net):
    trial(*net)


@pytest.mark.parametrize("cls", [Autoencoder, DAGMM])
def test_rows_on_the_scale_of_the_network_go_through_the_net(cls):
    detector = detector_of(cls)
    rows = detector.scaler_.transform(X)
    np.testing.assert_allclose(
        detector.net_.predict(rows), detector.transform(X), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("max_iter", [3, None])
def test_the_net_knows_how_long_it_was_trained(max_iter, tiny, rows, tmp_path):
    detector = tiny(max_iter=max_iter).fit(rows[:40])
    assert detector.net_.max_epochs == detector.n_iter_
    saved = tmp_path / "detector"
    detector.save(saved)
    assert load(saved).net_.max_epochs == max_iter


def test_a_net_is_verbose_with_its_detector(tiny, rows, capsys):
    detector = tiny(verbose=1, callbacks=[PrintLog()]).fit(rows)
    assert detector.net_.verbose == 1
    assert "Re-initializing" not in capsys.readouterr().out
