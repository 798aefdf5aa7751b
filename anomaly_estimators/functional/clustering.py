"""Deep clustering network: k-means among codes, as functions of tensors."""

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from anomaly_estimators.functional.reconstruction import squared_error

__all__ = [
    "center_distance",
    "clustering_loss",
    "initial_centers",
    "nearest_center",
    "updated_centers",
]


def nearest_center(codes: Tensor, centers: Tensor) -> Tensor:
    """Number of the centre that is nearest to each code: the assignment s of [1]_.

    Parameters
    ----------
    codes : Tensor of shape (n, d)
    centers : Tensor of shape (n_clusters, d)

    Returns
    -------
    Tensor of shape (n,), dtype int64
        The first of those that are equally near.

    References
    ----------
    .. [1] Yang et al., "Towards K-means-friendly Spaces", ICML 2017.

    Examples
    --------
    >>> nearest_center(torch.tensor([[0.0], [9.0]]), torch.tensor([[8.0], [1.0]]))
    tensor([1, 0])
    """
    # Difference by difference: by way of inner products, a row could have another centre in another
    # batch.
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(codes.detach(), centers.detach(), compute_mode=exact).argmin(dim=1)


def center_distance(codes: Tensor, centers: Tensor) -> Tensor:
    """Distance of each code to its nearest centre.

    Parameters
    ----------
    codes : Tensor of shape (n, d)
    centers : Tensor of shape (n_clusters, d)

    Returns
    -------
    Tensor of shape (n,)

    Examples
    --------
    >>> center_distance(torch.tensor([[3.0, 4.0]]), torch.tensor([[9.0, 9.0], [0.0, 0.0]]))
    tensor([5.])
    """
    return torch.linalg.vector_norm(codes - centers[nearest_center(codes, centers)], dim=1)


def clustering_loss(
    codes: Tensor, reconstruction: Tensor, X: Tensor, centers: Tensor, weight: float
) -> Tensor:
    """Objective of the network with the centres held fixed ([1]_), as a mean over the rows.

    Parameters
    ----------
    codes : Tensor of shape (n, d)
    reconstruction, X : Tensor of shape (n, n_features)
    centers : Tensor of shape (n_clusters, d)
        No gradient reaches them.
    weight : float
        Weight lambda of the squared distance to the nearest centre, of which the half counts.

    Returns
    -------
    Tensor of shape ()

    References
    ----------
    .. [1] Yang et al., "Towards K-means-friendly Spaces", ICML 2017.

    Examples
    --------
    >>> rows, codes, centers = torch.ones(1, 2), torch.tensor([[3.0]]), torch.tensor([[1.0]])
    >>> clustering_loss(codes, torch.zeros(1, 2), rows, centers, weight=0.5)
    tensor(3.)
    """
    own = centers.detach()[nearest_center(codes, centers)]
    return (squared_error(X, reconstruction) + 0.5 * weight * squared_error(codes, own)).mean()


def updated_centers(centers: Tensor, counts: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres and counts after a batch, each centre a running mean of its codes ([1]_).

    Taken row by row, ``c_k += 1`` and ``m_k -= (m_k - f(x)) / c_k``, with the assignments as they are
    at the beginning of the batch; here for the whole batch at once.

    Parameters
    ----------
    centers : Tensor of shape (n_clusters, d)
    counts : Tensor of shape (n_clusters,), dtype int64
        Codes that each centre is the mean of.
    codes : Tensor of shape (n, d)
        Those that are not finite are left out.

    Returns
    -------
    centers : Tensor of shape (n_clusters, d)
        Those without a code in the batch stay where they are.
    counts : Tensor of shape (n_clusters,), dtype int64

    References
    ----------
    .. [1] Yang et al., "Towards K-means-friendly Spaces", ICML 2017.

    Examples
    --------
    >>> centers, counts = torch.tensor([[0.0], [9.0]]), torch.tensor([1, 4])
    >>> updated_centers(centers, counts, torch.tensor([[1.0], [2.0]]))
    (tensor([[1.],
            [9.]]), tensor([3, 4]))
    """
    # Masked and not picked out, which a GPU would have to be waited for.
    finite = codes.detach().isfinite().all(dim=1, keepdim=True)
    codes = torch.where(finite, codes.detach(), 0.0)
    assigned = nearest_center(codes, centers)
    numbers = torch.arange(len(centers), device=assigned.device)
    member = (assigned.unsqueeze(1) == numbers) & finite
    counts = counts + member.sum(dim=0)
    steps = codes.double() - centers[assigned].double()
    # A product and not a scattered sum, whose order on a GPU is left to chance.
    moves = (member.double().T @ steps) / counts.clamp(min=1).unsqueeze(1)
    return centers + moves.to(centers), counts


def initial_centers(
    codes: Tensor, n_clusters: int, *, n_init: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Centres of scikit-learn's k-means and the sizes of their clusters.

    Parameters
    ----------
    codes : Tensor of shape (n, d)
        Those that are not finite are left out.
    n_clusters : int
    n_init : int
        Runs of k-means, of which the best is taken.
    seed : int

    Returns
    -------
    centers : Tensor of shape (n_clusters, d), dtype float64
        Where there are fewer distinct codes than clusters, some centres are equal, and 0 if there is no
        code at all.
    counts : Tensor of shape (n_clusters,), dtype int64

    Examples
    --------
    >>> codes = torch.tensor([[0.0], [2.0], [9.0]])
    >>> centers, counts = initial_centers(codes, 2, n_init=1, seed=0)
    >>> sorted(zip(centers.ravel().tolist(), counts.tolist()))
    [(1.0, 2), (9.0, 1)]
    """
    rows = codes.detach()[codes.isfinite().all(dim=1)].double().cpu().numpy()
    centers = np.zeros((n_clusters, codes.shape[1]))
    counts = np.zeros(n_clusters, dtype=np.int64)
    if len(rows):
        # No more than there are distinct codes: k-means would warn of those that stay empty.
        n_filled = _count_distinct(rows, n_clusters)
        kmeans = KMeans(n_filled, n_init=n_init, random_state=seed).fit(rows)
        found = kmeans.cluster_centers_
        centers[:] = found[np.arange(n_clusters) % len(found)]
        counts[:] = np.bincount(kmeans.labels_, minlength=n_clusters)
        # The means anew, in one order: k-means adds up in that of its threads.
        sums = [np.bincount(kmeans.labels_, column, minlength=n_clusters) for column in rows.T]
        filled = counts > 0
        centers[filled] = np.stack(sums, axis=1)[filled] / counts[filled, None]
    return torch.from_numpy(centers), torch.from_numpy(counts)


def _count_distinct(rows: np.ndarray, limit: int) -> int:
    """Number of rows that differ, counted up to a limit."""
    distinct = set()
    for row in rows:
        distinct.add((row + 0.0).tobytes())  # -0 is 0
        if len(distinct) == limit:
            break
    return len(distinct)
