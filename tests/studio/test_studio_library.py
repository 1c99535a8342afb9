"""The studio without a browser: settings and links, takes and their tapes, recordings, codecs
heard, and its routes.
"""

import contextlib
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import chains
import imported
import numpy as np
import pydantic
import pytest
from encoded import encode
from hypothesis import given
from hypothesis import strategies as st
from messages import parse_frames, sound, unframed
from prepared import music as tune

import vqwave
from vqwave.config import preset, replace
from vqwave.dsp import metrics, notes
from vqwave.errors import UserError
from vqwave.io import audio, files, weights
from vqwave.play.render import Finish
from vqwave.studio import (
    Change,
    CompareRequest,
    Studio,
    TakeRequest,
    guard,
    library,
    limits,
    pictures,
    recordings,
    web,
)
from vqwave.studio.requests import explain
from vqwave.studio.routes import STATIC
from vqwave.studio.take import ChangeLog

CHAIN = preset("tiny").chain
LEVELS, RATE, COLUMN = CHAIN.sizes, CHAIN.sample_rate, CHAIN.top


@pytest.fixture(scope="module")
def studio(tiny_weights):
    studio = Studio(tiny_weights.codecs, [tiny_weights.generators])
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def weights_folder(studio):
    return next(iter(studio.folders.paths))


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    path = tmp_path_factory.mktemp("dropped") / "my song.mp3"
    encode(path, tune(3.0, 1, 44100)[:, None])
    return path


@pytest.fixture
def make(studio, weights_folder):
    """Make a take to its end: (header, blocks as (about, payload), record)."""

    def make(**settings):
        made = unframed(studio.perform(TakeRequest(**{"weights": weights_folder, **settings})))
        assert "error" not in made[-1][0], made[-1][0]
        kinds = [next(iter(about)) for about, _ in made]
        first = kinds.index("take")
        assert set(kinds[:first]) <= {"progress"} and kinds[-1] == "end"
        return made[first][0]["take"], made[first + 1 : -1], made[-1][0]["end"]

    return make


def begin(studio, weights_folder, **settings):
    """(the frames of a take that has begun, its header)."""
    frames = studio.perform(TakeRequest(**{"weights": weights_folder, "level": 128, "seconds": "endless", **settings}))
    while "take" not in (about := parse_frames(next(frames))[0][0]):
        pass
    return frames, about["take"]


def whole(studio, **settings):
    """The record of a take that is made to its end."""
    return unframed(studio.perform(TakeRequest(**settings)))[-1][0]["end"]


def check_codes(header, blocks, codes, books):
    """The messages of blocks hold these codes: {level: codes of a block} for each, books: {level: their number}."""
    assert {one["level"]: one["books"] for one in header["levels"]} == books
    for one in header["levels"]:
        assert [len(shades) for shades in one["shades"]] == [64] * one["books"] and one["most_bits"] == 6 * one["books"]
    for (about, payload), block in zip(blocks, codes, strict=True):
        at = 2 * about["samples"] + about["columns"] * pictures.BANDS
        for count, (level, n) in zip(about["codes"], books.items(), strict=True):
            shown = np.frombuffer(payload, "<u2", count, at)
            np.testing.assert_array_equal(shown.reshape(-1, n), block[level].reshape(-1, n))
            at += 2 * count
        assert at == len(payload) and list(about["bits"]) == [str(level) for level in books]


@pytest.fixture
def open_studio():
    """Opens studios that are closed at the end."""
    with contextlib.ExitStack() as opened:
        yield lambda *arguments, **options: opened.enter_context(contextlib.closing(Studio(*arguments, **options)))


def busy(studio):
    return sum(take.busy for take in studio.takes.by_id.values())


def refusal(studio, **settings):
    """What the studio says instead of making a take."""
    made = unframed(studio.perform(TakeRequest(**settings)))
    assert list(made[-1][0]) == ["error"]
    return made[-1][0]["error"]


def command_line(words, codecs, tmp_path, **replaced):
    """Run a command the studio gave, in this process; the bytes of the file it writes."""
    python, script, *arguments = shlex.split(words)
    assert (python, script) == ("python", "scripts/generate_audio.py")
    module = imported.script("generate_audio")
    arguments = [str(replaced.get(a, a)) for a in arguments]
    assert arguments[-2:] == ["--output", "take.wav"]
    made = tmp_path / "take.wav"
    made.unlink(missing_ok=True)
    assert module.main([*arguments[:-1], str(made)]) == 0
    return made.read_bytes()


# ------------------------------------------------------------------------------- settings and links


def complete(chain=CHAIN, temperatures=None, **request):
    return TakeRequest(**request).complete(chain, temperatures or {})


def follow(link):
    return complete(**dict(urllib.parse.parse_qsl(link)))


@given(weights_name=st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1),
       epoch=st.sampled_from(["", "best", "00012"]), level=st.sampled_from(LEVELS), seed=st.integers(0, 2**53 - 1),
       seconds=st.none() | st.floats(0.1, 10_000), temperature=st.lists(st.floats(0, 4), min_size=4, max_size=4))
def test_a_link_holds_all_settings(weights_name, temperature, seconds, **values):
    settings = complete(weights=weights_name, temperature=dict(zip(LEVELS, temperature, strict=True)),
                        seconds="endless" if seconds is None else seconds, **values)
    assert follow(settings.link) == settings
    assert (settings.seconds is None) == (seconds is None)


@pytest.mark.parametrize("mode, more", [
    ("continue", {"prompt_start": 1.5, "prompt_seconds": 2.5, "keep_original": False}),
    ("vary", {"keep": 128, "level": 32}),
])
def test_a_link_holds_the_use_of_a_recording_and_the_changes(mode, more):
    settings = complete(mode=mode, recording="abc", name="a & b = ü?.mp3", level=more.pop("level", 8),
                        changes=[[8192, {"sampling": {"512": {"top_p": 0.5}}}], [16384, {"hold": 1.5}]], **more)
    assert follow(settings.link) == settings


@pytest.mark.parametrize("values, field", [
    ({"mode": "sing"}, "mode"), ({"seed": -1}, "seed"), ({"seed": 1.5}, "seed"), ({"seed": "twelve"}, "seed"),
    ({"seconds": 0}, "seconds"), ({"seconds": "nan"}, "seconds"), ({"seconds": 10**400}, "seconds"),
    ({"temperature": [1, 1]}, "temperature"), ({"temperature": {"32": -1}}, "temperature"),
    ({"temperature": "512:x"}, "temperature"), ({"prompt_start": -1}, "prompt_start"), ({"prompt_seconds": -2}, "prompt_seconds"),
    *[({"changes": changes}, "changes") for changes in (
        "[[1,", "[1]", "7", "[" * 100_000, [[-1, {}]], [[0, {"begin": 1}]], [[0, {"jump": 1, "weights": "mine"}]],
        [[0, {"jump": 1}]] * 12_001, [[0, {"sampling": {"x": {}}}]], [[True, {}]])],
])
def test_a_request_that_cannot_be_read_names_its_field(values, field):
    with pytest.raises(pydantic.ValidationError) as error:
        TakeRequest(**values)
    line = explain(error.value.errors()[0])
    assert line.startswith(field.replace("_", " ")) and len(line) < 300 and "\n" not in line


@pytest.mark.parametrize("values, words", [
    ({"level": 64}, "there is no level 64; there are 512, 128, 32, 8"),
    ({"mode": "vary"}, "There is no recording yet: drop one in"),
    ({"mode": "vary", "recording": "x", "keep": 32, "level": 128}, "keep is 32; it must be one of 512"),
    ({"mode": "vary", "recording": "x", "keep": 8}, "keep is 8; it must be one of 512, 128, 32"),
    ({"mode": "vary", "recording": "gone", "name": "a.mp3"}, "a.mp3 is not in this studio (any more): drop it in"),
    ({"weights": "/etc"}, "There is no folder of weights called '/etc' here; there are"),
    ({"epoch": "7"}, "has no epoch 7"),
])
def test_a_piece_that_cannot_be_made_is_refused(studio, weights_folder, values, words):
    assert words in refusal(studio, **{"weights": weights_folder, **values})
    assert busy(studio) == 0


def test_defaults_come_from_the_chain_and_the_generators():
    assert complete().seed != complete(seed="").seed
    chain = replace(CHAIN, end=128)
    assert complete(chain).level == 128
    some = complete(chain, level=8, temperature={"128": 0.5, "8": "0.25", "4096": 4})
    assert some.temperatures == some.temperature == {512: 1.0, 128: 0.5, 32: 1.0, 8: 0.25}
    shipped = complete(chain, {512: 1.1, 128: 0.8, 8: 0.7}, temperature={"128": 0.5})
    assert shipped.temperature == {512: 1.1, 128: 0.5, 32: 1.0, 8: 0.7}
    two = complete(replace(chain, levels=chain.levels[2:], end=None), mode="vary", recording="x", temperature="32:0.1,8:0.2")
    assert two.chain == (32, 8) and two.keep == 32 and two.temperatures == {8: 0.2}
    with pytest.raises(UserError, match="no level above"):
        complete(replace(chain, levels=chain.levels[:1], end=None), mode="vary", recording="x")


# -------------------------------------------------------------------------------------------- takes


@pytest.mark.parametrize("level, seconds", [(8, 1.0), (128, 2.00003)])
def test_a_take_is_the_piece_that_the_library_makes_and_shows_its_codes(make, studio, tiny_weights, level, seconds):
    header, blocks, record = make(level=level, seed=5, seconds=seconds, temperature=dict(zip(LEVELS, [1, 0.9, 1, 0.8], strict=True)))
    music = vqwave.load(tiny_weights.codecs, tiny_weights.generators)
    used = [t for t, x in zip([1, 0.9, 1, 0.8], LEVELS, strict=True) if x >= level]
    heard = sound(blocks)
    sampling = {x: {"temperature": t} for x, t in zip(LEVELS, used, strict=False)}
    with music.stream(level=level, seed=5, seconds=seconds, sampling=sampling) as stream:
        made, codes = zip(*((block, stream.codes) for block in stream), strict=True)
    np.testing.assert_array_equal(heard, audio.to_int16(np.concatenate(made)))
    assert (header["rate"], header["block"], header["column"]) == (RATE, CHAIN.block, COLUMN)
    assert header["samples"] == len(heard) and header["seed"] == 5 and record["seconds"] == len(heard) / RATE
    columns = sum(about["columns"] for about, _ in blocks)
    assert columns == -(-len(heard) // COLUMN)
    check_codes(header, blocks, codes, {x: 1 for x in LEVELS if x >= level})
    assert all(bits >= 0 for about, _ in blocks for bits in about["bits"].values())
    files_of = {kind: studio.takes.file(record["id"], kind) for kind in ("wav", "flac")}
    np.testing.assert_array_equal(heard, audio.to_int16(audio.decode(files_of["wav"], RATE)))
    assert files_of["flac"].read_bytes()[:4] == b"fLaC"
    np.testing.assert_array_equal(heard, audio.to_int16(audio.decode(files_of["flac"], RATE)))


@pytest.mark.parametrize("settings", [
    {"level": 8, "seed": 3, "seconds": 0.7},
    {"level": 128, "seed": 4, "seconds": 1.23456, "temperature": dict(zip(LEVELS, [1, 0.5, 1, 1], strict=True)), "epoch": ""},
    {"mode": "continue", "level": 32, "seed": 1, "seconds": 2.5, "prompt_start": 0.4, "prompt_seconds": 1.5,
     "keep_original": True},
    {"mode": "vary", "keep": 128, "level": 32, "seed": 6, "seconds": 30},
])
def test_the_command_and_the_link_make_the_same_wav_byte_for_byte(make, studio, song, tiny_weights, tmp_path, settings):
    if "mode" in settings:
        settings = settings | {"recording": studio.recordings.receive(song).id, "name": song.name}
    header, blocks, record = make(**settings)
    wav = studio.takes.file(record["id"], "wav").read_bytes()
    assert command_line(record["command"], tiny_weights.codecs, tmp_path, **{song.name: song}) == wav
    _, _, again = make(**dict(urllib.parse.parse_qsl(record["link"])))
    assert studio.takes.file(again["id"], "wav").read_bytes() == wav
    assert again["link"] == record["link"] and again["command"] == record["command"]


def test_a_short_recording_is_continued_after_its_end(studio, weights_folder, tmp_path):
    """The title says how much was heard, not how much was asked for."""
    audio.write(tmp_path / "short.wav", tune(0.8, 1), RATE)
    recording = studio.recordings.receive(tmp_path / "short.wav")
    given = {"weights": weights_folder, "mode": "continue", "recording": recording.id, "name": recording.name,
             "level": 128, "seconds": 2, "prompt_seconds": 5}
    assert unframed(studio.perform(TakeRequest(**given)))[-1][0]["end"]["title"] == "short.wav, continued after 0.8 s"
    error = refusal(studio, **given, prompt_start=3)
    assert "short.wav: ends after 0.80 s" in error and str(studio.folder) not in error


def test_only_the_folder_of_a_killed_studio_is_removed(studio, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name, age in (("killed", 100), ("young", 0), ("held", 100)):
        lock = tmp_path / f"vqwave-studio-{name}" / "lock"
        lock.parent.mkdir()
        lock.touch()
        os.utime(lock, (time.time() - age,) * 2)
    (tmp_path / "vqwave-studio-unlike").mkdir()
    with open(tmp_path / "vqwave-studio-held" / "lock") as held:
        assert files.try_lock(held)
        library.sweep_folders()
    assert sorted(p.name.split("-")[2] for p in tmp_path.iterdir()) == ["held", "unlike", "young"]
    assert studio.folder.exists()


@pytest.mark.parametrize("mode", ["new", "continue"])
def test_a_stopped_take_ends_where_it_was_heard_and_is_made_again_by_its_command(
    studio, weights_folder, song, tiny_weights, tmp_path, mode
):
    given = {"weights": weights_folder, "level": 128, "seed": 2, "seconds": "endless", "mode": mode,
             "recording": studio.recordings.receive(song).id, "name": song.name, "prompt_seconds": 1}
    frames = studio.perform(TakeRequest(**given))
    made = []
    while sum("bits" in about for about, _ in made) < 6:
        made += parse_frames(next(frames))
    take = next(about["take"] for about, _ in made if "take" in about)
    so_far = studio.takes.file(take["id"], "wav", heard=10_000)
    assert len(audio.decode(so_far, RATE)) == 10_000
    with pytest.raises(UserError, match="Nothing of the take was heard yet"):
        studio.takes.file(take["id"], "wav")
    record = studio.stop(take["id"], 30_000)
    assert record["seconds"] == 30_208 / RATE
    rest = unframed(frames)
    assert all("bits" not in about for about, _ in rest)
    wav = studio.takes.file(take["id"], "wav")
    heard = sound([block for block in made if "bits" in block[0]])
    np.testing.assert_array_equal(audio.to_int16(audio.decode(wav, RATE)), heard[:30_208])
    assert command_line(record["command"], tiny_weights.codecs, tmp_path, **{song.name: song}) == wav.read_bytes()
    assert studio.stop(take["id"], 1) == studio.record(studio.takes.get(take["id"])), "stopping twice changes nothing"


def test_closing_a_take_frees_its_stream_at_any_time(studio, weights_folder):
    frames = studio.perform(TakeRequest(weights=weights_folder, level=128, seconds="endless"))
    next(frames)
    assert busy(studio) == 1
    frames.close()
    assert busy(studio) == 0
    frames, take = begin(studio, weights_folder)
    for _ in range(3):
        next(frames)
    assert take["id"] not in studio.records([take["id"]])
    frames.close()
    assert busy(studio) == 0 and take["id"] in studio.records([take["id"]]), "what was made stays"
    assert not [t for t in threading.enumerate() if "vqwave" in t.name]


def test_no_more_is_made_than_is_allowed(studio, weights_folder):
    frames, take = begin(studio, weights_folder, until=10_000)
    made = [parse_frames(next(frames))[0] for _ in range(3)]
    assert [about.get("samples") for about, _ in made] == [8192, 8192, None] and "wait" in made[2][0]
    studio.takes.get(take["id"]).steer(Change(until=20_000))
    assert parse_frames(next(frames))[0][0]["samples"] == 8192
    frames.close()


def test_a_take_that_was_changed_while_it_played_is_made_again_by_its_link_and_by_its_command(
    studio, weights_folder, tiny_weights, tmp_path, make
):
    frames, take = begin(studio, weights_folder, seed=4)
    kept, made = studio.takes.get(take["id"]), []
    changes = {2: {"wild": 0.7}, 4: {"loudness": -9}, 6: {"hold": 1.0}, 9: {"hold": 0}, 10: {"jump": True},
               11: {"transpose": 3, "freeze": 1.0, "mutate": 0.5}, 12: {"levels": {"512": {"temperature": 0.8, "top_p": 0.9}}},
               13: {"wild": -1, "loudness": 0, "transpose": 0, "freeze": 0}}
    for i in range(16):
        if i in changes:
            assert kept.steer(Change(**changes[i]))["sample"] == 8192 * i
        made += parse_frames(next(frames))
    record = studio.stop(take["id"], 16 * 8192)
    frames.close()
    assert record["changes"] == 8 and record["changes_file"] == f"vqwave-seed-4-{record['seconds']:.1f}s.json"
    given = dict(urllib.parse.parse_qsl(record["link"]))
    # As the page writes it.
    score = tmp_path / "score.json"
    score.write_text(f'{{"seed": {given["seed"]}, "changes": {given["changes"]}}}')
    wav = studio.takes.file(take["id"], "wav").read_bytes()
    assert command_line(record["command"], tiny_weights.codecs, tmp_path, **{record["changes_file"]: score}) == wav
    _, blocks, again = make(**given)
    np.testing.assert_array_equal(sound(blocks), sound(made))
    assert again["link"] == record["link"]
    plain = make(**{key: value for key, value in given.items() if key != "changes"})
    assert not np.array_equal(sound(plain[1]), sound(made))
    with pytest.raises(UserError, match="has ended"):
        kept.steer(Change(**{"wild": 0}))


def test_a_slider_that_is_dragged_is_one_change_a_block(studio, weights_folder, make):
    frames, take = begin(studio, weights_folder, seed=4)
    kept, made = studio.takes.get(take["id"]), parse_frames(next(frames))
    dragged = [{"loudness": -1}, {"wild": 0.3}, {"levels": {"512": {"top_p": 0.8}}}, {"loudness": -7}, {"transpose": 2},
               {"levels": {"512": {"temperature": 1.1}, "128": {"temperature": 0.9}}}, {"transpose": 0}, {"notes": []}]
    for change in dragged:
        assert kept.steer(Change(**change))["sample"] == 8192
    made += parse_frames(next(frames))
    # What leaves a trace stands in its order.
    for change in ({"loudness": -3}, {"freeze": 0.5}, {"loudness": -2}, {"jump": True}, {"loudness": -1}, {"loudness": 0}):
        kept.steer(Change(**change))
    for _ in range(4):
        made += parse_frames(next(frames))
    record = studio.stop(take["id"], 6 * 8192)
    frames.close()
    first, *others = kept.settings.changes
    assert first[1]["loudness"] == -7 and first[1]["transpose"] == 0
    assert first[1]["sampling"][512] == {"temperature": 1.1, "top_p": 0.8}
    assert first[1]["sampling"][128]["temperature"] == 0.9 and first[1]["sampling"][128]["top_p"] == 1
    assert [sorted(change) for _, change in others] == [["loudness"], ["freeze"], ["loudness"], ["jump"], ["loudness"]]
    _, blocks, _ = make(**dict(urllib.parse.parse_qsl(record["link"])))
    np.testing.assert_array_equal(sound(blocks), sound(made))


def test_what_is_held_can_be_let_go_after_any_number_of_changes(studio, weights_folder, make, monkeypatch):
    monkeypatch.setattr(limits, "MOST_CHANGES", 3)
    frames, take = begin(studio, weights_folder, seed=4)
    kept, made = studio.takes.get(take["id"]), []
    for change in (None, {"freeze": 0.5}, {"hold": 0.4}, {"loudness": -6}):
        if change:
            kept.steer(Change(**change))
        made += parse_frames(next(frames))
    for change in ({"loudness": 0}, {"hold": 1}, {"notes": [60]}, {"hold": 0, "loudness": 0}):
        with pytest.raises(UserError, match="A take remembers 3 changes: begin another"):
            kept.steer(Change(**change))
    for change in ({"notes": []}, {"hold": 0}, {"freeze": 0}):
        assert kept.steer(Change(**change))["sample"] == 4 * 8192
    made += parse_frames(b"".join(next(frames) for _ in range(3)))
    record = studio.stop(take["id"], 7 * 8192)
    frames.close()
    _, blocks, _ = make(**dict(urllib.parse.parse_qsl(record["link"])))
    np.testing.assert_array_equal(sound(blocks), sound(made))


def test_changes_that_cannot_be_are_refused(studio, weights_folder):
    frames, take = begin(studio, weights_folder)
    next(frames)
    for values, words in (
        ({"hold": 60}, "hold is 60"), ({"transpose": 13}, "transpose is 13"), ({"freeze": 60}, "freeze is 60"),
        ({"notes": [200]}, "a note is 200"), ({"levels": {"7": {"top_p": 1}}}, "7"), ({"levels": {"512": {"top_p": 2}}}, "top_p"),
        ({"label": "calm"}, "was trained without labels"),
        ({"levels": {"512": {"guidance": 2}}}, "nothing for guidance to follow"),
    ):
        with pytest.raises(UserError, match=words):
            studio.takes.get(take["id"]).steer(Change(**values))
    assert studio.takes.get(take["id"]).log.live == []
    frames.close()


def test_a_change_that_cannot_be_read_is_refused():
    for values in ({"wild": 2}, {"loudness": "loud"}, {"warmth": 1}, {"notes": "C"}, {"levels": [1]}, {"until": -1}, {"loudness": 10**400}):
        with pytest.raises(pydantic.ValidationError):
            Change(**values)


@pytest.fixture(scope="module")
def labelled(tiny_weights, tmp_path_factory):
    """A studio of weights of the tiny chain's top level that were trained with labels."""
    folder = tmp_path_factory.mktemp("labelled")
    model = replace(preset("tiny").generator(512), conditions=[{"kind": "labels", "names": ["calm", "battle"]}])
    chains.save_generator(folder, model, 2.0)
    top = replace(CHAIN, levels=[{"level": 512, "codec": "vqvae_512", "generator": "generator_512"}])
    weights.save_chain(folder, top)
    studio = Studio(tiny_weights.codecs, [folder])
    yield studio
    studio.close()


def test_a_form_begins_with_the_temperatures_that_the_generators_have(tiny_weights, open_studio, tmp_path):
    chains.save_generator(tmp_path, replace(preset("tiny").generator(512), sampling={"temperature": 0.7}), 2.0)
    weights.save_chain(tmp_path, CHAIN)
    studio = open_studio(tiny_weights.codecs, [tmp_path])
    [folder] = studio.about()["folders"]
    assert folder["temperatures"] == [0.7, 1.0, 1.0, 1.0]
    assert studio.settings(TakeRequest()).temperature == {512: 0.7, 128: 1.0, 32: 1.0, 8: 1.0}
    assert studio.settings(TakeRequest(temperature="512:1")).temperature[512] == 1.0


def test_a_take_with_labels_changes_its_label(labelled, tmp_path):
    [folder] = labelled.about()["folders"]
    assert folder["labels"] == ["calm", "battle"]
    frames, take = begin(labelled, folder["name"], level=512, seed=4, label="calm")
    assert (take["labels"], take["label"]) == (["calm", "battle"], "calm")
    kept = labelled.takes.get(take["id"])
    changes = {1: {"label": "battle"}, 2: {"levels": {"512": {"guidance": 3}}}, 4: {"label": "calm:0.5,battle:0.5"}, 5: {"label": ""}}
    for i in range(7):
        if i in changes:
            assert kept.steer(Change(**changes[i]))["sample"] == 8192 * i
        next(frames)
    with pytest.raises(UserError, match="no label is called 'clam'; did you mean 'calm'"):
        kept.steer(Change(**{"label": "clam"}))
    record = labelled.stop(take["id"], 7 * 8192)
    frames.close()
    given = dict(urllib.parse.parse_qsl(record["link"]))
    assert given["label"] == "calm" and "--label calm" in record["command"]
    again = whole(labelled, **given)
    wavs = [labelled.takes.file(identity, "wav").read_bytes() for identity in (take["id"], again["id"])]
    assert wavs[0] == wavs[1]
    plain = whole(labelled, **{k: x for k, x in given.items() if k not in ("label", "changes")})
    assert labelled.takes.file(plain["id"], "wav").read_bytes() != wavs[0]
    assert "no label is called 'waltz'" in refusal(labelled, weights=folder["name"], label="waltz")


def test_a_take_is_played_again_from_its_tape(studio, make):
    header, blocks, record = make(level=128, seconds=2.5, seed=3)
    again = unframed(studio.replay(record["id"]))
    assert again[0][0]["take"] == header | {"levels": []} and again[-1][0]["end"] == record
    np.testing.assert_array_equal(sound(again[1:-1]), sound(blocks))
    columns = sum(about["columns"] for about, _ in again[1:-1])
    assert columns == sum(about["columns"] for about, _ in blocks)


def test_a_take_is_faded_looped_and_normalized(studio, make):
    record = make(level=128, seconds=4, seed=3)[2]
    plain = audio.decode(studio.takes.file(record["id"], "wav"), RATE)
    faded = audio.decode(studio.takes.file(record["id"], "flac", Finish(fade=1.0)), RATE)
    assert np.abs(faded[:100]).max() < 0.02 * np.abs(plain).max() and len(faded) == len(plain)
    np.testing.assert_array_equal(faded[2 * RATE : 2 * RATE + 1000], plain[2 * RATE : 2 * RATE + 1000])
    looped = audio.decode(studio.takes.file(record["id"], "wav", Finish(loop=True, normalize=True)), RATE)
    assert len(looped) < len(plain) and np.abs(looped).max() < 1
    np.testing.assert_array_equal(audio.decode(studio.takes.file(record["id"], "wav"), RATE), plain)
    with pytest.raises(UserError, match="Two fades of 3 s are longer than the take"):
        studio.takes.file(record["id"], "wav", Finish(fade=3.0))


def test_a_take_stopped_before_its_first_block_is_removed(studio, weights_folder):
    frames, take = begin(studio, weights_folder)
    assert studio.stop(take["id"], 0) is None
    frames.close()
    with pytest.raises(UserError, match="not in this studio any more"):
        studio.takes.get(take["id"])


def test_simultaneous_takes_share_the_models(studio, weights_folder, tiny_weights):
    def perform(seed):
        made = unframed(studio.perform(TakeRequest(**{"weights": weights_folder, "level": 32, "seed": seed, "seconds": 3})))
        return sound([block for block in made if "bits" in block[0]])

    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(perform, range(6)))
    music = vqwave.load(tiny_weights.codecs, tiny_weights.generators)
    for seed in (0, 5):
        np.testing.assert_array_equal(together[seed], audio.to_int16(music.generate(seconds=3, seed=seed, level=32)))
    assert len(studio.folders._models) == 1


def test_the_number_of_takes_is_limited_and_an_idle_take_is_ended(tiny_weights, open_studio, monkeypatch):
    studio = open_studio(tiny_weights.codecs, [tiny_weights.generators], streams=2)
    (first, idle), (second, active) = begin(studio, ""), begin(studio, "")
    next(first)
    next(second)
    assert "2 takes are being made" in refusal(studio)
    monkeypatch.setattr(limits, "IDLE_SECONDS", 0.0)
    next(second)
    third = studio.perform(TakeRequest(level=128, seconds="endless"))
    next(third)
    assert not studio.takes.get(idle["id"]).busy and studio.takes.get(active["id"]).busy
    assert "end" in parse_frames(b"".join(first))[-1][0]
    third.close()
    second.close()
    assert busy(studio) == 0
    studio.close()
    assert not studio.folder.exists()


def test_copies_use_the_room_of_takes_and_are_refused_when_it_is_full(tiny_weights, open_studio, monkeypatch):
    studio = open_studio(tiny_weights.codecs, [tiny_weights.generators])

    def make():
        return whole(studio, level=512, seconds=1)["id"]

    first, second = make(), make()
    bytes_of_one = 2 * RATE
    assert studio.takes.bytes_in_use() == 2 * bytes_of_one
    path = studio.takes.file(first, "wav")
    assert studio.takes.bytes_in_use() == 2 * bytes_of_one + path.stat().st_size
    # The second makes room for the first's other copy.
    monkeypatch.setattr(limits, "TAPES_BYTES", 4 * bytes_of_one)
    assert studio.takes.file(first, "flac").exists() and set(studio.records([first, second])) == {first}
    monkeypatch.setattr(limits, "TAPES_BYTES", 3 * bytes_of_one)
    third = make()
    assert list(studio.takes.by_id) == [third] and not path.exists()
    monkeypatch.setattr(limits, "TAPES_BYTES", bytes_of_one)
    with pytest.raises(UserError, match="room for takes is full .* download this take again"):
        studio.takes.file(third, "wav")
    assert third in studio.records([third]), "the take that is downloaded is not removed"
    monkeypatch.setattr(limits, "TAPES_BYTES", 1000)
    assert "The studio's room for takes is full" in refusal(studio, level=512, seconds="endless") and busy(studio) == 0
    monkeypatch.undo()
    monkeypatch.setattr(limits, "TAKES_KEPT", 3)
    for _ in range(5):
        make()
    assert len(studio.takes.by_id) == len(list(studio.folder.glob("take-*"))) == 3


def test_the_command_names_the_level_whatever_chain_yml_says(tiny_weights, open_studio, tmp_path):
    folder = tmp_path / "weights"
    shutil.copytree(tiny_weights.generators, folder)
    weights.save_chain(folder, replace(CHAIN, end=128))
    studio = open_studio(tiny_weights.codecs, [folder])
    for level, generator in (("", "generator_128"), (8, "generator_8")):
        record = whole(studio, seed=3, seconds=0.6, level=level)
        assert f"--generators {generator} " in record["command"] and record["level"] == (level or 128)
        wav = studio.takes.file(record["id"], "wav").read_bytes()
        assert command_line(record["command"], tiny_weights.codecs, tmp_path) == wav


@pytest.mark.parametrize("books", [{512: 14}, {512: 3, 128: 1}], ids=str)
def test_frames_of_several_books_and_a_chain_of_one_level_are_made_shown_and_compared(books, open_studio, song, tmp_path):
    """A chain may be one codec of notes, a book a band, and nothing below it."""
    of_notes = (512,) if len(books) == 1 else ()
    trained = chains.save_chain(tmp_path, chains.preset(tmp_path / "preset.yml", books, of_notes=of_notes))
    music = vqwave.load(trained.codecs, trained.generators)
    studio = open_studio(trained.codecs, [trained.generators])
    recording = {"recording": studio.recordings.receive(song).id, "name": song.name}
    for mode in ("new", "continue"):
        frames = unframed(studio.perform(TakeRequest(seed=4, seconds=2, mode=mode, prompt_seconds=1, **recording)))
        header = next(about["take"] for about, _ in frames if "take" in about)
        blocks, record = [block for block in frames if "bits" in block[0]], frames[-1][0]["end"]
        assert header["column"] % max(books) == 0 and header["column"] >= 256
        prompt = None if mode == "new" else music.prompt(song, seconds=1, keep_original=True)
        with music.stream(seed=4, seconds=2, begin=prompt, log_probs=True) as stream:
            parts, codes = zip(*((block, stream.codes) for block in stream), strict=True)
        np.testing.assert_array_equal(sound(blocks), audio.to_int16(np.concatenate(parts)))
        check_codes(header, blocks, codes, books)
        wav = studio.takes.file(record["id"], "wav").read_bytes()
        assert command_line(record["command"], trained.codecs, tmp_path, **{song.name: song}) == wav
    if len(books) == 1:
        assert "no level above 512" in refusal(studio, mode="vary", **recording)
    frames = unframed(studio.compare(CompareRequest(seconds=1, **recording)))
    sounds = [(about["sound"], payload) for about, payload in frames if "sound" in about]
    assert [about["name"] for about, _ in sounds] == ["original", *map(str, books)]
    for (about, payload), (level, n) in zip(sounds[1:], books.items(), strict=True):
        codes = music.encode(audio.decode(song, RATE)[:RATE], level)
        assert (about["books"], about["codes"]) == (n, codes.size) and len(about["shades"]) == n
        np.testing.assert_array_equal(np.frombuffer(payload[-2 * codes.size :], "<u2"), codes.ravel())


# ----------------------------------------------------------------------------------------- pictures


@given(st.lists(st.integers(1, 9000), min_size=1, max_size=6), st.integers(0, 3))
def test_a_spectrogram_does_not_depend_on_how_the_signal_is_cut(cuts, seed):
    signal = np.random.default_rng(seed).normal(0, 0.1, sum(cuts)).astype(np.float32)
    growing, at, parts = pictures.Spectrum(RATE, COLUMN), 0, []
    for i, cut in enumerate(cuts):
        parts.append(growing.push(signal[at : at + cut], i == len(cuts) - 1))
        at += cut
        assert growing._signal.size <= 9000 + 2 * growing.n_fft
    shown = np.concatenate(parts)
    assert shown.shape == (-(-len(signal) // COLUMN), pictures.BANDS) and shown.dtype == np.uint8
    whole = pictures.Spectrum(RATE, COLUMN).push(signal, last=True)
    assert np.abs(shown.astype(int) - whole).max() <= 1


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
@pytest.mark.parametrize("midi", [45, 57.5, 69, 92])
def test_a_sine_is_brightest_at_its_note_and_as_bright_at_any_rate(rate, midi):
    frequency = 440 * 2 ** ((midi - 69) / 12)
    signal = 0.1 * np.sin(2 * np.pi * frequency * np.arange(2 * rate) / rate).astype(np.float32)
    columns = pictures.Spectrum(rate, 512).push(signal, last=True)
    steady = columns[len(columns) // 3 : len(columns) // 2].mean(axis=0)
    assert abs(steady.argmax() - (midi - notes.LOWEST_MIDI) * notes.BINS_A_SEMITONE) <= 1
    expected = 255 * (-20 - pictures.LOUDEST_DB + pictures.RANGE_DB) / pictures.RANGE_DB
    assert abs(steady.max() - expected) < 10


@given(st.lists(st.integers(1, 40_000), min_size=2, max_size=5))
def test_each_note_is_found_once_however_the_signal_is_cut(cuts):
    """A scale of six notes, half a second each."""
    tones = [440 * 2 ** (i / 6) for i in range(6)]
    signal = 0.3 * np.concatenate([np.sin(2 * np.pi * f * np.arange(RATE // 2) / RATE) for f in tones])
    cuts = [*(c for c in np.cumsum(cuts) if c < len(signal)), len(signal)]
    roll, at, found = pictures.Roll(RATE), 0, []
    for cut in cuts:
        found += roll.push(signal[at:cut].astype(np.float32), cut == len(signal))
        at = cut
    loud = [one for one in found if one[3] > -20]
    for i in range(6):
        near = [one for one in loud if abs(one[2] - 69 - 2 * i) < 0.5 and abs(one[0] - i / 2) < 0.3]
        assert near, (i, loud)


# ---------------------------------------------------------------------------- recordings and codecs


def test_a_recording_is_stored_once_under_any_name(studio, song):
    first, second = studio.recordings.receive(song), studio.recordings.receive(song, "other.mp3")
    assert first.id == second.id and (first.name, second.name) == ("my song.mp3", "other.mp3")
    assert first.seconds == pytest.approx(3.0, abs=0.1)
    assert studio.recordings.get(first.id).path.read_bytes() == song.read_bytes()


def test_files_without_music_are_refused_by_name(studio, tmp_path, monkeypatch):
    (tmp_path / "notes.mp3").write_text("These are only words.")
    (tmp_path / "empty.wav").touch()
    audio.write(tmp_path / "silence.wav", np.zeros(RATE), RATE)
    audio.write(tmp_path / "click.wav", np.ones(100) / 2, RATE)
    audio.write(tmp_path / "long.wav", np.ones(RATE) / 2, RATE)
    monkeypatch.setattr(limits, "LONGEST_RECORDING", 0.5)
    for name, words in (("notes.mp3", "notes.mp3: not audio that can be decoded"), ("empty.wav", "empty.wav: "),
                        ("silence.wav", "silence.wav: "), ("click.wav", "too short: 100 samples, 512 needed"),
                        ("long.wav", "long.wav: longer than")):
        with pytest.raises(UserError, match="^[^/]*$") as error:
            studio.recordings.receive(tmp_path / name)
        assert words in str(error.value)


def test_each_codec_is_heard_seen_and_measured(studio, weights_folder, song, tiny_weights):
    recording = studio.recordings.receive(song).id
    frames = unframed(studio.compare(CompareRequest(**{"recording": recording, "start": 1, "seconds": 1.5, "weights": weights_folder})))
    heard = next(about["comparison"] for about, _ in frames if "comparison" in about)
    sounds = [(about["sound"], payload) for about, payload in frames if "sound" in about]
    assert heard["samples"] == round(1.5 * RATE)
    assert [about["name"] for about, _ in sounds] == ["original", "512", "128", "32", "8"]
    original = audio.decode(song, RATE)[RATE : RATE + heard["samples"]]
    music = vqwave.load(tiny_weights.codecs, tiny_weights.generators)
    for about, payload in sounds:
        pcm = np.frombuffer(payload, "<i2", heard["samples"])
        expected, codes = original, 0
        if about["name"] != "original":
            made = music.encode(original, about["level"])
            expected, codes = music.decode(made, about["level"])[: len(original)], about["codes"]
            assert about["figures"]["sc_db"] == pytest.approx(
                metrics.spectral_convergence(original, expected))
            assert about["figures"]["bitrate_kbps"] == music.codec(about["level"]).config.bitrate / 1000
            np.testing.assert_array_equal(np.frombuffer(payload[-2 * codes :], "<u2"), made)
        np.testing.assert_array_equal(pcm, audio.to_int16(expected))
        assert len(payload) == 2 * len(pcm) + about["columns"] * pictures.BANDS + 2 * codes


def test_a_comparison_without_a_valid_recording_is_refused(studio, song):
    recording = studio.recordings.receive(song).id
    for values, words in (({"recording": ""}, "There is no recording yet"), ({"start": 100}, "my song.mp3: lasts 3."),
                          ({"recording": "gone", "name": "a.mp3"}, "a.mp3 is not in")):
        frames = unframed(studio.compare(CompareRequest(**{"recording": recording, **values})))
        assert words in frames[-1][0]["error"]


def test_the_number_of_comparisons_is_limited(studio, weights_folder, song, monkeypatch):
    monkeypatch.setattr(studio, "_comparing", threading.Semaphore(1))
    given = {"recording": studio.recordings.receive(song).id, "seconds": 0.5, "weights": weights_folder}
    first = studio.compare(CompareRequest(**given))
    next(first)
    assert "Other recordings are going through the codecs" in unframed(studio.compare(CompareRequest(**given)))[-1][0]["error"]
    first.close()
    assert "end" in unframed(studio.compare(CompareRequest(**given)))[-1][0]


def test_only_so_many_recordings_are_kept(studio, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "RECORDINGS_KEPT", 2)
    ids = []
    for i in range(3):
        audio.write(tmp_path / f"{i}.wav", tune(0.2, i), RATE)
        ids.append(studio.recordings.receive(tmp_path / f"{i}.wav").id)
    assert list(studio.recordings._recordings) == ids[1:]
    assert {path.name.split("-")[1][:24] for path in studio.folder.glob("recording-*")} == set(ids[1:]), "evicted files are removed"
    with pytest.raises(UserError, match="drop it in again"):
        studio.recordings.get(ids[0], "0.wav")


def test_folders_and_epochs_are_listed(tiny_weights, open_studio, tmp_path):
    folder = tmp_path / "all" / "mine"
    shutil.copytree(tiny_weights.generators, folder)
    for level in LEVELS[:2]:
        for tag in ("00003", "00012", "best"):
            weights.copy_set(weights.find(folder, f"generator_{level}"), folder, tag)
    studio = open_studio(tiny_weights.codecs, [tmp_path / "all", tiny_weights.generators])
    mine, tiny = studio.folders.paths
    assert (mine, tiny) == (str(folder), str(tiny_weights.generators))
    assert studio.folders.epochs(mine) == ["", "best", "00012", "00003"] and studio.folders.epochs(tiny) == [""]
    assert studio.folders.codecs_of(mine) == tiny_weights.codecs
    assert "--epoch 12 " in whole(studio, weights=mine, epoch="00012", level=128, seconds=0.5)["command"]
    assert "no epoch 12 of generator_32" in refusal(studio, weights=mine, epoch="00012", level=32)
    with pytest.raises(UserError, match="no generators in there"):
        open_studio(tiny_weights.codecs, [tmp_path])


# ------------------------------------------------------------------------------------------- routes


@contextlib.contextmanager
def serving(studio, *connections):
    """The port of a server of the studio."""
    import uvicorn

    with web.listen("127.0.0.1", 0) as listening:
        server = uvicorn.Server(web.configure(web.build(studio), *connections))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def client(studio):
    def client(path, body=None, **headers):
        """(status, body, headers) of an answer; a body that is no bytes is sent as JSON."""
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


def test_a_take_goes_over_http_and_is_downloaded_as_wav_and_flac(client, studio, weights_folder):
    status, body, headers = client("/studio/takes", {"weights": weights_folder, "level": 128, "seconds": 1, "seed": 9})
    made = parse_frames(body)
    record = made[-1][0]["end"]
    assert status == 200 and record["seconds"] == 1.0
    assert "default-src 'self'" in headers["content-security-policy"]
    for kind in ("wav", "flac"):
        status, body, headers = client(f"/studio/takes/{record['id']}.{kind}")
        assert status == 200 and body == studio.takes.file(record["id"], kind).read_bytes()
        assert headers["content-disposition"] == f'attachment; filename="vqwave-seed-9-1.0s.{kind}"'
    assert json.loads(client(f"/studio/takes?ids=no,{record['id']}")[1]) == {record["id"]: record}
    assert json.loads(client(f"/studio/takes/{record['id']}/stop", {"sample": 1})[1])["seconds"] == 1.0


@pytest.mark.parametrize("path, body, words", [
    ("/studio/takes/none.wav", None, b"not in this studio any more"),
    ("/studio/takes", b"{}", b"This takes JSON."),
    ("/studio/takes", [1], b"request"),
    ("/studio/takes", {"x": "y" * (2 << 20)}, b"too long"),
    ("/studio/takes/none/stop", {"sample": -1}, b"sample must be"),
    ("/studio/takes", b"[" * 100_000, b" "), ("/studio/settings", b"\xff", b" "), ("/studio/settings", b"{", b"not JSON"),
    ("/studio/settings", b'{"seconds": 1' + b"0" * 400 + b"}", b"seconds"), ("/studio/comparisons", b'{"seconds": NaN}', b"seconds"),
    ("/studio/recordings/none.wav?seconds=1e999", None, b"seconds must be"),
    *[("/studio/settings", body, b" ") for body in (
        b'{"changes": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", b'{"changes": [[0, {"hold": ' + b"[" * 500 + b"]" * 500 + b"}]]}",
        b'{"changes": [[0, {"hold": 1e999}]]}', b'{"level": 1' + b"0" * 400 + b"}", b'{"epoch": "\\ud800"}',
        b'{"changes": "\\ud800"}', b'{"changes": [[0, {"label": "\\ud800"}]]}', b'{"temperature": {"a\\nb": 1}}',
        b'{"temperature": {"' + b"x" * 9000 + b'": 1}}')],
    ("/studio/recordings/none.wav?seconds=3600", None, b"seconds must be"),
])
def test_bad_requests_are_answered_in_a_line(client, path, body, words):
    headers = {"Content-Type": "application/json"} if body and body != b"{}" else {}
    status, answer, _ = client(path, body, **headers)
    assert status == 400 and words in answer and b"\n" not in answer and len(answer) < 300


def test_a_long_body_of_unknown_length_is_cut_off(client):
    with socket.create_connection(("127.0.0.1", client.port), timeout=60) as connection:
        connection.sendall(b"POST /studio/settings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           b"Transfer-Encoding: chunked\r\n\r\n" + 3 * (b"100000\r\n" + b" " * (1 << 20) + b"\r\n"))
        assert b" 400 " in connection.recv(4096)


def test_the_link_of_an_hour_of_changes_can_be_followed(client):
    changes = [(8192 * i, {"notes": [60, 64, 67 + i % 2]}) for i in range(9700)]
    link = complete(changes=changes).link
    status, body, _ = client(f"/?{link}")
    assert status == 200 and body == (STATIC / "index.html").read_bytes()
    status, body, _ = client("/studio/settings", dict(urllib.parse.parse_qsl(link)))
    assert status == 200 and len(json.loads(body)["settings"]["changes"]) == 9700


def test_another_origin_may_not_use_the_studio(client):
    """A page on another port of this machine is another origin."""
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
    """A site whose name was made to point here is not: its page would count as the studio's own."""
    for host, asked, answered in [
        *[("127.0.0.1", name, True) for name in ("127.0.0.1", "127.0.0.1:7860", "localhost:1", "LOCALHOST", "[::1]:7860")],
        *[("127.0.0.1", name, False) for name in (
            "elsewhere.example", "elsewhere.example:7860", "127.0.0.1.elsewhere.example", "localhost.elsewhere.example",
            "10.0.0.1", "[::2]", "[::2", "")],
        ("studio.lan", "studio.lan", True), ("studio.lan", "10.0.0.1", False), ("10.0.0.1", "10.0.0.1", True),
        ("::1", "[::1]", True), ("fe80::1", "[fe80::1]", True), ("0.0.0.0", "10.0.0.1", True),  # noqa: S104
        ("0.0.0.0", "[fe80::1]", True), ("0.0.0.0", "elsewhere.example", False), ("::", "10.1.1.1", True),  # noqa: S104
        ("0.0.0.0", socket.gethostname().lower(), True),  # noqa: S104
    ]:
        assert guard.Guard(None, host).accepts(asked) == answered, (host, asked)
    assert client("/studio/palettes", Host="localhost:1")[0] == 200
    assert client("/studio/palettes", Host="elsewhere.example")[0] == 421
    assert client("/studio/takes", {}, Host="elsewhere.example", Origin="http://elsewhere.example")[0] == 421


def test_a_recording_is_uploaded_and_heard_in_part_or_refused(client, studio, song, monkeypatch):
    status, body, _ = client("/studio/recordings?name=my%20song.mp3", song.read_bytes())
    found = json.loads(body)
    assert status == 200 and found["name"] == "my song.mp3" and found["seconds"] == pytest.approx(3.0, abs=0.1)
    assert 10 < len(found["outline"]) <= recordings.OUTLINE and max(found["outline"]) > 50
    status, wav, _ = client(f"/studio/recordings/{found['id']}.wav?start=1&seconds=0.5")
    assert status == 200 and len(wav) == 44 + 2 * round(0.5 * RATE)
    assert client("/studio/recordings/none.wav")[0] == 400
    monkeypatch.setattr(limits, "UPLOAD_BYTES", 1 << 20)
    status, words, _ = client("/studio/recordings?name=long.wav", bytes(2 << 20))
    assert status == 400 and b"long.wav: larger than" in words
    status, words, _ = client("/studio/recordings?name=%2Fetc%2Fwords.mp3", b"These are only words.")
    assert status == 400 and words.startswith(b"words.mp3: ")
    assert not list(studio.folder.glob("upload-*")), "what was refused is gone"


def test_the_page_receives_clips_folders_and_the_settings_of_a_link(client, weights_folder):
    about = json.loads(client("/studio/about")[1])
    assert len(about["clips"]) == 3 and about["rate"] == RATE
    assert about["folders"][0] | {"name": weights_folder} == {
        "name": weights_folder, "epochs": [""], "ending": CHAIN.ending, "levels": list(LEVELS),
        "labels": [], "temperatures": [1.0] * len(LEVELS)}
    clip = json.loads(client("/studio/clips/love_theme", {})[1])
    assert clip["name"] == "Love Theme (Ryan Reilly)" and clip["seconds"] == pytest.approx(30, abs=0.1)
    assert client("/studio/clips/none", {})[0] == 400
    found = json.loads(client("/studio/settings", {"level": "32", "seconds": "endless", "seed": "3"})[1])["settings"]
    assert (found["level"], found["seconds"], found["seed"]) == (32, None, 3)
    assert client("/studio/settings", {"seed": "minus"})[0] == 400
    # Before anything that plays is stopped for it.
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
        text = body.decode()
        found = re.findall(r'(?:href|src)="(studio/static/[^"]+)"|from "\./([^"]+)"', text)
        queue += [f"/{a}" if a else f"/studio/static/{b}" for a, b in found]
        assert not re.search(r"https?://(?!www\.w3\.org)", text), path
    assert len(seen) > 8 and size < 500_000


@pytest.fixture
def hasty(studio, monkeypatch):
    """The port of a studio that allows 6 connections and waits for little."""
    monkeypatch.setattr(limits, "HEADER_SECONDS", 1.5)
    monkeypatch.setattr(limits, "STALL_SECONDS", 1.0)
    with serving(studio, 6) as port:
        yield port


def send(port, data=b""):
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(data)
    return connection


def closed(connection):
    """Wait until the server closes a connection."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(4096):
            pass
    return True


def test_unfinished_requests_do_not_block_the_studio_and_are_dropped(hasty):
    half = [send(hasty, b"GET / HTTP/1.1\r\nHost: local") for _ in range(30)]
    with urllib.request.urlopen(f"http://127.0.0.1:{hasty}/studio/palettes", timeout=30) as answer:  # noqa: S310 - ours
        assert answer.status == 200
    for one in half:
        assert closed(one)
        one.close()


def test_no_address_holds_more_than_half_of_the_connections(hasty):
    busy = [send(hasty, b"POST /studio/recordings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n")
            for _ in range(3)]
    time.sleep(0.3)
    with send(hasty) as late:
        assert b" 503 " in late.recv(4096)
    for one in busy:
        one.close()


def test_a_stalled_upload_is_dropped_and_its_file_removed(hasty, studio):
    head = b"POST /studio/recordings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n"
    with send(hasty, head + bytes(1000)) as stalled:
        assert closed(stalled)
    deadline = time.monotonic() + 30
    while list(studio.folder.glob("upload-*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_connection_that_breaks_frees_its_stream(client, studio, weights_folder):
    body = json.dumps({"weights": weights_folder, "level": 128, "seconds": "endless"}).encode()
    with socket.create_connection(("127.0.0.1", client.port)) as connection:
        connection.sendall(b"POST /studio/takes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        received = 0
        while received < 50_000:
            received += len(connection.recv(65536))
        assert busy(studio) == 1
        # Nobody reads: the stream comes to rest, and does not run ahead without end.
        take = next(t for t in studio.takes.by_id.values() if t.busy)
        deadline, made = time.monotonic() + 120, -1
        while take.tape.samples != made:
            assert time.monotonic() < deadline, "a stream that nobody reads must wait"
            made = take.tape.samples
            time.sleep(2)
        assert take.busy
    deadline = time.monotonic() + 30
    while busy(studio) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert busy(studio) == 0


def test_ctrl_c_ends_a_playing_studio_silently(make, tiny_weights, tmp_path):
    make(level=128, seconds=0.5)  # exports what is missing, which is said
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
                with contextlib.suppress(http.client.IncompleteRead):
                    while answer.read(1 << 16):
                        pass
            assert process.wait(30) == 0 and process.stderr.read() == ""
        finally:
            process.kill()
    assert not list(tmp_path.iterdir())


def test_a_taken_port_is_an_error_of_one_line():
    with web.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is taken"):
            web.listen("127.0.0.1", port)
    with pytest.raises(UserError, match="cannot listen on nowhere.invalid:80"):
        web.listen("nowhere.invalid", 80)


NO_TENSORFLOW = """
import sys
from vqwave.studio import Studio, TakeRequest
studio = Studio(sys.argv[1], [sys.argv[2]])
*_, last = studio.perform(TakeRequest(weights=sys.argv[2], level=512, seconds=0.5))
assert b'"end"' in last, last
studio.close()
loaded = {"keras", "tensorflow", "fastapi"} & set(sys.modules)
assert not loaded, loaded
"""


def test_making_music_loads_neither_tensorflow_nor_a_server(make, tiny_weights):
    make(level=512, seconds=0.5)  # exports what is missing, so that the other process need not
    done = subprocess.run([sys.executable, "-W", "error", "-c", NO_TENSORFLOW, tiny_weights.codecs,
                           tiny_weights.generators], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_live_changes_come_before_planned_changes_of_the_same_block():
    """As the stream received them, so that the take's link makes the same sound."""
    planned = ((8192, {"loudness": -6.0}), (16384, {"hold": 2.0}))
    log = ChangeLog(planned)
    log.add(8192, {"loudness": -40.0})
    assert log.ordered() == [(8192, {"loudness": -40.0}), *planned]
