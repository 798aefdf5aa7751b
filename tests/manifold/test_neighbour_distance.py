"""Distances to landmarks and keys that are known again, against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anomaly_estimators.manifold.neighbour_distance import matches, neighbour_distance

few = settings(max_examples=100, deadline=None, derandomize=True, database=None)


def brute_force(positions, landmarks, n_neighbors, own):
    """Row by row, landmark by landmark."""
    found = []
    for position, place in zip(positions, own, strict=True):
        distances = [
            np.sqrt(((position - landmark) ** 2).sum())
            for number, landmark in enumerate(landmarks)
            if number != place
        ]
        found.append(np.mean(sorted(distances)[:n_neighbors]))
    return np.array(found)


@st.composite
def tables(draw):
    """Landmarks, some of them in the same place, and rows of which some are landmarks."""
    width = draw(st.integers(1, 3))
    # Few values: many ties and duplicates.
    values = draw(st.sampled_from([st.integers(-2, 2).map(float), st.floats(-1e3, 1e3)]))
    landmarks = draw(arrays(np.float64, (draw(st.integers(2, 12)), width), elements=values))
    new = draw(arrays(np.float64, (draw(st.integers(0, 6)), width), elements=values))
    places = draw(st.lists(st.integers(0, len(landmarks) - 1), max_size=8))
    positions = np.concatenate([new, landmarks[places]])
    own = np.array([-1] * len(new) + places, dtype=np.int64)
    return positions, landmarks, draw(st.integers(1, len(landmarks) - 1)), own


@few
@given(tables())
def test_distance_is_that_of_brute_force(table):
    positions, landmarks, n_neighbors, own = table
    found = neighbour_distance(positions, landmarks, n_neighbors, own)
    assert found.shape == (len(positions),) and found.dtype == np.float64
    expected = brute_force(positions, landmarks, n_neighbors, own) if len(positions) else []
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n_neighbors", [1, 3, 20])
def test_large_tables_are_searched_as_small_ones(n_neighbors):
    rng = np.random.default_rng(0)
    landmarks = rng.normal(size=(400, 2))
    positions = np.concatenate([rng.normal(size=(50, 2)), landmarks[:50]])
    own = np.concatenate([np.full(50, -1), np.arange(50)])
    np.testing.assert_allclose(
        neighbour_distance(positions, landmarks, n_neighbors, own),
        brute_force(positions, landmarks, n_neighbors, own),
        rtol=1e-12,
    )


def test_a_landmark_leaves_itself_out_and_no_other_in_its_place():
    landmarks = np.array([[0.0], [0.0], [3.0], [0.0], [7.0]])
    own = np.arange(5)
    # The three in one place have the two others at distance 0.
    assert neighbour_distance(landmarks, landmarks, 1, own).tolist() == [0.0, 0.0, 3.0, 0.0, 4.0]
    assert neighbour_distance(landmarks, landmarks, 2, own).tolist() == [0.0, 0.0, 3.0, 0.0, 5.5]
    assert neighbour_distance(landmarks, landmarks, 3, own)[:2].tolist() == [1.0, 1.0]
    # The same rows as new ones.
    new = np.full(5, -1)
    assert neighbour_distance(landmarks, landmarks, 1, new).tolist() == [0.0] * 5
    assert neighbour_distance(landmarks, landmarks, 4, new)[0] == 0.75


def test_a_row_that_is_a_landmark_elsewhere_loses_one_neighbour_at_most():
    """As when rows to score are placed anew: their own landmark may not be the nearest."""
    landmarks = np.array([[0.0], [1.0], [2.0], [10.0]])
    positions = np.array([[0.9], [0.9], [0.9]])
    found = neighbour_distance(positions, landmarks, 2, np.array([0, 1, 3]))
    np.testing.assert_allclose(found, [(0.1 + 1.1) / 2, (0.9 + 1.1) / 2, (0.1 + 0.9) / 2])


def test_single_rows_and_none():
    rng = np.random.default_rng(0)
    landmarks, positions = rng.normal(size=(9, 2)), rng.normal(size=(6, 2))
    own = np.full(6, -1)
    whole = neighbour_distance(positions, landmarks, 3, own)
    single = [neighbour_distance(positions[i : i + 1], landmarks, 3, own[:1])[0] for i in range(6)]
    np.testing.assert_array_equal(single, whole)
    assert neighbour_distance(positions[:0], landmarks, 3, own[:0]).shape == (0,)


def test_distances_change_nothing():
    landmarks, own = np.random.default_rng(0).normal(size=(9, 2)), np.arange(9)
    for array in (landmarks, own):
        array.flags.writeable = False
    before = landmarks.copy()
    neighbour_distance(landmarks, landmarks, 2, own)
    np.testing.assert_array_equal(landmarks, before)


# Keys

KEYS = arrays(
    np.uint64,
    st.integers(1, 15),
    elements=st.one_of(st.integers(0, 5), st.integers(2**63 - 3, 2**64 - 1)),
)


@few
@given(KEYS, KEYS)
def test_matches_are_those_of_brute_force(keys, known):
    expected = [known.tolist().index(key) if key in known.tolist() else -1 for key in keys.tolist()]
    found = matches(keys, known)
    assert found.dtype == np.int64
    assert found.tolist() == expected


def test_all_keys_and_none_are_matched():
    rng = np.random.default_rng(0)
    known = rng.permutation(np.unique(rng.integers(0, 2**64 - 1, 5000, dtype=np.uint64)))
    assert matches(known, known).tolist() == list(range(len(known)))
    order = rng.permutation(len(known))
    assert matches(known[order], known).tolist() == order.tolist()
    assert set(matches(known + np.uint64(1), known).tolist()) == {-1}
    assert matches(known[:0], known).shape == (0,)
    none_known = matches(known[:3], known[:0])
    assert none_known.tolist() == [-1, -1, -1] and none_known.dtype == np.int64
    twice = np.concatenate([known, known])
    assert matches(known, twice).tolist() == list(range(len(known)))
