"""Constructors that pass their parameters on show all of them."""

import inspect
import pickle
from numbers import Integral

import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.utils._param_validation import Interval

from anomaly_estimators import Autoencoder, DeepSAD, OutlierDetector
from anomaly_estimators._signatures import inherit_parameters


class Base(OutlierDetector):
    def __init__(self, *, rate=1.0, seed=0, **inherited):
        super().__init__(**inherited)
        self.rate = rate
        self.seed = seed


class Method(Base):
    """Its own parameter, and another default for an inherited one."""

    def __init__(self, *, eta=2.0, rate=0.1, **inherited):
        super().__init__(rate=rate, **inherited)
        self.eta = eta


class Silent(Method):
    """Has no constructor of its own."""


class Mixin:
    """Adds a parameter to whatever comes after it."""

    def __init__(self, *, depth=3, **inherited):
        super().__init__(**inherited)
        self.depth = depth


class Mixed(Mixin, Method):
    def __init__(self, *, seed=7, **inherited):
        super().__init__(seed=seed, **inherited)


class Left(Base):
    def __init__(self, *, left="l", **inherited):
        super().__init__(**inherited)
        self.left = left


class Right(Base):
    def __init__(self, *, right="r", rate=5.0, **inherited):
        super().__init__(rate=rate, **inherited)
        self.right = right


def defaults(cls):
    return {name: p.default for name, p in inspect.signature(cls).parameters.items()}


def test_own_parameters_come_first_then_the_inherited_ones_in_their_order():
    assert list(defaults(Base)) == ["rate", "seed", "contamination"]
    assert list(defaults(Method)) == ["eta", "rate", "seed", "contamination"]
    assert defaults(Method) == {"eta": 2.0, "rate": 0.1, "seed": 0, "contamination": 0.1}
    assert defaults(Silent) == defaults(Method)
    # The class above has kept its own.
    assert defaults(Base)["rate"] == 1.0


@pytest.mark.parametrize("cls", [Base, Method, Silent, Autoencoder, DeepSAD])
def test_shown_defaults_are_those_that_are_set(cls):
    estimator = cls()
    assert estimator.get_params(deep=False) == defaults(cls) == vars(estimator)
    kinds = {p.kind for p in inspect.signature(cls).parameters.values()}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("cls", [Base, Method, Silent])
def test_parameters_are_set_cloned_and_pickled(cls):
    given = {"seed": 5, "rate": 3.0, "contamination": 0.3}
    estimator = clone(cls(**given))
    assert {name: getattr(estimator, name) for name in given} == given
    estimator.set_params(seed=6)
    assert pickle.loads(pickle.dumps(estimator)).get_params() == {**estimator.get_params()}
    assert estimator.seed == 6
    with pytest.raises(TypeError, match="has no parameter 'depth'"):
        cls(depth=1)
    with pytest.raises(ValueError, match="Invalid parameter 'depth'"):
        estimator.set_params(depth=1)


def test_mixin_joins_the_parameters_of_what_follows_it():
    assert list(defaults(Mixed)) == ["depth", "eta", "rate", "seed", "contamination"]
    estimator = Mixed(depth=4, contamination=0.2)
    expected = {"depth": 4, "seed": 7, "eta": 2.0, "rate": 0.1, "contamination": 0.2}
    assert estimator.get_params() == expected == clone(estimator).get_params()


def test_diamond_has_the_parameters_of_both_sides():
    class Both(Left, Right):
        def __init__(self, *, both="b", **inherited):
            super().__init__(**inherited)
            self.both = both

    expected = {
        "both": "b",
        "left": "l",
        "right": "r",
        "rate": 5.0,
        "seed": 0,
        "contamination": 0.1,
    }
    assert defaults(Both) == expected == Both().get_params()
    assert Both(left=1, right=2, rate=3).get_params() == {
        **expected,
        "left": 1,
        "right": 2,
        "rate": 3,
    }
    # Neither side has learned of the other.
    assert "right" not in defaults(Left) and "left" not in defaults(Right)


def test_bases_in_the_style_of_others_may_end_the_chain():
    class Plain(OutlierDetector):
        def __init__(self, width=2, contamination=0.1):
            super().__init__(contamination=contamination)
            self.width = width

    class Over(Plain):
        def __init__(self, *, height=3, width=4, **inherited):
            super().__init__(width=width, **inherited)
            self.height = height

    expected = {"height": 3, "width": 4, "contamination": 0.1}
    assert defaults(Over) == expected == Over().get_params()
    assert defaults(Plain) == {"width": 2, "contamination": 0.1} == Plain().get_params()
    assert Plain(5).width == 5


def test_constructor_without_passing_on_is_left_alone():
    class Fixed(Base):
        def __init__(self, *, only=1):
            super().__init__()
            self.only = only

    assert list(defaults(Fixed)) == ["only"]
    assert not hasattr(Fixed.__init__, "__signature__")
    inherit_parameters(Silent)
    assert "__init__" not in vars(Silent)


def test_inspection_by_other_tools_sees_the_parameters():
    """As documentation generators and editors do it: by the function, and by the text."""
    assert list(inspect.signature(Method.__init__).parameters)[:2] == ["self", "eta"]
    assert "inherited" not in str(inspect.signature(Method))
    assert str(inspect.signature(Method)) == "(*, eta=2.0, rate=0.1, seed=0, contamination=0.1)"
    assert Method._get_param_names() == ["contamination", "eta", "rate", "seed"]
    assert inspect.signature(Method).bind(eta=1, seed=2).arguments == {"eta": 1, "seed": 2}


def test_default_of_a_subclass_does_not_reach_its_base():
    before = defaults(DeepSAD)

    class Changed(DeepSAD):
        _parameter_constraints = {
            **DeepSAD._parameter_constraints,
            "depth": [Interval(Integral, 0, None, closed="left")],
        }

        def __init__(self, *, depth=1, eta=9.0, latent_dim=5, **inherited):
            super().__init__(eta=eta, latent_dim=latent_dim, **inherited)
            self.depth = depth

    assert defaults(Changed) == {**before, "depth": 1, "eta": 9.0, "latent_dim": 5}
    assert defaults(DeepSAD) == before == DeepSAD().get_params(deep=False)
    assert Changed().get_params()["eta"] == 9.0 and Changed().latent_dim == 5
    assert isinstance(clone(Changed(depth=2)), BaseEstimator)
    assert clone(Changed(depth=2)).depth == 2
