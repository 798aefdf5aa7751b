"""The suite's own conventions, over every public estimator."""

import ast
import copy
import inspect
import io
import pickle
import random
import subprocess
import sys
import textwrap
import warnings

import joblib
import numpy as np
import pytest
import torch
from _public import (
    deep_detectors,
    epochs,
    fitted,
    known,
    labels,
    public_classes,
    public_detectors,
    small,
)
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

import anomaly_estimators as ae
from anomaly_estimators import DAGMM
from anomaly_estimators.model_selection import f1_at_ratio_scorer, roc_auc_scorer

classes = pytest.mark.parametrize("cls", public_classes(), ids=lambda cls: cls.__name__)
detectors = pytest.mark.parametrize("cls", public_detectors(), ids=lambda cls: cls.__name__)
deep = pytest.mark.parametrize("cls", deep_detectors(), ids=lambda cls: cls.__name__)
seeded = pytest.mark.parametrize(
    "cls",
    [cls for cls in public_detectors() if known(cls, random_state=0)],
    ids=lambda cls: cls.__name__,
)


@pytest.fixture(scope="module")
def cancer():
    """Breast cancer rows, and labels with -1 for the malignant."""
    X, y = load_breast_cancer(return_X_y=True)
    return X[:200, :10], np.where(y[:200] == 1, 1, -1)


@pytest.fixture(scope="module")
def X(cancer):
    return cancer[0]


# Documentation and signature


@classes
def test_docstring_has_its_sections(cls):
    from numpydoc.docscrape import ClassDoc

    doc = ClassDoc(cls, config={"show_class_members": False})
    sections = {"Parameters", "Attributes"}
    if cls in public_detectors():
        sections |= {"References", "Examples"}
    assert not [section for section in sections if not doc[section]]
    parameters = list(inspect.signature(cls).parameters)
    assert [p.name for p in doc["Parameters"]] == parameters
    assert all(p.type and "".join(p.desc).strip() for p in doc["Parameters"])
    assert all("".join(a.desc).strip() for a in doc["Attributes"])


@classes
def test_documented_defaults_are_the_defaults(cls):
    from numpydoc.docscrape import ClassDoc

    documented = {p.name: p.type for p in ClassDoc(cls)["Parameters"]}
    for name, parameter in inspect.signature(cls).parameters.items():
        text = documented[name].partition("default=")[2].replace("\\", "").strip()
        assert text, name
        assert ast.literal_eval(text) == parameter.default, name


@detectors
def test_fitted_attributes_are_the_documented_ones(cls, X):
    from numpydoc.docscrape import ClassDoc

    detector = fitted(cls, X)
    documented = {a.name for a in ClassDoc(cls)["Attributes"]}
    found = {name for name in vars(detector) if name.endswith("_") and not name.startswith("_")}
    assert found <= documented
    assert not [name for name in documented - {"feature_names_in_"} if not hasattr(detector, name)]


@classes
def test_every_parameter_has_a_constraint(cls):
    assert set(inspect.signature(cls).parameters) == set(cls._parameter_constraints)


@classes
def test_parameters_are_keywords_with_immutable_defaults(cls):
    for name, parameter in inspect.signature(cls).parameters.items():
        # Only what a detector builds upon may come without its name.
        kind = "POSITIONAL_OR_KEYWORD" if name == "estimator" else "KEYWORD_ONLY"
        assert parameter.kind.name == kind
        assert parameter.default is not parameter.empty
        hash(parameter.default)


@classes
def test_constructor_only_assigns_and_passes_on(cls):
    function = ast.parse(textwrap.dedent(inspect.getsource(cls.__init__))).body[0]
    used = []
    for statement in function.body:
        if isinstance(statement, ast.Expr):
            assert ast.unparse(statement.value.func) == "super().__init__"
            assert not statement.value.args
            for keyword in statement.value.keywords:
                # ``**inherited`` has no name of its own.
                assert keyword.arg in (keyword.value.id, None)
                used.append(keyword.value.id)
        else:
            assert isinstance(statement, ast.Assign)
            assert ast.unparse(statement) == f"self.{statement.value.id} = {statement.value.id}"
            used.append(statement.value.id)
    arguments = function.args
    taken = [
        a.arg
        for a in (*arguments.args[1:], *arguments.kwonlyargs, arguments.kwarg)
        if a is not None
    ]
    assert sorted(used) == sorted(taken), "every parameter has its one way"


@classes
def test_parameters_are_kept_as_they_are_given(cls):
    given = {name: object() for name in inspect.signature(cls).parameters}
    estimator = cls(**given)
    kept = estimator.get_params(deep=False)
    assert kept.keys() == vars(estimator).keys() == given.keys()
    assert all(kept[name] is value is getattr(estimator, name) for name, value in given.items())


@classes
def test_unknown_and_positional_parameters_are_refused(cls):
    with pytest.raises(TypeError, match="nonsense"):
        cls(nonsense=1)
    # Only what a detector builds upon may come without its name.
    positional = [1] if "estimator" in inspect.signature(cls).parameters else []
    with pytest.raises(TypeError, match="positional"):
        cls(*positional, 1)
    with pytest.raises(ValueError, match="nonsense"):
        cls().set_params(nonsense=1)


@classes
def test_every_public_method_is_documented(cls):
    for name, member in inspect.getmembers(cls, inspect.isfunction):
        if not name.startswith("_") and member.__module__.startswith("anomaly_estimators"):
            assert inspect.getdoc(member), name


@detectors
def test_class_is_an_outlier_detector_of_scikit_learn(cls):
    assert issubclass(cls, OutlierMixin) and issubclass(cls, BaseEstimator)
    assert cls.__name__ in dir(ae)


# Randomness and global state


def weights(detector):
    return detector.module_.state_dict().items()


@deep
def test_same_seed_same_weights_and_other_seed_other_weights(cls, X):
    first, again, other = fitted(cls, X), fitted(cls, X), fitted(cls, X, random_state=1)
    trained = dict(first.module_.named_parameters())
    for (name, a), (_, b), (_, c) in zip(
        weights(first), weights(again), weights(other), strict=True
    ):
        assert torch.equal(a, b), name
        if name in trained and a.numel() > 1 and "bias" not in name:
            assert not torch.equal(a, c), name
    assert not np.isclose(first.score_samples(X), other.score_samples(X)).any()


@detectors
def test_same_parameters_same_model(cls, X):
    first, again = fitted(cls, X), fitted(cls, X)
    np.testing.assert_array_equal(first.score_samples(X), again.score_samples(X))
    assert first.offset_ == again.offset_
    for name, value in vars(first).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(again, name), value, err_msg=name)


@detectors
def test_model_does_not_depend_on_the_global_generators(cls, X):
    scores = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        detector = fitted(cls, X)
        torch.manual_seed(seed + 10)
        scores.append(detector.score_samples(X))
    np.testing.assert_array_equal(*scores)


@seeded
def test_random_state_may_be_a_generator_which_goes_on(cls, X):
    state = np.random.RandomState(0)
    runs = [fitted(cls, X, random_state=state).score_samples(X) for _ in range(2)]
    state = np.random.RandomState(0)
    again = [fitted(cls, X, random_state=state).score_samples(X) for _ in range(2)]
    np.testing.assert_array_equal(runs, again)
    if cls in deep_detectors():
        assert (runs[0] != runs[1]).any()


@detectors
def test_fitting_twice_gives_the_same_model(cls, X):
    detector, y = fitted(cls, X), labels(cls, len(X))
    scores = detector.score_samples(X)
    np.testing.assert_array_equal(detector.fit(X, y).score_samples(X), scores)
    np.testing.assert_array_equal(clone(detector).fit(X, y).score_samples(X), scores)
    # Nothing of a fit on other rows is left.
    detector.fit(X[:50, :3], labels(cls, 50))
    assert detector.n_features_in_ == 3
    np.testing.assert_array_equal(detector.fit(X, y).score_samples(X), scores)


def global_state():
    return (
        random.getstate(),
        pickle.dumps(np.random.get_state()),  # noqa: NPY002
        torch.random.get_rng_state().tolist(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        list(warnings.filters),
        np.geterr(),
    )


@detectors
def test_global_state_is_left_as_it_was(cls, X):
    before = global_state()
    detector = fitted(cls, X)
    detector.predict(X)
    if hasattr(detector, "transform"):
        detector.transform(X)
    assert global_state() == before


@deep
def test_global_state_is_left_as_it_was_by_a_fit_that_fails(cls, X):
    def explode(progress):
        torch.rand(1)
        raise RuntimeError("in the middle")

    before = global_state()
    with pytest.raises(RuntimeError, match="in the middle"):
        fitted(cls, X, lr_schedule=explode)
    assert global_state() == before


@detectors
def test_score_is_kept_under_another_default_dtype(cls, X):
    detector = fitted(cls, X)
    before = detector.score_samples(X)
    torch.set_default_dtype(torch.float64)
    try:
        np.testing.assert_array_equal(detector.score_samples(X), before)
        refitted = fitted(cls, X)
        np.testing.assert_array_equal(refitted.score_samples(X), before)
    finally:
        torch.set_default_dtype(torch.float32)
    if cls in deep_detectors():
        assert {p.dtype for p in refitted.module_.parameters()} == {torch.float32}


@deep
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_model_is_fitted_where_gradients_are_off(cls, mode, X):
    scores = fitted(cls, X).score_samples(X)
    with mode():
        detector = fitted(cls, X)
        np.testing.assert_array_equal(detector.score_samples(X), scores)
    assert not any(p.is_inference() for p in detector.module_.state_dict().values())


# Copies


def joblib_copy(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


copies = pytest.mark.parametrize(
    "copied",
    [lambda e: pickle.loads(pickle.dumps(e)), joblib_copy, copy.deepcopy],
    ids=["pickle", "joblib", "deepcopy"],
)


def assert_is_a_whole_copy(other, detector, X):
    """It scores the same, and can be trained again without a trace in the first."""
    for rows in (X, X.astype(np.float32)):
        np.testing.assert_array_equal(other.score_samples(rows), detector.score_samples(rows))
        np.testing.assert_array_equal(other.predict(rows), detector.predict(rows))
    assert repr(other.get_params()) == repr(detector.get_params())
    scores = detector.score_samples(X)
    y = labels(type(other), len(X))
    other.fit(X[::-1] + 1.0, y)
    np.testing.assert_array_equal(detector.score_samples(X), scores)
    other.fit(X, y)
    np.testing.assert_array_equal(other.score_samples(X), scores)


@detectors
@copies
def test_copies_score_bit_by_bit_the_same(cls, copied, X):
    detector = fitted(cls, X)
    assert_is_a_whole_copy(copied(detector), detector, X)


@deep
@copies
def test_copies_of_stopped_and_averaged_trainings(cls, copied, X):
    detector = fitted(cls, X, early_stopping=True, ema_decay=0.9)
    other = copied(detector)
    assert other.loss_curve_ == detector.loss_curve_
    assert_is_a_whole_copy(other, detector, X)


@detectors
def test_unfitted_estimator_can_be_pickled_and_cloned(cls):
    detector = small(cls, contamination=0.2)
    assert repr(pickle.loads(pickle.dumps(detector)).get_params()) == repr(detector.get_params())
    assert repr(clone(detector).get_params()) == repr(detector.get_params())


# Scores


@detectors
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_of_the_scores_is_that_of_the_rows(cls, dtype, X):
    detector = fitted(cls, X.astype(dtype))
    assert detector.score_samples(X.astype(dtype)).dtype == dtype
    assert detector.score_samples(X.astype(int)).dtype == np.float64
    assert detector.decision_function(X).dtype == np.float64
    assert detector.predict(X).dtype == np.int64
    np.testing.assert_allclose(
        detector.score_samples(X.astype(np.float32)),
        detector.score_samples(X),
        rtol=2e-2,
        atol=1e-2,
    )


@detectors
def test_score_is_the_mean_of_the_scores(cls, X):
    detector = fitted(cls, X)
    assert detector.score(X[:50]) == pytest.approx(detector.score_samples(X[:50]).mean(), rel=1e-12)


@detectors
def test_decision_is_the_score_less_the_offset(cls, X):
    detector = fitted(cls, X)
    decision = detector.decision_function(X)
    np.testing.assert_array_equal(decision, detector.score_samples(X) - detector.offset_)
    np.testing.assert_array_equal(detector.predict(X), np.where(decision < 0, -1, 1))
    again = small(cls).fit_predict(X, labels(cls, len(X)))
    np.testing.assert_array_equal(detector.predict(X), again)


@detectors
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("contamination", [0.001, 0.01, 0.1, 0.29, 1 / 3, 0.5])
def test_predict_flags_the_share_asked_for(cls, dtype, contamination, X):
    rows = X.astype(dtype)
    detector = fitted(cls, rows, contamination=contamination)
    asked = max(1, int(np.floor(contamination * 200 + 1e-9)))
    assert (detector.predict(rows) == -1).sum() == asked


@detectors
def test_automatic_threshold_flags_some_rows_but_not_all(cls, X):
    flagged = fitted(cls, X, contamination="auto").predict(X) == -1
    assert 0 < flagged.sum() < 100


@detectors
def test_contamination_has_no_part_in_the_scores(cls, X):
    a, b = (fitted(cls, X, contamination=c).score_samples(X) for c in (0.05, 0.4))
    np.testing.assert_array_equal(a, b)


@detectors
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_row_scores_the_same_alone_in_a_batch_and_permuted(cls, dtype, X):
    rows = X.astype(dtype)
    detector = fitted(cls, rows, **epochs(cls, 5))
    scores = detector.score_samples(rows)
    order = np.random.default_rng(0).permutation(len(rows))
    tolerance = (
        {"rtol": 1e-9, "atol": 1e-10} if dtype == np.float64 else {"rtol": 1e-3, "atol": 1e-4}
    )
    np.testing.assert_allclose(detector.score_samples(rows[order]), scores[order], **tolerance)
    single = [detector.score_samples(rows[i : i + 1])[0] for i in range(0, 200, 10)]
    np.testing.assert_allclose(single, scores[::10], **tolerance)
    loaded = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(loaded.score_samples(rows), scores)


@deep
def test_scoring_in_pieces_is_scoring_at_once(cls, X, monkeypatch):
    from anomaly_estimators.training import rows as rows_module

    detector = fitted(cls, X)
    whole = detector.score_samples(X)
    monkeypatch.setattr(rows_module, "_PIECE_VALUES", 7 * X.shape[1])
    np.testing.assert_allclose(detector.score_samples(X), whole, rtol=1e-10)


def state(detector):
    """All that a fit has left, as bytes; skorch's net apart, which holds its own timings."""
    module = detector.module_.state_dict() if hasattr(detector, "module_") else None
    return pickle.dumps(({k: v for k, v in vars(detector).items() if k != "net_"}, module))


@detectors
def test_scoring_changes_nothing(cls, X):
    detector = fitted(cls, X)
    before = state(detector)
    rows = X.copy()
    detector.predict(rows)
    assert state(detector) == before
    np.testing.assert_array_equal(rows, X)


@detectors
def test_training_rows_are_not_changed(cls, X):
    y = labels(cls, len(X))
    for rows in (X.copy(), X.astype(np.float32), np.asfortranarray(X)):
        before, y_before = rows.copy(), copy.copy(y)
        for params in (known(cls, scaler="standard"), known(cls, scaler=None, learning_rate=1e-6)):
            small(cls, **params).fit(rows, y)
        np.testing.assert_array_equal(rows, before)
        np.testing.assert_array_equal(y, y_before)


@deep
def test_it_trained(cls, cancer):
    X, truth = cancer
    # True labels of a few rows: there is nothing to be learned from arbitrary ones.
    y = np.where(np.arange(200) % 5 == 0, truth, 0) if cls._uses_labels else None
    if known(cls, label_column=-1):
        X = np.column_stack([X, truth])
    # Hardly pre-trained: what is trained already falls no further.
    brief = known(cls, pretrain_max_iter=1)
    params = {"hidden_layer_sizes": (8,), "latent_dim": 2, **brief}
    detector = small(cls, max_iter=40, learning_rate=0.01, **params).fit(X, y)
    untrained = small(cls, max_iter=1, learning_rate=1e-9, **params).fit(X, y)
    assert detector.loss_curve_[-1] < 0.8 * detector.loss_curve_[0]
    for (name, a), b in zip(
        detector.module_.named_parameters(), untrained.module_.parameters(), strict=True
    ):
        assert not torch.allclose(a, b, atol=1e-4), name
    scores = detector.score_samples(X)
    assert np.corrcoef(scores, untrained.score_samples(X))[0, 1] < 0.999
    assert len(np.unique(scores)) > 190


@deep
def test_history_has_one_row_an_epoch(cls, X):
    detector = fitted(cls, X, max_iter=3)
    assert detector.n_iter_ == len(detector.loss_curve_) == 3
    main = [row for row in detector.history_ if row["phase"] == detector.history_[-1]["phase"]]
    assert [row["train_loss"] for row in main] == detector.loss_curve_
    assert np.isfinite([row["train_loss"] for row in detector.history_]).all()


# Data frames


@detectors
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_give_the_scores_of_arrays(cls, library, X):
    frames = pytest.importorskip(library)
    names = [f"f{i}" for i in range(X.shape[1])]
    if library == "pandas":
        frame = frames.DataFrame(X, columns=names, index=np.arange(1000, 1200))
    else:
        frame = frames.DataFrame(X, schema=names)
    detector = fitted(cls, frame)
    assert detector.feature_names_in_.tolist() == names
    expected = fitted(cls, X).score_samples(X)
    np.testing.assert_array_equal(detector.score_samples(frame), expected)
    assert isinstance(detector.predict(frame), np.ndarray)
    with pytest.warns(UserWarning, match="feature names"):
        np.testing.assert_array_equal(detector.score_samples(X), expected)
    with pytest.raises(ValueError, match="feature names should match"):
        detector.score_samples(frame[names[::-1]])


@detectors
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_codes_can_be_frames(cls, library, X):
    pytest.importorskip(library)
    detector = fitted(cls, X)
    if not hasattr(detector, "transform"):
        pytest.skip("no transformer")
    codes = detector.transform(X)
    frame = detector.set_output(transform=library).transform(X)
    assert list(frame.columns) == list(detector.get_feature_names_out())
    np.testing.assert_array_equal(frame.to_numpy(), codes)


# Pipelines and searches


@detectors
def test_pipeline_scores_as_its_parts(cls, X):
    y, unscaled = labels(cls, len(X)), known(cls, scaler=None)
    pipeline = make_pipeline(MinMaxScaler(), small(cls, **unscaled)).fit(X, y)
    scaled = MinMaxScaler().fit_transform(X)
    alone = small(cls, **unscaled).fit(scaled, y)
    np.testing.assert_array_equal(pipeline.score_samples(X), alone.score_samples(scaled))
    np.testing.assert_array_equal(pipeline.predict(X), alone.predict(scaled))
    assert pipeline.score(X) == alone.score(scaled)


def grid(cls):
    return {"contamination": [0.1, 0.2], **known(cls, learning_rate=[1e-6, 0.05])}


@detectors
def test_search_by_the_mean_score(cls, X):
    search = GridSearchCV(small(cls), grid(cls), cv=2).fit(X, labels(cls, len(X)))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.score_samples(X).shape == (200,)
    assert search.predict(X).shape == (200,)


@pytest.mark.parametrize("scorer", [roc_auc_scorer, f1_at_ratio_scorer()], ids=repr)
def test_sweep_of_the_papers_weights(scorer, cancer):
    X, y = cancer
    grid = {"lambda1": [0.01, 0.1], "lambda2": [0.0001, 0.005]}
    search = GridSearchCV(
        small(DAGMM), grid, scoring=scorer, cv=StratifiedKFold(2, shuffle=True, random_state=0)
    ).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert scores.shape == (4,) and (scores >= 0).all() and (scores <= 1).all()
    assert set(search.best_params_) == {"lambda1", "lambda2"}


@detectors
def test_search_in_parallel_is_the_search_in_line(cls, X):
    results = [
        GridSearchCV(small(cls), grid(cls), cv=2, n_jobs=n_jobs)
        .fit(X, labels(cls, len(X)))
        .cv_results_["mean_test_score"]
        for n_jobs in (1, 2)
    ]
    np.testing.assert_allclose(*results, rtol=1e-6)


# Import and output


def in_a_new_process(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_import_is_light():
    heavy = "torch", "skorch", "pandas", "matplotlib", "sklearn", "polars", "tqdm"
    done = in_a_new_process(
        "import sys, warnings\n"
        "filters = list(warnings.filters)\n"
        "import anomaly_estimators\n"
        f"print([name for name in {heavy} if name in sys.modules])\n"
        "assert warnings.filters == filters\n"
        "dir(anomaly_estimators)\n"
        "from anomaly_estimators import OutlierDetector\n"
        "assert 'torch' not in sys.modules\n"
    )
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_detectors_need_no_plots():
    done = in_a_new_process(
        "import sys\n"
        "import torch\n"
        "threads = torch.get_num_threads()\n"
        "from anomaly_estimators import DAGMM, Autoencoder\n"
        "assert 'matplotlib' not in sys.modules\n"
        "assert torch.get_num_threads() == threads\n"
        "assert torch.get_default_dtype() == torch.float32\n"
    )
    assert done.stdout == done.stderr == ""


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = ae.Nonsense
    assert set(ae.__all__) <= set(dir(ae))
    for name in ae.__all__:
        assert getattr(ae, name) is not None


@detectors
def test_silence_prints_nothing(cls, X, capfd):
    detector = fitted(cls, X, **known(cls, verbose=0))
    detector.predict(X)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@deep
@pytest.mark.parametrize(
    "params", [{"early_stopping": True}, {"pretrain": "layerwise", "pretrain_max_iter": 1}], ids=str
)
def test_silence_in_all_phases(cls, params, X, capfd):
    fitted(cls, X, verbose=0, **known(cls, **params))
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@deep
def test_progress_shows_a_bar_for_every_phase(cls, X, capfd):
    layerwise = known(cls, pretrain="layerwise", pretrain_max_iter=1)
    detector = fitted(cls, X, verbose=1, **layerwise)
    err = capfd.readouterr().err
    phases = {row["phase"] for row in detector.history_}
    assert not layerwise or "pre-training, layer 1" in phases
    assert all(f"{cls.__name__}: {phase}" in err for phase in phases)
    assert "100%" in err and "2/2" in err and "train_loss" in err
