"""Reconstruction features beside an autoencoder's codes, and what the DAGMM paper makes of them."""

import numpy as np
import pytest
from scipy.spatial import distance
from sklearn.datasets import load_wine
from sklearn.frozen import FrozenEstimator
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline

from anomaly_estimators import DAGMM, GMM, Autoencoder, DenoisingAutoencoder

PAIR = ("relative_euclidean", "cosine_similarity")
SMALL = {
    "hidden_layer_sizes": (6,),
    "latent_dim": 2,
    "max_iter": 5,
    "random_state": 0,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def X():
    return load_wine().data


@pytest.mark.parametrize("cls", [Autoencoder, DenoisingAutoencoder])
def test_features_stand_beside_the_code_and_change_nothing_else(cls, X):
    plain = cls(**SMALL).fit(X)
    detector = cls(**SMALL, reconstruction_features=PAIR).fit(X)
    z = detector.transform(X)
    np.testing.assert_array_equal(z[:, :2], plain.transform(X))
    np.testing.assert_array_equal(detector.score_samples(X), plain.score_samples(X))
    assert list(detector.get_feature_names_out()) == ["code0", "code1", *PAIR]
    # In the network's space, where the rows are scaled.
    rows = detector.scaler_.transform(X)
    rebuilt = detector.scaler_.transform(plain.inverse_transform(plain.transform(X)))
    relative = np.linalg.norm(rows - rebuilt, axis=1) / np.linalg.norm(rows, axis=1)
    cosine = [1 - distance.cosine(*pair) for pair in zip(rows, rebuilt, strict=True)]
    np.testing.assert_allclose(z[:, 2], relative, rtol=1e-9)
    np.testing.assert_allclose(z[:, 3], cosine, rtol=1e-9)


def test_codes_are_decoded_with_and_without_the_features(X):
    detector = Autoencoder(**SMALL, reconstruction_features=PAIR).fit(X)
    z = detector.transform(X)
    np.testing.assert_array_equal(
        detector.inverse_transform(z), detector.inverse_transform(z[:, :2])
    )
    with pytest.raises(ValueError, match="3 columns, but the codes of this Autoencoder have 2"):
        detector.inverse_transform(z[:, :3])


def test_a_function_is_a_feature_too(X):
    def largest_residual(rows, reconstruction):
        return (rows - reconstruction).abs().max(dim=1).values

    detector = Autoencoder(**SMALL, reconstruction_features=[largest_residual]).fit(X)
    assert detector.get_feature_names_out()[-1] == "largest_residual"
    assert (detector.transform(X)[:, -1] > 0).all()


def test_unknown_features_are_refused_before_the_training(X):
    with pytest.raises(ValueError, match=r"\['cosine'\] are not known: use functions, or names"):
        Autoencoder(**SMALL, reconstruction_features=("cosine",)).fit(X)


def test_pae_gmm_em_is_scikit_learns_mixture_on_z(X):
    """PAE-GMM-EM as the documentation writes it, against GaussianMixture on z."""
    encoder = Autoencoder(**SMALL, pretrain="layerwise", reconstruction_features=PAIR)
    em = {"tol": 1e-6, "reg_covar": 1e-6, "max_iter": 500, "n_init": 1, "random_state": 0}
    gmm = GMM(n_components=2, covariance_type="full", scaler=None, **em)
    detector = make_pipeline(encoder, gmm).fit(X)
    z = encoder.fit(X).transform(X)
    reference = GaussianMixture(2, **em).fit(z)
    assert reference.converged_
    np.testing.assert_allclose(
        detector.score_samples(X), reference.score_samples(z), rtol=0, atol=1e-6
    )


def test_a_pre_trained_network_can_be_shared(X):
    """The expressions of the paper's PAE, PAE-GMM and DAGMM-p over one pre-trained autoencoder."""
    pae = Autoencoder(**SMALL, pretrain="layerwise", reconstruction_features=PAIR).fit(X)
    options = {**SMALL, "network": pae.module_, "reconstruction_features": PAIR}
    frozen = DAGMM(**options, freeze_codes=True).fit(X)
    np.testing.assert_allclose(frozen.transform(X), pae.transform(X), rtol=1e-6)
    tuned = DAGMM(**options).fit(X)
    assert not np.allclose(tuned.transform(X), pae.transform(X))
    mixed = make_pipeline(FrozenEstimator(pae), GMM(n_components=2, scaler=None, random_state=0))
    assert mixed.fit(X).score_samples(X).shape == (len(X),)


def test_gmm_en_sees_the_code_alone_and_learns_nothing_from_the_decoder(X):
    detector = DAGMM(**SMALL, reconstruction_weight=0, reconstruction_features=()).fit(X)
    assert detector.means_.shape == (2, 2)
    started = DAGMM(**SMALL | {"max_iter": 1}, reconstruction_weight=0, reconstruction_features=())
    weights = started.fit(X).module_.autoencoder.decoder.state_dict()
    for name, tensor in detector.module_.autoencoder.decoder.state_dict().items():
        np.testing.assert_array_equal(tensor, weights[name])
