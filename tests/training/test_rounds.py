"""Rounds: which rows a step sees, and what it costs."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler
from torch import nn

from anomaly_estimators.training import batches
from anomaly_estimators.training.batches import ResidentRows, StreamedRows, make_batches
from anomaly_estimators.training.loop import TrainingOptions, run_phases
from anomaly_estimators.training.net import DetectorNet
from anomaly_estimators.training.phases import Phase
from anomaly_estimators.training.rounds import AuditedRows, RoundOfBatches
from anomaly_estimators.training.rows import RowSource
from anomaly_estimators.training.schedules import constant

CPU = torch.device("cpu")
N_ROWS = 50


def table(n_rows=N_ROWS):
    """Rows that tell their number."""
    return np.column_stack([np.arange(n_rows), -np.arange(n_rows)]).astype(np.float64)


def resident(labels=None, n_rows=N_ROWS):
    y = torch.zeros(n_rows, dtype=torch.int8) if labels is None else labels
    return ResidentRows(torch.from_numpy(table(n_rows).astype(np.float32)), y)


def streamed(labels=None, n_rows=N_ROWS):
    y = torch.zeros(n_rows, dtype=torch.int8) if labels is None else labels
    return StreamedRows(RowSource(table(n_rows), None, np.float32), y, np.arange(n_rows), CPU)


kinds = pytest.mark.parametrize("place", [resident, streamed])


def audited_rows(rows, audited, n_steps=7, n_audited=4):
    audited = torch.as_tensor(audited)
    verdicts = torch.where(audited % 2 == 0, -1, 1).to(torch.int8)
    return AuditedRows(rows, audited, verdicts, n_steps, n_audited)


def draw(dataset, batch_size=10, seed=0):
    return list(make_batches(dataset, batch_size, torch.Generator().manual_seed(seed)))


def numbers(X):
    return X[:, 0].int().tolist()


# Batches


@kinds
@pytest.mark.parametrize("n_steps", [1, 5, 23])
@pytest.mark.parametrize("n_audited", [1, 6])
def test_a_round_is_so_many_steps_whatever_there_is(place, n_steps, n_audited):
    for audited in ([3], list(range(0, N_ROWS, 2))):
        dataset = audited_rows(place(), audited, n_steps, n_audited)
        iterator = make_batches(dataset, 10, torch.Generator())
        assert isinstance(iterator, RoundOfBatches) and len(iterator) == n_steps
        found = list(iterator)
        assert len(found) == n_steps
        assert all(X.shape == (10 + n_audited, 2) and len(y) == len(X) for X, y in found)
        assert all(X.dtype == torch.float32 and y.dtype == torch.int8 for X, y in found)
    assert len(dataset) == N_ROWS and dataset[3][0].tolist() == [3.0, -3.0]


@kinds
def test_audited_rows_come_last_with_their_verdicts(place):
    audited = [2, 7, 20, 31]
    # What the detector below is to see of them is another thing.
    labels = torch.zeros(N_ROWS, dtype=torch.int8)
    labels[::2] = 1
    drawn = []
    for X, y in draw(audited_rows(place(labels), audited, n_steps=40)):
        rows = numbers(X)
        assert X[:, 1].tolist() == [-row for row in rows]
        assert y[:10].tolist() == [1 if row % 2 == 0 else 0 for row in rows[:10]]
        assert set(rows[10:]) <= set(audited)
        assert y[10:].tolist() == [-1 if row % 2 == 0 else 1 for row in rows[10:]]
        drawn += rows[10:]
    # 160 draws with replacement: each row about 40 times.
    assert all(20 < drawn.count(row) < 60 for row in audited)


@kinds
def test_the_whole_table_passes_before_a_row_comes_again(place):
    rows = [numbers(X)[:10] for X, _ in draw(audited_rows(place(), [1], n_steps=15))]
    passes = [sum(rows[i : i + 5], []) for i in (0, 5, 10)]
    assert all(sorted(one) == list(range(N_ROWS)) for one in passes)
    assert passes[0] != passes[1] != passes[2] != list(range(N_ROWS))


@kinds
def test_last_batches_may_be_smaller_and_audited_rows_are_not(place):
    sizes = [len(X) for X, _ in draw(audited_rows(place(), [1, 2], n_steps=5), batch_size=20)]
    assert sizes == [24, 24, 14, 24, 24]
    # A batch larger than the table is the table.
    sizes = [len(X) for X, _ in draw(audited_rows(place(), [1, 2], n_steps=3), batch_size=1000)]
    assert sizes == [54, 54, 54]


@kinds
def test_the_generator_decides(place):
    def seen(seed):
        dataset = audited_rows(place(), [1, 5, 9])
        return [(X.tolist(), y.tolist()) for X, y in draw(dataset, seed=seed)]

    assert seen(3) == seen(3) != seen(4)


@kinds
def test_a_round_begins_anew_each_time(place):
    dataset = audited_rows(place(), [1, 5, 9])
    iterator = make_batches(dataset, 10, torch.Generator().manual_seed(0))
    first, second = list(iterator), list(iterator)
    assert len(first) == len(second) == 7
    assert numbers(first[0][0]) != numbers(second[0][0])


def test_all_audited_rows_are_drawn_alike():
    audited = np.arange(0, N_ROWS, 2)
    dataset = audited_rows(resident(), audited, n_audited=5000)
    X, _ = dataset.draw(torch.Generator().manual_seed(0))
    counts = np.bincount(numbers(X), minlength=N_ROWS)[audited]
    assert counts.sum() == 5000 and 140 < counts.min() and counts.max() < 260


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, N_ROWS - 1), min_size=1, unique=True), st.integers(1, 9))
def test_only_audited_rows_are_drawn(audited, n_audited):
    dataset = audited_rows(resident(), audited, n_audited=n_audited)
    X, y = dataset.draw(torch.Generator().manual_seed(0))
    assert len(X) == len(y) == n_audited
    assert set(numbers(X)) <= set(audited)
    assert y.tolist() == [-1 if row % 2 == 0 else 1 for row in numbers(X)]


# Work


class Counting(RowSource):
    """Counts the rows that are read."""

    def __init__(self, *args):
        super().__init__(*args)
        self.n_read = 0

    def prepare(self, rows):
        self.n_read += len(rows)
        return super().prepare(rows)


@pytest.mark.parametrize("large_blocks", [False, True])
def test_as_many_rows_are_read_for_ten_labels_as_for_two_thousand(large_blocks, monkeypatch):
    n_rows = 4000
    if not large_blocks:
        monkeypatch.setattr(batches, "_BLOCK_BYTES", 256)
        monkeypatch.setattr(batches, "_BUFFER_BYTES", 2048)
    read = []
    for n_audited in (10, 100, 2000):
        source = Counting(table(n_rows), None, np.float32)
        rows = StreamedRows(source, torch.zeros(n_rows, dtype=torch.int8), np.arange(n_rows), CPU)
        dataset = audited_rows(rows, np.arange(n_audited), n_steps=20, n_audited=16)
        draw(dataset, batch_size=32)
        read.append(source.n_read)
    assert read[0] == read[1] == read[2]
    # Of a large file, no more is read than a round needs.
    if not large_blocks:
        assert read[0] < 2 * 20 * (32 + 16)


# Where the rows lie


@kinds
def test_rows_are_taken_by_number(place):
    rows = place()
    order, labels = torch.tensor([7, 3, 3, 49]), torch.tensor([1, -1, -1, 1], dtype=torch.int8)
    X, y = rows.take(order, labels)
    assert numbers(X) == [7, 3, 3, 49] and y.tolist() == [1, -1, -1, 1]
    assert X.dtype == torch.float32 and y.dtype == torch.int8


def test_streamed_rows_are_scaled_when_they_are_taken():
    X = np.random.default_rng(0).normal(5.0, 3.0, size=(30, 4))
    scaler = StandardScaler().fit(X)
    source = RowSource(X, scaler, np.float32)
    labels = torch.zeros(30, dtype=torch.int8)
    order = torch.tensor([29, 0, 11])
    taken, _ = StreamedRows(source, labels, np.arange(30), CPU).take(order, labels[:3])
    kept, _ = ResidentRows(source.load(), labels).take(order, labels[:3])
    assert torch.equal(taken, kept)
    np.testing.assert_allclose(taken, scaler.transform(X[order.numpy()]), rtol=1e-5)


@kinds
def test_relabelled_rows_are_the_same_rows(place):
    rows = place()
    labels = torch.arange(N_ROWS).remainder(3).sub(1).to(torch.int8)
    other = rows.relabelled(labels)
    assert type(other) is type(rows) and len(other) == N_ROWS
    for X, y in make_batches(other, 7, torch.Generator().manual_seed(0)):
        assert y.tolist() == labels[numbers(X)].tolist()
    # Not a copy of the table, and the table before is as it was.
    if place is resident:
        assert other.tensors[0] is rows.tensors[0]
    else:
        assert other.source is rows.source
    assert not any(y.any() for _, y in make_batches(rows, 7))


# Phases of rounds


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(2, 3), nn.Linear(3, 1)

    def forward(self, X):
        return self.head(torch.tanh(self.body(X)))


def loss(outputs, X, y):
    return (outputs.squeeze(1) - X[:, 0] / N_ROWS).square().mean()


def run(module, epochs, memory=None, optimizer="adam", seeds=(0,), **options):
    """Train for so many epochs under each of the seeds, with one optimizer a seed."""
    for seed in seeds:
        net = DetectorNet(
            module,
            criterion=None,
            optimizer=optimizer,
            lr=1e-2,
            batch_size=10,
            iterator_train=make_batches,
            train_split=None,
            callbacks=None,
            verbose=0,
            device="cpu",
        ).initialize()
        phase = Phase(name="round", loss=loss, max_iter=epochs, optimizer_state=memory, **options)
        generator = torch.Generator().manual_seed(seed)
        run_phases(net, [phase], resident(), None, TrainingOptions(schedule=constant), generator)
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def fresh():
    torch.manual_seed(0)
    return Net()


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd"])
def test_an_optimizer_goes_on_where_the_last_one_stopped(optimizer):
    """Two rounds of one epoch are one of two, when both see the same rows in the same order."""
    one_epoch = partial(run, optimizer=optimizer, seeds=(0, 0))
    memory = {}
    carried, forgetful = one_epoch(fresh(), 1, memory), one_epoch(fresh(), 1)
    # The same by torch alone.
    module = fresh()
    cls, arguments = {
        "adam": (torch.optim.Adam, {}),
        "adamw": (torch.optim.AdamW, {}),
        "rmsprop": (torch.optim.RMSprop, {}),
        "sgd": (torch.optim.SGD, {"momentum": 0.9}),
    }[optimizer]
    own = cls(module.parameters(), lr=1e-2, **arguments)
    for _ in range(2):
        for X, y in make_batches(resident(), 10, torch.Generator().manual_seed(0)):
            own.zero_grad()
            loss(module(X), X, y).backward()
            own.step()
    expected = torch.cat([p.detach().flatten() for p in module.parameters()])
    torch.testing.assert_close(carried, expected, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(forgetful, expected, rtol=1e-3, atol=1e-5)


def test_the_state_is_taken_up_as_a_copy_and_filled_at_the_end():
    memory = {}
    run(fresh(), 1, memory)
    assert sorted(memory) == [0, 1, 2, 3]
    assert all(moments["step"] == 5 for moments in memory.values())
    before = copy.deepcopy(memory)
    kept = {number: dict(moments) for number, moments in memory.items()}
    run(fresh(), 2, memory)
    assert all(moments["step"] == 15 for moments in memory.values())
    # The tensors that were there are as they were: whoever failed can go back to them.
    for number, moments in kept.items():
        for name, value in moments.items():
            assert torch.equal(value, before[number][name])


def test_without_a_state_every_phase_begins_anew():
    assert torch.equal(run(fresh(), 1, None), run(fresh(), 1, {}))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd"])
def test_a_part_may_have_a_rate_of_its_own(optimizer):
    module = fresh()
    start = copy.deepcopy(module)
    # One whose steps are so small that they round to nothing.
    run(module, 1, optimizer=optimizer, faster=(module.head, 1e-30))
    assert torch.equal(module.head.weight, start.head.weight)
    assert torch.equal(module.head.bias, start.head.bias)
    assert not torch.equal(module.body.weight, start.body.weight)
    usual, same = fresh(), fresh()
    run(usual, 2, optimizer=optimizer)
    run(same, 2, optimizer=optimizer, faster=(same.head, 1e-2))
    for one, other in zip(usual.parameters(), same.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)


def test_the_schedule_scales_both_rates():
    module, seen = fresh(), []
    net = DetectorNet(
        module, criterion=None, optimizer="sgd", lr=1e-2, batch_size=10,
        iterator_train=make_batches, train_split=None, callbacks=None, verbose=0, device="cpu",
    ).initialize()  # fmt: skip

    def noting(outputs, X, y):
        seen.append([group["lr"] for group in net.optimizer_.param_groups])
        return loss(outputs, X, y)

    phase = Phase(name="round", loss=noting, max_iter=2, faster=(module.head, 0.5))
    options = TrainingOptions(schedule=lambda share: 1.0 if share == 0 else 0.1)
    run_phases(net, [phase], resident(), None, options, torch.Generator())
    assert seen[0] == [1e-2, 0.5]
    assert seen[-1] == pytest.approx([1e-3, 0.05])


def test_every_parameter_is_in_one_group():
    module = fresh()
    for parameter in module.body.parameters():
        parameter.requires_grad = False
    before = module.body.weight.clone()
    memory = {}
    run(module, 1, memory, faster=(module.head, 1e-2))
    assert torch.equal(module.body.weight, before) and len(memory) == 2
