import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from anomaly_estimators.inspection import LatentMapDisplay


def test_panels_show_every_pair_of_columns(rows):
    Z, y = rows
    display = LatentMapDisplay.from_predictions(Z, y, feature_names=["a", "b", "c"])
    named = [(ax.get_xlabel(), ax.get_ylabel()) for ax in display.axes_]
    assert named == [("a", "b"), ("a", "c"), ("b", "c")]
    for points, (i, j) in zip(display.points_["anomaly"], [(0, 1), (0, 2), (1, 2)], strict=True):
        assert_allclose(points.get_offsets(), Z[y == -1][:, [i, j]])


def test_3d_draws_the_three_columns(rows):
    Z, y = rows
    display = LatentMapDisplay.from_predictions(Z, y, kind="3d", feature_names=["a", "b", "c"])
    ax = display.ax_
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_zlabel()) == ("a", "b", "c")
    (points,) = display.points_["normal"]
    assert_allclose(np.array(points._offsets3d).T, Z[y == 1])


@pytest.mark.parametrize("kind", ["pairs", "3d"])
def test_anomalies_lie_on_top(rows, kind):
    display = LatentMapDisplay.from_predictions(*rows, kind=kind)
    assert not getattr(display.ax_, "computed_zorder", False)
    for normal, anomaly in zip(display.points_["normal"], display.points_["anomaly"], strict=True):
        assert anomaly.get_zorder() > normal.get_zorder()


def test_names_come_from_the_estimator(rows):
    X, y = rows
    pipeline = make_pipeline(StandardScaler(), PCA(2)).fit(X)
    display = LatentMapDisplay.from_estimator(pipeline, X, y)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("pca0", "pca1")
    assert display.ax_.get_title() == "PCA"
    points = display.points_["normal"][0].get_offsets()
    assert_allclose(points, pipeline.transform(X)[y == 1])


def test_legend_says_how_many_rows_are_shown():
    rng = np.random.default_rng(0)
    Z, y = rng.normal(size=(10_000, 2)), np.where(np.arange(10_000) < 20, -1, 1)
    display = LatentMapDisplay.from_predictions(Z, y, max_points=1000)
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["normal (980 of 9,980)", "anomaly (20)"]


def test_subsampling_is_decided_by_the_seed():
    Z = np.random.default_rng(0).normal(size=(500, 2))

    def drawn(seed):
        display = LatentMapDisplay.from_predictions(Z, max_points=50, random_state=seed)
        return np.asarray(display.points_["all rows"][0].get_offsets())

    assert len(drawn(0)) == 50
    assert_array_equal(drawn(0), drawn(0))
    assert not np.array_equal(drawn(0), drawn(1))


def test_columns_are_chosen_by_name_or_position(rows):
    Z, y = rows
    display = LatentMapDisplay.from_predictions(
        Z, y, feature_names=["a", "b", "c"], features=["c", 0]
    )
    assert len(display.axes_) == 1
    assert_allclose(display.points_["normal"][0].get_offsets(), Z[y == 1][:, [2, 0]])


def test_many_columns_do_not_make_a_wall_of_panels():
    Z = np.random.default_rng(0).normal(size=(20, 12))
    assert len(LatentMapDisplay.from_predictions(Z).axes_) == 6


def test_draws_on_the_axes_given(rows):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3)
    display = LatentMapDisplay.from_predictions(*rows, ax=axes)
    assert display.axes_ == list(axes) and display.figure_ is figure

    figure, ax = plt.subplots()
    display = LatentMapDisplay.from_predictions(*rows, ax=ax)
    assert len(display.axes_) == 3 and display.figure_ is figure

    figure, ax = plt.subplots(subplot_kw={"projection": "3d"})
    assert LatentMapDisplay.from_predictions(*rows, ax=ax, kind="3d").ax_ is ax


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "4d"}, "kind"),
        ({"features": ["x"]}, "No column is called"),
        ({"features": [0]}, "two columns"),
        ({"features": [0, 1], "kind": "3d"}, "three columns"),
        ({"feature_names": ["a"]}, "1 feature_names for 3 columns"),
    ],
)
def test_bad_arguments_are_named(rows, arguments, message):
    with pytest.raises(ValueError, match=message):
        LatentMapDisplay.from_predictions(*rows, **arguments)


def test_axes_that_do_not_fit_are_refused(rows):
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(1, 2)
    with pytest.raises(ValueError, match="3 pairs of columns need as many axes, got 2"):
        LatentMapDisplay.from_predictions(*rows, ax=axes)
    with pytest.raises(ValueError, match="projection='3d'"):
        LatentMapDisplay.from_predictions(*rows, ax=axes[0], kind="3d")
