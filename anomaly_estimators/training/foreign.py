"""Telling the library's own code from that of users, which may draw random numbers anywhere."""

from torch import nn

__all__ = ["is_own", "may_draw"]

_PACKAGE = __name__.partition(".")[0]
_RANDOM_LAYERS = (
    nn.modules.dropout._DropoutNd,
    nn.FractionalMaxPool2d,
    nn.FractionalMaxPool3d,
    nn.RReLU,
)


def is_own(kind: type) -> bool:
    """Whether a class is the library's."""
    return kind.__module__.partition(".")[0] == _PACKAGE


def may_draw(layer: nn.Module) -> bool:
    """Whether a layer, without the layers in it, may call random functions of torch.

    The library's own layers draw from the generators of the fit by themselves. A hook on a layer is
    code of its user.

    Examples
    --------
    >>> may_draw(nn.Linear(2, 1)), may_draw(nn.Dropout(0.5))
    (False, True)
    """
    if layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer):
        return True
    if is_own(type(layer)):
        return False
    if not type(layer).__module__.startswith("torch.nn.modules."):
        return True
    # Recurrent and attention layers have dropout as a number.
    return isinstance(layer, _RANDOM_LAYERS) or bool(getattr(layer, "dropout", 0))
