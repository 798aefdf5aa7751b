import contextlib
import dataclasses
import functools
import http.server
import threading

import numpy as np
import pytest

from anomaly_estimators.datasets import _registry, fetch_kddcup99
from tests._data import require_data


@pytest.fixture(scope="session")
def kdd_home(tmp_path_factory):
    """A cache folder in which the table of KDD Cup 1999 is parsed once for all tests."""
    return tmp_path_factory.mktemp("kdd_home")


@pytest.fixture(scope="session")
def kdd(kdd_home):
    require_data(_registry.KDDCUP99.path)
    return fetch_kddcup99(data_home=kdd_home)


@pytest.fixture
def no_local_folder(monkeypatch):
    monkeypatch.delenv("ANOMALY_ESTIMATORS_DATA", raising=False)


@pytest.fixture
def published(tmp_path):
    """A made-up data file, as its publisher offers it: a small ODDS-like set."""
    path = tmp_path / "published" / "tiny.npz"
    path.parent.mkdir()
    np.savez(path, X=np.arange(12, dtype=np.int16).reshape(4, 3), y=np.array([0, 0, 1, 0]))
    return path


@pytest.fixture
def serve(published, monkeypatch):
    """Start a server on this machine for the published file; gives its address and requests."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *arguments):
            requests.append(self.path)

    handler = functools.partial(Handler, directory=str(published.parent))
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        stack.callback(server.shutdown)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", requests


@pytest.fixture
def tiny(published):
    """The registry's entry for the published file, without an address that works."""
    from anomaly_estimators.datasets._fetch import file_sha256

    return _registry.DataFile(
        "tiny", published.name, ("http://127.0.0.1:9/tiny.npz",), file_sha256(published), 4, 3, 1
    )


@pytest.fixture
def served(tiny, serve):
    """The registry's entry for the published file, and the requests that the server has had."""
    address, requests = serve
    return dataclasses.replace(tiny, addresses=(f"{address}/tiny.npz",)), requests
