"""Features of rows from an isolation forest: the nodes, or the leaves, that they pass through."""

import warnings

import numpy as np
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.ensemble import IsolationForest

from anomaly_estimators.active._aad_solver import FactoredRows
from anomaly_estimators.active._cell_features import (
    CellFeatures,
    binary_exponents,
    fit_features,
    pieces,
)

__all__ = ["ForestFeatures", "average_path_length"]

# A forest is grown on so many values at most: rows beyond are left out at random.
_MAX_VALUES = 2**28


class ForestFeatures(CellFeatures):
    """Trees as arrays, which find a row's leaves as the forest does.

    Parameters
    ----------
    kind : {"nodes", "leaves"}
        Features of a leaf. "nodes": -1 for each node on the way to it, but for the root; the leaf has
        as much more as there are splits to be expected among its training rows. "leaves": the leaf
        alone, with the sum of that. Either way the sum of the features is the length of the path,
        with the sign turned.
    exponents : ndarray of shape (n_features,)
        Binary exponents that bring the features to a magnitude of one.
    sizes : ndarray of shape (n_trees,)
        Number of nodes in each tree. A tree begins with its root, and children follow their parents.
    children : ndarray of shape (n_nodes, 2)
        Left and right child among all nodes; a leaf is its own.
    columns : ndarray of shape (n_nodes,)
        Feature by which a node is split.
    thresholds : ndarray of shape (n_nodes,)
        Largest value that goes to the left.
    n_rows : ndarray of shape (n_nodes,)
        Number of training rows in a node.
    """

    def __init__(self, *, kind, exponents, sizes, children, columns, thresholds, n_rows):
        self.kind = kind
        self.exponents = exponents
        self.sizes = sizes
        self.children = children
        self.columns = columns
        self.thresholds = thresholds
        self.n_rows = n_rows
        self.n_columns = len(exponents)
        self._roots = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self._check()
        is_leaf = children[:, 0] == np.arange(len(children))
        leaves = np.flatnonzero(is_leaf)
        self.starts = np.concatenate([[0], np.cumsum(np.add.reduceat(is_leaf, self._roots))])
        # Number of each leaf in its tree; those of other nodes are never asked for.
        tree = np.repeat(np.arange(len(sizes)), sizes)
        self._leaf_numbers = np.cumsum(is_leaf) - 1 - self.starts[tree]
        depths, paths = _paths(children, leaves)
        lengths = average_path_length(n_rows[leaves])
        self._depth = int(depths.max())
        self.values = _FEATURES[kind](leaves, depths, lengths, paths, self._roots)

    @classmethod
    def of(cls, forest: IsolationForest, exponents: np.ndarray, kind: str) -> "ForestFeatures":
        """Take the trees of a fitted forest."""
        trees = [estimator.tree_ for estimator in forest.estimators_]
        sizes = np.array([tree.node_count for tree in trees])
        first = np.repeat(np.cumsum(sizes) - sizes, sizes)
        left = np.concatenate([tree.children_left for tree in trees])
        right = np.concatenate([tree.children_right for tree in trees])
        is_leaf, own = left < 0, np.arange(len(left))
        # A tree may know some of the features only.
        columns = np.concatenate(
            [
                np.asarray(known)[np.maximum(tree.feature, 0)]
                for known, tree in zip(forest.estimators_features_, trees, strict=True)
            ]
        )
        return cls(
            kind=kind,
            exponents=exponents,
            sizes=sizes,
            children=np.stack(
                [np.where(is_leaf, own, child + first) for child in (left, right)], axis=1
            ).astype(np.int32),
            columns=np.where(is_leaf, 0, columns).astype(np.int32),
            thresholds=np.where(is_leaf, 0.0, np.concatenate([tree.threshold for tree in trees])),
            n_rows=np.concatenate([tree.n_node_samples for tree in trees]).astype(np.int32),
        )

    def locate(self, X: np.ndarray) -> np.ndarray:
        scaled = np.ascontiguousarray(scale(X, self.exponents).T)
        own = np.arange(X.shape[0])
        nodes = np.repeat(self._roots[:, None], X.shape[0], axis=1)
        children = self.children.ravel()
        flat = scaled.ravel()
        for _ in range(self._depth):
            values = flat[self.columns[nodes] * X.shape[0] + own]
            nodes = children[2 * nodes + (values > self.thresholds[nodes])]
        return self._leaf_numbers[nodes]

    def rows(self, cells: np.ndarray) -> FactoredRows:
        return FactoredRows(cells + self.starts[:-1, None], self.values)

    def state(self) -> dict:
        names = ("kind", "exponents", "sizes", "children", "columns", "thresholds", "n_rows")
        return {name: getattr(self, name) for name in names}

    def _check(self) -> None:
        """Refuse arrays that are no trees."""
        n_nodes, own = len(self.children), np.arange(len(self.children))
        ends = np.repeat(np.cumsum(self.sizes), self.sizes)
        is_leaf = (self.children == own[:, None]).all(axis=1)
        inside = (self.children > own[:, None]) & (self.children < ends[:, None])
        shapes = {array.shape for array in (self.columns, self.thresholds, self.n_rows)}
        if (
            self.kind not in _FEATURES
            or (self.sizes < 1).any()
            or self.children.shape != (len(ends), 2)
            or shapes != {(n_nodes,)}
            or not (is_leaf | inside.all(axis=1)).all()
            or not ((self.columns >= 0) & (self.columns < len(self.exponents))).all()
            or not (self.n_rows > 0).all()
            or np.isnan(self.thresholds).any()
        ):
            raise ValueError("these are no trees")


def average_path_length(n_rows: np.ndarray) -> np.ndarray:
    r"""Mean number of splits that isolate one of n rows (Liu et al. 2008, equation 1).

    Parameters
    ----------
    n_rows : ndarray of shape (n,)

    Returns
    -------
    ndarray of shape (n,)
        :math:`2 (\ln(n - 1) + \gamma) - 2 (n - 1) / n`; 1 for two rows, 0 for one.

    Examples
    --------
    >>> average_path_length(np.array([1, 2, 256])).round(3)
    array([ 0.   ,  1.   , 10.245])
    """
    n = np.maximum(np.asarray(n_rows, dtype=np.float64), 3)
    lengths = 2 * (np.log(n - 1) + np.euler_gamma) - 2 * (n - 1) / n
    return np.where(np.asarray(n_rows) > 2, lengths, np.asarray(n_rows) - 1.0)


def scale(X: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """Divide features by powers of two, which rounds nothing, and cast them as forests do.

    Examples
    --------
    >>> scale(np.array([[3e300, 5.0]]), np.array([1000, 3]))
    array([[0.2799..., 0.625 ]], dtype=float32)
    """
    # float32 has its own range: what lies outside is far enough at its ends.
    with np.errstate(over="ignore", under="ignore"):
        scaled = np.ldexp(np.asarray(X, dtype=np.float64), -exponents)
    largest = np.finfo(np.float32).max
    return np.clip(scaled, -largest, largest).astype(np.float32)


@fit_features.register
def _(detector: IsolationForest, X, *, forest_features, random_state) -> ForestFeatures:
    forest = clone(detector)
    if forest.random_state is None:
        forest.set_params(random_state=random_state.randint(np.iinfo(np.int32).max))
    # The threshold of the forest is not used, and costs a look at all rows.
    forest.set_params(contamination="auto")
    exponents = binary_exponents(X)
    n_rows = max(2, _MAX_VALUES // X.shape[1])
    if n_rows < len(X):
        chosen = np.sort(random_state.choice(len(X), n_rows, replace=False))
        rows = scale(X[chosen], exponents)
    else:
        rows = np.empty(X.shape, dtype=np.float32)
        for part, piece in pieces(X, 1):
            rows[part] = scale(piece, exponents)
    features = ForestFeatures.of(forest.fit(rows), exponents, forest_features)
    if (features.sizes == 1).all():
        warnings.warn(
            "The forest has learned nothing: in single precision, all rows that its trees have seen are "
            "equal, so every row will have the same score, however far off it is. Take AAD(LODA()), which "
            "tells whether a row is equal to these, or fit rows that differ.",
            UserWarning,
            stacklevel=8,
        )
    return features


def _paths(children: np.ndarray, leaves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth of each leaf, and the nodes on the way to it: (leaf, node) pairs, without the roots."""
    parents = np.full(len(children), -1)
    inner = np.flatnonzero(children[:, 0] != np.arange(len(children)))
    parents[children[inner].ravel()] = np.repeat(inner, 2)
    depths = np.zeros(len(leaves), dtype=np.int64)
    pairs, which, nodes = [], np.arange(len(leaves)), leaves
    while True:
        below = parents[nodes] >= 0
        which, nodes = which[below], nodes[below]
        if not len(nodes):
            break
        depths[which] += 1
        pairs.append(np.stack([which, nodes]))
        nodes = parents[nodes]
    return depths, np.concatenate(pairs, axis=1) if pairs else np.empty((2, 0), dtype=np.int64)


def _node_features(leaves, depths, lengths, paths, roots) -> csr_array:
    which, nodes = paths
    order = np.arange(len(leaves))
    # The root of a tree that has a single leaf is this leaf.
    data = np.concatenate([np.full(len(which), -1.0), -lengths])
    rows, columns = np.concatenate([which, order]), np.concatenate([nodes, leaves])
    shared = np.setdiff1d(roots, leaves)
    used = np.setdiff1d(np.arange(leaves[-1] + 1), shared)
    values = csr_array((data, (rows, columns)), shape=(len(leaves), leaves[-1] + 1))
    values.sum_duplicates()
    return values[:, used]


def _leaf_features(leaves, depths, lengths, paths, roots) -> csr_array:
    order = np.arange(len(leaves))
    return csr_array((-(depths + lengths), (order, order)))


_FEATURES = {"nodes": _node_features, "leaves": _leaf_features}
