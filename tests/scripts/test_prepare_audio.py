import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import imported
import numpy as np
import pytest
from encoded import encode, tone

from vqwave.io import audio, manifest

SCRIPT = Path(__file__).parents[2] / "scripts" / "prepare_audio.py"


def start(*args):
    # The source root, so that the test also runs where the package is not installed.
    path = os.pathsep.join(p for p in (str(Path(manifest.__file__).parents[2]),
                                       os.environ.get("PYTHONPATH")) if p)
    # A group of its own, so that Ctrl-C reaches the workers too, as in a terminal.
    return subprocess.Popen([sys.executable, SCRIPT, *map(str, args)], start_new_session=True,
                            env=os.environ | {"PYTHONPATH": path},
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def finished(capsys):
    """(exit code, stdout, stderr) of a run in this process."""
    return partial(imported.run, capsys, "prepare_audio")


def test_good_files_of_any_format_are_prepared_and_bad_ones_named(tmp_path, finished):
    src, dst = tmp_path / "my music", tmp_path / "data"
    (src / "sub").mkdir(parents=True)
    for suffix in (".mp3", ".flac", ".ogg", ".m4a", ".wav", ".aiff", ".aac"):
        encode(src / "sub" / f"song{suffix}", tone(1))
    encode(src / "big.wav", np.stack([tone(1, 96000)] * 2, 1), 96000)
    encode(src / "one.wav", [0.5], 22050)
    encode(src / "silent.flac", np.zeros(44100))
    (src / "empty.mp3").touch()
    (src / "cor\nrupt.ogg").write_bytes(np.random.default_rng(0).bytes(9999))
    # None of these is music.
    (src / "dir.mp3").mkdir()
    for name in ("note.txt", "._a.mp3"):
        (src / name).write_text("x")
    code, out, err = finished(src, dst)
    assert code == 1
    assert out == f"10 converted, 0 up to date, 2 failed; 0.00 hours of audio at 22050 Hz in {dst}\n"
    assert err.splitlines() == [
        "note: other files are left out: 1 .txt",
        rf"failed: {src}/cor\nrupt.ogg: not audio that can be decoded",
        f"failed: {src}/empty.mp3: the file is empty",
    ]
    assert len(manifest.read(dst)) == 10
    code, out, _ = finished(src, dst)
    assert code == 1 and out.startswith("0 converted, 10 up to date, 2 failed")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.mp3").write_bytes(b"no")
    assert finished(tmp_path / "bad", tmp_path / "none")[0] == 2
    for name in ("empty.mp3", "cor\nrupt.ogg", "note.txt"):
        (src / name).unlink()
    code, out, err = finished(src, dst, "--sample-rate", "16000", "--workers", "1")
    assert code == 2 and "its 10 tracks are at 22050 Hz" in err and len(err.splitlines()) == 1
    code, out, err = finished(src, dst, "--sample-rate", "16000", "--workers", "1", "--overwrite")
    assert code == 0 and err == "" and out.startswith("10 converted, 0 up to date, 0 failed")
    assert {t.sample_rate for t in manifest.read(dst)} == {16000}


@pytest.mark.parametrize("how", (signal.SIGKILL, signal.SIGINT, signal.SIGTERM))
def test_an_interrupted_run_leaves_whole_tracks_and_is_continued(tmp_path, finished, how):
    src, dst = tmp_path / "m", tmp_path / "d"
    src.mkdir()
    for i in range(30):
        encode(src / f"{i}.flac", tone(20, frequency=440 + i))
    process = start(src, dst, "--workers", "2")
    while len(list(dst.glob("*.u16"))) < 6:  # so that some results have reached the parent
        assert process.poll() is None
        time.sleep(0.005)
    (os.killpg if how == signal.SIGINT else os.kill)(process.pid, how)
    # Ends only when the last worker has closed its end of the pipes: none outlives its parent.
    _, err = process.communicate(timeout=60)
    assert process.returncode == (-how if how == signal.SIGKILL else 128 + how)
    assert "Traceback" not in err
    made = list(dst.glob("*.u16"))
    assert 0 < len(made) < 30
    for path in made:
        wanted = audio.to_u16(audio.decode(src / path.stem, 22050)).astype("<u2")
        assert path.read_bytes() == wanted.tobytes()
    code, out, err = finished(src, dst)
    assert code == 0 and err == "" and len(manifest.read(dst)) == 30
    if how != signal.SIGKILL:
        assert not out.startswith("30 converted")  # What was done counted.
    assert {p.name for p in dst.iterdir()} == {manifest.NAME, *(f"{i}.flac.u16" for i in range(30))}
