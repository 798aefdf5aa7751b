"""Every row once in an epoch, wherever the rows lie."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_estimators.training import batches as batches_module
from anomaly_estimators.training.batches import (
    ResidentRows,
    StreamedRows,
    balanced_order,
    batch_bounds,
    make_batches,
)
from anomaly_estimators.training.rows import RowSource

CPU = torch.device("cpu")


def numbered(n, kind, monkeypatch=None, rows=None):
    """A data set whose row i holds (i, -i) and whose label is i."""
    X = np.arange(n, dtype=np.float32)[:, None] * np.array([1.0, -1.0], dtype=np.float32)
    y = torch.arange(n)
    rows = np.arange(n) if rows is None else rows
    if kind == "resident":
        return ResidentRows(torch.from_numpy(X[rows]), y[torch.from_numpy(rows)])
    # Blocks of 7 rows and a buffer of 20, so that a small array takes many of both.
    monkeypatch.setattr(batches_module, "_BLOCK_BYTES", 7 * 8)
    monkeypatch.setattr(batches_module, "_BUFFER_BYTES", 20 * 8)
    return StreamedRows(RowSource(X, None, np.float32), y, rows, CPU)


def epoch(iterator):
    """Rows in the order of one pass, after a check that rows and labels belong together."""
    batches = [(X.clone(), y.clone()) for X, y in iterator]
    X, y = torch.cat([b[0] for b in batches]), torch.cat([b[1] for b in batches])
    assert torch.equal(X[:, 0], y.float()) and torch.equal(X[:, 1], -y.float())
    return y.tolist(), [len(b[0]) for b in batches]


@pytest.mark.parametrize(
    ("n", "size", "bounds"),
    [
        (8, 4, [0, 4, 8]),
        (9, 4, [0, 4, 9]),
        (10, 4, [0, 4, 8, 10]),
        (3, 4, [0, 3]),
        (4, 4, [0, 4]),
        (1, 4, [0, 1]),
        (5, 1, [0, 1, 2, 3, 5]),
    ],
)
def test_last_batch_of_one_row_joins_the_one_before(n, size, bounds):
    assert batch_bounds(n, size) == bounds


@pytest.mark.parametrize("kind", ["resident", "streamed"])
@pytest.mark.parametrize("n", [2, 3, 19, 20, 21, 22, 27, 41, 57, 100, 101])
@pytest.mark.parametrize("batch_size", [1, 2, 4, 10, 64])
@pytest.mark.parametrize("shuffled", [False, True])
def test_every_row_comes_exactly_once_an_epoch(kind, n, batch_size, shuffled, monkeypatch):
    dataset = numbered(n, kind, monkeypatch)
    generator = torch.Generator().manual_seed(0) if shuffled else None
    iterator = make_batches(dataset, batch_size, generator)
    for _ in range(3):
        seen, sizes = epoch(iterator)
        assert sorted(seen) == list(range(n))
        assert max(sizes) <= batch_size + 1
        # BatchNorm cannot train on one row.
        assert batch_size == 1 or min(sizes) >= 2
        if not shuffled:
            assert seen == list(range(n))


@pytest.mark.parametrize("kind", ["resident", "streamed"])
def test_order_differs_between_epochs_and_is_decided_by_the_seed(kind, monkeypatch):
    dataset = numbered(100, kind, monkeypatch)
    passes = []
    for seed in (0, 0, 1):
        iterator = make_batches(dataset, 8, torch.Generator().manual_seed(seed))
        passes.append([epoch(iterator)[0] for _ in range(3)])
    assert passes[0] == passes[1]
    assert passes[0] != passes[2]
    first, second, third = passes[0]
    assert first != second != third != first


def test_streamed_rows_are_mixed_across_blocks(monkeypatch):
    dataset = numbered(100, "streamed", monkeypatch)
    seen, _ = epoch(make_batches(dataset, 10, torch.Generator().manual_seed(0)))
    blocks_in_a_batch = [len({row // 7 for row in seen[i : i + 10]}) for i in range(0, 90, 10)]
    assert np.mean(blocks_in_a_batch) > 2


@pytest.mark.parametrize("kind", ["resident", "streamed"])
def test_subset_of_rows_is_kept_to(kind, monkeypatch):
    rows = np.array([3, 4, 10, 55, 56, 57, 58, 99])
    dataset = numbered(100, kind, monkeypatch, rows=rows)
    seen, _ = epoch(make_batches(dataset, 3, torch.Generator().manual_seed(0)))
    assert sorted(seen) == rows.tolist()
    assert len(dataset) == 8


def test_streamed_rows_are_scaled_when_they_are_read():
    from sklearn.preprocessing import StandardScaler

    X = np.random.default_rng(0).normal(5.0, 3.0, size=(50, 2))
    source = RowSource(X, StandardScaler().fit(X), np.float32)
    streamed = StreamedRows(source, torch.zeros(50), np.arange(50), CPU)
    found = torch.cat([batch for batch, _ in make_batches(streamed, 16)])
    np.testing.assert_allclose(found, (X - X.mean(0)) / X.std(0), rtol=1e-5, atol=1e-6)
    assert torch.equal(found, source.load())
    assert torch.equal(found, torch.cat(list(source.pieces())))


@pytest.mark.parametrize("kind", ["resident", "streamed"])
def test_random_access_gives_the_row(kind, monkeypatch):
    X, y = numbered(30, kind, monkeypatch)[17]
    assert X.tolist() == [17.0, -17.0]
    assert y.item() == 17


# Labelled rows are spread evenly

kinds = st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=80)
mixed = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@mixed
@given(kinds, st.integers(0, 99))
def test_balanced_order_is_a_permutation(labels, seed):
    order = balanced_order(torch.tensor(labels, dtype=torch.int8), seeded(seed))
    assert sorted(order.tolist()) == list(range(len(labels)))


@mixed
@given(kinds, st.integers(0, 99))
def test_any_stretch_has_the_kinds_in_their_proportion(labels, seed):
    """Up to one row for each kind beside the one that is counted."""
    labels = np.array(labels)
    ordered = labels[balanced_order(torch.from_numpy(labels), seeded(seed)).numpy()]
    n_kinds = len(np.unique(labels))
    for kind in np.unique(labels):
        share = (labels == kind).mean()
        seen = np.r_[0, np.cumsum(ordered == kind)]
        excess = seen - share * np.arange(len(labels) + 1)
        # The largest difference between two ends is the worst of all stretches.
        bound = 1.0 if n_kinds == 2 else 1.0 + share * (n_kinds - 2)
        assert np.ptp(excess) <= bound + 1e-9


@mixed
@given(st.integers(1, 80), st.sampled_from([-1, 0, 1]), st.integers(0, 99))
def test_rows_of_one_kind_are_merely_shuffled(n, kind, seed):
    generator, other = seeded(seed), seeded(seed)
    order = balanced_order(torch.full((n,), kind), generator)
    assert torch.equal(order, torch.randperm(n, generator=other))
    assert torch.equal(generator.get_state(), other.get_state())


@pytest.mark.parametrize("labels", [[], [0, -1, 1, 0, -1], [0, 0]], ids=str)
def test_order_stays_as_it_is_without_a_generator(labels):
    assert balanced_order(torch.tensor(labels), None).tolist() == list(range(len(labels)))
    assert sorted(balanced_order(torch.tensor(labels), seeded(0)).tolist()) == list(
        range(len(labels))
    )


def test_any_row_may_come_first_and_neighbours_change():
    labels = torch.tensor([0] * 18 + [-1] * 6)
    generator = seeded(0)
    orders = [balanced_order(labels, generator) for _ in range(300)]
    assert {int(order[0]) for order in orders} == set(range(24))
    # Each anomaly is in the first quarter about as often as the others.
    early = torch.bincount(torch.cat([order[:8] for order in orders]), minlength=24)
    assert early[18:].min() > 60 and early[18:].max() < 140
    assert early[:18].min() > 60 and early[:18].max() < 140


@pytest.mark.parametrize("kind", ["resident", "streamed"])
@pytest.mark.parametrize("batch_size", [5, 10, 20])
def test_every_batch_has_the_labels_in_their_proportion(kind, batch_size, monkeypatch):
    n = 100
    labels = torch.zeros(n, dtype=torch.int8)
    labels[::5] = -1
    X = torch.arange(n, dtype=torch.float32)[:, None]
    if kind == "resident":
        dataset = ResidentRows(X, labels)
    else:
        # Buffers of 40 rows in blocks of 10, each of which holds a fifth of anomalies.
        monkeypatch.setattr(batches_module, "_BLOCK_BYTES", 10 * 4)
        monkeypatch.setattr(batches_module, "_BUFFER_BYTES", 40 * 4)
        source = RowSource(X.numpy(), None, np.float32)
        dataset = StreamedRows(source, labels, np.arange(n), CPU)
    iterator = make_batches(dataset, batch_size, seeded(0))
    for _ in range(3):
        passed = [(rows.clone(), y.clone()) for rows, y in iterator]
        assert all(torch.equal(y, labels[rows[:, 0].long()]) for rows, y in passed)
        assert sorted(torch.cat([rows for rows, _ in passed])[:, 0].tolist()) == list(range(n))
        if kind == "resident":
            assert all(abs((y < 0).sum() - len(y) / 5) <= 1 for _, y in passed)
        else:
            assert all((y < 0).any() and (y == 0).any() for _, y in passed)
