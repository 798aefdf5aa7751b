"""A round of training of a detector and the head upon it."""

import copy
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from anomaly_estimators.deep import DeepDetector
from anomaly_estimators.functional.classification import anomaly_cross_entropy
from anomaly_estimators.nn.active import UAIHead, UAINetwork
from anomaly_estimators.training.loop import TrainingOptions, run_phases
from anomaly_estimators.training.moments import moments_as_arrays, moments_as_tensors
from anomaly_estimators.training.phases import Phase
from anomaly_estimators.training.precision import SinglePrecision
from anomaly_estimators.training.randomness import isolated_randomness
from anomaly_estimators.training.redirection import redirected
from anomaly_estimators.training.rounds import AuditedRows
from anomaly_estimators.training.schedules import constant

__all__ = ["Round", "arrays_of", "head_of", "train_round", "untrained_head"]


class Round(NamedTuple):
    """What a round of training has made."""

    base: DeepDetector
    head: UAIHead
    moments: dict[str, dict]
    loss: float


def train_round(
    base: DeepDetector,
    head: UAIHead,
    moments: dict[str, dict],
    rows: AuditedRows,
    *,
    optimizer: str | Callable,
    learning_rate: float,
    head_learning_rate: float,
    audit_weight: float,
    seed: int,
) -> Round:
    """Train a fitted detector and a head together for a round.

    Parameters
    ----------
    base : DeepDetector
        Fitted. It is left as it is.
    head : UAIHead
        On the CPU; it is trained.
    moments : dict
        What the optimizer remembers of the round before; empty before the first.
    rows : AuditedRows
        Every batch ends in its audited rows.
    optimizer : str or callable
    learning_rate, head_learning_rate : float
    audit_weight : float
        Weight of the audited rows' cross-entropy against the detector's own loss.
    seed : int

    Returns
    -------
    Round
        With a detector whose network alone is new.

    Raises
    ------
    KeyboardInterrupt
        If the training was interrupted: half a round is no round.
    """
    device = base.net_.device
    with isolated_randomness(seed, device):
        module, head = copy.deepcopy(base.module_), head.to(device)
        with redirected():
            own = [phase for phase in base._phases(module) if phase.main][-1]
        trained = module if own.module is None else own.module
        network = UAINetwork(module, trained, head, base._module_latent_and_score, rows.n_audited)
        net = base._make_net(network, device, base.net_.batch_size)
        net.optimizer, net.lr = optimizer, learning_rate
        memory = moments_as_tensors(moments)
        phase = Phase(
            name="round",
            loss=partial(_loss, own.loss, rows.n_audited, audit_weight),
            max_iter=1,
            observe=own.observe and (lambda outputs: own.observe(outputs[0])),
            faster=(head, head_learning_rate),
            optimizer_state=memory,
        )
        options = TrainingOptions(schedule=constant, seed=seed, keep_interrupted=False)
        generator = torch.Generator().manual_seed(seed)
        run_phases(net, [phase], rows, None, options, generator)
    taught = copy.copy(base)
    taught.net_ = base._make_net(module.eval(), device, base.net_.batch_size)
    taught.net_.history.extend(dict(row) for row in base.net_.history)
    return Round(taught, head.cpu(), moments_as_arrays(memory), net.history[-1]["train_loss"])


def _loss(
    base_loss: Callable, n_audited: int, weight: float, outputs, X: Tensor, y: Tensor
) -> Tensor:
    """The detector's own loss, and the cross-entropy of the audited rows at the end of the batch."""
    base_outputs, logits = outputs
    own = base_loss(base_outputs, X[:-n_audited], y[:-n_audited])
    return own + weight * anomaly_cross_entropy(logits, y[-n_audited:])


def untrained_head(n_inputs: int) -> UAIHead:
    """A head for latent representation and score, which together are so many numbers."""
    with isolated_randomness(0, torch.device("cpu")), redirected(), SinglePrecision():
        return UAIHead(n_inputs - 1).eval()


def arrays_of(head: UAIHead) -> dict[str, np.ndarray]:
    """A head as arrays, in which a detector keeps it."""
    return {name: tensor.cpu().numpy().copy() for name, tensor in head.state_dict().items()}


def head_of(arrays: dict[str, np.ndarray]) -> UAIHead:
    """The head that :func:`arrays_of` took apart."""
    head = untrained_head(len(arrays["center"]))
    # Copies: arrays from a file may be read-only, and training must not reach the kept ones.
    head.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    return head
