"""The bare torch loop that the engine is compared with."""

import torch

from anomaly_estimators.functional.reconstruction import squared_error
from anomaly_estimators.nn.autoencoder import mlp_autoencoder

# Rows that are scored at a time: the engine's pieces hold about as many values.
_VALUES = 2**19


def fit(X, sizes, batch_size: int, max_iter: int, seed: int = 0):
    """Train an autoencoder by fused Adam on shuffled batches of a tensor, and nothing else."""
    torch.manual_seed(seed)
    network = mlp_autoencoder(X.shape[1], sizes[:-1], sizes[-1])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    rows = torch.from_numpy(X)
    for _ in range(max_iter):
        order = torch.randperm(len(rows))
        for start in range(0, len(rows), batch_size):
            batch = rows.index_select(0, order[start : start + batch_size])
            optimizer.zero_grad()
            _, reconstruction = network(batch)
            loss = squared_error(batch, reconstruction).mean()
            loss.backward()
            optimizer.step()
    return network


def score(network, X):
    """Reconstruction errors of all rows."""
    rows = torch.from_numpy(X)
    step = max(1, _VALUES // X.shape[1])
    network.eval()
    with torch.inference_mode():
        pieces = (rows[start : start + step] for start in range(0, len(rows), step))
        return torch.cat([squared_error(piece, network(piece)[1]) for piece in pieces]).numpy()
