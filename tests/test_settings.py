"""A parameter that is changed after the fit is refused, never ignored."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from _public import deep_detectors, fitted, known, public_detectors, small
from sklearn.preprocessing import StandardScaler

from anomaly_estimators import UAI, VAE, AnoDM, Autoencoder, load

detectors = pytest.mark.parametrize("cls", public_detectors(), ids=lambda cls: cls.__name__)


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(60, 4))


def ignoring(cls, X, **params):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return fitted(cls, X, **params)


@detectors
def test_a_change_is_refused_until_the_next_fit(cls, X, tmp_path):
    detector = ignoring(cls, X)
    before = detector.predict(X)
    changes = {"contamination": 0.02, **known(cls, scaler="robust", max_iter=7, random_state=5)}
    for name, value in changes.items():
        old = detector.get_params()[name]
        detector.set_params(**{name: value})
        message = f"{name}={value!r} was set after the fit.*{name}={old!r}.*fit again"
        for ask in (detector.predict, detector.decision_function, detector.score_samples):
            with pytest.raises(ValueError, match=message):
                ask(X)
        with pytest.raises(ValueError, match=message):
            detector.save(tmp_path / "changed")
        assert not (tmp_path / "changed").exists()
        detector.set_params(**{name: old})
        np.testing.assert_array_equal(detector.predict(X), before)


@detectors
def test_what_nothing_depends_on_may_change(cls, X):
    detector = ignoring(cls, X)
    before = detector.predict(X)
    changes = known(cls, verbose=1, callbacks=[], checkpoint=None, warm_start=True, n_jobs=2)
    detector.set_params(**changes)
    np.testing.assert_array_equal(detector.predict(X), before)


@detectors
def test_copies_and_files_know_what_they_were_fitted_with(cls, X, tmp_path):
    detector = ignoring(cls, X)
    detector.save(tmp_path / "file")
    copies = (
        pickle.loads(pickle.dumps(detector)),
        copy.deepcopy(detector),
        load(tmp_path / "file"),
    )
    for copied in copies:
        np.testing.assert_array_equal(copied.predict(X), detector.predict(X))
        copied.set_params(contamination=0.3)
        with pytest.raises(ValueError, match="contamination=0.3 was set after the fit"):
            copied.predict(X)


def test_equal_values_are_no_change(X):
    detector = fitted(Autoencoder, X, hidden_layer_sizes=(4, 3))
    detector.set_params(hidden_layer_sizes=tuple([4, 3]), contamination=1 / 10)
    detector.predict(X)
    detector.set_params(hidden_layer_sizes=[4, 3])
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        detector.predict(X)


def test_estimators_among_the_parameters_are_looked_into(X):
    scaled = fitted(Autoencoder, X, scaler=StandardScaler())
    scaled.set_params(scaler__with_mean=False)
    with pytest.raises(ValueError, match="scaler__with_mean=False was set after the fit"):
        scaled.predict(X)
    audit = ignoring(UAI, X)
    audit.set_params(estimator__verbose=1)
    audit.predict(X)
    audit.set_params(estimator__noise=0.7)
    with pytest.raises(ValueError, match="estimator__noise=0.7 was set after the fit"):
        audit.predict(X)


@pytest.mark.parametrize(
    ("cls", "name", "value"), [(AnoDM, "alpha", 0.3), (VAE, "anomaly_score", "elbo")]
)
def test_scores_follow_some_parameters_but_the_threshold_cannot(cls, name, value, X):
    detector = fitted(cls, X)
    before = detector.score_samples(X)
    detector.set_params(**{name: value})
    assert not np.array_equal(detector.score_samples(X), before)
    with pytest.raises(ValueError, match=f"threshold is that of {name}=.*take score_samples"):
        detector.predict(X)
    again = fitted(cls, X, **{name: value})
    np.testing.assert_array_equal(again.score_samples(X), detector.score_samples(X))


def test_a_fit_takes_the_change_over(X):
    detector = fitted(Autoencoder, X)
    detector.set_params(contamination=0.5).fit(X)
    assert (detector.predict(X) == -1).sum() == 30


def test_a_round_of_an_audit_takes_the_change_over(X):
    audit = ignoring(UAI, X)
    audit.set_params(contamination=0.5)
    audit.teach([0, 1], [-1, 1])
    assert (audit.predict(X) == -1).sum() == 30


@pytest.mark.parametrize("cls", deep_detectors(), ids=lambda cls: cls.__name__)
def test_a_failed_fit_leaves_the_settings(cls, X):
    detector = ignoring(cls, X)
    with pytest.raises(ValueError):
        detector.fit(X[:, :0])
    detector.predict(X)


def test_small_detectors_are_what_they_were():
    assert "_settings" not in vars(small(Autoencoder))
