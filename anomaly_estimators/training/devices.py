"""Where a model is trained."""

import torch

__all__ = ["resolve_device"]


def resolve_device(device: str) -> torch.device:
    """Return the torch device that a name stands for.

    Parameters
    ----------
    device : str
        "auto" (CUDA where there is one, else the CPU), "cpu", "cuda", or "cuda:0" and so on.

    Returns
    -------
    torch.device
        With an index if it is a CUDA device.

    Raises
    ------
    ValueError
        If the name is unknown or the device is not there.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return torch.device("cuda", 0) if n_cuda else torch.device("cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        resolved = None
    if resolved is None or resolved.type not in ("cpu", "cuda"):
        raise ValueError(
            f"device={device!r} is not known: use 'auto', 'cpu', 'cuda' or 'cuda:<number>'."
        )
    if resolved.type == "cpu":
        return torch.device("cpu")
    index = resolved.index or 0
    if index >= n_cuda:
        raise ValueError(
            f"device={device!r} is not there: torch {torch.__version__} sees {n_cuda} CUDA devices. "
            "Use device='auto' or 'cpu', or install a torch build and a driver with CUDA support."
        )
    return torch.device("cuda", index)
