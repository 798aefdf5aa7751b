import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from anomaly_estimators.inspection import LossCurveDisplay


class Trained(BaseEstimator):
    def __init__(self, history_=None, loss_curve_=None):
        self.history_ = history_
        self.loss_curve_ = loss_curve_

    def fit(self, X, y=None):
        return self

    def __sklearn_is_fitted__(self):
        return True


def test_draws_the_loss_of_a_pipelines_last_step(rows):
    X, y = rows
    network = MLPRegressor(hidden_layer_sizes=(2,), max_iter=5, batch_size=200, random_state=0)
    with pytest.warns(ConvergenceWarning):
        pipeline = make_pipeline(StandardScaler(), network).fit(X, y)
    display = LossCurveDisplay.from_estimator(pipeline)
    assert_allclose(display.lines_["loss"].get_xdata(), [1, 2, 3, 4, 5])
    assert_allclose(display.lines_["loss"].get_ydata(), network.loss_curve_)
    assert display.ax_.get_title() == "MLPRegressor"
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("epoch", "loss")


@pytest.mark.parametrize(
    "history",
    [
        {"loss": [3.0, 2.0], "energy": [1.0, 0.5], "phase": ["main", "main"]},
        [
            {"loss": 3.0, "energy": 1.0, "phase": "main"},
            {"loss": 2.0, "energy": 0.5, "phase": "main"},
        ],
    ],
    ids=["by column", "by epoch"],
)
def test_terms_are_read_from_the_history(history):
    estimator = Trained(history_=history, loss_curve_=[3.0, 2.0])
    display = LossCurveDisplay.from_estimator(estimator, terms=["loss", "energy"])
    assert_allclose(display.lines_["energy"].get_ydata(), [1.0, 0.5])
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["loss", "energy"]
    assert list(LossCurveDisplay.from_estimator(estimator).lines_) == ["loss"]
    with pytest.raises(ValueError, match=r"No curve is called \['phase'\]"):
        LossCurveDisplay.from_estimator(estimator, terms=["phase"])


def test_an_epoch_without_an_entry_is_a_gap():
    history = [{"pretraining": 5.0}, {"loss": 3.0}, {"loss": 2.0}]
    display = LossCurveDisplay.from_estimator(
        Trained(history_=history), terms=["pretraining", "loss"]
    )
    assert_allclose(display.lines_["loss"].get_ydata(), [np.nan, 3.0, 2.0])
    assert_allclose(display.lines_["pretraining"].get_ydata(), [5.0, np.nan, np.nan])


@pytest.mark.parametrize(
    ("values", "scale"),
    [([100.0, 10.0, 1.0], "log"), ([3.0, 2.0, 1.0], "linear"), ([100.0, 1.0, -1.0], "linear")],
)
def test_axis_is_logarithmic_where_that_helps(values, scale):
    assert LossCurveDisplay.from_predictions({"loss": values}).ax_.get_yscale() == scale


def test_a_single_epoch_is_visible():
    line = LossCurveDisplay.from_predictions({"loss": [2.0]}).lines_["loss"]
    assert line.get_marker() == "o"


def test_draws_on_the_axes_given():
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    display = LossCurveDisplay.from_predictions({"loss": [2.0, 1.0]}, ax=ax, scale="log")
    assert display.ax_ is ax and ax.get_yscale() == "log"


def test_what_cannot_be_drawn_is_said(rows):
    with pytest.raises(AttributeError, match="IsolationForest has neither"):
        LossCurveDisplay.from_estimator(IsolationForest(n_estimators=2).fit(rows[0]))
    with pytest.raises(ValueError, match="no curve"):
        LossCurveDisplay.from_predictions({})
    with pytest.raises(ValueError, match="scale"):
        LossCurveDisplay.from_predictions({"loss": np.ones(2)}, scale="asinh")
