"""A forked process scores and fits, where plain torch would wait for ever."""

import subprocess
import sys

import pytest

SCRIPT = """
import os, signal
import numpy as np
import torch
from anomaly_estimators import Autoencoder

torch.set_num_threads(2)
X = np.random.default_rng(0).normal(size=(4000, 60))
detector = Autoencoder(hidden_layer_sizes=(512,), max_iter=1, batch_size=2000, random_state=0).fit(X)
scores = detector.score_samples(X)
child = os.fork()
if child == 0:
    signal.alarm(60)
    assert np.allclose(detector.score_samples(X), scores)
    assert torch.get_num_threads() == 2
    detector.fit(X)
    detector.score_samples(X[:1])
    os._exit(0)
_, status = os.waitpid(child, 0)
assert torch.get_num_threads() == 2
print("status", status)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no forks there")
def test_scores_and_fits_in_a_forked_process():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=180, check=True
    )
    assert done.stdout.strip() == "status 0"
