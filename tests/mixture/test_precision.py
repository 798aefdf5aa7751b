"""The mixture is kept in float64 through training, scoring and a new type of the rows."""

import numpy as np
import pytest
import torch

from anomaly_estimators import DAGMM, load


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("default", [torch.float32, torch.float64])
def test_mixture_stays_in_float64(dtype, default, tmp_path):
    X = np.random.default_rng(0).normal(size=(60, 4)).astype(dtype)
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        detector = DAGMM(max_iter=1, random_state=0).fit(X)
        detector.save(tmp_path / "model")
        loaded = load(tmp_path / "model")
    finally:
        torch.set_default_dtype(before)
    assert {b.dtype for b in detector.module_.head.buffers()} == {torch.float64}
    assert {p.dtype for p in detector.module_.parameters()} == {torch.float32}
    np.testing.assert_array_equal(detector.module_.head.means.numpy(), detector.means_)
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))
