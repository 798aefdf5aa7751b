"""Memory maps: read in pieces, never as a whole, with the results of an array."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from skorch.callbacks import Callback

from anomaly_estimators import DAGMM, Autoencoder, DeepClassifier, DeepSAD, validation
from anomaly_estimators.training import batches, placement
from anomaly_estimators.training import rows as rows_module


@pytest.fixture
def memory_map(tmp_path):
    """Factory of read-only memory maps with the content of an array."""

    def make(X):
        path = tmp_path / f"{X.dtype}_{X.shape}.npy"
        np.save(path, X)
        return np.load(path, mmap_mode="r")

    return make


@pytest.fixture
def streaming(monkeypatch):
    """Stream every memory map, in small blocks and pieces."""
    monkeypatch.setattr(placement, "_STREAM_BYTES", 0)
    monkeypatch.setattr(batches, "_BLOCK_BYTES", 10 * 20)
    monkeypatch.setattr(batches, "_BUFFER_BYTES", 40 * 20)
    monkeypatch.setattr(rows_module, "_PIECE_VALUES", 17 * 5)
    monkeypatch.setattr(validation, "_CHECKED_VALUES", 17 * 5)


@pytest.mark.parametrize("cls", [Autoencoder, DAGMM])
def test_small_map_is_fitted_as_the_array(cls, tiny, rows, memory_map):
    mapped = memory_map(rows)
    assert isinstance(mapped, np.memmap) and not mapped.flags.writeable
    array, file = tiny(cls).fit(rows), tiny(cls).fit(mapped)
    np.testing.assert_allclose(file.score_samples(rows), array.score_samples(rows), rtol=1e-6)
    np.testing.assert_array_equal(file.score_samples(mapped), file.score_samples(rows))


@pytest.mark.parametrize("cls", [Autoencoder, DAGMM])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32])
def test_streamed_fit_learns_what_a_resident_one_learns(
    cls, dtype, tiny, rows, memory_map, streaming
):
    X = (100 * rows).astype(dtype)
    params = {"max_iter": 60, "learning_rate": 0.01, "batch_size": 16}
    streamed = tiny(cls, **params).fit(memory_map(X))
    resident = tiny(cls, **params).fit(X)
    assert streamed.loss_curve_[-1] < streamed.loss_curve_[0]
    assert streamed.loss_curve_ != resident.loss_curve_
    assert streamed.loss_curve_[-1] == pytest.approx(resident.loss_curve_[-1], rel=0.3)
    a, b = streamed.score_samples(X), resident.score_samples(X)
    assert spearmanr(a, b).statistic > (0.8 if cls is Autoencoder else 0.3)
    assert (streamed.predict(X) == -1).sum() == 12
    np.testing.assert_allclose(streamed.score_samples(memory_map(X)), a, rtol=1e-9)


@pytest.mark.parametrize("cls", [DeepSAD, DeepClassifier])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_labelled_stream_is_learned_from(cls, dtype, tiny, rows, memory_map, streaming):
    """Each row keeps its own label on its way through blocks and buffers."""
    y = np.zeros(120)
    y[rows[:, 0] > np.quantile(rows[:, 0], 0.8)] = -1
    y[rows[:, 0] < np.quantile(rows[:, 0], 0.2)] = 1
    X = rows.astype(dtype)
    params = {
        "max_iter": 40,
        "pretrain_max_iter": 5,
        "learning_rate": 0.01,
        "batch_size": 16,
        "latent_dim": 3,
    }
    streamed = tiny(cls, **params).fit(memory_map(X), y)
    resident = tiny(cls, **params).fit(X, y)
    assert streamed.loss_curve_ != resident.loss_curve_
    a, b = streamed.score_samples(X), resident.score_samples(X)
    assert spearmanr(a, b).statistic > 0.8
    assert a[y < 0].max() < np.median(a[y >= 0])
    # With the labels of other rows it is another model.
    mixed = tiny(cls, **params).fit(memory_map(X), np.random.default_rng(0).permutation(y))
    assert spearmanr(mixed.score_samples(X), b).statistic < 0.7
    np.testing.assert_array_equal(tiny(cls, **params).fit(memory_map(X), y).score_samples(X), a)
    if cls is DeepSAD:
        np.testing.assert_allclose(
            streamed.score_samples(memory_map(X)),
            -np.linalg.norm(streamed.transform(X) - streamed.center_, axis=1),
            rtol=1e-3,
        )


def test_stopped_labelled_stream_goes_on_exactly(
    tiny, rows, memory_map, streaming, tmp_path, monkeypatch
):
    class Stop(Callback):
        def on_batch_begin(self, net, training, **kwargs):
            if len(net.history) == 6:
                raise RuntimeError("power cut")

    monkeypatch.setattr(DeepSAD, "_checkpoint_interval", 0.0)
    path, mapped, y = tmp_path / "fit.pt", memory_map(rows), np.resize([0, 0, -1, 1, 0], 120)
    params = {"max_iter": 6, "pretrain_max_iter": 3, "early_stopping": True}
    with pytest.raises(RuntimeError):
        tiny(DeepSAD, checkpoint=path, callbacks=[Stop()], **params).fit(mapped, y)
    resumed = tiny(DeepSAD, checkpoint=path, **params).fit(mapped, y)
    whole = tiny(DeepSAD, **params).fit(mapped, y)
    np.testing.assert_array_equal(resumed.score_samples(rows), whole.score_samples(rows))
    np.testing.assert_array_equal(resumed.center_, whole.center_)


def test_scaler_of_a_stream_is_that_of_the_array(tiny, rows, memory_map, streaming):
    for scaler in ("standard", "minmax", "robust"):
        streamed = tiny(scaler=scaler, max_iter=1).fit(memory_map(rows))
        resident = tiny(scaler=scaler, max_iter=1).fit(rows)
        np.testing.assert_allclose(
            streamed.scaler_.transform(rows), resident.scaler_.transform(rows), rtol=1e-9
        )


def test_streamed_mixture_is_estimated_on_all_rows(tiny, rows, memory_map, streaming):
    detector = tiny(DAGMM).fit(memory_map(rows))
    z, gamma = detector.transform(rows), detector.predict_component_proba(rows)
    np.testing.assert_allclose(detector.weights_, gamma.mean(axis=0), rtol=1e-8)
    for k in range(2):
        np.testing.assert_allclose(
            detector.means_[k], np.average(z, axis=0, weights=gamma[:, k]), rtol=1e-7
        )


@pytest.mark.parametrize("params", [{}, {"early_stopping": True}], ids=str)
def test_stopped_stream_goes_on_exactly(
    params, tiny, rows, memory_map, streaming, tmp_path, monkeypatch
):
    class Stop(Callback):
        def on_batch_begin(self, net, training, **kwargs):
            if len(net.history) == 4:
                raise RuntimeError("power cut")

    monkeypatch.setattr(Autoencoder, "_checkpoint_interval", 0.0)
    path, mapped = tmp_path / "fit.pt", memory_map(rows)
    params = {"max_iter": 6, **params}
    with pytest.raises(RuntimeError):
        tiny(checkpoint=path, callbacks=[Stop()], **params).fit(mapped)
    resumed = tiny(checkpoint=path, **params).fit(mapped)
    whole = tiny(**params).fit(mapped)
    np.testing.assert_array_equal(resumed.score_samples(rows), whole.score_samples(rows))
    assert resumed.loss_curve_ == whole.loss_curve_


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_map_with_a_hole_is_refused(bad, tiny, rows, memory_map, streaming):
    good = memory_map(rows.copy())
    detector = tiny(max_iter=1).fit(good)
    spoilt = rows.copy()
    spoilt[100, 3] = bad
    mapped = memory_map(spoilt[:119])
    for call in (tiny().fit, detector.score_samples, detector.predict):
        with pytest.raises(ValueError, match="NaN|infinity"):
            call(mapped)


def test_streamed_fit_is_repeatable_and_early_stopping_splits_it(tiny, rows, memory_map, streaming):
    mapped = memory_map(rows)
    first, second = (tiny(early_stopping=True, ema_decay=0.9).fit(mapped) for _ in range(2))
    np.testing.assert_array_equal(first.score_samples(rows), second.score_samples(rows))
    assert "valid_loss" in first.history_[0]


def test_file_is_not_changed(tiny, rows, memory_map, streaming):
    mapped = memory_map(rows)
    tiny().fit(mapped).score_samples(mapped)
    np.testing.assert_array_equal(mapped, rows)


def test_writable_map_keeps_unsaved_changes(tiny, rows, tmp_path, streaming):
    mapped = np.lib.format.open_memmap(
        tmp_path / "X.npy", mode="w+", dtype=np.float64, shape=rows.shape
    )
    mapped[:] = rows
    tiny(max_iter=1).fit(mapped)
    np.testing.assert_array_equal(mapped, rows)
    private = np.load(tmp_path / "X.npy", mmap_mode="c")
    private[0] = 7.0
    tiny(max_iter=1).fit(private).score_samples(private)
    assert (private[0] == 7.0).all()
