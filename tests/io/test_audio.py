import errno
import io
import os

import numpy as np
import pytest
from encoded import encode, tone, with_headers_twice

from vqwave.errors import UserError
from vqwave.io import audio


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


def test_resampling_keeps_the_band_and_folds_nothing_back(tmp_path):
    sound = tone(2, 96000, 5000) + tone(2, 96000, 15000)
    x = audio.decode(encode(tmp_path / "a.wav", sound, 96000, subtype="FLOAT"), 22050)
    assert len(x) == 2 * 22050
    assert level(x, 5000) == pytest.approx(0.5, rel=0.01)
    assert level(x, 22050 - 15000) < 0.5e-3


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


@pytest.mark.parametrize("suffix", (".mp3", ".flac", ".m4a", ".aac", ".ogg", ".opus"))
def test_of_a_damaged_file_all_that_decodes_is_used(tmp_path, suffix, rng):
    path = encode(tmp_path / f"a{suffix}", np.stack([0.3 * rng.standard_normal(6 * 48000)] * 2, 1), 48000)
    content, decoder = path.read_bytes(), audio.Decoder(path, 22050)
    whole = np.concatenate(list(decoder))
    assert not decoder.damaged
    middle = len(content) // 2
    path.write_bytes(content[:middle] + rng.bytes(600) + content[middle + 600 :])
    decoder = audio.Decoder(path, 22050)
    x = np.concatenate(list(decoder))
    assert len(x) > len(whole) - 2.1 * 22050 and decoder.damaged
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
