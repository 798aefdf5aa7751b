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
from _public import public_classes, public_detectors, small
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

    detector = small(cls).fit(X)
    documented = {a.name for a in ClassDoc(cls)["Attributes"]}
    fitted = {name for name in vars(detector) if name.endswith("_") and not name.startswith("_")}
    assert fitted <= documented
    assert not [name for name in documented - {"feature_names_in_"} if not hasattr(detector, name)]


@classes
def test_every_parameter_has_a_constraint(cls):
    assert set(inspect.signature(cls).parameters) == set(cls._parameter_constraints)


@classes
def test_parameters_are_keywords_with_immutable_defaults(cls):
    for parameter in inspect.signature(cls).parameters.values():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is not parameter.empty
        hash(parameter.default)


@classes
def test_constructor_only_assigns(cls):
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls.__init__)))
    body = tree.body[0].body
    for statement in body:
        if isinstance(statement, ast.Expr):
            assert ast.unparse(statement).startswith("super().__init__(")
            assert all(k.arg == k.value.id for k in statement.value.keywords)
        else:
            assert isinstance(statement, ast.Assign)
            assert ast.unparse(statement) == f"self.{statement.value.id} = {statement.value.id}"


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


@detectors
def test_same_seed_same_model_and_other_seed_other_model(cls, X):
    first = small(cls).fit(X)
    again = small(cls).fit(X)
    other = small(cls, random_state=1).fit(X)
    for (name, a), b, c in zip(
        first.module_.state_dict().items(),
        again.module_.state_dict().values(),
        other.module_.state_dict().values(),
        strict=True,
    ):
        assert torch.equal(a, b), name
        assert a.numel() == 1 or "bias" in name or not torch.equal(a, c), name
    np.testing.assert_array_equal(first.score_samples(X), again.score_samples(X))
    assert first.offset_ == again.offset_
    assert not np.isclose(first.score_samples(X), other.score_samples(X)).any()


@detectors
def test_same_seed_does_not_depend_on_the_global_generators(cls, X):
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = small(cls).fit(X).score_samples(X)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    np.testing.assert_array_equal(first, small(cls).fit(X).score_samples(X))


@detectors
def test_random_state_may_be_a_generator_which_goes_on(cls, X):
    state = np.random.RandomState(0)
    first, second = (small(cls, random_state=state).fit(X).score_samples(X) for _ in range(2))
    again = small(cls, random_state=np.random.RandomState(0)).fit(X).score_samples(X)
    np.testing.assert_array_equal(first, again)
    assert (first != second).any()


@detectors
def test_fitting_twice_gives_the_same_model(cls, X):
    detector = small(cls).fit(X)
    scores = detector.score_samples(X)
    np.testing.assert_array_equal(detector.fit(X).score_samples(X), scores)
    np.testing.assert_array_equal(clone(detector).fit(X).score_samples(X), scores)


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
@pytest.mark.parametrize("outcome", ["good", "fails"])
def test_global_state_is_left_as_it_was(cls, outcome, X):
    before = global_state()
    detector = small(cls)
    if outcome == "fails":

        def explode(progress):
            torch.rand(1)
            raise RuntimeError("in the middle")

        with pytest.raises(RuntimeError):
            small(cls, lr_schedule=explode).fit(X)
    else:
        detector.fit(X)
        detector.predict(X)
        if hasattr(detector, "transform"):
            detector.transform(X)
    assert global_state() == before


@detectors
def test_score_is_kept_under_another_default_dtype(cls, X):
    detector = small(cls).fit(X)
    before = detector.score_samples(X)
    torch.set_default_dtype(torch.float64)
    try:
        np.testing.assert_array_equal(detector.score_samples(X), before)
        refitted = small(cls).fit(X)
        assert next(refitted.module_.parameters()).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@detectors
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_model_is_fitted_where_gradients_are_off(cls, mode, X):
    scores = small(cls).fit(X).score_samples(X)
    with mode():
        detector = small(cls).fit(X)
        np.testing.assert_array_equal(detector.score_samples(X), scores)
    assert not any(p.is_inference() for p in detector.module_.parameters())


# Copies


def joblib_copy(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


@detectors
@pytest.mark.parametrize(
    "copied",
    [lambda e: pickle.loads(pickle.dumps(e)), joblib_copy, copy.deepcopy],
    ids=["pickle", "joblib", "deepcopy"],
)
@pytest.mark.parametrize("params", [{}, {"early_stopping": True, "ema_decay": 0.9}], ids=str)
def test_copies_score_bit_by_bit_the_same(cls, copied, params, X):
    detector = small(cls, **params).fit(X)
    other = copied(detector)
    for rows in (X, X.astype(np.float32)):
        np.testing.assert_array_equal(other.score_samples(rows), detector.score_samples(rows))
        np.testing.assert_array_equal(other.predict(rows), detector.predict(rows))
    assert other.get_params() == detector.get_params()
    assert other.loss_curve_ == detector.loss_curve_
    # A copy is whole: it can be trained again, without a trace in the first.
    scores = detector.score_samples(X)
    np.testing.assert_array_equal(other.fit(X).score_samples(X), scores)
    np.testing.assert_array_equal(detector.score_samples(X), scores)


@detectors
def test_unfitted_estimator_can_be_pickled_and_cloned(cls):
    detector = small(cls, contamination=0.2)
    assert pickle.loads(pickle.dumps(detector)).get_params() == detector.get_params()
    assert clone(detector).get_params() == detector.get_params()


# Scores


@detectors
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_of_the_scores_is_that_of_the_rows(cls, dtype, X):
    detector = small(cls).fit(X.astype(dtype))
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
    detector = small(cls).fit(X)
    assert detector.score(X[:50]) == pytest.approx(detector.score_samples(X[:50]).mean(), rel=1e-12)


@detectors
def test_decision_is_the_score_less_the_offset(cls, X):
    detector = small(cls).fit(X)
    decision = detector.decision_function(X)
    np.testing.assert_array_equal(decision, detector.score_samples(X) - detector.offset_)
    np.testing.assert_array_equal(detector.predict(X), np.where(decision < 0, -1, 1))
    np.testing.assert_array_equal(detector.predict(X), small(cls).fit_predict(X))


@detectors
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("contamination", [0.001, 0.01, 0.1, 0.29, 1 / 3, 0.5])
def test_predict_flags_the_share_asked_for(cls, dtype, contamination, X):
    rows = X.astype(dtype)
    detector = small(cls, max_iter=1, contamination=contamination).fit(rows)
    assert (detector.predict(rows) == -1).sum() == int(np.floor(contamination * 200 + 1e-9))


@detectors
def test_automatic_threshold_flags_some_rows_but_not_all(cls, X):
    flagged = small(cls, contamination="auto").fit_predict(X) == -1
    assert 0 < flagged.sum() < 100


@detectors
def test_contamination_has_no_part_in_the_scores(cls, X):
    a, b = (small(cls, contamination=c).fit(X).score_samples(X) for c in (0.05, 0.4))
    np.testing.assert_array_equal(a, b)


@detectors
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_row_scores_the_same_alone_in_a_batch_and_permuted(cls, dtype, X):
    rows = X.astype(dtype)
    detector = small(cls, max_iter=5).fit(rows)
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


@detectors
def test_scoring_in_pieces_is_scoring_at_once(cls, X, monkeypatch):
    from anomaly_estimators.training import rows as rows_module

    detector = small(cls).fit(X)
    whole = detector.score_samples(X)
    monkeypatch.setattr(rows_module, "_PIECE_VALUES", 7 * X.shape[1])
    np.testing.assert_allclose(detector.score_samples(X), whole, rtol=1e-10)


@detectors
def test_scoring_changes_nothing(cls, X):
    detector = small(cls).fit(X)
    before = pickle.dumps(detector.module_.state_dict())
    names = set(vars(detector))
    rows = X.copy()
    detector.predict(rows)
    assert set(vars(detector)) == names
    assert pickle.dumps(detector.module_.state_dict()) == before
    np.testing.assert_array_equal(rows, X)


@detectors
def test_training_rows_are_not_changed(cls, X):
    for rows in (X.copy(), X.astype(np.float32), np.asfortranarray(X)):
        before = rows.copy()
        for scaler in ("standard", None):
            small(cls, scaler=scaler, max_iter=1, learning_rate=1e-6).fit(rows)
        np.testing.assert_array_equal(rows, before)


@detectors
def test_it_trained(cls, X):
    detector = small(cls, max_iter=40, hidden_layer_sizes=(8,), learning_rate=0.01).fit(X)
    untrained = small(cls, max_iter=1, hidden_layer_sizes=(8,), learning_rate=1e-9).fit(X)
    assert detector.loss_curve_[-1] < 0.8 * detector.loss_curve_[0]
    for (name, a), b in zip(
        detector.module_.named_parameters(), untrained.module_.parameters(), strict=True
    ):
        assert not torch.allclose(a, b, atol=1e-4), name
    scores = detector.score_samples(X)
    assert np.corrcoef(scores, untrained.score_samples(X))[0, 1] < 0.999
    assert len(np.unique(scores)) > 190


@detectors
def test_history_has_one_row_an_epoch(cls, X):
    detector = small(cls, max_iter=3).fit(X)
    assert detector.n_iter_ == len(detector.loss_curve_) == len(detector.history_) == 3
    assert np.isfinite(detector.loss_curve_).all()


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
    detector = small(cls).fit(frame)
    assert detector.feature_names_in_.tolist() == names
    expected = small(cls).fit(X).score_samples(X)
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
    detector = small(cls).fit(X)
    if not hasattr(detector, "transform"):
        pytest.skip("no transformer")
    codes = detector.transform(X)
    frame = detector.set_output(transform=library).transform(X)
    assert list(frame.columns) == list(detector.get_feature_names_out())
    np.testing.assert_array_equal(frame.to_numpy(), codes)


# Pipelines and searches


@detectors
def test_pipeline_scores_as_its_parts(cls, X):
    pipeline = make_pipeline(MinMaxScaler(), small(cls, scaler=None)).fit(X)
    scaled = MinMaxScaler().fit_transform(X)
    alone = small(cls, scaler=None).fit(scaled)
    np.testing.assert_array_equal(pipeline.score_samples(X), alone.score_samples(scaled))
    np.testing.assert_array_equal(pipeline.predict(X), alone.predict(scaled))
    assert pipeline.score(X) == alone.score(scaled)


@detectors
def test_search_without_labels(cls, X):
    search = GridSearchCV(small(cls), {"learning_rate": [1e-6, 0.05]}, cv=2).fit(X)
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
        GridSearchCV(small(cls), {"learning_rate": [1e-3, 1e-2]}, cv=2, n_jobs=n_jobs)
        .fit(X)
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
@pytest.mark.parametrize(
    "params",
    [{}, {"early_stopping": True}, {"pretrain": "layerwise", "pretrain_max_iter": 1}],
    ids=str,
)
def test_silence_prints_nothing(cls, params, X, capfd):
    detector = small(cls, verbose=0, **params).fit(X)
    detector.predict(X)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@detectors
def test_progress_shows_a_bar_for_every_phase(cls, X, capfd):
    small(cls, verbose=1, pretrain="layerwise", pretrain_max_iter=1).fit(X)
    err = capfd.readouterr().err
    for phase in ("pre-training, layer 1", "training"):
        assert f"{cls.__name__}: {phase}" in err
    assert "100%" in err and "2/2" in err and "train_loss" in err
