"""Constructors of classes that share parameters: every default is written once."""

import inspect

__all__ = ["inherit_parameters"]


def inherit_parameters(cls: type) -> None:
    """Show the parameters of the bases in the signature of a constructor that passes them on.

    scikit-learn reads the parameters of an estimator from the signature of its constructor, and so
    do help texts and completion. A constructor ``__init__(self, *, own=1, **inherited)`` that ends
    in ``super().__init__(**inherited)`` gets the signature with all of them: its own new parameters
    first, then the inherited ones in their order, with the defaults that it gives anew.

    Parameters
    ----------
    cls : type
        Left alone if it has no constructor of its own, or one without ``**``.

    Examples
    --------
    >>> class Base:
    ...     def __init__(self, *, rate=1.0, seed=0):
    ...         self.rate, self.seed = rate, seed
    >>> class Method(Base):
    ...     def __init__(self, *, eta=1.0, rate=0.1, **inherited):
    ...         super().__init__(rate=rate, **inherited)
    ...         self.eta = eta
    >>> inherit_parameters(Method)
    >>> inspect.signature(Method)
    <Signature (*, eta=1.0, rate=0.1, seed=0)>
    """
    init = cls.__dict__.get("__init__")
    if init is None:
        return
    own = dict(inspect.signature(init).parameters)
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values()):
        return
    inherited = inspect.signature(super(cls, cls).__init__).parameters
    first = [
        parameter
        for name, parameter in own.items()
        if name == "self" or (name not in inherited and parameter.kind is parameter.KEYWORD_ONLY)
    ]
    rest = [own.get(name, parameter) for name, parameter in inherited.items() if name != "self"]
    init.__signature__ = inspect.Signature([*first, *rest])
