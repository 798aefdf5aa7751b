"""Locating, downloading, caching and verifying data files."""

import hashlib
import importlib
import importlib.util
import os
from pathlib import Path

from ._registry import DataFile

DATA_VARIABLE = "ANOMALY_ESTIMATORS_DATA"


def import_optional(module: str, purpose: str):
    """Import a module of the ``datasets`` extra, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs {module}: pip install anomaly-estimators[datasets]"
        ) from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def cache_folder(data_home: str | os.PathLike | None, name: str) -> Path:
    """Folder that caches the set ``name``, below scikit-learn's (which is made if need be)."""
    from sklearn.datasets import get_data_home

    return Path(get_data_home(data_home)) / "anomaly_estimators" / name


def local_file(file: DataFile) -> Path | None:
    """Path of the file in the user's own folder, or None where no folder is named."""
    folder = os.environ.get(DATA_VARIABLE)
    return Path(folder).expanduser() / file.path if folder else None


def is_at_hand(file: DataFile, data_home: str | os.PathLike | None) -> bool:
    """Whether the user's own folder or the cache has a file of this name; it is not verified."""
    local = local_file(file)
    if local is not None and local.is_file():
        return True
    try:
        return (cache_folder(data_home, file.name) / file.filename).is_file()
    except OSError:  # There is no cache, and none can be made.
        return False


def locate(
    file: DataFile,
    *,
    data_home: str | os.PathLike | None = None,
    download_if_missing: bool = True,
) -> Path:
    """Path of a verified copy of the file: the user's own, the cached one, or a new download.

    Parameters
    ----------
    file : DataFile
    data_home : path-like, optional
        Cache folder in place of scikit-learn's.
    download_if_missing : bool, default=True
        Whether to download the file where there is no copy yet.

    Returns
    -------
    Path

    Raises
    ------
    OSError
        If the user's own file is corrupt, or if there is no copy and none can be downloaded.
    ImportError
        If a download is needed and pooch is not installed.
    """
    local = local_file(file)
    if local is not None and local.is_file():
        found = file_sha256(local)
        if found != file.sha256:
            raise OSError(
                f"{local} is not the published file: its sha256 is {found}, expected "
                f"{file.sha256}. Replace it with the file from "
                f"{_join(file.addresses) or 'which it was copied'}, or unset {DATA_VARIABLE}"
                f"{' to download it' if file.addresses else ''}."
            )
        return local

    cached = cache_folder(data_home, file.name) / file.filename
    problem = f"there is no {cached}"
    if cached.is_file():
        found = file_sha256(cached)
        if found == file.sha256:
            return cached
        problem = f"{cached} is corrupt (sha256 {found})"
    if local is not None:
        problem = f"{DATA_VARIABLE} is set, but there is no {local}; {problem}"
    if not file.addresses:
        raise OSError(f"{problem}. {_by_hand(file, cached)}")
    if not download_if_missing:
        raise OSError(f"{problem}; download_if_missing=False. {_by_hand(file, cached)}")
    return _download(file, cached, problem)


def _download(file: DataFile, target: Path, problem: str) -> Path:
    pooch = import_optional("pooch", f"downloading {file.filename}")
    failures = []
    for address in file.addresses:
        try:
            # Writes to a temporary file beside the target, verifies it and then renames it, so an
            # interrupted or corrupt download never takes the target's place.
            pooch.retrieve(
                address,
                known_hash=f"sha256:{file.sha256}",
                fname=target.name,
                path=target.parent,
                downloader=pooch.HTTPDownloader(
                    progressbar=importlib.util.find_spec("tqdm") is not None
                ),
            )
            return target
        # Network failures are OSErrors, a wrong checksum is a ValueError.
        except (OSError, ValueError) as error:
            failures.append(f"{address} failed: {error}")
    raise OSError(f"{problem}; {' '.join(failures)} {_by_hand(file, target)}")


def _by_hand(file: DataFile, cached: Path) -> str:
    if file.addresses:
        cure = f"Download {_join(file.addresses)}"
    else:
        cure = f"{file.filename} is not published: copy it"
    return (
        f"{cure} to {cached} (sha256 {file.sha256}), or let the "
        f"environment variable {DATA_VARIABLE} name a folder that holds {file.path}."
    )


def _join(addresses: tuple[str, ...]) -> str:
    return " or ".join(addresses)
