"""VAE: a variational autoencoder, whose posterior may be transformed by normalizing flows."""

from numbers import Integral

from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor, nn

from anomaly_estimators.functional.variational import importance_weighted_bound
from anomaly_estimators.nn.flows import FLOWS
from anomaly_estimators.variational.evidence import VariationalDetector

__all__ = ["VAE"]


def _reconstruction_probability(log_likelihood: Tensor, log_ratio: Tensor) -> Tensor:
    """Expected log-likelihood, algorithm 1."""
    return log_likelihood.mean(dim=1)


def _elbo(log_likelihood: Tensor, log_ratio: Tensor) -> Tensor:
    return (log_likelihood + log_ratio).mean(dim=1)


def _importance_weighted(log_likelihood: Tensor, log_ratio: Tensor) -> Tensor:
    return importance_weighted_bound(log_likelihood + log_ratio)


# What can be asked for by name; the anomaly score is the negative.
_SCORES = {
    "elbo": _elbo,
    "importance_weighted": _importance_weighted,
    "reconstruction_probability": _reconstruction_probability,
}


class VAE(VariationalDetector):
    """Variational autoencoder, with normalizing flows on its posterior if asked for.

    A row comes from latent variables z with a standard normal prior through a decoder p(x|z), and
    q(z|x), which an encoder gives, stands for the posterior. The anomaly score is the mean negative
    log-likelihood -log p(x|z) over draws z of q(z|x) ([1]_, algorithm 1, where it sums), which An & Cho
    [2]_ call the reconstruction probability.

    Parameters
    ----------
    flow : {"planar", "iaf"} or None, default=None
        What the draws of the Gaussian q(z|x) go through: nothing; planar flows z + u tanh(w'z + b)
        ([3]_; eq 4 and 5); or inverse autoregressive flows ([4]_; eq 9), with the encoder's last
        hidden layer as context and the order of the variables reversed from one to the next. In both
        the parameters depend on the row.
    n_flows : int, default=5
        Number of flows, one after the other.
    n_draws : int, default=100
        Number of draws of q(z|x) that scores are averaged over. The noise they are made from is drawn
        once in ``fit`` and is the same for all rows.
    anomaly_score : {"reconstruction_probability", "elbo", "importance_weighted"}, \
            default="reconstruction_probability"
        What is scored: the mean of log p(x|z); the lower bound on log p(x), which also counts how
        unlikely the code is; or the closer bound of importance weighted draws [5]_, which rises to log
        p(x) with the number of draws.
    learning_rate : float, default=1e-4
        Step size of the optimizer.

    See Also
    --------
    AnoDM : Adds the distance to the training rows in a map of the codes.
    Autoencoder : Reconstruction error without a model of the codes.
    SSDGM : Learns from labels too.

    Notes
    -----
    The objective is eq 1 of [1]_, or eq 2 with ``kl_schedule="capacity"``. What is printed there lacks
    the logarithm of the determinant in eq 3, and the derivative of the activation in eq 5; both are
    mended here. The direction u of a planar flow is bent so that the flow stays invertible ([3]_,
    appendix A.1).

    Log-likelihoods are those of the scaled rows: means of the two bounds compare models with the same
    scaler and likelihood. Those of the reconstruction probability do not, for it rises with the width
    of the code.

    On tables the lower bound, ``anomaly_score="elbo"``, ranks anomalies a little better than the
    paper's score, which does not see that a code is odd: ``benchmarks/defaults.py`` has both.

    References
    ----------
    .. [1] Shah & Sharpe, "Variational Autoencoders with Normalizing Flows for Unsupervised Anomaly
       Detection", 2020.
    .. [2] An & Cho, "Variational Autoencoder based Anomaly Detection using Reconstruction
       Probability", Special Lecture on IE, 2015.
    .. [3] Rezende & Mohamed, "Variational Inference with Normalizing Flows", ICML 2015.
       https://arxiv.org/abs/1505.05770
    .. [4] Kingma et al., "Improved Variational Inference with Inverse Autoregressive Flow", NIPS 2016.
       https://arxiv.org/abs/1606.04934
    .. [5] Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016.
       https://arxiv.org/abs/1509.00519

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from anomaly_estimators import VAE
    >>> X, _ = load_breast_cancer(return_X_y=True)
    >>> detector = VAE(flow="iaf", max_iter=5, random_state=0).fit(X)
    >>> int((detector.predict(X) == -1).sum())
    56
    >>> detector.transform(X).shape, detector.sample(3, random_state=0).shape
    ((569, 8), (3, 30))
    """

    _scoring_parameters = frozenset({"anomaly_score"})
    _parameter_constraints: dict = {
        **VariationalDetector._parameter_constraints,
        "flow": [StrOptions(set(FLOWS)), None],
        "n_flows": [Interval(Integral, 1, None, closed="left")],
        "n_draws": [Interval(Integral, 1, None, closed="left")],
        "anomaly_score": [StrOptions(set(_SCORES))],
    }

    def __init__(
        self,
        *,
        flow=None,
        n_flows=5,
        n_draws=100,
        anomaly_score="reconstruction_probability",
        learning_rate=1e-4,
        **inherited,
    ):
        super().__init__(learning_rate=learning_rate, **inherited)
        self.flow = flow
        self.n_flows = n_flows
        self.n_draws = n_draws
        self.anomaly_score = anomaly_score

    @property
    def _n_kept_draws(self) -> int:
        return self.n_draws

    def _module_score(self, module: nn.Module, X: Tensor) -> Tensor:
        return -_SCORES[self.anomaly_score](*module.evidence(X))
