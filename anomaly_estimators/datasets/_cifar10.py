"""CIFAR-10: the publisher's archive of plain bytes, or a reduced file in its place."""

import os
import tarfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike
from sklearn.utils import Bunch

from ._bunch import check_dtype, check_frame_support
from ._fetch import is_at_hand, locate
from ._images import PARTS, Images, check_choice, image_bunch, parts_of
from ._registry import CIFAR10, CIFAR10_REDUCED

_IMAGE_SHAPE = (3, 32, 32)
_N_FEATURES = 3_072
_CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_BATCHES = {
    "train": tuple(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("cifar-10-batches-bin/test_batch.bin",),
}
_N_TRAIN = 50_000
_VARIANTS = ("auto", "full", "reduced")


def fetch_cifar10(
    *,
    subset: str = "train",
    variant: str = "auto",
    data_home: str | os.PathLike | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    dtype: DTypeLike = np.float32,
) -> Bunch | tuple:
    """Load CIFAR-10 (images with classes).

    Colour photographs of 32 x 32 pixels in ten classes. Pixels are as published, 0 to 255: the red
    ones of an image first, then the green and the blue ones.

    The target is the class of each row, not a label for a detector: which classes are normal,
    which rows are labelled and which are hidden among the unlabelled ones is for a scenario to
    say, such as :func:`~anomaly_estimators.model_selection.make_semi_supervised_scenario`.

    =======  ==============  =================
    subset   full            reduced
    =======  ==============  =================
    train    50,000          10,000
    test     10,000          1,000
    extra    --              4,000
    =======  ==============  =================

    Files in the folder that the environment variable ``ANOMALY_ESTIMATORS_DATA`` names are used
    first, then the cached ones; else the archive is downloaded (170 MB). Files are checked against
    their SHA-256. The archive holds plain bytes, and is read without being unpacked on disk;
    nothing is unpickled.

    Parameters
    ----------
    subset : {"train", "test", "all", "extra"}, default="train"
        The published training images, the published test images, or both in this order. "extra",
        further training images to evaluate on, exists with ``variant="reduced"`` only.
    variant : {"auto", "full", "reduced"}, default="auto"
        - "full": the whole set, from the publisher's ``cifar-10-binary.tar.gz``.
        - "reduced": a part of the set, from ``cifar10/cifar10_subset.npz`` in the user's own
          folder: the first 1,000 training images of each class, the first 1,000 test images (86 to
          112 of each class), and as "extra" the next 400 training images of each class. This file
          is not published. Figures from it are not comparable with those in papers.
        - "auto": the whole set where its archive is at hand; else the reduced one, with a warning,
          if that is at hand; else the whole set is downloaded.
    data_home : path-like, default=None
        Cache folder in place of scikit-learn's ``~/scikit_learn_data``.
    download_if_missing : bool, default=True
        If False, raise an OSError where there is no local copy, in place of a download.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` in place of a Bunch.
    as_frame : bool, default=False
        If True, data is a pandas DataFrame and target a pandas Series.
    dtype : {numpy.float32, numpy.float64, numpy.uint8}, default=numpy.float32
        Type of the pixels. The 50,000 training images take 614 MB in float32, twice that in float64
        and a quarter in uint8, the type of the file.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        With the attributes

        data : ndarray of shape (n_samples, 3072), or DataFrame
            The pixels, an image a row, in C order: ``data.reshape(-1, *image_shape)`` folds them
            back.
        target : ndarray of shape (n_samples,) and dtype int64, or Series
            The class, 0 to 9.
        frame : DataFrame of shape (n_samples, 3073), or None
            Pixels and target, if ``as_frame=True``.
        feature_names : list of str
            ``red_<row>_<column>``, then green and blue.
        target_names : ndarray of shape (10,)
            Names of the classes.
        image_shape : tuple
            ``(3, 32, 32)``: channels, height, width, as detectors of images take it.
        is_subset : bool
            True if the rows come from the reduced file.
        indices : ndarray of shape (n_samples,) and dtype int64
            The rows of the published set, the 50,000 training images counted first.
        DESCR : str
            What the set is, its licence and what to cite.
        filenames : list of str
            Path of the file that was read.

    (data, target) : tuple
        If ``return_X_y=True``.

    Raises
    ------
    ValueError
        If the subset or the variant is unknown, "extra" is asked of another variant than "reduced",
        or the dtype is none of those listed.
    OSError
        If the file is missing and cannot be downloaded, or the user's own file is corrupt. The
        message says which file to download from where to where.
    ImportError
        If pooch (to download) or pandas (for ``as_frame=True``) is needed and not installed.

    Warns
    -----
    UserWarning
        If ``variant="auto"`` takes the reduced file.

    See Also
    --------
    anomaly_estimators.model_selection.make_semi_supervised_scenario : Normal class, labelled
        anomalies and pollution, from classes.
    data_files : Addresses, checksums and sizes of all sets.

    References
    ----------
    .. [1] A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", University of
           Toronto, 2009.

    Examples
    --------
    >>> from anomaly_estimators.datasets import fetch_cifar10
    >>> bunch = fetch_cifar10(subset="test", variant="full")  # doctest: +SKIP
    >>> bunch.data.shape, bunch.image_shape, bunch.is_subset  # doctest: +SKIP
    ((10000, 3072), (3, 32, 32), False)
    """
    check_choice("subset", subset, (*PARTS, "all", "extra"))
    check_choice("variant", variant, _VARIANTS)
    if subset == "extra" and variant != "reduced":
        raise ValueError(
            'subset="extra" is part of the reduced file only: ask for it with variant="reduced"'
        )
    dtype = check_dtype(dtype, pixels=True)
    check_frame_support(as_frame)
    is_subset = variant == "reduced" or (
        variant == "auto"
        and not is_at_hand(CIFAR10, data_home)
        and is_at_hand(CIFAR10_REDUCED, data_home)
    )
    path = locate(
        CIFAR10_REDUCED if is_subset else CIFAR10,
        data_home=data_home,
        download_if_missing=download_if_missing,
    )
    if is_subset and variant == "auto":
        warnings.warn(
            f"only a part of CIFAR-10 is at hand: {path.name} has 10,000 of the 50,000 training "
            "images and 1,000 of the 10,000 test images, so do not compare figures with published "
            'ones. variant="full" takes the whole set and downloads it (170 MB) if need be; '
            'variant="reduced" takes this file without a warning',
            stacklevel=2,
        )
    read = _read_reduced if is_subset else _read_archive
    return image_bunch(
        read(path, parts_of(subset)),
        name=CIFAR10.name,
        image_shape=_IMAGE_SHAPE,
        class_names=_CLASS_NAMES,
        dtype=dtype,
        return_X_y=return_X_y,
        as_frame=as_frame,
        is_subset=is_subset,
        filenames=[str(path)],
    )


def _read_archive(path: Path, parts: Sequence[str]) -> list[Images]:
    """Parts of the publisher's archive, in one pass over it."""
    wanted = {member for part in parts for member in _BATCHES[part]}
    found = {}
    # As a stream, since going back in a compressed archive starts it over again.
    with tarfile.open(path, "r|gz") as archive:
        for member in archive:
            if member.name in wanted and member.isfile():
                found[member.name] = archive.extractfile(member).read()
    if missing := wanted - set(found):
        raise ValueError(f"{path} has no {', '.join(sorted(missing))}: fetch it again")
    images = []
    for part in parts:
        records = np.concatenate([_records(found.pop(member), member) for member in _BATCHES[part]])
        indices = _first_row(part) + np.arange(len(records))
        images.append(Images(records[:, 1:], records[:, 0], indices))
    return images


def _records(content: bytes, member: str) -> np.ndarray:
    """One batch: records of a byte for the class and 3,072 for the pixels."""
    if not content or len(content) % (1 + _N_FEATURES):
        raise ValueError(
            f"{member} is damaged: its {len(content)} bytes are not records of {1 + _N_FEATURES}"
        )
    return np.frombuffer(content, np.uint8).reshape(-1, 1 + _N_FEATURES)


def _read_reduced(path: Path, parts: Sequence[str]) -> list[Images]:
    """Parts of the reduced file."""
    with np.load(path, allow_pickle=False) as content:
        return [
            Images(
                content[f"X_{part}"],
                content[f"y_{part}"],
                # The test images are the first ones of the published part.
                _first_row(part) + np.arange(len(content["y_test"]))
                if part == "test"
                else content[f"{part}_index"],
            )
            for part in parts
        ]


def _first_row(part: str) -> int:
    return _N_TRAIN if part == "test" else 0
