"""Reconstruction errors of an autoencoder, one value a row.

Every function takes the rows and their reconstructions, both of shape ``(n, n_features)``, and
returns a tensor of shape ``(n,)`` and of the same dtype.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = [
    "RECONSTRUCTION_FEATURES",
    "append_features",
    "cosine_distance",
    "cosine_similarity",
    "euclidean_distance",
    "normalised_squared_error",
    "relative_euclidean_distance",
    "squared_error",
]


def squared_error(X: Tensor, reconstruction: Tensor) -> Tensor:
    """Squared L2 norm of the residual, summed over the features: L of [1]_, eq 7.

    Parameters
    ----------
    X, reconstruction : Tensor of shape (..., n_features)

    Returns
    -------
    Tensor of shape (...)

    References
    ----------
    .. [1] Zong et al., "Deep Autoencoding Gaussian Mixture Model for Unsupervised Anomaly
       Detection", ICLR 2018.

    Examples
    --------
    >>> import torch
    >>> squared_error(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]]))
    tensor([25.])
    """
    return (X - reconstruction).square().sum(dim=-1)


def euclidean_distance(X: Tensor, reconstruction: Tensor) -> Tensor:
    """L2 norm of the residual.

    Parameters
    ----------
    X, reconstruction : Tensor of shape (n, n_features)

    Returns
    -------
    Tensor of shape (n,)

    Examples
    --------
    >>> import torch
    >>> euclidean_distance(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]]))
    tensor([5.])
    """
    # vector_norm has the subgradient 0 at 0, where the root of a sum of squares has none.
    return torch.linalg.vector_norm(X - reconstruction, dim=1)


def relative_euclidean_distance(X: Tensor, reconstruction: Tensor, *, eps: float = 1e-6) -> Tensor:
    """L2 norm of the residual over the L2 norm of the row ([1]_, section 4.3).

    Parameters
    ----------
    X, reconstruction : Tensor of shape (n, n_features)
    eps : float, default=1e-6
        Smallest norm of a row that is divided by, so that a row of zeros has a finite distance.

    Returns
    -------
    Tensor of shape (n,)

    References
    ----------
    .. [1] Zong et al., "Deep Autoencoding Gaussian Mixture Model for Unsupervised Anomaly
       Detection", ICLR 2018.

    Examples
    --------
    >>> import torch
    >>> relative_euclidean_distance(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 3.0]]))
    tensor([0.2000])
    """
    return euclidean_distance(X, reconstruction) / torch.linalg.vector_norm(X, dim=1).clamp(min=eps)


def cosine_similarity(X: Tensor, reconstruction: Tensor, *, eps: float = 1e-6) -> Tensor:
    """Cosine of the angle between a row and its reconstruction ([1]_, section 4.3).

    Parameters
    ----------
    X, reconstruction : Tensor of shape (n, n_features)
    eps : float, default=1e-6
        Smallest norm that is divided by; a row of zeros has similarity 0.

    Returns
    -------
    Tensor of shape (n,)
        Between -1 and 1.

    References
    ----------
    .. [1] Zong et al., "Deep Autoencoding Gaussian Mixture Model for Unsupervised Anomaly
       Detection", ICLR 2018.

    Examples
    --------
    >>> import torch
    >>> cosine_similarity(torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]]))
    tensor([0.9600])
    """
    norms = torch.linalg.vector_norm(X, dim=1).clamp(min=eps) * torch.linalg.vector_norm(
        reconstruction, dim=1
    ).clamp(min=eps)
    return (X * reconstruction).sum(dim=1) / norms


def cosine_distance(X: Tensor, reconstruction: Tensor, *, eps: float = 1e-6) -> Tensor:
    """One minus :func:`cosine_similarity`: 0 for a perfect reconstruction, at most 2.

    Parameters
    ----------
    X, reconstruction : Tensor of shape (n, n_features)
    eps : float, default=1e-6
        Smallest norm that is divided by.

    Returns
    -------
    Tensor of shape (n,)

    Examples
    --------
    >>> import torch
    >>> cosine_distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
    tensor([1.])
    """
    return 1.0 - cosine_similarity(X, reconstruction, eps=eps)


def normalised_squared_error(X: Tensor, reconstruction: Tensor, *, eps: float = 1e-6) -> Tensor:
    """Squared norm of the residual over the norm of the row, eq 3 of [1]_.

    The norm itself, not its square: a row and its residual that are twice as large have twice the
    error.

    Parameters
    ----------
    X, reconstruction : Tensor of shape (..., n_features)
    eps : float, default=1e-6
        Smallest norm that is divided by, of a row of zeros.

    Returns
    -------
    Tensor of shape (...)

    References
    ----------
    .. [1] "Anomaly Detection Based on Unsupervised Disentangled Representation Learning in Combination
       with Manifold Learning" (AnoDM), 2019.

    Examples
    --------
    >>> import torch
    >>> normalised_squared_error(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 2.0]]))
    tensor([0.8000])
    """
    # Clamped before the root, whose slope at 0 is infinite.
    norm = X.square().sum(dim=-1).clamp(min=eps**2).sqrt()
    return (X - reconstruction).square().sum(dim=-1) / norm


def append_features(
    code: Tensor,
    X: Tensor,
    reconstruction: Tensor,
    features: Sequence[Callable[[Tensor, Tensor], Tensor]],
) -> Tensor:
    """Put reconstruction features beside the code: z = [z_c, z_r], eq 2 and 3 of [1]_.

    Parameters
    ----------
    code : Tensor of shape (n, latent_dim)
    X, reconstruction : Tensor of shape (n, n_features)
    features : sequence of callables
        ``feature(X, reconstruction)`` -> Tensor of shape (n,).

    Returns
    -------
    Tensor of shape (n, latent_dim + len(features))

    References
    ----------
    .. [1] Zong et al., "Deep Autoencoding Gaussian Mixture Model for Unsupervised Anomaly
       Detection", ICLR 2018.

    Examples
    --------
    >>> import torch
    >>> X, reconstruction = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    >>> append_features(torch.tensor([[7.0]]), X, reconstruction, [squared_error])
    tensor([[ 7., 25.]])
    """
    errors = [feature(X, reconstruction) for feature in features]
    return torch.cat([code, *(error.unsqueeze(1) for error in errors)], dim=1)


#: The reconstruction features that can be asked for by name.
RECONSTRUCTION_FEATURES = {
    "cosine_distance": cosine_distance,
    "cosine_similarity": cosine_similarity,
    "euclidean": euclidean_distance,
    "relative_euclidean": relative_euclidean_distance,
    "squared_error": squared_error,
}
