import errno
import io
import os
import struct
import time

import numpy as np
import pytest
from encoded import encode, tone, with_headers_twice

from vqwave.errors import UserError
from vqwave.io import audio, files


def level(x, frequency, sample_rate=22050):
    """Amplitude of `frequency` in the middle of x."""
    x = x[len(x) // 4 : -len(x) // 4]
    window = np.hanning(len(x)) / np.hanning(len(x)).sum()
    return 2 * abs(np.sum(x * window * np.exp(-2j * np.pi * frequency / sample_rate * np.arange(len(x)))))


def test_u16_round_trips_are_exact_or_within_half_a_step(rng):
    values = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(audio.to_u16(audio.from_u16(values)), values)
    sound = rng.uniform(-1, 1 - 1 / 65536, 100_000).astype(np.float32)
    assert np.abs(audio.from_u16(audio.to_u16(sound)) - sound).max() <= 1 / 65536


@pytest.mark.parametrize("rate", [1000, 3000, 22050, 48000])
def test_an_offset_is_rumble_and_the_lowest_tone_of_a_piano_is_not(rate):
    time = np.arange(4 * rate) / rate
    sounds = {"offset": 0.1 + 0 * time, "slow": 0.1 * np.sin(2 * np.pi * 3 * time),
              "A0": 0.3 * np.sin(2 * np.pi * 27.5 * time)}
    rms = {name: audio.measure_rumble(np.array_split(sound.astype("float32"), [1, 7, rate, rate]), rate)
           for name, sound in sounds.items()}
    assert rms["offset"] == pytest.approx(0.1, rel=0.05)
    assert rms["slow"] == pytest.approx(0.1 / np.sqrt(2), rel=0.05)
    assert rms["A0"] < audio.RUMBLE and audio.measure_rumble([], rate) == 0


def test_only_inaudible_low_frequencies_are_removed():
    time = np.arange(6 * 22050) / 22050
    heard = (0.2 * np.sin(2 * np.pi * 55 * time) + 0.1 * np.sin(2 * np.pi * 3000 * time))
    sound = (heard + 0.3 + 0.05 * np.sin(2 * np.pi * 2 * time)).astype("float32")
    blocks = np.array_split(sound, [1, 1, 5000, 70000])
    filtered = list(audio.high_pass(blocks, 22050))
    assert {block.dtype for block in filtered} == {np.dtype("float32")}
    filtered = np.concatenate(filtered)
    assert filtered.shape == sound.shape
    # One state runs through all blocks, and an offset makes no click.
    for same in (sound, sound - np.float32(0.3)):
        assert np.allclose(filtered, np.concatenate(list(audio.high_pass([same], 22050))), atol=1e-5)
    assert abs(filtered.mean()) < 1e-3 and level(filtered, 2) < 0.001
    assert level(filtered, 55) == pytest.approx(0.2, rel=0.02)
    assert level(filtered, 3000) == pytest.approx(0.1, rel=0.001)


def test_u16_clips_and_never_wraps():
    loud = np.array([0, 1, -1, 2, -2, 1e30, np.inf, -np.inf, np.nan, 32767.4 / 32768, 0.99999],
                    np.float32)
    assert audio.to_u16(loud).tolist() == [32768, 65535, 0, 65535, 0, 65535,
                                           65535, 0, 32768, 65535, 65535]
    assert audio.to_u16(loud).dtype == np.uint16
    assert audio.to_int16(loud).tolist() == [x - 32768 for x in audio.to_u16(loud).tolist()]
    assert audio.to_int16(loud).dtype == np.int16


@pytest.mark.parametrize("suffix", audio.AUDIO_SUFFIXES)
@pytest.mark.parametrize("channels", (1, 2))
def test_every_format_decodes_to_the_same_tone(tmp_path, suffix, channels):
    rate = 48000 if suffix in (".opus", ".webm") else 44100
    path = encode(tmp_path / f"a{suffix}", np.stack([tone(2, rate)] * channels, 1), rate)
    x = audio.decode(path, 22050)
    assert x.dtype == np.float32 and x.ndim == 1
    assert abs(len(x) - 2 * 22050) <= 0.05 * 22050  # Encoders of lossy formats pad.
    assert level(x, 440) == pytest.approx(0.5, rel=0.05)
    if suffix in (".wav", ".flac", ".aiff", ".mp3", ".opus"):
        assert len(x) == 2 * 22050


@pytest.mark.parametrize("channels", (1, 2, 6, 8, 9))
def test_a_mix_of_equal_channels_is_as_loud_as_each(tmp_path, channels):
    path = encode(tmp_path / "a.wav", np.stack([tone(1, amplitude=0.9)] * channels, 1),
                  subtype="FLOAT")
    assert level(audio.decode(path, 22050), 440) == pytest.approx(0.9, rel=0.01)


def test_stereo_is_mixed_half_and_half(tmp_path):
    stereo = np.stack([tone(1, frequency=440), tone(1, frequency=1000)], 1)
    x = audio.decode(encode(tmp_path / "a.wav", stereo), 22050)
    assert level(x, 440) == pytest.approx(0.25, rel=0.02) == level(x, 1000)


def test_resampling_keeps_the_band_and_folds_nothing_back(tmp_path):
    sound = tone(2, 96000, 5000) + tone(2, 96000, 15000)
    x = audio.decode(encode(tmp_path / "a.wav", sound, 96000, subtype="FLOAT"), 22050)
    assert len(x) == 2 * 22050
    assert level(x, 5000) == pytest.approx(0.5, rel=0.01)
    assert level(x, 22050 - 15000) < 0.5e-3


def test_one_sample_and_silence_are_decoded(tmp_path):
    assert audio.decode(encode(tmp_path / "one.wav", [0.5], 22050), 22050).tolist() == [0.5]
    for rate, wanted in ((44100, 1000), (96000, 22050), (22050, 44100)):
        assert len(audio.decode(encode(tmp_path / "one.wav", [0.5], rate), wanted)) in (1, 2)
    silent = audio.decode(encode(tmp_path / "silent.flac", np.zeros(44100)), 22050)
    assert len(silent) == 22050 and not silent.any()


def test_an_attached_picture_is_no_obstacle(tmp_path):
    path = encode(tmp_path / "a.mp3", tone(1))
    picture = b"\0image/png\0\x03\0" + b"\x89PNG\r\n\x1a\n" + bytes(5000)
    frame = b"APIC" + struct.pack(">IH", len(picture), 0) + picture
    size = bytes(len(frame) >> shift & 127 for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\x03\0\0" + size + frame + path.read_bytes())
    assert len(audio.decode(path, 22050)) == pytest.approx(22050, abs=1200)


def test_a_stream_that_changes_its_format_is_followed(tmp_path):
    mono = encode(tmp_path / "1.aac", tone(2))
    stereo = encode(tmp_path / "2.aac", np.stack([tone(2, 22050)] * 2, 1), 22050)
    (tmp_path / "a.aac").write_bytes(mono.read_bytes() + stereo.read_bytes())
    x = audio.decode(tmp_path / "a.aac", 22050)
    assert len(x) == pytest.approx(4 * 22050, abs=5000)
    assert level(x[:40000], 440) == pytest.approx(0.5, rel=0.05) == level(x[-40000:], 440)


@pytest.mark.parametrize("within", (False, True))
@pytest.mark.parametrize("rate", (22050, 44100))
def test_an_ogg_file_with_its_headers_twice_has_the_samples_of_the_one_without(tmp_path,
                                                                               within, rate):
    import av

    good = encode(tmp_path / "good.ogg", np.stack([tone(3), tone(3, frequency=1000)], 1))
    (tmp_path / "bad.ogg").write_bytes(with_headers_twice(good.read_bytes(), within))
    with pytest.raises(av.FFmpegError), av.open(str(tmp_path / "bad.ogg")):
        pass
    decoder, wanted = audio.Decoder(tmp_path / "bad.ogg", rate), audio.decode(good, rate)
    blocks = list(decoder)
    np.testing.assert_allclose(np.concatenate(blocks), wanted, atol=1e-6)
    assert max(map(len, blocks)) <= 65536
    assert (decoder.seconds, decoder.expected) == (3.0, 3.0)
    # A file that is cut short lacks the mark of its end.
    content = (tmp_path / "bad.ogg").read_bytes()
    (tmp_path / "bad.ogg").write_bytes(content[: content.rindex(b"OggS")])
    decoder = audio.Decoder(tmp_path / "bad.ogg", rate)
    assert 1 < sum(map(len, decoder)) / rate < 3


def test_of_a_file_that_both_decoders_refuse_ffmpegs_reason_is_given(tmp_path, capfd):
    good = encode(tmp_path / "good.ogg", tone(1)).read_bytes()
    for name, content in (("a.ogg", good[:3000]),
                          ("b.mp3", b"\xff\xe3" + np.random.default_rng(0).bytes(9999))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError,
                           match=r"not audio that can be decoded \(\w|broken after|no sound in it"):
            audio.decode(tmp_path / name, 22050)
    assert capfd.readouterr() == ("", "")


def ape_tag(name=b"Title", value=b"song"):
    item = struct.pack("<II", len(value), 0) + name + b"\0" + value
    head, foot = (b"APETAGEX" + struct.pack("<IIII8x", 2000, len(item) + 32, 1, flags)
                  for flags in (0xA0000000, 0x80000000))
    return head + item + foot


LYRICS = b"LYRICSBEGININD0000200ETT00005Title000035LYRICS200TAG" + bytes(125)
BEHIND = {"lyrics": LYRICS, "ape": ape_tag() + b"TAG" + bytes(125), "zeros": bytes(5000),
          "ones": b"\xff" * 5000, "page": b"<!DOCTYPE html><html>" + b"<p>not found</p>" * 300}


@pytest.mark.parametrize("suffix", (".mp3", ".flac", ".m4a", ".aac", ".ogg", ".opus"))
@pytest.mark.parametrize("behind", BEHIND)
def test_what_lies_behind_the_sound_costs_no_sample(tmp_path, suffix, behind):
    path = encode(tmp_path / f"a{suffix}", tone(1, 48000), 48000)
    wanted = audio.decode(path, 22050)
    path.write_bytes(path.read_bytes() + BEHIND[behind])
    x = audio.decode(path, 22050)
    # FFmpeg keeps the padding at the end of an MP3 if the size of the file is not that of its header.
    assert len(wanted) <= len(x) <= len(wanted) + 600 * (suffix == ".mp3")
    np.testing.assert_allclose(x[: len(wanted) - 50], wanted[:-50], atol=1e-6)


def test_joined_recordings_are_heard_one_after_the_other(tmp_path):
    first = encode(tmp_path / "a.mp3", tone(1), tags={"title": "one"})
    second = encode(tmp_path / "b.mp3", tone(1, frequency=1000), tags={"title": "two"})
    (tmp_path / "c.mp3").write_bytes(first.read_bytes() + LYRICS + second.read_bytes())
    x = audio.decode(tmp_path / "c.mp3", 22050)
    assert len(x) == pytest.approx(2 * 22050, abs=3000)
    assert level(x[:22050], 440) == pytest.approx(0.5, rel=0.1) == level(x[-22050:], 1000)


@pytest.mark.parametrize("suffix", (".mp3", ".flac", ".m4a", ".aac", ".ogg", ".opus"))
def test_of_a_damaged_file_all_that_decodes_is_used(tmp_path, suffix, rng):
    path = encode(tmp_path / f"a{suffix}", np.stack([0.3 * rng.standard_normal(6 * 48000)] * 2, 1), 48000)
    content, decoder = path.read_bytes(), audio.Decoder(path, 22050)
    whole = np.concatenate(list(decoder))
    assert decoder.repairs == []
    middle = len(content) // 2
    path.write_bytes(content[:middle] + rng.bytes(600) + content[middle + 600 :])
    decoder = audio.Decoder(path, 22050)
    x = np.concatenate(list(decoder))
    assert len(x) > len(whole) - 2.1 * 22050 and decoder.repairs == [audio.DAMAGED]
    np.testing.assert_allclose(x[:22050], whole[:22050], atol=1e-4)
    if suffix in (".mp3", ".flac", ".aac"):
        path.write_bytes(content[:middle])
        assert len(audio.decode(path, 22050)) == pytest.approx(3 * 22050, rel=0.05)


def test_a_file_that_cannot_be_read_to_its_end_is_refused(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.flac", np.random.default_rng(0).uniform(-1, 1, 441000))

    class FailingDisk(io.FileIO):
        def read(self, size=-1):
            if self.tell() > 500_000:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size)

    monkeypatch.setattr(audio, "open", FailingDisk, raising=False)
    with pytest.raises(UserError, match=r"a.flac: input/output error"):
        audio.decode(path, 22050)


@pytest.mark.parametrize("subtype", ("FLOAT", "DOUBLE"))
@pytest.mark.parametrize("factor", (0.5, 1.0, 4.0, 32768.0, 1e30))
def test_floats_beyond_full_scale_are_scaled_by_their_peak(tmp_path, subtype, factor, rng):
    sound = np.stack([tone(1, 22050, 440, 0.9), tone(1, 22050, 1000, 0.3)], axis=1)
    sound[:5] = 1.0
    wanted = audio.decode(encode(tmp_path / "a.wav", sound, 22050, subtype=subtype), 22050)
    decoder = audio.Decoder(encode(tmp_path / "b.wav", factor * sound, 22050, subtype=subtype), 22050)
    np.testing.assert_allclose(np.concatenate(list(decoder)), min(factor, 1) * wanted, atol=1e-5)
    assert decoder.repairs == [audio.SCALED] * (factor > 1)


def test_damaged_floats_do_not_silence_the_rest(tmp_path):
    sound = tone(2, 22050, 440, 0.9)
    sound[20000:20010] = 1e30, -1e12, np.nan, 7, np.inf, 0, -np.inf, 1e38, -2e9, 3e4
    decoder = audio.Decoder(encode(tmp_path / "a.wav", sound, 22050, subtype="FLOAT"), 22050)
    x = np.concatenate(list(decoder))
    assert level(x[:19000], 440) == pytest.approx(0.9, rel=0.01) and decoder.repairs == []


@pytest.mark.parametrize("suffix", (".flac", ".wav", ".mp3", ".ogg"))
@pytest.mark.parametrize("gain", (0.98, 1.02))
def test_of_channels_that_cancel_the_louder_is_heard(tmp_path, suffix, gain):
    left = np.concatenate([np.zeros(22050, np.float32), tone(2)])
    path = encode(tmp_path / f"a{suffix}", np.stack([left, -gain * left], 1))
    decoder = audio.Decoder(path, 22050)
    x = np.concatenate(list(decoder))
    assert level(x[22050:], 440) == pytest.approx(0.5 * max(gain, 1), rel=0.06)
    assert decoder.repairs == [audio.ONE_CHANNEL]


def test_channels_that_are_merely_unlike_are_mixed(tmp_path, rng):
    noise = 0.2 * rng.standard_normal((22050, 2))
    for right in (noise[:, 1], 0 * noise[:, 1], -0.5 * noise[:, 0]):
        decoder = audio.Decoder(encode(tmp_path / "a.flac", np.stack([noise[:, 0], right], 1), 22050), 22050)
        np.testing.assert_allclose(np.concatenate(list(decoder)), (noise[:, 0] + right) / 2, atol=1e-4)
        assert decoder.repairs == []


def test_a_part_equals_that_part_of_the_whole_and_reads_no_more(tmp_path):
    path = encode(tmp_path / "a.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 20 * 44100))
    whole = audio.decode(path, 22050)
    end = len(whole)
    for first, count in ((0, None), (0, 5), (1, 1), (65530, 12), (100_000, 70_000)):
        samples, read = audio.read_part(path, 22050, first, count)
        np.testing.assert_array_equal(samples, whole[first:][:count])
        assert read == end if count is None else first + count <= read < first + count + 65536
    for first in (end - 3, end, end + 1):
        samples, read = audio.read_part(path, 22050, first, 9)
        np.testing.assert_array_equal(samples, whole[first:])
        assert read == end
    # What comes after the part is not read.
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    np.testing.assert_array_equal(audio.read_part(path, 22050, 100, 1000)[0], whole[100:1100])


def test_an_excerpt_is_given_in_seconds(tmp_path):
    path = encode(tmp_path / "a.wav", tone(3))
    whole = audio.decode(path, 16000)
    for start, seconds, wanted in ((0, None, whole), (1.5, 0.25, whole[24000:28000]),
                                   (2.9, 5, whole[46400:]),
                                   (1, 1e-9, whole[16000:16001])):
        np.testing.assert_array_equal(audio.read_excerpt(path, 16000, start, seconds), wanted)
    with pytest.raises(UserError, match=r"a.wav: lasts 3.0 s, so it cannot start at 3.5 s"):
        audio.read_excerpt(path, 16000, 3.5, 1)


@pytest.mark.parametrize("suffix", (".wav", ".flac", ".ogg", ".WAV"))
@pytest.mark.parametrize("length", (1, 1000, 22050, 200_001))
def test_writing_and_reading_gives_the_samples_back(tmp_path, suffix, length):
    import soundfile

    path = tmp_path / f"a{suffix}"
    x = tone(length / 22050, 22050)
    with audio.Writer(path, 22050, "the terms") as out:
        for start in range(0, length, 7777):
            out.write(x[start : start + 7777])
    y, rate = soundfile.read(path, dtype="float32")
    assert soundfile.SoundFile(path).copyright == "the terms"
    assert rate == 22050 and y.shape == (length,) and os.listdir(tmp_path) == [path.name]
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()
    if suffix != ".ogg":
        assert np.abs(y - x).max() <= 1 / 65536
        assert np.array_equal(audio.decode(path, 22050), y)
    elif length > 5000:
        assert level(y, 440) == pytest.approx(0.5, rel=0.05)


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("error", (RuntimeError, KeyboardInterrupt))
@pytest.mark.parametrize("before", (None, b"what was there"))
def test_an_interrupted_writer_keeps_the_old_file(tmp_path, error, before):
    path = tmp_path / "a.ogg"
    if before:
        path.write_bytes(before)
    with pytest.raises(error), audio.Writer(path, 22050) as out:
        out.write(np.zeros(100_000))
        raise error
    assert os.listdir(tmp_path) == ([path.name] if before else [])
    assert not before or path.read_bytes() == before


@pytest.mark.parametrize("suffix", (".wav", ".flac", ".ogg"))
@pytest.mark.parametrize("block", (1000, 1_000_000))
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, capfd, suffix, block):
    import resource
    import signal

    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    noise = np.random.default_rng(0).uniform(-1, 1, 1_000_000)
    try:
        with (pytest.raises(OSError, match="File too large"),
              audio.Writer(tmp_path / f"a{suffix}", 22050) as out):
            for start in range(0, len(noise), block):
                out.write(noise[start : start + block])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == []
    assert capfd.readouterr().err == ""


def test_only_leftovers_of_killed_processes_are_removed(tmp_path):
    long_ago = time.time() - 3600
    with files.atomic_write(tmp_path / "b.wav") as theirs:
        (being_written,) = tmp_path.iterdir()
        (left := tmp_path / ".vqwave-0123456789ab.part").write_bytes(b"half")
        (recent := tmp_path / ".vqwave-ba9876543210.part").write_bytes(b"half")
        for path in (being_written, left):
            os.utime(path, (long_ago, long_ago))
        audio.write(tmp_path / "a.wav", np.zeros(9), 22050)
        assert set(tmp_path.iterdir()) == {being_written, recent, tmp_path / "a.wav"}
        theirs.write(b"whole")
    assert (tmp_path / "b.wav").read_bytes() == b"whole"


def test_a_place_that_takes_no_audio_is_refused_by_name(tmp_path):
    (tmp_path / "d.wav").mkdir()
    for name, reason in (("a.mp3", "wav, .flac, .ogg"), ("a", "wav, .flac, .ogg"),
                         ("no/a.wav", "there is no folder"), ("d.wav", "is a folder")):
        with pytest.raises(UserError, match=reason) as caught:
            audio.Writer(tmp_path / name, 22050)
        assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("semitones", [-12, -1, 3, 12])
def test_transposing_moves_a_tone_by_semitones_and_keeps_its_level(semitones):
    sound, factor = tone(2.0, 22050, 440.0, 0.5), 2 ** (semitones / 12)
    moved = np.concatenate(list(audio.transpose([sound], sound.size, semitones)))
    assert moved.dtype == np.float32
    assert moved.size == audio.transposed_length(sound.size, semitones) == np.ceil(44100 / factor)
    assert level(moved, 440.0 * factor) == pytest.approx(0.5, abs=0.002)
    assert level(moved, 440.0) < 0.001


def test_transposing_is_the_same_however_the_signal_is_cut(rng):
    sound = rng.uniform(-1, 1, 30000).astype(np.float32)
    whole = np.concatenate(list(audio.transpose([sound], sound.size, 2)))
    cut = list(audio.transpose(np.split(sound, [1, 2000, 2000, 9999]), sound.size, 2))
    assert np.abs(whole).max() <= 1
    np.testing.assert_allclose(np.concatenate(cut), whole, atol=1e-5)


def test_transposing_up_leaves_nothing_that_was_above_the_new_nyquist_frequency():
    sound = tone(2.0, 22050, 10000.0, 0.5)
    higher = np.concatenate(list(audio.transpose([sound], sound.size, 4)))
    assert np.abs(higher[2000:-2000]).max() < 0.001


@pytest.mark.parametrize("samples", [0, 1, 7])
def test_the_shortest_signals_are_transposed(samples):
    for semitones in (-5, 5):
        blocks = audio.transpose([np.full(samples, 0.5, np.float32)], samples, semitones)
        assert sum(map(len, blocks)) == audio.transposed_length(samples, semitones)
