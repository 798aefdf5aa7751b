"""Small NORB: toys seen by two cameras, from the publisher's binary matrix files."""

import gzip
import math
import os
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray
from sklearn.utils import Bunch

from ._bunch import as_bunch, check_dtype, check_frame_support
from ._fetch import local_file, locate
from ._images import PARTS, check_choice, parts_of, pixel_names
from ._registry import SMALLNORB, DataFile

_CLASS_NAMES = ("animal", "human", "plane", "truck", "car")
_CAMERAS = (0, 1)
_SIDE = 96
_SIZES = (96, 48, 32)
# The columns of the file of details.
_DETAILS = ("instance", "elevation", "azimuth", "lighting")
# What follows the number of rows in the shape of a part's three files: images, classes, details.
_ROW_SHAPES = ((len(_CAMERAS), _SIDE, _SIDE), (), (len(_DETAILS),))
# The kinds of matrices that the set has, by the first four bytes; the format knows others.
_KINDS = {0x1E3D4C55: np.dtype(np.uint8), 0x1E3D4C54: np.dtype("<i4")}


def fetch_smallnorb(
    *,
    subset: str = "train",
    size: int = 96,
    camera: int | None = 0,
    data_home: str | os.PathLike | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    dtype: DTypeLike = np.float32,
) -> Bunch | tuple:
    """Load Small NORB (images with classes).

    Grey images of 50 toys in five classes [1]_, each taken by two cameras at once, from 9 heights
    and 18 sides in 6 kinds of light. The toys of the test part are not those of the training part.

    The target is the class of each row, not a label for a detector: which classes are normal,
    which rows are labelled and which are hidden among the unlabelled ones is for a scenario to
    say, such as :func:`~anomaly_estimators.model_selection.make_semi_supervised_scenario`.

    =======  =================================================
    train    24,300 pairs, 4,860 of each class
    test     24,300 pairs, 4,860 of each class
    shape    1 x 96 x 96, 9,216 features (2 x 96 x 96 in pairs)
    classes  5
    =======  =================================================

    Files in the folder that the environment variable ``ANOMALY_ESTIMATORS_DATA`` names are used
    first, then the cached ones; else they are downloaded (132 MB a part). Every file is checked
    against its SHA-256. In the folder, ``smallnorb/<name>.mat`` serves as well where there is no
    ``smallnorb/<name>.mat.gz``; of such an unpacked file only the form is checked.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="train"
        The published training images, the published test images, or both in this order.
    size : {96, 48, 32}, default=96
        Height and width of the images.

        - 96: as published.
        - 48: the mean of each block of 2 x 2 pixels, rounded to the nearest integer.
        - 32: the centre of the image of 48 x 48. [2]_ tests on it, and trains on crops of 32 x 32
          drawn at random from the images of 48 x 48.
    camera : {0, 1, None}, default=0
        The camera; None gives each pair of images as one row with two channels.
    data_home : path-like, default=None
        Cache folder in place of scikit-learn's ``~/scikit_learn_data``.
    download_if_missing : bool, default=True
        If False, raise an OSError where there is no local copy, in place of a download.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` in place of a Bunch.
    as_frame : bool, default=False
        If True, data is a pandas DataFrame and target a pandas Series.
    dtype : {numpy.float32, numpy.float64, numpy.uint8}, default=numpy.float32
        Type of the pixels. The 24,300 training images of a camera take 896 MB in float32, and 100
        MB if ``size=32``; twice that in float64, and a quarter in uint8, the type of the files.
        Reading a part takes about 1 GB besides, whatever the size and the camera.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        With the attributes

        data : ndarray of shape (n_samples, n_channels * size * size), or DataFrame
            The pixels, 0 to 255, an image or a pair a row, in C order:
            ``data.reshape(-1, *image_shape)`` folds them back.
        target : ndarray of shape (n_samples,) and dtype int64, or Series
            The class, 0 to 4.
        frame : DataFrame of shape (n_samples, n_channels * size * size + 1), or None
            Pixels and target, if ``as_frame=True``.
        feature_names : list of str
            ``pixel_<row>_<column>``; of pairs ``camera0_<row>_<column>``, then ``camera1``.
        target_names : ndarray of shape (5,)
            Names of the classes.
        image_shape : tuple
            ``(n_channels, size, size)``, as detectors of images take it.
        instance : ndarray of shape (n_samples,) and dtype int64
            The toy of the class: 4, 6, 7, 8 and 9 to train, 0, 1, 2, 3 and 5 to test.
        elevation : ndarray of shape (n_samples,) and dtype int64
            Height of the cameras, 0 to 8: 30 to 70 degrees in steps of 5.
        azimuth : ndarray of shape (n_samples,) and dtype int64
            Side that is seen, 0, 2, ..., 34, in units of 10 degrees.
        lighting : ndarray of shape (n_samples,) and dtype int64
            Kind of light, 0 to 5.
        indices : ndarray of shape (n_samples,) and dtype int64
            The rows of the published set, the training images counted first.
        DESCR : str
            What the set is, its terms and what to cite.
        filenames : list of str
            Paths of the files that were read.

    (data, target) : tuple
        If ``return_X_y=True``.

    Raises
    ------
    ValueError
        If the subset, the size, the camera or the dtype is none of those listed, or an unpacked
        file is not the published one.
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
    .. [1] Y. LeCun, F. J. Huang and L. Bottou, "Learning Methods for Generic Object Recognition
           with Invariance to Pose and Lighting", CVPR 2004.
    .. [2] "Anomaly Detection Based on Unsupervised Disentangled Representation Learning in
           Combination with Manifold Learning" (AnoDM), 2019, appendix F.

    Examples
    --------
    >>> from anomaly_estimators.datasets import fetch_smallnorb
    >>> bunch = fetch_smallnorb(subset="test", size=32)  # doctest: +SKIP
    >>> bunch.data.shape, bunch.image_shape  # doctest: +SKIP
    ((24300, 1024), (1, 32, 32))
    """
    check_choice("subset", subset, (*PARTS, "all"))
    check_choice("size", size, _SIZES)
    check_choice("camera", camera, (*_CAMERAS, None))
    dtype = check_dtype(dtype, pixels=True)
    check_frame_support(as_frame)
    size = int(size)
    cameras = _CAMERAS if camera is None else (int(camera),)
    image_shape = (len(cameras), size, size)
    pixels, classes, details, indices, paths = [], [], [], [], []
    for number, part in enumerate(PARTS):
        if part not in parts_of(subset):
            continue
        files = SMALLNORB[3 * number : 3 * number + 3]
        found = [_find(file, data_home, download_if_missing) for file in files]
        pairs, part_classes, part_details = _read(files, found)
        pixels.append(shrink(pairs[:, cameras[0] : cameras[-1] + 1], size))
        del pairs  # Half a gigabyte, if smaller images have been made of it.
        classes.append(part_classes)
        details.append(part_details)
        indices.append(number * SMALLNORB[0].n_samples + np.arange(len(part_classes)))
        paths += map(str, found)
    details = np.concatenate(details, dtype=np.int64)
    return as_bunch(
        np.concatenate([part.reshape(len(part), -1) for part in pixels], dtype=dtype),
        np.concatenate(classes, dtype=np.int64),
        name=SMALLNORB[0].name,
        feature_names=_names(image_shape),
        target_names=_CLASS_NAMES,
        return_X_y=return_X_y,
        as_frame=as_frame,
        image_shape=image_shape,
        **{name: details[:, column].copy() for column, name in enumerate(_DETAILS)},
        indices=np.concatenate(indices, dtype=np.int64),
        filenames=paths,
    )


def shrink(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Images of 96 x 96 as they are, or the centre of their means of 2 x 2 pixels.

    Parameters
    ----------
    images : ndarray of shape (..., 96, 96) and dtype uint8
    size : {96, 48, 32}

    Returns
    -------
    ndarray of shape (..., size, size) and dtype uint8
        Means are rounded to the nearest integer, halves up.
    """
    if size == _SIDE:
        return images
    margin = _SIDE // 2 - size
    centre = images[..., margin : _SIDE - margin, margin : _SIDE - margin]
    total = np.full((*images.shape[:-2], size, size), 2, dtype=np.uint16)
    for row in (0, 1):
        for column in (0, 1):
            total += centre[..., row::2, column::2]
    return (total // 4).astype(np.uint8)


def read_matrix(path: Path) -> NDArray:
    """Read a file of the publisher's binary matrix format, gzipped if it is named so.

    The file is little-endian: four bytes for the kind of the elements, the number of dimensions,
    their sizes (at least three are stored, though there be fewer dimensions), the elements.

    Parameters
    ----------
    path : Path

    Returns
    -------
    ndarray of dtype uint8 or int32
        Read-only, in C order.

    Raises
    ------
    ValueError
        If the elements are neither bytes nor integers, or the file is shorter or longer than its
        header says.
    """
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as stream:
        content = stream.read()
    header = np.frombuffer(content, "<i4", count=min(len(content), 64) // 4).tolist()
    if len(header) < 2 or header[0] not in _KINDS or header[1] < 0:
        raise ValueError(
            f"{path} is not a binary matrix of bytes or integers: it begins with the bytes "
            f"{content[:8].hex(' ')!r}. Fetch the published file again"
        )
    dtype, n_dimensions = _KINDS[header[0]], header[1]
    shape = header[2 : 2 + n_dimensions]
    n_header = 4 * (2 + max(3, n_dimensions))
    n_bytes = math.prod(shape) * dtype.itemsize
    if len(shape) < n_dimensions or min(shape, default=0) < 0 or len(content) != n_header + n_bytes:
        raise ValueError(
            f"{path} is damaged: its header promises {_by(shape)} elements, "
            f"{n_bytes} bytes, and {max(len(content) - n_header, 0)} follow. Fetch the published "
            "file again"
        )
    return np.frombuffer(content, dtype, offset=n_header).reshape(shape)


def _find(file: DataFile, data_home: str | os.PathLike | None, download_if_missing: bool) -> Path:
    """Path of the file, or of its unpacked copy in the user's own folder."""
    own = local_file(file)
    if own is not None and not own.is_file() and own.with_suffix("").is_file():
        return own.with_suffix("")
    return locate(file, data_home=data_home, download_if_missing=download_if_missing)


def _read(files: tuple[DataFile, ...], paths: list[Path]) -> list[NDArray]:
    """Images, classes and details of one part; an unpacked file has no checksum, but a shape."""
    matrices = []
    for file, path, row_shape in zip(files, paths, _ROW_SHAPES, strict=True):
        matrix = read_matrix(path)
        expected = (file.n_samples, *row_shape)
        if matrix.shape != expected:
            raise ValueError(
                f"{path} is not the published file: it holds {_by(matrix.shape)} elements, not "
                f"{_by(expected)}. Take {file.filename} from {file.addresses[0]}"
            )
        matrices.append(matrix)
    classes = matrices[1]
    if not np.isin(classes, range(len(_CLASS_NAMES))).all():
        raise ValueError(
            f"{paths[1]} is damaged: there is a class that is none of 0 to {len(_CLASS_NAMES) - 1}"
        )
    return matrices


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _names(image_shape: tuple[int, int, int]) -> list[str]:
    """Names of the columns; those of a pair tell the camera."""
    n_channels, *sides = image_shape
    names = pixel_names((1, *sides))
    if n_channels == 1:
        return names
    return [f"camera{c}{name.removeprefix('pixel')}" for c in range(n_channels) for name in names]
