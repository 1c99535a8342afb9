import dataclasses
import json
import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pytest
from encoded import encode, tone

from vqwave.data import prepare as preparing
from vqwave.errors import UserError
from vqwave.io import audio, files, manifest, silence
from vqwave.io.manifest import Track

TAGS = dict.fromkeys(manifest.TAGS)


def track(folder, file="a.mp3.u16", samples=100, **changes):
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    np.full(samples, 32768, "<u2").tofile(path)
    return dataclasses.replace(Track(file, f"/music/{file[:-4]}", 22050,
                                     samples, "0" * 64, TAGS, 5, 7), **changes)


def samples(folder, file):
    return np.fromfile(folder / file, "<u2")


def prepare(src, dst, **options):
    return preparing.prepare(src, dst, **{"sample_rate": 22050, "workers": 1} | options)


def test_written_is_read_in_the_order_of_names(tmp_path):
    odd = {**TAGS, "title": "Zeile\u2028zwei \n ünï"}
    tracks = [track(tmp_path, f, tags=odd, source=s) for f, s in (
                  ("b/ü.ogg.u16", "/m/\udcff.ogg"), ("a\nb.mp3.u16", "/m/x"), ("c.wav.u16", "/m/y"))]
    manifest.write(tmp_path, tracks)
    assert manifest.read(tmp_path) == sorted(tracks, key=lambda t: t.file)
    assert [p for p in os.listdir(tmp_path) if p.startswith(".")] == []
    assert manifest.read(tmp_path)[0].seconds == 100 / 22050


def test_a_recording_with_an_offset_is_high_passed_and_no_other(tmp_path, monkeypatch):
    music, dst = tmp_path / "music", tmp_path / "data"
    music.mkdir()
    monkeypatch.setattr(preparing, "_BLOCK", 30000)  # less than there is
    sound = tone(seconds=2.0, frequency=8000)  # high enough to come through in phase
    for name, offset in (("good", 0.0), ("faulty", 0.3)):
        encode(music / f"{name}.wav", sound + offset, 22050, subtype="FLOAT")
    [note] = prepare(music, dst).notes
    assert "below 20 Hz" in note and note.endswith("in faulty.wav, and taken out")
    faulty, good = manifest.read(dst)
    assert (good.high_passed, faulty.high_passed) == (False, True)
    assert np.array_equal(samples(dst, good.file), audio.to_u16(sound))
    filtered = audio.from_u16(samples(dst, faulty.file))
    assert faulty.samples == len(sound) and abs(filtered.mean()) < 1e-3
    assert np.abs(filtered - sound)[2205:].max() < 0.01
    # Cached codes of the same source without the filter are not used.
    assert faulty.content != faulty.sha256 and good.content == good.sha256
    assert [t.file for t in prepare(music, dst).up_to_date] == ["faulty.wav.u16", "good.wav.u16"]
    assert manifest.read(dst) == [faulty, good]


def test_a_recording_of_the_same_size_is_converted_again_if_it_is_newer(tmp_path):
    music, dst = tmp_path / "music", tmp_path / "data"
    music.mkdir()
    encode(music / "a.wav", tone(seconds=0.5, frequency=440), 22050)
    size, time_ns = (music / "a.wav").stat().st_size, (music / "a.wav").stat().st_mtime_ns
    [first] = prepare(music, dst).converted
    encode(music / "a.wav", tone(seconds=0.5, frequency=660), 22050)
    os.utime(music / "a.wav", ns=(time_ns, time_ns + 1))
    assert (music / "a.wav").stat().st_size == size
    [second] = prepare(music, dst).converted
    assert second.sha256 != first.sha256


@pytest.mark.parametrize("change, reason", (
    (lambda t: "{", "not JSON"),
    (lambda t: "[" * 100_000, "line 2"),
    (lambda t: json.dumps({k: v for k, v in t.items() if k != "sha256"}), "sha256 is missing"),
    (lambda t: json.dumps(t | {"samples": "100"}), "samples is '100'"),
    (lambda t: json.dumps(t | {"samples": 0}), "samples is 0"),
    (lambda t: json.dumps(t | {"sound": [0, -1, 0]}), "sound"),
    (lambda t: json.dumps(t | {"fingerprint": "xyz"}), "fingerprint"),
    (lambda t: json.dumps(t | {"file": "/etc/passwd"}), "outside the folder"),
    (lambda t: json.dumps(t | {"file": "a/../../b.u16"}), "outside the folder"),
    (lambda t: json.dumps(t | {"file": "a\0b"}), "outside the folder"),
    (lambda t: json.dumps(t), "there twice"),
))
def test_a_broken_line_is_named(tmp_path, change, reason):
    good = dataclasses.asdict(track(tmp_path))
    (tmp_path / manifest.NAME).write_text(json.dumps(good) + "\n" + change(good) + "\n")
    with pytest.raises(UserError, match=reason) as caught:
        manifest.read(tmp_path)
    assert "line 2" in str(caught.value) and "\n" not in str(caught.value)


def test_a_last_line_that_is_cut_off_is_left_out_wherever_it_ends(tmp_path):
    tracks = [track(tmp_path, f"{i}.ogg.u16", tags=TAGS | {"title": "ü\n"}) for i in range(3)]
    manifest.write(tmp_path, tracks)
    path = tmp_path / manifest.NAME
    lines = path.read_bytes().splitlines(keepends=True)
    for end in range(len(lines[2])):
        path.write_bytes(b"".join(lines[:2]) + lines[2][:end])
        # Without its line break alone it is still whole.
        assert manifest.read(tmp_path) == tracks[: 2 + (end == len(lines[2]) - 1)]
    # Anywhere else half a line is damage.
    path.write_bytes(lines[0] + lines[1][:50] + b"\n" + lines[2])
    with pytest.raises(UserError, match=r"manifest.jsonl, line 2: not JSON"):
        manifest.read(tmp_path)


@pytest.mark.parametrize("link, target, file", [
    ("album/b.ogg.u16", "../../elsewhere/b.ogg.u16", "album/b.ogg.u16"),
    ("out", "../elsewhere", "out/b.ogg.u16"), ("out", "..", "out/elsewhere/b.ogg.u16")])
def test_no_link_leads_a_track_outside_the_folder(tmp_path, link, target, file):
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    inside, outside = track(data, "album/a.ogg.u16"), track(elsewhere, "b.ogg.u16")
    (data / "same").symlink_to("album")
    linked = dataclasses.replace(inside, file="same/a.ogg.u16")
    manifest.write(data, [inside, linked])
    assert manifest.read(data) == [inside, linked]
    (data / link).symlink_to(target)
    assert (data / file).exists()
    manifest.write(data, [inside, dataclasses.replace(outside, file=file)])
    with pytest.raises(UserError, match=f"{file} lies outside the folder"):
        manifest.read(data)


def test_a_track_that_is_missing_or_of_another_length_is_named(tmp_path):
    manifest.write(tmp_path, [track(tmp_path, "x.ogg.u16")])
    for harm in (lambda path: path.write_bytes(b"12"), lambda path: path.unlink()):
        harm(tmp_path / "x.ogg.u16")
        with pytest.raises(UserError, match="x.ogg.u16 is missing or not 200 bytes"):
            manifest.read(tmp_path)


def test_mixed_sample_rates_are_refused_by_name(tmp_path):
    manifest.write(tmp_path,
                   [track(tmp_path, "x.u16"), track(tmp_path, "y.u16", sample_rate=44100)])
    with pytest.raises(UserError, match="x.u16 has 22050 Hz, y.u16 44100 Hz"):
        manifest.read(tmp_path)


@pytest.fixture
def music(tmp_path):
    """A folder with three tracks in two formats, two of one name."""
    src = tmp_path / "music"
    (src / "album").mkdir(parents=True)
    encode(src / "a.wav", tone(1))
    encode(src / "a.flac", tone(2, frequency=880), tags={"title": "Ä", "artist": "B"})
    encode(src / "album" / "c.MP3", tone(1))
    return src


def test_tracks_keep_structure_names_samples_and_tags(music, tmp_path):
    dst = tmp_path / "new" / "data"
    report = prepare(music, dst)
    tracks = {t.file: t for t in manifest.read(dst)}
    assert sorted(tracks) == ["a.flac.u16", "a.wav.u16", "album/c.MP3.u16"]
    assert report.exit_code == 0 and len(report.converted) == 3 and not report.notes
    for t in tracks.values():
        assert np.array_equal(samples(dst, t.file), audio.to_u16(audio.decode(t.source, 22050)))
        assert t.samples == len(samples(dst, t.file)) and t.sample_rate == 22050
        assert t.sound == silence.measure_file(t.path(dst), t.samples, 22050) and t.sound[2] > 0
    assert tracks["a.flac.u16"].tags == TAGS | {"title": "Ä", "artist": "B"}
    assert tracks["a.wav.u16"].tags == TAGS
    assert tracks["a.wav.u16"].source == str(music / "a.wav")


def test_a_second_run_touches_nothing(music, tmp_path):
    prepare(music, tmp_path / "d")
    before = state(tmp_path / "d")
    report = prepare(music, tmp_path / "d")
    assert len(report.up_to_date) == 3 and not report.converted and report.exit_code == 0
    assert state(tmp_path / "d") == before
    # Tracks whose sound was not measured yet are measured, not converted.
    tracks = manifest.read(tmp_path / "d")
    manifest.write(tmp_path / "d", [dataclasses.replace(t, sound=None, fingerprint=None) for t in tracks])
    assert len(prepare(music, tmp_path / "d").up_to_date) == 3
    assert manifest.read(tmp_path / "d") == tracks


def test_changed_files_are_converted_again(music, tmp_path):
    dst = tmp_path / "d"
    prepare(music, dst)
    os.utime(music / "a.wav")  # Touched, same content.
    encode(music / "a.flac", tone(3))
    (dst / "album/c.MP3.u16").write_bytes(b"half")
    report = prepare(music, dst)
    assert sorted(t.file for t in report.converted) == ["a.flac.u16", "album/c.MP3.u16"]
    assert [t.file for t in report.up_to_date] == ["a.wav.u16"]
    assert {t.file: t.seconds for t in manifest.read(dst)}["a.flac.u16"] == 3
    assert len(prepare(music, dst).up_to_date) == 3


def test_only_overwrite_converts_a_folder_to_another_rate(music, tmp_path):
    dst = tmp_path / "d"
    prepare(music, dst)
    with pytest.raises(UserError, match="its 3 tracks are at 22050 Hz, not 16000 Hz"):
        prepare(music, dst, sample_rate=16000)
    assert {t.sample_rate for t in manifest.read(dst)} == {22050}
    # A conversion that was interrupted goes on without the flag.
    prepare(music / "album", dst, sample_rate=16000, overwrite=True)
    assert len({t.sample_rate for t in manifest.load(dst)}) == 2
    assert len(prepare(music, dst, sample_rate=16000).converted) == 2
    assert {t.sample_rate for t in manifest.read(dst)} == {16000}
    assert len(prepare(music, dst, sample_rate=16000, overwrite=True).converted) == 3


def state(dst):
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in dst.rglob("*") if p.is_file()}


@pytest.mark.parametrize("change", ("name", "time", "rate"))
def test_a_renamed_file_keeps_its_track(music, tmp_path, change):
    dst = tmp_path / "d"
    prepare(music, dst, sample_rate=16000 if change == "rate" else 22050)
    (music / "a.flac").rename(music / "z.flac")
    if change == "time":
        os.utime(music / "z.flac")
    elif change == "rate":  # As if a conversion to another rate had been interrupted.
        prepare(music / "album", dst, overwrite=True)
    report = prepare(music, dst)
    assert len(report.converted) == (2 if change == "rate" else 0)
    assert len(report.converted + report.up_to_date) == 3 and not report.failed + report.notes
    tracks = manifest.read(dst)
    assert [t.file for t in tracks] == ["a.flac.u16", "a.wav.u16", "album/c.MP3.u16"]
    assert tracks[0].source == str(music / "z.flac") and tracks[0].tags["title"] == "Ä"
    before = state(dst)
    assert len(prepare(music, dst).up_to_date) == 3 and state(dst) == before
    # Another file can take the old name.
    encode(music / "a.flac", tone(1))
    assert [t.file for t in prepare(music, dst).converted] == ["a.flac~2.u16"]


def test_the_reason_of_an_impossible_run_is_named(music, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "file").touch()
    for src, dst, reason in ((empty, "d", "contains no audio"),
                             (tmp_path / "no", "d", "no such folder"),
                             (tmp_path / "file", "d", "is not a folder"),
                             (music, "file", "cannot be created")):
        with pytest.raises(UserError, match=reason):
            prepare(src, tmp_path / dst)
    assert not (tmp_path / "d").exists()


def test_only_one_run_at_a_time_and_leftovers_go(music, tmp_path):
    dst = tmp_path / "d"
    (dst / "album").mkdir(parents=True)
    (dst / "album" / ".vqwave-00ff.part").write_bytes(b"half")
    taken = f"data is already being prepared here by process {os.getpid()}"
    with preparing._claim(dst), pytest.raises(UserError, match=taken):
        prepare(music, dst)
    # A file that another process is writing there, a training's codes say, stays.
    (dst / ".codes").mkdir()
    with files.atomic_write(dst / ".codes" / "a.u16") as theirs:
        prepare(music, dst)
        theirs.write(b"whole")
    assert [p.name for p in dst.rglob(".*")] == [".codes"]
    assert (dst / ".codes" / "a.u16").read_bytes() == b"whole"


def test_workers_killed_from_outside_cost_no_track(tmp_path):
    src = tmp_path / "m"
    src.mkdir()
    for i in range(12):
        encode(src / f"{i}.flac", tone(20, frequency=440 + i))
    killed = []

    def kill():
        while not list(tmp_path.glob("d/*.u16")):
            time.sleep(0.002)
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)
            killed.append(child.pid)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    report = preparing.prepare(src, tmp_path / "d", 22050, workers=2)
    killer.join()
    assert killed and not report.failed and len(manifest.read(tmp_path / "d")) == 12
    assert not list((tmp_path / "d").glob(".*"))
