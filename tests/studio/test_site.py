"""`export-web --serve`: what the local server of a site sends, and what it refuses."""

import contextlib
import http.client
import queue
import re
import threading

import pytest

from vqwave.studio import site


@pytest.fixture(scope="module")
def get(tmp_path_factory):
    """A site beside a secret. Sends a request; (status, headers, body) of the response."""
    root = tmp_path_factory.mktemp("served")
    (root / "secret.txt").write_text("secret")
    folder = root / "site"
    (folder / "models").mkdir(parents=True)
    (folder / "index.html").write_text("a page")
    (folder / "models" / "a.packed").write_bytes(bytes(range(256)))
    (folder / "link.txt").symlink_to("../secret.txt")
    (folder / "folder").symlink_to("..")
    messages = queue.Queue()
    threading.Thread(target=site.serve, args=(folder, "127.0.0.1", 0, messages.put), daemon=True).start()
    port = int(re.search(r"http://127.0.0.1:(\d+)", messages.get(timeout=60))[1])

    def get(path, method="GET", **headers):
        with contextlib.closing(http.client.HTTPConnection(*get.address, timeout=60)) as connection:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    get.address = "127.0.0.1", port
    return get


def test_the_site_comes_with_the_headers_that_threads_need(get):
    for path, content in (("/", b"a page"), ("/index.html?x", b"a page"), ("/models/a.packed", bytes(range(256)))):
        status, headers, body = get(path)
        assert status == 200 and body == content
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-embedder-policy"] == "require-corp"
        assert headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", [
    "/models", "/models/", "/link.txt", "/folder/secret.txt", "/folder/", "/../secret.txt", "/%2e%2e/secret.txt",
    "/..%2fsecret.txt", "//etc/passwd", "/%00", "/index.html%00", "/" + "x" * 5000, "/%ff", "/missing"])
def test_only_files_of_the_site_are_served(get, path):
    status, _, body = get(path)
    assert status == 404 and b"secret" not in body and b"a.packed" not in body


def test_other_hosts_and_methods_are_refused(get):
    for method, host, status in (("GET", "localhost:1", 200), ("GET", "elsewhere.example", 421), ("POST", "127.0.0.1", 405)):
        assert get("/", method, Host=host)[0] == status
