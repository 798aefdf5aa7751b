"""Energies of rows and how they are learned by denoising, as functions of tensors."""

from collections.abc import Callable

import torch
from torch import Tensor

from anomaly_estimators.functional.reconstruction import squared_error

__all__ = [
    "denoising_score_matching_loss",
    "energy_gradient",
    "energy_reconstruction",
    "quadratic_energy",
]


def quadratic_energy(X: Tensor, features: Tensor, bias: Tensor) -> Tensor:
    """Energy of fully connected and convolutional models ([1]_, section 3).

    ``E(x) = ||x - b'||^2 / 2 - sum_j h_j(x)``: rows near b' have a low energy, and so have rows in
    which features are active.

    Parameters
    ----------
    X : Tensor of shape (n, n_features)
    features : Tensor of shape (n, k)
        What the last layer makes of the rows, h.
    bias : Tensor of shape (n_features,)
        b'.

    Returns
    -------
    Tensor of shape (n,)

    References
    ----------
    .. [1] Zhai et al., "Deep Structured Energy Based Models for Anomaly Detection", ICML 2016.

    Examples
    --------
    >>> quadratic_energy(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.5]]), torch.zeros(2))
    tensor([10.])
    """
    return 0.5 * squared_error(X, bias) - features.sum(dim=1)


def energy_gradient(
    energy: Callable[[Tensor], Tensor], X: Tensor, *, create_graph: bool = False
) -> Tensor:
    """Gradient of an energy at every row, where gradients are switched off too.

    Parameters
    ----------
    energy : callable
        Maps rows of shape (n, n_features) to energies of shape (n,). The energy of a row must not
        depend on the others.
    X : Tensor of shape (n, n_features)
    create_graph : bool, default=False
        Whether the result can be differentiated with respect to the parameters of the energy.

    Returns
    -------
    Tensor of shape (n, n_features)

    Examples
    --------
    >>> energy_gradient(lambda X: X.square().sum(dim=1), torch.tensor([[1.0, -2.0]]))
    tensor([[ 2., -4.]])
    """
    with torch.inference_mode(False), torch.enable_grad():
        # A copy: a tensor that was made in inference mode can have no gradient.
        rows = X.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(energy(rows).sum(), rows, create_graph=create_graph)
    return gradient


def energy_reconstruction(
    energy: Callable[[Tensor], Tensor], X: Tensor, *, create_graph: bool = False
) -> Tensor:
    """Reconstruction of rows by an energy, ``f(x) = x - grad E(x)``.

    It is a step down the energy. With one layer of softplus features it is an autoencoder with
    tied weights, ``b' + W sigmoid(W'x + b)`` ([1]_).

    Parameters
    ----------
    energy : callable
        Maps rows of shape (n, n_features) to energies of shape (n,).
    X : Tensor of shape (n, n_features)
    create_graph : bool, default=False
        Whether the result can be differentiated with respect to the parameters of the energy.

    Returns
    -------
    Tensor of shape (n, n_features)

    References
    ----------
    .. [1] Vincent, "A Connection Between Score Matching and Denoising Autoencoders", Neural
       Computation 23(7), 2011.

    Examples
    --------
    >>> energy_reconstruction(lambda X: 0.25 * X.square().sum(dim=1), torch.tensor([[1.0, -2.0]]))
    tensor([[ 0.5000, -1.0000]])
    """
    return X - energy_gradient(energy, X, create_graph=create_graph)


def denoising_score_matching_loss(X: Tensor, reconstruction: Tensor) -> Tensor:
    """Objective of denoising score matching ([1]_), ``mean ||x - f(x + noise * e)||^2``.

    With ``f(x) = x - grad E(x)`` it is ``noise^4 ||(x - x~) / noise^2 + grad E(x~) / noise^2||^2``:
    least if ``-grad E / noise^2`` is the gradient of the logarithm of the density of the noisy rows
    x~. So ``E / noise^2`` is the energy of that density; E ranks the rows alike.

    Parameters
    ----------
    X : Tensor of shape (n, n_features)
        Rows without noise.
    reconstruction : Tensor of shape (n, n_features)
        :func:`energy_reconstruction` of the rows with noise.

    Returns
    -------
    Tensor of shape ()
        Mean over the rows of the squared error, summed over the features.

    References
    ----------
    .. [1] Vincent, "A Connection Between Score Matching and Denoising Autoencoders", Neural
       Computation 23(7), 2011.

    Examples
    --------
    >>> denoising_score_matching_loss(torch.zeros(2, 2), torch.tensor([[1.0, 1.0], [2.0, 0.0]]))
    tensor(3.)
    """
    return squared_error(X, reconstruction).mean()
