"""MNIST and Fashion-MNIST: the sets of four IDX files."""

import os
from collections.abc import Callable

import numpy as np
from numpy.typing import DTypeLike
from sklearn.utils import Bunch

from ._bunch import check_dtype, check_frame_support
from ._fetch import locate
from ._idx import read_idx
from ._images import PARTS, Images, check_choice, image_bunch, parts_of
from ._registry import FASHION_MNIST, MNIST, DataFile

_IMAGE_SHAPE = (1, 28, 28)


def _fetch(
    files: tuple[DataFile, ...],
    class_names: tuple[str, ...],
    *,
    subset: str,
    data_home: str | os.PathLike | None,
    download_if_missing: bool,
    return_X_y: bool,
    as_frame: bool,
    dtype: DTypeLike,
) -> Bunch | tuple:
    """The images of one set; `files` as the registry lists them."""
    check_choice("subset", subset, (*PARTS, "all"))
    dtype = check_dtype(dtype, pixels=True)
    check_frame_support(as_frame)
    pairs = dict(zip(PARTS, (files[:2], files[2:]), strict=True))
    first_row = dict(zip(PARTS, (0, files[0].n_samples), strict=True))
    parts, paths = [], []
    for name in parts_of(subset):
        images, labels = (
            locate(file, data_home=data_home, download_if_missing=download_if_missing)
            for file in pairs[name]
        )
        pixels = read_idx(images, 3)
        indices = first_row[name] + np.arange(len(pixels))
        parts.append(Images(pixels, read_idx(labels, 1), indices))
        paths += [str(images), str(labels)]
    return image_bunch(
        parts,
        name=files[0].name,
        image_shape=_IMAGE_SHAPE,
        class_names=class_names,
        dtype=dtype,
        return_X_y=return_X_y,
        as_frame=as_frame,
        filenames=paths,
    )


def _fetcher(
    files: tuple[DataFile, ...], class_names: tuple[str, ...], title: str, about: str, cite: str
) -> Callable[..., Bunch | tuple]:
    """Make ``fetch_<name>`` for a set of four files, with a docstring of its own."""

    def fetch(
        *,
        subset: str = "train",
        data_home: str | os.PathLike | None = None,
        download_if_missing: bool = True,
        return_X_y: bool = False,
        as_frame: bool = False,
        dtype: DTypeLike = np.float32,
    ) -> Bunch | tuple:
        return _fetch(
            files,
            class_names,
            subset=subset,
            data_home=data_home,
            download_if_missing=download_if_missing,
            return_X_y=return_X_y,
            as_frame=as_frame,
            dtype=dtype,
        )

    # These two are what makes the function picklable and its page link back to this file.
    fetch.__name__ = fetch.__qualname__ = f"fetch_{files[0].name}"
    fetch.__doc__ = f"""Load {title} (images with classes).

    {about} Pixels are as published, 0 to 255, and rows are in the order of the files.

    The target is the class of each row, not a label for a detector: which classes are normal,
    which rows are labelled and which are hidden among the unlabelled ones is for a scenario to
    say, such as :func:`~anomaly_estimators.model_selection.make_semi_supervised_scenario`.

    =======  ======
    train    60,000
    test     10,000
    shape    1 x 28 x 28, 784 features
    classes  10
    =======  ======

    Files in the folder that the environment variable ``ANOMALY_ESTIMATORS_DATA`` names are used
    first, then the cached ones; else they are downloaded. Every file is checked against its
    SHA-256.

    Parameters
    ----------
    subset : {{"train", "test", "all"}}, default="train"
        The published training images, the published test images, or both in this order.
    data_home : path-like, default=None
        Cache folder in place of scikit-learn's ``~/scikit_learn_data``.
    download_if_missing : bool, default=True
        If False, raise an OSError where there is no local copy, in place of a download.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` in place of a Bunch.
    as_frame : bool, default=False
        If True, data is a pandas DataFrame and target a pandas Series.
    dtype : {{numpy.float32, numpy.float64, numpy.uint8}}, default=numpy.float32
        Type of the pixels. The 60,000 training images take 188 MB in float32, 376 MB in float64
        and 47 MB in uint8, the type of the files.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        With the attributes

        data : ndarray of shape (n_samples, 784), or DataFrame
            The pixels, an image a row, in C order: ``data.reshape(-1, *image_shape)`` folds them
            back.
        target : ndarray of shape (n_samples,) and dtype int64, or Series
            The class, 0 to 9.
        frame : DataFrame of shape (n_samples, 785), or None
            Pixels and target, if ``as_frame=True``.
        feature_names : list of str
            ``pixel_<row>_<column>``.
        target_names : ndarray of shape (10,)
            Names of the classes.
        image_shape : tuple
            ``(1, 28, 28)``: channels, height, width, as detectors of images take it.
        indices : ndarray of shape (n_samples,) and dtype int64
            The rows of the published set, the training images counted first.
        DESCR : str
            What the set is, its licence and what to cite.
        filenames : list of str
            Paths of the files that were read.

    (data, target) : tuple
        If ``return_X_y=True``.

    Raises
    ------
    ValueError
        If the subset is unknown, or the dtype is none of those listed.
    OSError
        If a file is missing and cannot be downloaded, or the user's own file is corrupt. The
        message says which file to download from where to where.
    ImportError
        If pooch (to download) or pandas (for ``as_frame=True``) is needed and not installed.

    See Also
    --------
    anomaly_estimators.model_selection.make_semi_supervised_scenario : Normal class, labelled
        anomalies and pollution, from classes.
    data_files : Addresses, checksums and sizes of all sets.

    References
    ----------
    .. [1] {cite}

    Examples
    --------
    >>> from anomaly_estimators.datasets import {fetch.__name__}
    >>> bunch = {fetch.__name__}(subset="test")  # doctest: +SKIP
    >>> bunch.data.shape, bunch.image_shape  # doctest: +SKIP
    ((10000, 784), (1, 28, 28))
    """
    return fetch


fetch_mnist = _fetcher(
    MNIST,
    tuple("0123456789"),
    "MNIST",
    "Handwritten digits, white on black, 28 x 28 grey values each.",
    """Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-Based Learning Applied to Document
           Recognition", Proceedings of the IEEE 86(11), 1998.""",
)
fetch_fashion_mnist = _fetcher(
    FASHION_MNIST,
    (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    "Fashion-MNIST",
    """Pictures of clothes, shoes and bags, 28 x 28 grey values each, with as many rows to each
    class: 6,000 to train and 1,000 to test.""",
    """H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking
           Machine Learning Algorithms", arXiv:1708.07747, 2017.""",
)
