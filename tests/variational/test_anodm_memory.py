"""AnoDM's memory: what is fitted once, and what is fitted again."""

import copy
import os
import pickle
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from _public import without_addresses
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from torch import nn

from anomaly_estimators import UAI, AnoDM, load
from anomaly_estimators.manifold import TSNEMap
from anomaly_estimators.nn.autoencoder import AutoencoderNetwork, mlp_autoencoder


class Count(Callback):
    """Notes every training in a file, in whichever process it runs."""

    def __init__(self, path):
        self.path = path

    def on_train_begin(self, net, **kwargs):
        with open(self.path, "a", encoding="ascii") as file:
            file.write("x")


class Broken(Callback):
    def on_epoch_end(self, net, **kwargs):
        raise RuntimeError("in the middle")


def network(n_features):
    return mlp_autoencoder(n_features, (5,), 4)


def other_network(n_features):
    return mlp_autoencoder(n_features, (5,), 4)


def own_module(seed):
    torch.manual_seed(seed)
    return AutoencoderNetwork(nn.Linear(5, 4), nn.Linear(4, 5))


class Workplace:
    """Detectors with one memory, and how often they were trained."""

    def __init__(self, folder):
        self.memory, self.count = str(folder / "memory"), folder / "count"
        self.count.touch()

    def make(self, **params):
        defaults = {"memory": self.memory, "callbacks": [Count(str(self.count))]}
        return plain(**{**defaults, **params})

    @property
    def n_fits(self):
        return os.path.getsize(self.count)


def plain(**params):
    defaults = {
        "alpha": 0.5,
        "hidden_layer_sizes": (5,),
        "latent_dim": 2,
        "max_iter": 2,
        "embedding_max_iter": 20,
        "n_landmarks": 30,
        "random_state": 0,
        "device": "cpu",
    }
    return AnoDM(**{**defaults, **params})


@pytest.fixture
def place(tmp_path):
    return Workplace(tmp_path)


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(3.0, 2.0, size=(50, 5))


@pytest.fixture(scope="module")
def new():
    return np.random.default_rng(1).normal(3.0, 2.0, size=(15, 5))


@pytest.fixture
def counted_maps(monkeypatch):
    """Names of what t-SNE was asked for."""
    calls = []

    def count(name):
        original = getattr(TSNEMap, name)

        def counting(self, X, *args):
            calls.append(name)
            return original(self, X, *args)

        monkeypatch.setattr(TSNEMap, name, counting)

    count("fit_transform")
    count("transform")
    return calls


ALPHAS = [round(k / 15, 3) for k in range(16)]


# What costs nothing


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_sweep_of_alpha_trains_once_for_each_part(n_jobs, place, X):
    # Processes take their time to begin.
    grid = {"alpha": ALPHAS if n_jobs is None else ALPHAS[:4]}
    search = GridSearchCV(place.make(), grid, cv=2, refit=False, n_jobs=n_jobs).fit(X)
    # Processes that begin at the same time do not know of one another.
    assert place.n_fits == 2 if n_jobs is None else 2 <= place.n_fits <= 4
    expected = GridSearchCV(plain(), grid, cv=2, refit=False).fit(X)
    for name in ("split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(search.cv_results_[name], expected.cv_results_[name])


def test_scores_of_a_sweep_place_rows_once(place, X, new, counted_maps):
    for alpha in (0.5, 0.1, 0.9):
        detector = place.make(alpha=alpha).fit(X)
        scores = detector.score_samples(new)
        detector.predict(X)
    assert counted_maps == ["fit_transform", "transform", "transform", "transform"]
    assert scores.shape == (15,)
    detector.score_samples(new[:7])
    assert len(counted_maps) == 5


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"embedding": "passthrough"},
        {"embedding": PCA(2)},
        {"latent": "sample", "n_draws": 3},
        {"n_neighbors": 3, "scale_terms": False},
        {"transductive": True},
        {"encoder": "lstm", "channels": (2,)},
        {"network": network},
        {"ema_decay": 0.9, "early_stopping": True},
        {"scaler": "robust"},
        {"n_landmarks": None},
    ],
    ids=without_addresses,
)
def test_scores_are_bit_by_bit_those_without_memory(params, place, X, new):
    dtype = np.float64 if params else np.float32
    rows, tested = X.astype(dtype), new.astype(dtype)
    expected = plain(**params).fit(rows)
    # The first is fitted, the second read.
    for _ in range(2):
        detector = place.make(**params).fit(rows)
        for part in (tested, tested, rows):
            for method in ("score_samples", "score_terms", "transform_map", "transform", "predict"):
                np.testing.assert_array_equal(
                    getattr(detector, method)(part), getattr(expected, method)(part)
                )
        assert detector.offset_ == expected.offset_
        assert detector.loss_curve_ == expected.loss_curve_
        assert detector.n_iter_ == expected.n_iter_
        np.testing.assert_array_equal(detector.map_, expected.map_)
        np.testing.assert_array_equal(detector.term_scales_, expected.term_scales_)
        np.testing.assert_array_equal(
            detector.sample(3, random_state=0), expected.sample(3, random_state=0)
        )
    assert place.n_fits == 1


FREE = {
    "alpha": 0.1,
    "contamination": 0.3,
    "n_jobs": 1,
    "verbose": 1,
    "transductive": True,
}


@pytest.mark.parametrize("name", FREE)
def test_what_a_fit_does_not_depend_on_is_no_reason_for_another(name, place, X):
    place.make().fit(X)
    detector = place.make(**{name: FREE[name]}).fit(X)
    assert place.n_fits == 1
    expected = plain(**{name: FREE[name]}).fit(X)
    assert detector.offset_ == expected.offset_
    np.testing.assert_array_equal(detector.score_samples(X), expected.score_samples(X))


OTHER = {
    "beta": 2.0,
    "random_state": 1,
    "max_iter": 3,
    "n_neighbors": 2,
    "n_landmarks": 29,
    "latent": "sample",
    "n_draws": 2,
    "perplexity": 5,
    "embedding_max_iter": 21,
    "embedding": "passthrough",
    "scale_terms": False,
    "scaler": "minmax",
    "reconstruction_error": "normalised",
    "learning_rate": 0.01,
    "hidden_layer_sizes": (6,),
    "latent_dim": 3,
    "kl_schedule": "capacity",
    "network": network,
}


@pytest.mark.parametrize("name", OTHER)
def test_whatever_else_is_changed_is_fitted_anew(name, place, X, new):
    place.make().fit(X).score_samples(new)
    detector = place.make(**{name: OTHER[name]}).fit(X)
    assert place.n_fits == 2
    expected = plain(**{name: OTHER[name]}).fit(X)
    np.testing.assert_array_equal(detector.score_samples(new), expected.score_samples(new))


def test_other_rows_are_fitted_anew(place, X, new):
    place.make().fit(X)
    changed = X.copy()
    changed[-1, -1] += 1e-9
    for number, rows in enumerate((X[:-1], X[::-1], changed, X.astype(np.float32)), start=2):
        detector = place.make().fit(rows)
        assert place.n_fits == number
        expected = plain().fit(rows)
        np.testing.assert_array_equal(detector.score_samples(new), expected.score_samples(new))
    # The same rows in another layout are the same.
    place.make().fit(np.asfortranarray(X))
    place.make().fit(X.tolist())
    assert place.n_fits == 5


def test_networks_are_known_by_name_or_by_weights(place, X, new):
    place.make(network=network).fit(X)
    place.make(network=network).fit(X)
    assert place.n_fits == 1
    place.make(network=other_network).fit(X)
    assert place.n_fits == 2
    scores = []
    for seed in (0, 0, 1):
        detector = place.make(network=own_module(seed)).fit(X)
        scores.append(detector.score_samples(new))
    assert place.n_fits == 4
    np.testing.assert_array_equal(scores[0], scores[1])
    assert (scores[0] != scores[2]).any()


def test_transformers_are_known_by_their_parameters(place, X):
    for whiten in (False, False, True):
        place.make(embedding=PCA(2, whiten=whiten)).fit(X)
    assert place.n_fits == 2


def test_without_a_seed_the_fit_that_is_there_is_taken(place, X, new):
    first = place.make(random_state=None).fit(X)
    second = place.make(random_state=None).fit(X)
    assert place.n_fits == 1
    np.testing.assert_array_equal(first.score_samples(new), second.score_samples(new))
    place.make(random_state=0).fit(X)
    assert place.n_fits == 2


def test_without_a_seed_a_fit_scores_by_itself(place, X, new, tmp_path):
    """Also where another fit with the same parameters has taken its place in the memory."""
    detector = place.make(random_state=None).fit(X)
    expected = detector.set_params(memory=None).score_samples(new)
    joblib.Memory(place.memory, verbose=0).clear(warn=False)
    place.make(random_state=None).fit(X).score_samples(new)
    assert place.n_fits == 2
    detector.set_params(memory=place.memory)
    np.testing.assert_array_equal(detector.score_samples(new), expected)


# Where it is kept


@pytest.mark.parametrize("kind", [str, Path, lambda path: joblib.Memory(path, verbose=0)])
def test_memory_is_a_path_or_one_of_joblib(kind, place, X, new):
    expected = plain().fit(X).score_samples(new)
    for _ in range(2):
        detector = place.make(memory=kind(place.memory)).fit(X)
        np.testing.assert_array_equal(detector.score_samples(new), expected)
    assert place.n_fits == 1
    assert "joblib" in os.listdir(place.memory)


@pytest.mark.filterwarnings("error")
def test_memory_may_be_read_as_a_map_of_the_file(place, X, new):
    memory = joblib.Memory(place.memory, verbose=0, mmap_mode="r")
    scores = [place.make(memory=memory).fit(X).score_samples(new) for _ in range(2)]
    np.testing.assert_array_equal(*scores)
    assert place.n_fits == 1


@pytest.mark.parametrize("memory", [3, True, object()])
def test_memory_that_is_none_is_refused(memory, X):
    with pytest.raises(ValueError, match="The 'memory' parameter of AnoDM"):
        plain(memory=memory).fit(X)


# What cannot be known again


def test_generators_are_refused(place, X):
    with pytest.raises(ValueError, match="an int, or None"):
        place.make(random_state=np.random.RandomState(0)).fit(X)
    assert place.n_fits == 0 and not os.path.exists(place.memory)
    plain(random_state=np.random.RandomState(0)).fit(X)


@pytest.mark.parametrize("name", ["network", "lr_schedule"])
def test_functions_without_a_name_are_refused(name, place, X):
    functions = {
        "network": lambda n_features: mlp_autoencoder(n_features, (5,), 4),
        "lr_schedule": lambda progress: 1.0,
    }
    with pytest.raises(ValueError, match=f"{name}=.*define functions and classes in a module"):
        place.make(**{name: functions[name]}).fit(X)
    assert place.n_fits == 0
    plain(**{name: functions[name]}).fit(X)


def test_a_fit_that_goes_on_is_not_taken_for_one_from_the_start(place, X, new):
    """Either it is refused, or it is what it is without a memory."""
    expected = plain(warm_start=True).fit(X).fit(X)
    detector = place.make(warm_start=True)
    try:
        detector.fit(X).fit(X)
    except ValueError as error:
        assert "warm_start" in str(error)
    else:
        assert len(detector.history_) == len(expected.history_)
        np.testing.assert_array_equal(detector.score_samples(new), expected.score_samples(new))


# Estimators and their memory


def test_second_fit_after_another_alpha_is_read(place, X, new):
    detector = place.make().fit(X)
    detector.set_params(alpha=0.05).fit(X)
    assert place.n_fits == 1
    expected = plain(alpha=0.05).fit(X)
    assert detector.offset_ == expected.offset_
    np.testing.assert_array_equal(detector.score_samples(new), expected.score_samples(new))
    detector.set_params(alpha=0.95)
    expected.set_params(alpha=0.95)
    np.testing.assert_array_equal(detector.score_samples(new), expected.score_samples(new))
    assert detector.offset_ == expected.offset_


def test_terms_follow_what_is_changed_after_a_fit(place, X, new):
    """And what is kept is not mixed up with what others find."""
    detector, expected = place.make().fit(X), plain().fit(X)
    for params in (
        {"n_neighbors": 4},
        {"n_neighbors": 1},
        {"transductive": True},
        {"transductive": False},
        {"n_draws": 8},
        {"n_draws": 1},
    ):
        found = detector.set_params(**params).score_samples(new)
        np.testing.assert_array_equal(found, expected.set_params(**params).score_samples(new))
    detector, tested = place.make().fit(X), new[::-1].copy()
    detector.set_params(n_neighbors=4).score_samples(tested)
    found = place.make().fit(X).score_samples(tested)
    np.testing.assert_array_equal(found, plain().fit(X).score_samples(tested))


def test_memory_may_be_left_and_taken_up(place, X, new):
    detector = place.make().fit(X)
    detector.score_samples(new)
    detector.set_params(memory=None).fit(X[:40])
    expected = detector.score_samples(new)
    detector.set_params(memory=place.memory)
    np.testing.assert_array_equal(detector.score_samples(new), expected)
    given = plain().fit(X).set_params(memory=place.memory)
    np.testing.assert_array_equal(given.score_samples(new), plain().fit(X).score_samples(new))


def test_names_of_columns_are_those_of_the_last_fit(place, X, new):
    place.make().fit(pd.DataFrame(X, columns=list("abcde")))
    detector = place.make().fit(X)
    assert not hasattr(detector, "feature_names_in_")
    frame = pd.DataFrame(X, columns=list("vwxyz"))
    detector = place.make().fit(frame)
    assert detector.feature_names_in_.tolist() == list("vwxyz")
    assert detector.score_samples(frame).shape == (50,)
    # Names alone are no reason for another fit.
    assert place.n_fits == 1


@pytest.mark.parametrize("how", ["pickle", "deepcopy", "joblib", "save"])
def test_copies_score_the_same(how, place, X, new, tmp_path):
    detector = place.make().fit(X)
    scores = detector.score_samples(new)
    path = tmp_path / "file"
    if how == "pickle":
        loaded = pickle.loads(pickle.dumps(detector))
    elif how == "deepcopy":
        loaded = copy.deepcopy(detector)
    elif how == "joblib":
        joblib.dump(detector, path)
        loaded = joblib.load(path)
    else:
        detector.set_params(callbacks=None).save(path)
        loaded = load(path)
        # It means something on one machine only.
        assert loaded.memory is None
    for rows in (new, X, new[:3]):
        np.testing.assert_array_equal(loaded.score_samples(rows), detector.score_samples(rows))
    np.testing.assert_array_equal(loaded.score_samples(new), scores)
    assert loaded.offset_ == detector.offset_
    np.testing.assert_array_equal(loaded.fit(X).score_samples(new), scores)
    assert place.n_fits == (2 if how == "save" and loaded.callbacks else 1)


def test_cleared_memory_is_filled_again(place, X, new):
    detector = place.make().fit(X)
    scores = detector.score_samples(new)
    joblib.Memory(place.memory, verbose=0).clear(warn=False)
    np.testing.assert_array_equal(detector.score_samples(new), scores)
    np.testing.assert_array_equal(place.make().fit(X).score_samples(new), scores)
    assert place.n_fits == 2


def test_a_fit_that_fails_leaves_no_trace(place, X, new):
    detector = place.make().fit(X)
    scores, before = detector.score_samples(new), dict(vars(detector))
    detector.set_params(callbacks=[Broken()], beta=3.0)
    with pytest.raises(RuntimeError, match="in the middle"):
        detector.fit(X[:40])
    assert {**vars(detector), "callbacks": 0, "beta": 0} == {**before, "callbacks": 0, "beta": 0}
    detector.set_params(callbacks=before["callbacks"], beta=before["beta"])
    np.testing.assert_array_equal(detector.score_samples(new), scores)
    with pytest.raises(RuntimeError, match="in the middle"):
        place.make(callbacks=[Broken()]).fit(X)
    # Nothing of it is kept.
    assert place.make().fit(X).n_iter_ == 2


def test_fit_is_not_changed_by_its_users(place, X, new):
    scores = place.make().fit(X).score_samples(new)
    detector = place.make().fit(X)
    detector.map_[:] = 0.0
    detector.score_samples(new)[:] = 7.0
    detector.score_terms(new)[:] = 7.0
    with torch.no_grad():
        for parameter in detector.module_.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(place.make().fit(X).score_samples(new), scores)
    assert place.n_fits == 1


def test_detector_in_an_audit_scores_by_its_own_network(place, X):
    """Rounds change the network: what was kept of it before is of no use."""
    truth = np.where(np.arange(50) % 5 == 1, -1, 1)
    found = []
    for base in (plain(), place.make()):
        audit = UAI(base, n_steps=20, cold_start=9, learning_rate=0.01, random_state=0).fit(X)
        scores = [audit.score_samples(X), audit.estimator_.score_samples(X)]
        rows = audit.query(X, k=5)
        audit.teach(rows, truth[rows])
        found.append([*scores, audit.score_samples(X), audit.estimator_.score_samples(X)])
    np.testing.assert_array_equal(found[1], found[0])
    assert (found[0][0] != found[0][2]).any()
