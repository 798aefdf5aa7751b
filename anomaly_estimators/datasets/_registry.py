"""The published files behind the fetchers: where they are, what they hold, how to check them."""

from dataclasses import dataclass

__all__ = ["DataFile", "data_files"]


@dataclass(frozen=True)
class DataFile:
    """One published data file; immutable.

    Parameters
    ----------
    name : str
        Name of the data set; also the name of the folder that holds the file.
    filename : str
        Name of the file.
    addresses : tuple of str
        Where the file is published; they are tried in this order. Empty where nobody publishes the
        file, so that only the user's own folder can hold it.
    sha256 : str
        SHA-256 of the file, in hexadecimal.
    n_samples : int
        Number of rows.
    n_features : int or None
        Number of features that the fetcher returns, after one-hot encoding; None for a file that
        holds the classes of another file's rows.
    n_anomalies : int or None, default=None
        Number of anomalous rows; None where the rows have classes and a scenario makes some of
        them the anomalies.

    See Also
    --------
    data_files : The entries of this library.

    Examples
    --------
    >>> from anomaly_estimators.datasets import data_files
    >>> {file.name: file.n_anomalies for file in data_files()}["thyroid"]
    93
    """

    name: str
    filename: str
    addresses: tuple[str, ...]
    sha256: str
    n_samples: int
    n_features: int | None
    n_anomalies: int | None = None

    @property
    def path(self) -> str:
        """Path below a data folder, ``<name>/<filename>``."""
        return f"{self.name}/{self.filename}"


_ADBENCH = "https://github.com/Minqi824/ADBench/raw/main/adbench/datasets/Classical/"
# The revision is named, so that the address gives the file of the checksum for good.
_AAD = (
    "https://github.com/shubhomoydas/ad_examples/raw/4f20369f5ab7c9f67b1e6ee1b079dd1ee3c9ecc3/"
    "ad_examples/datasets/anomaly/"
)
_DROPBOX = "https://www.dropbox.com/s/"
_NORB = "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/"

KDDCUP99 = DataFile(
    name="kddcup99",
    filename="kddcup.data_10_percent.gz",
    addresses=(
        "https://kdd.ics.uci.edu/databases/kddcup99/kddcup.data_10_percent.gz",
        # The byte-identical copy that scikit-learn's own fetcher takes.
        "https://ndownloader.figshare.com/files/5976042",
    ),
    sha256="8045aca0d84e70e622d1148d7df782496f6333bf6eb979a1b0837c42a9fd9561",
    n_samples=494_021,
    n_features=120,
    n_anomalies=97_278,
)

# The publisher's test file, with the labels as corrected.
KDDCUP99_TEST = DataFile(
    name="kddcup99",
    filename="corrected.gz",
    addresses=("https://kdd.ics.uci.edu/databases/kddcup99/corrected.gz",),
    sha256="74f0daef49b242badc09f2adbd457dea6a45b4f77177efbd11216d333651044b",
    n_samples=311_029,
    n_features=120,
    n_anomalies=60_593,
)

# A tuple, in the order in which the sets are documented: nothing can change it by accident.
ODDS = (
    DataFile(
        "thyroid",
        "thyroid.mat",
        (_DROPBOX + "bih0e15a0fukftb/thyroid.mat?dl=1",),
        "49155d7861b977e90808faf68343ff67a67f63090c2744d514dbb67ac68e7e33",
        3_772,
        6,
        93,
    ),
    DataFile(
        "arrhythmia",
        "arrhythmia.mat",
        (_DROPBOX + "lmlwuspn1sey48r/arrhythmia.mat?dl=1",),
        "e4d47e499591ae31e5d7f0cd983367092353eac240f48e14c9b36457edb3460d",
        452,
        274,
        66,
    ),
    DataFile(
        "cardio",
        "cardio.mat",
        (_DROPBOX + "galg3ihvxklf0qi/cardio.mat?dl=1",),
        "5e568b6a73711012c481fa6cc984ab9c68e9a4fa44d6aeb3b43efa381c3f695b",
        1_831,
        21,
        176,
    ),
    DataFile(
        "satellite",
        "satellite.mat",
        (_DROPBOX + "dpzxp8jyr9h93k5/satellite.mat?dl=1",),
        "6feac3112b9c14e1c3e60afc437f2f3d29dc1000119c9f950c628078778d6aa0",
        6_435,
        36,
        2_036,
    ),
    DataFile(
        "satimage-2",
        "satimage-2.mat",
        (_DROPBOX + "hckgvu9m6fs441p/satimage-2.mat?dl=1",),
        "95c37a07cea2cb201f6900d14f521510e10b6b2f0074c06ac46d3157440ec67b",
        5_803,
        36,
        71,
    ),
    DataFile(
        "shuttle",
        "shuttle.mat",
        (_DROPBOX + "mk8ozgisimfn3dw/shuttle.mat?dl=1",),
        "b6e396c92354d5dcf5036901e36dc58e2913f2d1a5e138c35a2bedf9c69db899",
        49_097,
        9,
        3_511,
    ),
    DataFile(
        "mammography",
        "23_mammography.npz",
        (_ADBENCH + "23_mammography.npz",),
        "a0308ac9712d78321073b1c2dc98dc37665c0f35c1cc33019416fe8f8d7de7ea",
        11_183,
        6,
        260,
    ),
    DataFile(
        "cover",
        "10_cover.npz",
        (_ADBENCH + "10_cover.npz",),
        "945a097c3542ae81a551bf1c06dcad78a755d94f84fcaf1d60687e42d1a656df",
        286_048,
        10,
        2_747,
    ),
)

# The publisher asks for a login; the address is a public copy of the same file.
CREDITCARD = DataFile(
    name="creditcard",
    filename="creditcard.csv",
    addresses=("https://storage.googleapis.com/download.tensorflow.org/data/creditcard.csv",),
    sha256="76274b691b16a6c49d3f159c883398e03ccd6d1ee12d9d8ee38f4b4b98551a89",
    n_samples=284_807,
    n_features=30,
    n_anomalies=492,
)


def _aad_files(
    name: str, n_samples: int, n_features: int, n_anomalies: int, checksums: tuple[str, str]
) -> tuple[DataFile, DataFile]:
    """The two files of a set of the active anomaly discovery benchmark: rows, and their classes."""
    base = f"{_AAD}{name}/fullsamples/{name}_1"
    return tuple(
        DataFile(
            "aad_benchmark",
            f"{name}_1{suffix}",
            (base + suffix,),
            sha256,
            n_samples,
            *counts,
        )
        for suffix, sha256, counts in zip(
            (".csv", "_orig_labels.csv"),
            checksums,
            ((n_features, n_anomalies), (None, None)),
            strict=True,
        )
    )


AAD = (
    _aad_files(
        "abalone",
        1_920,
        9,
        29,
        (
            "5c1336a1f3bcfc4dfb1d3c3e7737137b2c1a6f58548034bb9d2e86647593ee84",
            "2d20bf4b4a1ad3d4c8c3f206ff918c0763baad2cbfde7d4f3f30a23fbe406ce9",
        ),
    ),
    _aad_files(
        "ann_thyroid_1v3",
        3_251,
        21,
        73,
        (
            "ef723674ebbbfc50a8316eed50e2f78aa289bf50e0524936bd57798950fada0f",
            "b34042af2e588551bec6a0d51874fcc785057e7a9b18f099a4232b88e69e124c",
        ),
    ),
    _aad_files(
        "cardiotocography_1",
        1_700,
        21,
        45,
        (
            "de88cc716e08e518b3ef4076916547c10fac05e19e7b0a24ab0cb099788d989b",
            "8bad7e5bfe57613dfee04961ebd14f754ce15da43ade2cffb711fd3b8bfd69e0",
        ),
    ),
    _aad_files(
        "mammography",
        11_183,
        6,
        260,
        (
            "73a583451b5989c7d70cd7c4e2cc11779ed304af0c90f98bf5bf7153db25441e",
            "38c9cc2fef1c512d22b0d996077ac027d8b8c3487623f5377a72edc68d703e5f",
        ),
    ),
    _aad_files(
        "shuttle_1v23567",
        12_345,
        9,
        867,
        (
            "8731299a8d23d8b8f20d590fbef8e80f1347f5225f92e4254ee7bf3508d20746",
            "04f6bcc37c133a35e67a7ae2bc2ffeef1dbb61b119a49ccf9c31dfeb1c82c4a9",
        ),
    ),
    _aad_files(
        "yeast",
        1_191,
        8,
        55,
        (
            "39768ad8f3ade8c53712199277627393fb866ba9b0f241a57509f0476c661f92",
            "d70716c28cbe7016fad613e113677e273a8e5be772cd76c0eb46680563737ea2",
        ),
    ),
)


def _idx_files(
    name: str, bases: tuple[str, ...], checksums: tuple[str, str, str, str]
) -> tuple[DataFile, ...]:
    """The four files of a set in the layout of MNIST: images and labels to train, then to test."""
    files = zip(("train", "t10k"), (60_000, 10_000), (checksums[:2], checksums[2:]), strict=True)
    return tuple(
        DataFile(
            name, filename, tuple(base + filename for base in bases), sha256, n_samples, n_features
        )
        for part, n_samples, pair in files
        for filename, sha256, n_features in (
            (f"{part}-images-idx3-ubyte.gz", pair[0], 784),
            (f"{part}-labels-idx1-ubyte.gz", pair[1], None),
        )
    )


MNIST = _idx_files(
    "mnist",
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)

FASHION_MNIST = _idx_files(
    "fashion_mnist",
    ("https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",),
    (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
)

# Of the publisher's archives, the one of plain bytes: the one for Python holds pickles.
CIFAR10 = DataFile(
    name="cifar10",
    filename="cifar-10-binary.tar.gz",
    addresses=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    n_samples=60_000,
    n_features=3_072,
)

CIFAR10_REDUCED = DataFile(
    name="cifar10",
    filename="cifar10_subset.npz",
    addresses=(),
    sha256="384ec0a63830fab3206a579f10cb9443662ef4f0a883238e762de3c956b7cf19",
    n_samples=15_000,
    n_features=3_072,
)

# A reconstruction in the layout of the Kaggle set, which asks for a login.
MITBIH_HEARTBEAT = DataFile(
    name="mitbih_heartbeat",
    filename="mitbih_heartbeats_derived.npz",
    addresses=(),
    sha256="e5ff3dee0a8e62f1ce8348a65d0c68c24e4c39469b120571996783b2088b4e7f",
    n_samples=109_441,
    n_features=187,
)

# Scaled copies of the UCR rows, with the scaling undone.
ECG5000 = DataFile(
    name="ecg5000",
    filename="ecg5000_all_recovered.npz",
    addresses=(),
    sha256="96a60df6efe5acf37e205fa9db00ce259a310e232f529131e07cf908d53299e5",
    n_samples=5_000,
    n_features=140,
    n_anomalies=2_081,
)


def _smallnorb_files(part: str, checksums: tuple[str, str, str]) -> tuple[DataFile, ...]:
    """The three files of a part of Small NORB: pairs of images, classes, details."""
    kinds = zip(("dat", "cat", "info"), (2 * 96 * 96, None, None), checksums, strict=True)
    return tuple(
        DataFile("smallnorb", filename, (_NORB + filename,), sha256, 24_300, n_features)
        for kind, n_features, sha256 in kinds
        for filename in (f"smallnorb-5x{part}-{kind}.mat.gz",)
    )


SMALLNORB = (
    *_smallnorb_files(
        "46789x9x18x6x2x96x96-training",
        (
            "5ffd6272a07d32695ee1082a26a41a93a37aab8c28da047f8c34ed348d214873",
            "2784e542c1922060691090952b6cd6278879a216c90f81476f0f00256d42cdaa",
            "de7eb932ebe7a4ee16217fead60660d0eb3d23632c2f4d1c51f88c501c17bf32",
        ),
    ),
    *_smallnorb_files(
        "01235x9x18x6x2x96x96-testing",
        (
            "cf7104eed3e51174d2f65b66d1e5878b9da233b886f161b0d88f4510ba2c7474",
            "ecaf6d5bb8c3bc5eab9cf0258f6d2198dd474e016e374836fc097f2e5ff509ff",
            "16adf314226327ee006d1a44db8cfef52773c06c829951d5653a9f6f310248a2",
        ),
    ),
)


def data_files() -> tuple[DataFile, ...]:
    """List the files that the fetchers read, with addresses, checksums and sizes.

    Returns
    -------
    files : tuple of DataFile
        One entry a file; every entry is immutable and has the attributes ``name``, ``filename``,
        ``addresses``, ``sha256``, ``n_samples``, ``n_features``, ``n_anomalies`` and ``path``. A
        set may have several files.

    See Also
    --------
    fetch_kddcup99 : The set of the first entry.
    fetch_odds, fetch_aad, fetch_creditcard : The other tables.
    fetch_heartbeats, fetch_ecg5000 : The heartbeats.
    fetch_mnist, fetch_fashion_mnist, fetch_cifar10, fetch_smallnorb : The images.

    Notes
    -----
    To work without a network, copy the files to ``<folder>/<name>/<filename>`` and let the
    environment variable ``ANOMALY_ESTIMATORS_DATA`` name that folder. It is only ever read.

    Examples
    --------
    >>> from anomaly_estimators.datasets import data_files
    >>> for file in data_files()[:2]:
    ...     print(file.path, file.n_samples, file.n_features, file.n_anomalies)
    kddcup99/kddcup.data_10_percent.gz 494021 120 97278
    kddcup99/corrected.gz 311029 120 60593
    """
    return (
        KDDCUP99,
        KDDCUP99_TEST,
        *ODDS,
        *(file for pair in AAD for file in pair),
        CREDITCARD,
        *MNIST,
        *FASHION_MNIST,
        CIFAR10,
        CIFAR10_REDUCED,
        MITBIH_HEARTBEAT,
        ECG5000,
        *SMALLNORB,
    )
