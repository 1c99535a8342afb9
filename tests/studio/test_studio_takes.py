"""Takes: the same music as the library's, changes while they play, copies, and limits."""

import shlex
import subprocess
import sys
import threading
import time
import urllib.parse
from types import SimpleNamespace

import chains
import imported
import numpy as np
import pydantic
import pytest
from messages import begin, count_busy, join_blocks, parse, read_messages, record_of, refusal
from prepared import music as tune

import vqwave
from vqwave.errors import UserError
from vqwave.io import audio, weights
from vqwave.levels import replace
from vqwave.play import midi_files
from vqwave.play.controls import CONTROLS
from vqwave.play.edits import Edits
from vqwave.play.render import Finish
from vqwave.presets import load_preset
from vqwave.studio import ChangeRequest, Studio, TakeRequest, limits, pictures

CHAIN = load_preset("tiny").chain
LEVELS, RATE, COLUMN = CHAIN.sizes, CHAIN.sample_rate, CHAIN.top


def check_codes(header, blocks, codes, books):
    """Check the codes in the messages of blocks. codes: {level: codes} of each block; books: by level."""
    assert {level["level"]: level["books"] for level in header["levels"]} == books
    for level in header["levels"]:
        assert [len(shades) for shades in level["shades"]] == [64] * level["books"]
        assert level["most_bits"] == 6 * level["books"]
    for (about, payload), block in zip(blocks, codes, strict=True):
        at = 2 * about["samples"] + about["columns"] * pictures.PICTURE_BANDS
        for count, (level, n) in zip(about["codes"], books.items(), strict=True):
            codes_shown = np.frombuffer(payload, "<u2", count, at)
            np.testing.assert_array_equal(codes_shown.reshape(-1, n), block[level].reshape(-1, n))
            at += 2 * count
        assert at == len(payload) and list(about["bits"]) == [str(level) for level in books]


def command_line(words, tmp_path, **replaced):
    program, command, *arguments = shlex.split(words)
    assert (program, command) == ("vqwave", "generate")
    module = imported.script("generate_audio")
    arguments = [str(replaced.get(a, a)) for a in arguments]
    assert arguments[-2:] == ["--output", "take.wav"]
    path = tmp_path / "take.wav"
    path.unlink(missing_ok=True)
    assert module.main([*arguments[:-1], str(path)]) == 0
    return path.read_bytes()


@pytest.mark.parametrize("level, seconds", [(8, 1.0), (128, 2.00003)])
def test_a_take_is_the_piece_that_the_library_generates_and_shows_its_codes(make_take, studio, tiny_weights, level, seconds):
    header, blocks, record = make_take(level=level, seed=5, seconds=seconds, temperature=dict(zip(LEVELS, [1, 0.9, 1, 0.8], strict=True)))
    music = vqwave.load(tiny_weights.codecs, tiny_weights.generators)
    used = [t for t, x in zip([1, 0.9, 1, 0.8], LEVELS, strict=True) if x >= level]
    heard = join_blocks(blocks)
    sampling = {x: {"temperature": t} for x, t in zip(LEVELS, used, strict=False)}
    with music.stream(level=level, seed=5, seconds=seconds, sampling=sampling) as stream:
        parts, codes = zip(*((block, stream.codes) for block in stream), strict=True)
    np.testing.assert_array_equal(heard, audio.to_int16(np.concatenate(parts)))
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
    {"level": 8, "seed": 3, "seconds": 0.7, "latency": "live"},
    {"level": 128, "seed": 4, "seconds": 1.23456, "temperature": dict(zip(LEVELS, [1, 0.5, 1, 1], strict=True)), "epoch": ""},
    {"mode": "continue", "level": 32, "seed": 1, "seconds": 2.5, "prompt_start": 0.4, "prompt_seconds": 1.5,
     "keep_original": True},
    {"mode": "vary", "keep": 128, "level": 32, "seed": 6, "seconds": 30},
])
def test_the_command_and_the_link_generate_the_same_wav_byte_for_byte(make_take, studio, song, tmp_path, settings):
    if "mode" in settings:
        settings = settings | {"recording": studio.recordings.receive(song).id, "name": song.name}
    header, blocks, record = make_take(**settings)
    wav = studio.takes.file(record["id"], "wav").read_bytes()
    assert command_line(record["command"], tmp_path, **{song.name: song}) == wav
    _, _, again = make_take(**dict(urllib.parse.parse_qsl(record["link"])))
    assert studio.takes.file(again["id"], "wav").read_bytes() == wav
    assert again["link"] == record["link"] and again["command"] == record["command"]


def test_a_short_recording_is_continued_after_its_end(studio, tmp_path):
    audio.write(tmp_path / "short.wav", tune(0.8, 1), RATE)
    recording = studio.recordings.receive(tmp_path / "short.wav")
    settings = {"mode": "continue", "recording": recording.id, "name": recording.name,
                "level": 128, "seconds": 2, "prompt_seconds": 5}
    assert read_messages(studio.make_take(TakeRequest(**settings)))[-1][0]["end"]["title"] == "short, continued"
    error = refusal(studio, **settings, prompt_start=3)
    assert "short.wav: lasts 0.80 s" in error and str(studio.folder) not in error


@pytest.mark.parametrize("mode", ["new", "continue"])
def test_a_stopped_take_ends_where_it_was_heard_and_its_command_generates_it_again(studio, song, tmp_path, mode):
    settings = {"level": 128, "seed": 2, "seconds": "endless", "mode": mode,
                "recording": studio.recordings.receive(song).id, "name": song.name, "prompt_seconds": 1}
    frames = studio.make_take(TakeRequest(**settings))
    frames_so_far = []
    while sum("bits" in about for about, _ in frames_so_far) < 6:
        frames_so_far += parse(next(frames))
    take = next(about["take"] for about, _ in frames_so_far if "take" in about)
    so_far = studio.takes.file(take["id"], "wav", heard=10_000)
    assert len(audio.decode(so_far, RATE)) == 10_000
    with pytest.raises(UserError, match="Nothing of the take was heard yet"):
        studio.takes.file(take["id"], "wav")
    record = studio.stop(take["id"], 30_000)
    assert record["seconds"] == 30_208 / RATE
    rest = read_messages(frames)
    assert all("bits" not in about for about, _ in rest)
    wav = studio.takes.file(take["id"], "wav")
    heard = join_blocks([block for block in frames_so_far if "bits" in block[0]])
    np.testing.assert_array_equal(audio.to_int16(audio.decode(wav, RATE)), heard[:30_208])
    assert command_line(record["command"], tmp_path, **{song.name: song}) == wav.read_bytes()
    assert studio.stop(take["id"], 1) == studio.record(studio.takes.get(take["id"])), "a second stop changes nothing"


def test_closing_a_take_frees_its_stream_at_any_time(studio):
    frames = studio.make_take(TakeRequest(level=128, seconds="endless"))
    next(frames)
    assert count_busy(studio) == 1
    frames.close()
    assert count_busy(studio) == 0
    frames, take = begin(studio)
    for _ in range(3):
        next(frames)
    assert take["id"] not in studio.records([take["id"]])
    frames.close()
    assert count_busy(studio) == 0 and take["id"] in studio.records([take["id"]]), "the samples so far stay"
    assert not [t for t in threading.enumerate() if "vqwave" in t.name]


def test_no_more_is_generated_than_is_allowed(studio):
    frames, take = begin(studio, until=10_000)
    messages = [parse(next(frames))[0] for _ in range(3)]
    assert [about.get("samples") for about, _ in messages] == [8192, 8192, None] and "wait" in messages[2][0]
    studio.takes.get(take["id"]).steer(ChangeRequest(until=20_000))
    assert parse(next(frames))[0][0]["samples"] == 8192
    frames.close()


def test_a_change_waits_for_the_next_bar(led_studio):
    frames, header = begin(led_studio, level=None, seed=3, latency="live")
    take = led_studio.takes.get(header["id"])
    blocks = [parse(next(frames))[0][0] for _ in range(3)]
    take.steer(ChangeRequest(bar=True, transpose=2))
    take.steer(ChangeRequest(bar=True, tempo=150))
    with pytest.raises(UserError, match="tempo is 3"):
        take.steer(ChangeRequest(bar=True, tempo=3))
    assert take.log.live == []
    while len(take.log.live) < 2:
        blocks.append(parse(next(frames))[0][0])
    frames.close()
    begins = np.cumsum([0] + [about["samples"] for about in blocks]) / RATE
    bars = {second for about in blocks for second, place, _ in about["form"]["beats"] if place == 0}
    forms = dict(zip(begins, (about["form"] for about in blocks), strict=False))
    for sample, change in take.log.live:
        form = forms[sample / RATE]
        if "transpose" in change:
            assert any(sample / RATE <= bar < sample / RATE + header["block"] / RATE for bar in bars)
        else:
            assert change == {"tempo": 150, "bar": True} and form["tempo"] == 150


def test_partners_hear_the_beats_of_the_take_that_plays_and_set_its_tempo(open_studio, led_weights):
    sent, tempi = [], []
    partner = SimpleNamespace(tell=lambda *beat: sent.append(beat), heard=lambda: tempi.pop() if tempi else 0, close=lambda: sent.append("closed"))
    studio = open_studio(led_weights.codecs, [led_weights.generators], partners=[partner])
    frames, header = begin(studio, level=None, seed=3, latency="live")
    take = studio.takes.get(header["id"])
    form = [parse(next(frames))[0][0]["form"] for _ in range(60)][0]
    take.steer(ChangeRequest(until=10**6, heard=RATE, playing=True))
    while len(sent) < 3:
        time.sleep(0.01)
    first = next(place for second, place, _ in form["beats"] if second > 0)
    assert sent[:2] == [(pytest.approx(form["tempo"], abs=0.1), (first + i) % 4) for i in range(2)]
    tempi.append(500.0)
    while not take.log.live:
        time.sleep(0.01)
    assert take.log.live[0][1] == {"tempo": CONTROLS["tempo"].most}
    frames.close()
    studio.close()
    assert sent[-1] == "closed"


def test_an_edited_take_goes_on_from_a_state_and_equals_what_its_link_makes(led_studio, monkeypatch):
    monkeypatch.setattr(limits, "STATE_SECONDS", 1.0)

    def made(messages):
        header, *blocks, (end, _) = [frame for frame in read_messages(messages) if "progress" not in frame[0]]
        return header[0]["take"], b"".join(payload[: 2 * about["samples"]] for about, payload in blocks), end["end"]

    header, first, record = made(led_studio.make_take(TakeRequest(seed=3, seconds=5.0, level=512, latency="live")))
    states = led_studio.takes.get(header["id"]).states
    assert len(states) == 4 and header["edits"] == Edits().model_dump(mode="json")
    edits = Edits(redrawn=[(4 * -(-states[1].step // 4), 16, 1)])
    header, edited, record = made(led_studio.edit(header["id"], edits))
    copied = 2 * states[1].samples
    assert edited[:copied] == first[:copied] and edited != first and len(edited) == len(first)
    assert record["title"].endswith(", edited") and record["seconds"] == 5.0
    _, again, _ = made(led_studio.make_take(TakeRequest(**dict(urllib.parse.parse_qsl(record["link"])))))
    assert again == edited
    _, undone, record = made(led_studio.edit(header["id"], Edits()))
    assert undone == first and not record["changes"]
    steered = led_studio.takes.get(header["id"]).settings.model_copy(update={"changes": ((0, {"transpose": 2}),)})
    with pytest.raises(UserError, match="cannot be edited"):
        steered.edited(edits, steered.changes)


def test_the_score_comes_ahead_of_the_sound(led_studio, led_weights):
    settings = {"seed": 3, "seconds": 4.0, "level": 512}
    header, *blocks, _ = read_messages(led_studio.make_take(TakeRequest(**settings)))[-13:]
    assert len(blocks) == 11 and header[0]["take"]["score"]
    with vqwave.load(led_weights.codecs, led_weights.generators).stream(**settings) as stream:
        for number, (about, _) in enumerate(blocks):
            next(stream)
            notes = stream.notes(8192 * number)
            assert [midi for *_, midi in about["score"]] == [midi for _, _, midi, _ in notes]
            np.testing.assert_allclose([row[:2] for row in about["score"]], [(a / RATE, (b - a) / RATE) for a, b, *_ in notes], atol=6e-4)
    assert any(about["score"][-1][0] > 8192 * (number + 1) / RATE for number, (about, _) in enumerate(blocks[:-1]))


def test_the_score_of_a_take_is_a_midi_file_which_the_command_also_writes(led_studio, led_weights, tmp_path):
    settings = {"seed": 3, "seconds": 4.0, "level": 512}
    record = read_messages(led_studio.make_take(TakeRequest(**settings)))[-1][0]["end"]
    path = led_studio.takes.file(record["id"], "mid")
    words, written = record["command"].replace("generate", "generate --midi take.mid", 1), tmp_path / "take.mid"
    command_line(words, tmp_path, **{"take.mid": written})
    assert written.read_bytes() == path.read_bytes()
    score = midi_files.read(path)
    with vqwave.load(led_weights.codecs, led_weights.generators).stream(**settings) as stream:
        assert len([*stream]) == 11
        notes, tempo = stream.notes(0, stream.position), stream.tempo
    assert sorted(score.pitches) == sorted(note for _, _, note, _ in notes)
    np.testing.assert_allclose(score.starts, [first / RATE for first, *_ in notes], atol=2e-3)
    assert np.diff(score.beats) == pytest.approx(60 / tempo, abs=1e-3)


def test_a_hummed_tune_is_played(led_studio, led_weights, tmp_path):
    """Its notes begin the score; the command and the link make the same piece."""
    hum = tmp_path / "microphone.wav"
    audio.write(hum, tune(2, 1), RATE)
    recording = led_studio.recordings.receive(hum)
    frames = read_messages(led_studio.make_take(TakeRequest(mode="perform", recording=recording.id, name=recording.name, seed=3, seconds=4.0)))
    assert any("microphone.wav" in about.get("progress", "") for about, _ in frames)
    music, record = vqwave.load(led_weights.codecs, led_weights.generators), frames[-1][0]["end"]
    assert record["title"] == "the tune of microphone.wav" and "--score-from microphone.wav" in record["command"]
    with music.stream(seed=3, seconds=4.0, score=music.score(hum), log_probs=True) as stream:
        heard = np.concatenate(list(stream))
    wav = led_studio.takes.file(record["id"], "wav").read_bytes()
    np.testing.assert_array_equal(join_blocks([f for f in frames if "bits" in f[0]]), audio.to_int16(heard))
    assert command_line(record["command"], tmp_path, **{hum.name: hum}) == wav
    again = read_messages(led_studio.make_take(TakeRequest(**dict(urllib.parse.parse_qsl(record["link"])))))[-1][0]["end"]
    assert led_studio.takes.file(again["id"], "wav").read_bytes() == wav
    whistle = tmp_path / "whistle.wav"  # for dogs
    audio.write(whistle, 0.2 * np.sin(2 * np.pi * 9000 * np.arange(RATE) / RATE).astype(np.float32), RATE)
    whistle = led_studio.recordings.receive(whistle)
    assert "whistle.wav: no notes are heard in this recording" in refusal(led_studio, mode="perform", recording=whistle.id)


def test_a_midi_file_is_played_but_not_continued(led_studio, tmp_path):
    path = tmp_path / "upload"
    midi_files.write(path, [(0, RATE, 30, 73), (RATE, 3 * RATE, 34, 73)], RATE)
    recording = led_studio.recordings.receive(path, "my tune.MID")
    assert recording.seconds == pytest.approx(3, abs=0.01) and max(recording.outline) == 255
    settings = {"recording": recording.id, "name": recording.name, "seed": 2, "seconds": 4.0}
    frames = read_messages(led_studio.make_take(TakeRequest(mode="perform", **settings)))
    score = [tuple(row[::2]) for about, _ in frames for row in about.get("score", ())]
    assert {(0.0, 30), (1.0, 34)} <= {(round(start, 1), note) for start, note in score}
    assert refusal(led_studio, mode="continue", **settings) == 'my tune.MID has notes but no sound: choose "Play a tune".'
    path.write_bytes(b"MThd")
    with pytest.raises(UserError, match="^my tune.MID: cannot be read as a MIDI file"):
        led_studio.recordings.receive(path, "my tune.MID")


def test_the_link_and_the_command_of_a_changed_take_generate_it_again(studio, tmp_path, make_take):
    frames, take = begin(studio, seed=4)
    playing, blocks_heard = studio.takes.get(take["id"]), []
    changes = {2: {"wild": 0.7}, 4: {"loudness": -9}, 6: {"hold": 1.0}, 9: {"hold": 0}, 10: {"jump": True},
               11: {"transpose": 3, "freeze": 1.0, "mutate": 0.5}, 12: {"levels": {"512": {"temperature": 0.8, "top_p": 0.9}}},
               13: {"wild": -1, "loudness": 0, "transpose": 0, "freeze": 0}}
    for i in range(16):
        if i in changes:
            assert playing.steer(ChangeRequest(**changes[i]))["sample"] == 8192 * i
        blocks_heard += parse(next(frames))
    record = studio.stop(take["id"], 16 * 8192)
    frames.close()
    assert record["changes"] == 8 and record["changes_file"] == f"vqwave-seed-4-{record['seconds']:.1f}s.json"
    settings = dict(urllib.parse.parse_qsl(record["link"]))
    # The page writes this file.
    score = tmp_path / "score.json"
    score.write_text(f'{{"seed": {settings["seed"]}, "changes": {settings["changes"]}}}')
    wav = studio.takes.file(take["id"], "wav").read_bytes()
    assert command_line(record["command"], tmp_path, **{record["changes_file"]: score}) == wav
    _, blocks, again = make_take(**settings)
    np.testing.assert_array_equal(join_blocks(blocks), join_blocks(blocks_heard))
    assert again["link"] == record["link"]
    plain = make_take(**{key: value for key, value in settings.items() if key != "changes"})
    assert not np.array_equal(join_blocks(plain[1]), join_blocks(blocks_heard))
    with pytest.raises(UserError, match="has ended"):
        playing.steer(ChangeRequest(wild=0))


def test_impossible_changes_are_refused(studio):
    frames, take = begin(studio)
    next(frames)
    for values, words in (
        ({"hold": 60}, "hold is 60"), ({"transpose": 13}, "transpose is 13"), ({"freeze": 60}, "freeze is 60"),
        ({"notes": [200]}, "a note is 200"), ({"levels": {"7": {"top_p": 1}}}, "7"), ({"levels": {"512": {"top_p": 2}}}, "top_p"),
        ({"label": "calm"}, "was trained without labels"),
        ({"levels": {"512": {"guidance": 2}}}, "so guidance must be 1"), ({"tempo": 3}, "tempo is 3.0; it must be 0 or a number from 30 to 200"),
    ):
        with pytest.raises(UserError, match=words):
            studio.takes.get(take["id"]).steer(ChangeRequest(**values))
    assert studio.takes.get(take["id"]).log.live == []
    frames.close()
    assert {name for name, control in CONTROLS.items() if not control.sampled} < set(ChangeRequest.model_fields)
    for values in ({"wild": 2}, {"loudness": "loud"}, {"warmth": 1}, {"notes": "C"}, {"levels": [1]}, {"until": -1}, {"loudness": 10**400}):
        with pytest.raises(pydantic.ValidationError):
            ChangeRequest(**values)


@pytest.fixture(scope="module")
def labelled(tiny_weights, tmp_path_factory):
    """A studio of weights of the tiny chain's top level that were trained with labels."""
    folder = tmp_path_factory.mktemp("labelled")
    model = replace(load_preset("tiny").generator(512), conditions=[{"kind": "labels", "names": ["calm", "battle"]}])
    chains.save_generator(folder, model, 2.0)
    top = replace(CHAIN, levels=[{"level": 512, "codec": "vqvae_512", "generator": "generator_512"}])
    weights.save_chain(folder, top)
    studio = Studio(tiny_weights.codecs, [folder])
    yield studio
    studio.close()


def test_a_take_with_labels_changes_its_label(labelled):
    [folder] = labelled.about()["folders"]
    assert folder["labels"] == ["calm", "battle"]
    frames, take = begin(labelled, level=512, seed=4, label="calm")
    assert (take["labels"], take["label"]) == (["calm", "battle"], "calm")
    playing = labelled.takes.get(take["id"])
    changes = {1: {"label": "battle"}, 2: {"levels": {"512": {"guidance": 3}}}, 4: {"label": "calm:0.5,battle:0.5"}, 5: {"label": ""}}
    for i in range(7):
        if i in changes:
            assert playing.steer(ChangeRequest(**changes[i]))["sample"] == 8192 * i
        next(frames)
    with pytest.raises(UserError, match="no label is called 'clam'; did you mean 'calm'"):
        playing.steer(ChangeRequest(label="clam"))
    record = labelled.stop(take["id"], 7 * 8192)
    frames.close()
    settings = dict(urllib.parse.parse_qsl(record["link"]))
    assert settings["label"] == "calm" and "--label calm" in record["command"]
    again = record_of(labelled, **settings)
    wavs = [labelled.takes.file(identity, "wav").read_bytes() for identity in (take["id"], again["id"])]
    assert wavs[0] == wavs[1]
    plain = record_of(labelled, **{k: x for k, x in settings.items() if k not in ("label", "changes")})
    assert labelled.takes.file(plain["id"], "wav").read_bytes() != wavs[0]
    assert "no label is called 'waltz'" in refusal(labelled, weights=folder["name"], label="waltz")


def test_a_take_is_played_again_from_its_tape(studio, make_take):
    header, blocks, record = make_take(level=128, seconds=2.5, seed=3)
    again = read_messages(studio.replay(record["id"]))
    assert again[0][0]["take"] == header | {"levels": [], "sampled": {}} and again[-1][0]["end"] == record
    np.testing.assert_array_equal(join_blocks(again[1:-1]), join_blocks(blocks))
    columns = sum(about["columns"] for about, _ in again[1:-1])
    assert columns == sum(about["columns"] for about, _ in blocks)
    [(gone, _)] = read_messages(studio.replay("gone"))
    assert gone["error"].startswith("This take is no longer in the studio")


def test_a_take_is_faded_looped_and_normalized(studio, make_take):
    record = make_take(level=128, seconds=4, seed=3)[2]
    plain = audio.decode(studio.takes.file(record["id"], "wav"), RATE)
    faded = audio.decode(studio.takes.file(record["id"], "flac", Finish(fade=1.0)), RATE)
    assert np.abs(faded[:100]).max() < 0.02 * np.abs(plain).max() and len(faded) == len(plain)
    np.testing.assert_array_equal(faded[2 * RATE : 2 * RATE + 1000], plain[2 * RATE : 2 * RATE + 1000])
    looped = audio.decode(studio.takes.file(record["id"], "wav", Finish(loop=True, normalize=True)), RATE)
    assert len(looped) < len(plain) and np.abs(looped).max() < 1
    np.testing.assert_array_equal(audio.decode(studio.takes.file(record["id"], "wav"), RATE), plain)
    with pytest.raises(UserError, match="Two fades of 3 s are longer than the take"):
        studio.takes.file(record["id"], "wav", Finish(fade=3.0))


def test_the_number_of_takes_is_limited_and_an_idle_take_is_ended(tiny_weights, open_studio, monkeypatch):
    studio = open_studio(tiny_weights.codecs, [tiny_weights.generators], streams=2)
    (first, idle), (second, active) = begin(studio), begin(studio)
    next(first)
    next(second)
    assert "2 takes are being made" in refusal(studio)
    monkeypatch.setattr(limits, "IDLE_SECONDS", 0.0)
    next(second)
    third = studio.make_take(TakeRequest(level=128, seconds="endless"))
    next(third)
    assert not studio.takes.get(idle["id"]).busy and studio.takes.get(active["id"]).busy
    assert "ended it for another" in parse(b"".join(first))[-1][0]["error"]
    replacing = studio.make_take(TakeRequest(level=128, seconds="endless", replaces=active["id"]))
    assert "progress" in parse(next(replacing))[0][0], "a take that ends now leaves its place"
    replacing.close()
    third.close()
    second.close()
    assert count_busy(studio) == 0
    studio.close()
    assert not studio.folder.exists()


def test_the_room_of_takes_and_their_copies_is_limited(tiny_weights, open_studio, monkeypatch):
    studio = open_studio(tiny_weights.codecs, [tiny_weights.generators])

    def generate():
        return record_of(studio, level=512, seconds=1)["id"]

    first, second = generate(), generate()
    size = 2 * RATE
    assert studio.takes.bytes_in_use() == 2 * size
    copy = studio.takes.file(first, "wav")
    assert studio.takes.bytes_in_use() == 2 * size + copy.stat().st_size
    # The second take makes room for another copy of the first.
    monkeypatch.setattr(limits, "TAPES_BYTES", 4 * size)
    studio.takes.file(first, "flac").unlink()
    assert set(studio.records([first, second])) == {first}
    monkeypatch.setattr(limits, "TAPES_BYTES", 2 * size + 1000)
    third = generate()
    assert list(studio.takes.by_id) == [third]
    with pytest.raises(UserError, match="room for takes is full .* download this take again"):
        studio.takes.file(third, "wav")
    assert third in studio.records([third]), "the take that is downloaded is not removed"
    monkeypatch.setattr(limits, "TAPES_BYTES", 1000)
    assert "The studio's room for takes is full" in refusal(studio, level=512, seconds="endless") and count_busy(studio) == 0
    monkeypatch.undo()
    monkeypatch.setattr(limits, "TAKES_KEPT", 3)
    for _ in range(5):
        generate()
    assert len(studio.takes.by_id) == len(list(studio.folder.glob("take-*.pcm"))) == 3


NO_TENSORFLOW = """
import sys
from vqwave.studio import Studio, TakeRequest
studio = Studio(sys.argv[1], [sys.argv[2]])
*_, last = studio.make_take(TakeRequest(weights=sys.argv[2], level=512, seconds=0.5))
assert b'"end"' in last, last
studio.close()
loaded = {"keras", "tensorflow", "fastapi"} & set(sys.modules)
assert not loaded, loaded
"""


def test_making_music_loads_neither_tensorflow_nor_a_server(make_take, tiny_weights):
    make_take(level=512, seconds=0.5)  # exports what is missing, so that the other process need not
    done = subprocess.run([sys.executable, "-W", "error", "-c", NO_TENSORFLOW, tiny_weights.codecs,
                           tiny_weights.generators], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
