import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from commands import wait_until
from messages import count_busy, parse

import vqwave
from vqwave.errors import UserError
from vqwave.levels import level_name
from vqwave.presets import load_preset
from vqwave.studio import TakeRequest, guard, limits, recordings, web
from vqwave.studio.routes import STATIC

CHAIN = load_preset("tiny").chain
LEVELS, RATE = CHAIN.sizes, CHAIN.sample_rate


@contextlib.contextmanager
def serving(studio):
    """The port of a server of the studio."""
    import uvicorn

    with web.listen("127.0.0.1", 0) as listening:
        server = uvicorn.Server(web.configure(web.build(studio)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def client(studio):
    def client(path, body=None, **headers):
        """(status, body, headers) of the response; a body that is not bytes is sent as JSON."""
        if body is not None and not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
        request = urllib.request.Request(f"http://127.0.0.1:{client.port}{path}", body, headers)  # noqa: S310 - ours
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as e:
            return e.code, e.read(), e.headers

    with serving(studio) as client.port:
        yield client


def test_a_take_goes_over_http_and_is_downloaded_as_wav_and_flac(client, studio):
    status, body, headers = client("/studio/takes", {"level": 128, "seconds": 1, "seed": 9})
    record = parse(body)[-1][0]["end"]
    assert status == 200 and record["seconds"] == 1.0
    assert "default-src 'self'" in headers["content-security-policy"]
    for kind in ("wav", "flac"):
        status, body, headers = client(f"/studio/takes/{record['id']}.{kind}")
        wait_until(lambda: not list(studio.folder.glob("take-*-*")))  # the copy is removed
        assert status == 200 and body == studio.takes.file(record["id"], kind).read_bytes()
        for copy in studio.folder.glob("take-*-*"):
            copy.unlink()
        assert headers["content-disposition"] == f'attachment; filename="vqwave-seed-9-1.0s.{kind}"'
    status, body, headers = client(f"/studio/takes/{record['id']}.mid")
    assert status == 200 and body.startswith(b"MThd") and headers["content-type"] == "audio/midi"
    assert "mid" in json.loads(client("/studio/about")[1])["downloads"]
    assert json.loads(client(f"/studio/takes?ids=no,{record['id']}")[1]) == {record["id"]: record}
    assert json.loads(client(f"/studio/takes/{record['id']}/stop", {"sample": 1})[1])["seconds"] == 1.0


@pytest.mark.parametrize("path, body, words", [
    ("/studio/takes/none.wav", None, b"no longer in the studio"),
    ("/studio/takes", b"{}", b"must be"),
    ("/studio/takes", [1], b"request"),
    ("/studio/takes", {"x": "y" * (2 << 20)}, b"too long"),
    ("/studio/takes/none/stop", {"sample": -1}, b"sample must be"),
    *[("/studio/recordings?name=tune.mid", b"MThd\0\0\0\6\0\0\0\1\1\xe0MTrk\0\0\0" + bytes([len(track)]) + track, b"tune.mid: " + words)
      for track, words in ((b"\0\xff\x2f\0", b"has no notes"), (b"\0\x99\x24\x40", b"has only drums"),
                           (b"\0\x90\x3c", b"cannot be read as a MIDI file: it is damaged, or another kind of file"))],
    ("/studio/takes", b"[" * 100_000, b" "), ("/studio/settings", b"\xff", b" "), ("/studio/settings", b"{", b"not JSON"),
    ("/studio/settings", b'{"seconds": 1' + b"0" * 400 + b"}", b"seconds"), ("/studio/comparisons", b'{"seconds": NaN}', b"seconds"),
    *[(f"/studio/recordings/none.wav?seconds={x}", None, b"seconds must be") for x in ("1e999", "61")],
    *[("/studio/settings", body, b" ") for body in (
        b'{"changes": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", b'{"changes": [[0, {"hold": 1e999}]]}',
        *[b'{"changes": "[[0, {\\"loudness\\": %s}]]"}' % number for number in (b"1e999", b"NaN", b"-Infinity")],
        *[b'{"changes": %s}' % change for digits in [b"9" * 400] for change in (
            b'[[0, {"notes": [' + digits + b"]}]]", b"[[" + digits + b", {}]]", b'"[[0, {\\"jump\\": ' + digits + b'}]]"')],
        b'{"changes": [[0, {"label": "\\ud800"}]]}', b'{"temperature": {"' + b"x" * 9000 + b'": 1}}')],
])
def test_bad_requests_are_answered_in_a_line(client, path, body, words):
    headers = {"Content-Type": "application/json"} if body and body != b"{}" else {}
    status, answer, _ = client(path, body, **headers)
    assert status == 400 and words in answer and b"\n" not in answer and len(answer) < 300


def test_an_unfinished_header_closes_the_connection(client, monkeypatch):
    monkeypatch.setattr(limits, "HEADER_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", client.port), timeout=60) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHos")
        with contextlib.suppress(ConnectionError):
            assert connection.recv(1) == b""


def test_a_long_body_of_unknown_length_is_cut_off(client):
    with socket.create_connection(("127.0.0.1", client.port), timeout=60) as connection:
        connection.sendall(b"POST /studio/settings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           b"Transfer-Encoding: chunked\r\n\r\n" + 3 * (b"100000\r\n" + b" " * (1 << 20) + b"\r\n"))
        assert b" 400 " in connection.recv(4096)


def test_the_link_of_an_hour_of_changes_can_be_followed(client, studio):
    changes = [(8192 * i, {"notes": [60, 64, 67 + i % 2]}) for i in range(9700)]
    link = studio.settings(TakeRequest(changes=changes))[0].link
    status, body, _ = client(f"/?{link}")
    assert status == 200 and body == (STATIC / "index.html").read_bytes()
    status, body, _ = client("/studio/settings", dict(urllib.parse.parse_qsl(link)))
    assert status == 200 and len(json.loads(body)["settings"]["changes"]) == 9700


def test_another_origin_may_not_use_the_studio(client):
    own = f"127.0.0.1:{client.port}"
    for origin, status in ((f"http://{own}", 200), ("https://elsewhere.example", 403), ("http://127.0.0.1:1", 403),
                           ("http://127.0.0.1", 403), ("null", 403)):
        assert client("/studio/settings", {}, Host=own, Origin=origin)[0] == status, origin


def test_pages_of_other_sites_can_neither_read_nor_embed_the_studio(client, song):
    identity = json.loads(client("/studio/recordings?name=song.mp3", song.read_bytes())[1])["id"]
    for site, expected in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        status, _, headers = client(f"/studio/recordings/{identity}.wav?seconds=0.1", **{"Sec-Fetch-Site": site})
        assert status == expected and (status == 403 or headers["cross-origin-resource-policy"] == "same-origin")
        assert client("/", **{"Sec-Fetch-Site": site})[0] == 200, "a link to the page can be followed"


def test_only_this_machine_s_own_names_are_answered(client):
    """Another site could point its name to this machine."""
    for host, name, answered in [
        *[("127.0.0.1", name, True) for name in ("127.0.0.1", "127.0.0.1:7860", "localhost:1", "LOCALHOST", "[::1]:7860")],
        *[("127.0.0.1", name, False) for name in (
            "elsewhere.example", "elsewhere.example:7860", "127.0.0.1.elsewhere.example", "localhost.elsewhere.example",
            "10.0.0.1", "[::2]", "[::2", "")],
        ("studio.lan", "studio.lan", True), ("studio.lan", "10.0.0.1", False), ("10.0.0.1", "10.0.0.1", True),
        ("::1", "[::1]", True), ("fe80::1", "[fe80::1]", True), ("0.0.0.0", "10.0.0.1", True),  # noqa: S104
        ("0.0.0.0", "[fe80::1]", True), ("0.0.0.0", "elsewhere.example", False), ("::", "10.1.1.1", True),  # noqa: S104
        ("0.0.0.0", socket.gethostname().lower(), True),  # noqa: S104
    ]:
        assert guard.Guard(None, host).accepts(name) == answered, (host, name)
    assert client("/studio/about", Host="localhost:1")[0] == 200
    assert client("/studio/about", Host="elsewhere.example")[0] == 421
    assert client("/studio/takes", {}, Host="elsewhere.example", Origin="http://elsewhere.example")[0] == 421


def test_a_recording_is_uploaded_and_heard_in_part_or_refused(client, studio, song, monkeypatch):
    status, body, _ = client("/studio/recordings?name=my%20song.mp3", song.read_bytes())
    recording = json.loads(body)
    assert status == 200 and recording["name"] == "my song.mp3" and recording["seconds"] == pytest.approx(2.0, abs=0.1)
    assert 10 < len(recording["outline"]) <= recordings.OUTLINE and max(recording["outline"]) > 50
    status, wav, _ = client(f"/studio/recordings/{recording['id']}.wav?start=1&seconds=0.5")
    assert status == 200 and len(wav) == 44 + 2 * round(0.5 * RATE)
    assert client("/studio/recordings/none.wav")[0] == 400
    monkeypatch.setattr(limits, "UPLOAD_BYTES", 1 << 20)
    status, words, _ = client("/studio/recordings?name=long.wav", bytes(2 << 20))
    assert status == 400 and b"long.wav: larger than" in words
    status, words, _ = client("/studio/recordings?name=%2Fetc%2Fwords.mp3", b"These are only words.")
    assert status == 400 and words.startswith(b"words.mp3: ")
    assert not list(studio.folder.glob("upload-*")), "refused uploads are removed"


def test_the_page_receives_clips_folders_and_the_settings_of_a_link(client, tiny_weights):
    about = json.loads(client("/studio/about")[1])
    assert len(about["clips"]) == 3 and about["rate"] == RATE
    assert about["folders"][0] == {
        "name": str(tiny_weights.generators), "epochs": [""], "ending": CHAIN.ending, "levels": list(LEVELS),
        "score": False, "labels": [], "temperatures": dict.fromkeys(map(level_name, LEVELS), 1.0)}
    clip = json.loads(client("/studio/clips/love_theme", {})[1])
    assert clip["name"] == "Love Theme (Ryan Reilly)" and clip["seconds"] == pytest.approx(30, abs=0.1)
    assert client("/studio/clips/none", {})[0] == 400
    settings = json.loads(client("/studio/settings", {"level": "32", "seconds": "endless", "seed": "3"})[1])["settings"]
    assert (settings["level"], settings["seconds"], settings["seed"]) == (32, None, 3)
    status, words, _ = client("/studio/settings", {"mode": "continue", "recording": "gone", "name": "a.mp3"})
    assert status == 400 and b"a.mp3 is not in this studio (any more)" in words


def test_the_page_is_small_and_whole(client):
    seen, queue, size = set(), ["/"], 0
    while queue:
        path = queue.pop()
        if path in seen:
            continue
        seen.add(path)
        status, body, headers = client(path)
        assert status == 200 and "unsafe" not in headers["content-security-policy"], path
        size += len(body)
        text = re.sub("<!--.*?-->", "", body.decode(), flags=re.DOTALL)  # of an exported page
        files = re.findall(r'(?:href|src)="(studio/static/[^"]+)"|from "\./([^"]+)"', text)
        queue += [f"/{a}" if a else f"/studio/static/{b}" for a, b in files]
        assert not re.search(r"https?://(?!www\.w3\.org)", text), path
    assert len(seen) > 8 and size < 500_000


def test_a_stalled_upload_is_dropped_and_its_file_removed(studio, monkeypatch):
    monkeypatch.setattr(limits, "STALL_SECONDS", 1.0)
    head = b"POST /studio/recordings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n"
    with serving(studio) as port, socket.create_connection(("127.0.0.1", port), timeout=30) as stalled:
        stalled.sendall(head + bytes(1000))
        with contextlib.suppress(ConnectionError):
            assert not stalled.recv(4096)
        wait_until(lambda: not list(studio.folder.glob("upload-*")))


ENDLESS = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n"


def test_a_client_that_is_refused_while_it_sends_reads_the_reason(studio, client):
    status, words, _ = client("/studio/recordings", bytes(20 << 20), Host="elsewhere.example")
    assert status == 421 and words.startswith(b"This server answers")
    with serving(studio) as port, contextlib.ExitStack() as opened:
        def send(data):
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            connection.sendall(data)
            return connection

        for slow in [send(ENDLESS) for _ in range(limits.CONNECTIONS // 2)]:
            assert b" 405 " in slow.recv(4096)
        for size in (0, 20 << 20):
            refused = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            opened.callback(refused.close)
            refused.request("POST", "/studio/recordings", bytes(size))
            answer = refused.getresponse()
            assert answer.status == 503 and answer.read() == b"Too many connections: try again later."


def test_refused_clients_that_go_on_sending_are_cut_off(studio, monkeypatch):
    monkeypatch.setattr(limits, "DRAIN_SECONDS", 0.2)
    with serving(studio) as port, socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\nContent-Length: 9000000\r\n\r\n")
        while connection.recv(4096):
            pass
        with pytest.raises(ConnectionError):
            for _ in range(3000):
                connection.sendall(b" ")
                time.sleep(0.01)


def test_a_connection_that_breaks_frees_its_stream(client, studio):
    body = json.dumps({"level": 128, "seconds": "endless"}).encode()
    with socket.create_connection(("127.0.0.1", client.port)) as connection:
        connection.sendall(b"POST /studio/takes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        received = 0
        while received < 50_000:
            received += len(connection.recv(65536))
        assert count_busy(studio) == 1
    wait_until(lambda: not count_busy(studio))


def test_ctrl_c_ends_a_playing_studio_silently(make_take, tiny_weights, tmp_path):
    make_take(level=128, seconds=0.5)  # exports graphs, so that the studio prints nothing
    script = Path(__file__).parents[2] / "scripts" / "app.py"
    line = [sys.executable, script, "--port", "0", "--vqvae-weights-dir", tiny_weights.codecs,
            "--generator-weights-dir", tiny_weights.generators]
    environment = os.environ | {"PYTHONPATH": str(Path(vqwave.__file__).parents[1]), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(list(map(str, line)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=environment) as process:
        try:
            url = process.stdout.readline().split()[4]
            body = json.dumps({"level": 128, "seconds": "endless"}).encode()
            request = urllib.request.Request(f"{url}/studio/takes", body, {"Content-Type": "application/json"})  # noqa: S310
            with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310 - ours
                assert len(answer.read(30_000)) == 30_000
                process.send_signal(signal.SIGINT)
                while answer.read(1 << 16):
                    pass  # to the end of the take: a response that is cut off is an error
            assert process.wait(30) == 0 and process.stderr.read() == ""
        finally:
            process.kill()
    assert not list(tmp_path.iterdir())


def test_a_taken_port_is_an_error_of_one_line():
    with web.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is taken"):
            web.listen("127.0.0.1", port)
        assert web.address("", taken) == web.address("127.0.0.1", taken) == f"http://127.0.0.1:{port}"
        assert web.address("::", taken) == f"http://[::1]:{port}"
    with pytest.raises(UserError, match="cannot listen on nowhere.invalid:80"):
        web.listen("nowhere.invalid", 80)
