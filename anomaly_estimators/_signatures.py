"""Constructors of classes that share parameters: every default is written once."""

import inspect
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import cache

__all__ = ["check_arguments", "inherit_parameters"]


def check_arguments(cls: type, names: Iterable[str]) -> None:
    """Refuse arguments that a constructor does not take, by the name of the class that is called.

    Parameters
    ----------
    cls : type
    names : iterable of str
        The keywords of the call.

    Raises
    ------
    TypeError
        It names the parameter that is nearest.

    Examples
    --------
    >>> class Method:
    ...     def __init__(self, *, max_iter=1, tol=0.1): ...
    >>> check_arguments(Method, ["max_itr"])
    Traceback (most recent call last):
    TypeError: Method has no parameter 'max_itr'. Did you mean 'max_iter'?
    """
    known = _argument_names(cls)
    if known is None:
        return
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"It has {', '.join(sorted(known))}."
            raise TypeError(f"{cls.__name__} has no parameter {name!r}. {hint}")


@cache
def _argument_names(cls: type) -> frozenset | None:
    """Names of a constructor's parameters; ``None`` if it takes any."""
    parameters = inspect.signature(cls.__init__).parameters
    if _passes_on(parameters):
        return None
    return frozenset([*parameters][1:])


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
    if init is None or not _passes_on(_own_parameters(init)):
        return
    # By the order in which the constructors will call one another, which another base can change.
    chain = []
    for base in cls.__mro__:
        if base is not object and "__init__" in base.__dict__:
            chain.append(_own_parameters(base.__dict__["__init__"]))
            if not _passes_on(chain[-1]):
                break
    init._own_parameters = chain[0]
    shown: dict[str, inspect.Parameter] = {}
    for own in reversed(chain):
        named = {
            # Those of the bases come after the first keyword, whatever they were there.
            name: parameter if own is chain[0] else parameter.replace(kind=parameter.KEYWORD_ONLY)
            for name, parameter in [*own.items()][1:]
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        }
        new = {name: parameter for name, parameter in named.items() if name not in shown}
        shown = {**new, **shown, **{name: named[name] for name in shown if name in named}}
    init.__signature__ = inspect.Signature([next(iter(chain[0].values())), *shown.values()])


def _own_parameters(init: Callable) -> dict[str, inspect.Parameter]:
    """What a constructor is written with, before it is shown with more."""
    known = getattr(init, "_own_parameters", None)
    return dict(inspect.signature(init).parameters) if known is None else known


def _passes_on(parameters: dict[str, inspect.Parameter]) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
