"""The bare torch loops that the engine is compared with."""

import torch

from anomaly_estimators.functional.hypersphere import semi_supervised_loss, squared_distance
from anomaly_estimators.functional.reconstruction import squared_error
from anomaly_estimators.nn.autoencoder import mlp_autoencoder

# Rows that are scored at a time: the engine's pieces hold about as many values.
_VALUES = 2**19


def fit(X, sizes, batch_size: int, max_iter: int, seed: int = 0):
    """Train an autoencoder by fused Adam on shuffled batches of a tensor, and nothing else."""
    torch.manual_seed(seed)
    network = mlp_autoencoder(X.shape[1], sizes[:-1], sizes[-1])
    _train(network, _reconstruction_loss, (torch.from_numpy(X),), batch_size, max_iter)
    return network


def fit_deep_sad(X, y, sizes, batch_size: int, max_iter: int, seed: int = 0):
    """Train the autoencoder and then the encoder by the objective of Deep SAD."""
    torch.manual_seed(seed)
    options = {"activation": "leaky_relu", "bias": False, "batch_norm": True}
    network = mlp_autoencoder(X.shape[1], sizes[:-1], sizes[-1], **options)
    rows, labels = torch.from_numpy(X), torch.from_numpy(y)
    _train(network, _reconstruction_loss, (rows,), batch_size, max_iter)
    encoder = network.encoder.eval()
    with torch.no_grad():
        center = encoder(rows[labels >= 0]).mean(dim=0)
    encoder.train()

    def loss(codes, batch, batch_labels):
        return semi_supervised_loss(squared_distance(codes, center), batch_labels, eta=1.0)

    _train(encoder, loss, (rows, labels), batch_size, max_iter)
    return encoder, center


def _reconstruction_loss(outputs, batch):
    return squared_error(batch, outputs[1]).mean()


def _train(network, loss, tensors, batch_size: int, max_iter: int) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    n_rows = len(tensors[0])
    for _ in range(max_iter):
        order = torch.randperm(n_rows)
        for start in range(0, n_rows, batch_size):
            taken = order[start : start + batch_size]
            batch = [tensor.index_select(0, taken) for tensor in tensors]
            optimizer.zero_grad()
            loss(network(batch[0]), *batch).backward()
            optimizer.step()


def score(network, X):
    """Reconstruction errors of all rows."""
    rows = torch.from_numpy(X)
    step = max(1, _VALUES // X.shape[1])
    network.eval()
    with torch.inference_mode():
        pieces = (rows[start : start + step] for start in range(0, len(rows), step))
        return torch.cat([squared_error(piece, network(piece)[1]) for piece in pieces]).numpy()
