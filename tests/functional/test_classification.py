"""The classifiers' losses by their formulas."""

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax

from anomaly_estimators.functional.classification import (
    UNSEEN_LABEL,
    anomaly_cross_entropy,
    label_cross_entropy,
)

RNG = np.random.default_rng(0)
LOGITS, LABELS = RNG.normal(scale=3.0, size=40), RNG.integers(-1, 2, size=40)


def formula(logits, labels, weight=1.0):
    total = 0.0
    for logit, label in zip(logits, labels, strict=True):
        probability = expit(logit)
        total -= weight * np.log(probability) if label == -1 else np.log(1 - probability)
    return total / len(logits)


@pytest.mark.parametrize("weight", [1.0, 0.25, 12.0])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_loss_is_the_cross_entropy_of_known_anomalies_against_the_rest(weight, as_tensor):
    loss = anomaly_cross_entropy(
        torch.from_numpy(LOGITS),
        torch.from_numpy(LABELS),
        torch.tensor(weight) if as_tensor else weight,
    )
    assert loss.item() == pytest.approx(formula(LOGITS, LABELS, weight), rel=1e-9)


def test_unlabelled_rows_count_as_known_normal_ones():
    logits, labels = torch.from_numpy(LOGITS), torch.from_numpy(LABELS)
    loss = anomaly_cross_entropy(logits, labels)
    assert loss == anomaly_cross_entropy(logits, labels.where(labels < 0, torch.tensor(1)))
    assert loss == anomaly_cross_entropy(logits, labels.where(labels < 0, torch.tensor(0)))
    assert loss != anomaly_cross_entropy(logits, labels.abs())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("labels", [torch.int8, torch.int64])
def test_gradient_is_weight_times_error(dtype, labels):
    logits = torch.from_numpy(LOGITS).to(dtype).requires_grad_()
    anomaly_cross_entropy(logits, torch.from_numpy(LABELS).to(labels), 5.0).backward()
    weights = np.where(LABELS < 0, 5.0, 1.0)
    expected = weights * (expit(LOGITS) - (LABELS < 0)) / 40
    np.testing.assert_allclose(logits.grad, expected, rtol=1e-4)
    assert logits.grad.dtype == dtype


def test_far_logits_are_finite():
    logits = torch.tensor([1e4, -1e4, 1e4, -1e4], requires_grad=True)
    loss = anomaly_cross_entropy(logits, torch.tensor([-1, -1, 0, 0]))
    loss.backward()
    assert loss.item() == pytest.approx(5e3) and logits.grad.isfinite().all()


# Given labels


@pytest.mark.parametrize("classes", [torch.int64, torch.int8, torch.float32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_score_is_the_cross_entropy_of_the_given_label(classes, dtype):
    logits, given = RNG.normal(scale=4.0, size=(50, 7)), RNG.integers(0, 7, size=50)
    entropy = label_cross_entropy(
        torch.from_numpy(logits).to(dtype), torch.from_numpy(given).to(classes)
    )
    expected = -log_softmax(logits, axis=1)[np.arange(50), given]
    assert entropy.dtype == dtype
    np.testing.assert_allclose(entropy, expected, rtol=1e-4 if dtype == torch.float32 else 1e-10)


def test_label_without_a_class_is_more_abnormal_than_any():
    logits = torch.tensor([[0.0, 1e20], [3.0, 1.0]], requires_grad=True)
    entropy = label_cross_entropy(logits, torch.tensor([0, -1]))
    assert entropy[1].item() == pytest.approx(UNSEEN_LABEL, rel=1e-6) and entropy[1] > entropy[0]
    entropy.sum().backward()
    assert logits.grad.isfinite().all() and not logits.grad[1].any()
    assert torch.full((10**6,), UNSEEN_LABEL).sum().isfinite()


def test_many_labels_and_far_logits_are_finite():
    logits = torch.full((3, 5000), -1e4)
    logits[0, 7], logits[1] = 1e4, 0.0
    entropy = label_cross_entropy(logits, torch.tensor([7, 4999, 0]))
    np.testing.assert_allclose(entropy, [0.0, np.log(5000), np.log(5000)], rtol=1e-3)
