"""Files <-> samples: decode (PyAV, else soundfile), resample, float32 in [-1, 1] <-> uint16, write
wav, flac and ogg.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from pathlib import Path

import numpy as np

from .. import cli
from ..errors import UserError
from .files import atomic_write, check_place, printable, reason, sweep

AUDIO_SUFFIXES = (".m4a", ".mp3", ".wav", ".flac", ".ogg", ".opus", ".aac", ".aiff")
SILENCE = 32768

# What is probed for is what plays: without this a playlist or a subtitle file called song.mp3 would
# be "opened" too.
_DEMUXERS = "mp3,aac,flac,ogg,wav,w64,aiff,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm"
# How files begin that libsndfile may try. Not MP3: FFmpeg knows it better, and mpg123 prints
# warnings.
_SNDFILE_STARTS = (b"OggS", b"fLaC", b"RIFF", b"RF64", b"FORM")
_BLOCK = 65536
_FORMATS = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}
_WAV_LIMIT = (2**32 - 4096) // 2


# ------------------------------------------------------------------------------- float32 <-> uint16


def to_int16(audio) -> np.ndarray:
    """round(x·32768) clipped to [-32768, 32767]: float [...] -> int16 [...], the numbers that a wav
    of it holds.

    Louder than full scale (infinity included) clips, never wraps; NaN becomes silence.
    """
    scaled = (np.nan_to_num(np.asarray(audio, np.float32), nan=0.0, posinf=1.0, neginf=-1.0)
              * np.float32(32768))
    return np.clip(np.rint(scaled), -32768, 32767).astype(np.int16)


def from_int16(values) -> np.ndarray:
    """int16 [...] -> float32 [...] in [-1, 1), what `to_int16` took it from but for the rounding.
    """
    return np.asarray(values).astype(np.float32) / np.float32(32768)


def to_u16(audio) -> np.ndarray:
    """`to_int16` + 32768: float [...] -> uint16 [...], silence is 32768."""
    return (to_int16(audio).astype(np.int32) + SILENCE).astype(np.uint16)


def from_u16(values) -> np.ndarray:
    """uint16 [...] -> float32 [...] in [-1, 1). `from_u16(to_u16(x))` is within 1/65536 of x inside
    that range.
    """
    return (np.asarray(values).astype(np.float32) - SILENCE) / np.float32(32768)


def read_window(path, start: int, count: int) -> np.ndarray:
    """`count` uint16 of a `.u16` file from position `start` on.

    Raises:
        UserError: the file cannot be read, or is shorter than that.
    """
    try:
        values = np.fromfile(path, "<u2", count, offset=2 * start)
    except OSError as e:
        raise UserError(f"{path}: cannot be read: {e.strerror}") from e
    if len(values) != count:
        raise UserError(f"{path}: is shorter than the manifest says; run {cli.command('prepare')} "
                        f"again")
    return values


# ----------------------------------------------------------------------------------------- decoding


class Decoder:
    """One file's audio as mono blocks, in constant memory.

    Iterating yields float32 [n] in [-1, 1] at `sample_rate` (n varies; the last may be short).
    Channels are mixed down with weights that sum to one, so nothing clips that did not before. NaN
    in a float file is silence. What FFmpeg refuses libsndfile may read; where both do, the reason
    is FFmpeg's.

    While it runs, `seconds` is what has been decoded and `expected` the length in seconds that the
    file says it has (None where it does not say): where the first is much less than the second
    after the last block, the file was cut short. So it was where `ended` is False: its format marks
    the end, and the file has no such mark.

    Raises:
        UserError: names the file and the reason, before the first block or after any of them.
    """

    def __init__(self, path, sample_rate: int):
        self.path = Path(path)
        self.sample_rate = sample_rate
        self.seconds = 0.0
        self.expected = None
        self.ended = True

    def __iter__(self):
        try:
            # An open file, not a name: FFmpeg would take "a:b.mp3" for a protocol, and cannot take
            # every file name.
            file = open(self.path, "rb")  # noqa: SIM115
        except (OSError, ValueError) as e:
            raise UserError(f"{printable(self.path)}: {_reason(e, 0.0)}") from e
        with file:
            if not os.fstat(file.fileno()).st_size:
                raise UserError(f"{printable(self.path)}: the file is empty")
            try:
                yield from self._blocks(self._ffmpeg(file))
                return
            except UserError as e:
                if self.seconds:
                    raise
                refused = e
            # Only FFmpeg refuses Vorbis files that hold their headers twice, for instance.
            try:
                yield from self._blocks(self._libsndfile(file))
            except UserError:
                if self.seconds:
                    raise
                raise refused from None

    def _blocks(self, frames):
        """Frames of either decoder -> blocks. Raises `UserError`."""
        import av

        self.seconds, samples = 0.0, 0
        try:
            for block in _mono(self._count_seconds(frames), self.sample_rate):
                samples += block.size
                yield block
        except (OSError, ValueError, EOFError, av.FFmpegError) as e:
            raise UserError(f"{printable(self.path)}: {_reason(e, self.seconds)}") from e
        if not self.seconds:
            raise UserError(f"{printable(self.path)}: there is no sound in it")
        if not samples:
            # A few samples at a higher rate round to none; they are a file.
            yield np.zeros(1, np.float32)

    def _count_seconds(self, frames):
        for frame in frames:
            self.seconds += frame.samples / frame.sample_rate
            yield frame

    def _ffmpeg(self, file):
        """The file's frames as FFmpeg decodes them."""
        import av

        options = {"format_whitelist": _DEMUXERS}
        with av.open(_Nameless(file), options=options, buffer_size=1 << 18,
                     metadata_errors="ignore") as box:
            stream = box.streams.best("audio")
            if stream is None:
                return
            self.expected = _stated_seconds(self.path, box.format.name, stream)
            self.ended = box.format.name != "ogg" or _has_ogg_end(self.path)
            yield from box.decode(stream)

    def _libsndfile(self, file):
        """The file's frames as libsndfile decodes them, mixed down already."""
        import av
        import soundfile

        file.seek(0)
        if file.read(4) not in _SNDFILE_STARTS:
            return
        # A descriptor: libsndfile reads it without a way back into Python, where an error would be
        # printed.
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        try:
            with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
                self.expected = sound.frames / sound.samplerate
                self.ended = sound.format != "OGG" or _has_ogg_end(self.path)
                while (block := sound.read(max(1, _BLOCK // sound.channels),
                                           "float32", always_2d=True)).size:
                    mono = _clip_finite(block, 1e6).mean(axis=1, dtype=np.float32)
                    frame = av.AudioFrame.from_ndarray(mono[None], "flt", "mono")
                    frame.sample_rate = sound.samplerate
                    yield frame
        except soundfile.LibsndfileError as e:
            raise ValueError(f"broken after {self.seconds:.1f} s ({e.error_string.lower()})") from e


def decode(path, sample_rate: int) -> np.ndarray:
    """A whole file as float32 [samples] in [-1, 1], mono, at `sample_rate`. Raises as `Decoder`."""
    return np.concatenate(list(Decoder(path, sample_rate)))


def part(path, sample_rate: int, first: int, count: int | None = None) -> tuple[np.ndarray, int]:
    """Samples `first` … `first` + `count` − 1 of a file (None: to its end) and how many were read.

    Returns:
        float32 [at most count], mono, at `sample_rate`; and where reading stopped, which is the
        file's length if it has fewer samples than were asked for.

    Raises:
        UserError: as `Decoder`.
    """
    blocks, position = [np.empty(0, np.float32)], 0
    for block in Decoder(path, sample_rate):
        # An empty piece of a block would keep all of it.
        if position + block.size > first:
            blocks.append(block[max(0, first - position) :])
        position += block.size
        if count is not None and position >= first + count:
            break
    return np.concatenate(blocks)[:count], position


def excerpt(path, sample_rate: int, start: float = 0.0, seconds: float | None = None) -> np.ndarray:
    """`seconds` of a file (None: to its end) from second `start` on, or as much as there is:
    float32 [samples].

    Raises:
        UserError: as `Decoder`, and where the file ends before `start`.
    """
    count = None if seconds is None else max(1, round(seconds * sample_rate))
    samples, length = part(path, sample_rate, round(start * sample_rate), count)
    if not samples.size:
        raise UserError(f"{printable(path)}: lasts {length / sample_rate:.1f} s; nothing is left "
                        f"of it from {start:g} s on")
    return samples


class _Nameless:
    """An open file without its name, so that FFmpeg judges by content alone."""

    def __init__(self, file):
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _stated_seconds(path, kind, stream):
    """Seconds that the file says it has, or None where FFmpeg's figure would be a guess from its
    size.
    """
    if not stream.duration:
        return None
    seconds = float(stream.duration * stream.time_base)
    with open(path, "rb") as file:
        head, size = file.read(1 << 16), os.fstat(file.fileno()).st_size
    if kind == "wav":
        # FFmpeg goes by the file's size; the header has the real one, unless it was written to a
        # pipe.
        riff = 8 + int.from_bytes(head[4:8], "little")
        return seconds * riff / size if head[:4] == b"RIFF" and riff < 0x7FFFFFFF else None
    if kind == "mp3":
        return seconds if b"Xing" in head or b"Info" in head else None
    return seconds if kind.split(",")[0] in ("aiff", "flac", "mov", "ogg") else None


def _has_ogg_end(path):
    """Whether the last page of an Ogg file is marked as the last: in a file that was cut between
    pages only this mark is missing.
    """
    with open(path, "rb") as file:
        # A page has at most 65,307 bytes.
        file.seek(-min(1 << 17, file.seek(0, os.SEEK_END)), os.SEEK_END)
        tail = file.read()
    page = tail.rfind(b"OggS")
    return page < 0 or page + 5 >= len(tail) or bool(tail[page + 5] & 4)


def _reason(error, seconds):
    import av

    if not isinstance(error, av.FFmpegError):
        return reason(error) if isinstance(error, OSError) else str(error)
    if seconds:
        return f"broken after {seconds:.1f} s ({reason(error)})"
    return f"not audio that can be decoded ({reason(error)})"


def _mono(frames, rate):
    """Decoded frames -> finite float32 blocks [n] in [-1, 1] at `rate`, through one FFmpeg graph a
    source format.
    """
    graph, key, pending = None, None, 0
    for frame in frames:
        now = (frame.sample_rate, frame.format.name, frame.layout.name)
        if now != key:  # Chained Ogg and broadcast AAC change rate or channels part way.
            if graph is not None:
                yield from _drain(graph, end=True)
            graph, key, pending = _graph(frame, rate), now, 0
        # Gaps in time stamps are not our business: what was decoded is what counts.
        frame.pts = None
        graph.push(frame)
        pending += frame.samples
        # Asking an empty graph costs an exception; ask when about a block's worth has gone in.
        if pending * rate >= _BLOCK * frame.sample_rate:
            pending = 0
            yield from _drain(graph)
    if graph is not None:
        yield from _drain(graph, end=True)


def _graph(frame, rate):
    import av

    if frame.sample_rate < 1000:
        raise ValueError(f"a sample rate of {frame.sample_rate} Hz is too low for music")
    channels = len(frame.layout.channels)
    if channels > 8:
        # FFmpeg has no mix for layouts this wide; the mean is what is left.
        mix = ("pan", "mono|c0=" + "+".join(f"{1 / channels}*c{i}" for i in range(channels)))
        resample = f"{rate}:out_sample_fmt=flt"
    else:
        # In float, FFmpeg's stereo mix is 0.71 (L + R), which clips; rematrix_maxval=1 makes it the
        # mean.
        mix = ("anull", None)
        resample = f"{rate}:out_sample_fmt=flt:out_chlayout=mono:rematrix_maxval=1"
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=frame.sample_rate, format=frame.format.name,
                               layout=frame.layout.name,
                               time_base=frame.time_base)
    nodes = [graph.add(*mix), graph.add("aresample", resample),
             graph.add("asetnsamples", f"n={_BLOCK}:p=0"),
             graph.add("abuffersink")]
    graph.link_nodes(source, *nodes).configure()
    return graph


def _drain(graph, end=False):
    import av

    if end:
        graph.push(None)
    while True:
        try:
            block = graph.pull().to_ndarray()[0]
        except (av.BlockingIOError, av.EOFError):
            return
        yield _clip_finite(block, 1.0)


def _clip_finite(samples, most):
    """The samples within ±most; NaN is silence."""
    return np.clip(np.nan_to_num(samples, nan=0.0, posinf=most, neginf=-most), -most, most)


# -------------------------------------------------------------------------------------- transposing


def transposed_length(samples: int, semitones: int) -> int:
    """Samples that `transpose` makes of so many."""
    return math.ceil(samples * 2 ** (-semitones / 12))


def transpose(blocks, samples: int, semitones: int):
    """A signal higher by so many equal-tempered semitones (lower where negative), and as much
    faster, by resampling.

    Constant memory. What is above the Nyquist frequency afterwards is filtered out.

    Args:
        blocks: float32 [n] each, of any lengths, `samples` in all.

    Returns:
        An iterator of float32 [n] in [-1, 1], `transposed_length` samples in all.
    """
    import soxr

    stream = soxr.ResampleStream(2 ** (semitones / 12), 1, 1, dtype="float32")
    left = transposed_length(samples, semitones)
    for block in itertools.chain(blocks, [None]):
        last = block is None
        made = stream.resample_chunk(np.empty(0, np.float32) if last
                                     else np.asarray(block, np.float32), last)[:left]
        left -= made.size
        # The resampler may round the length otherwise.
        yield np.clip(np.pad(made, (0, left)) if last else made, -1, 1)


# ------------------------------------------------------------------------------------ below hearing

HEARING = 20.0
"""Hz: what is lower nobody hears."""
RUMBLE = 0.01
"""Full scale: how much a `RumbleMeter` may find before what is below hearing is taken out, -40
dBFS.
"""


class RumbleMeter:
    """How much of a recording is a constant offset or moves too slowly to be heard: faulty
    converters and synthesizers leave it, and it tells one collection from another where nobody
    hears a difference.

    Give it the recording's blocks, float [n] each; `rms`, of full scale, is of all so far: what a
    Butterworth filter of fourth order leaves below half of `HEARING`.
    """

    def __init__(self, sample_rate: int):
        self._sections = _sections(4, HEARING / 2, "lowpass", sample_rate)
        self._state = np.zeros((len(self._sections), 2))
        self._count, self._sum = 0, 0.0

    def add(self, block):
        from scipy.signal import sosfilt

        if not block.size:
            return
        slow, self._state = sosfilt(self._sections, block, zi=self._state)
        self._count, self._sum = self._count + slow.size, self._sum + float(np.square(slow).sum())

    @property
    def rms(self) -> float:
        return math.sqrt(self._sum / max(1, self._count))


def high_pass(blocks, sample_rate: int):
    """A signal without what is below `HEARING`: a Butterworth filter of second order, 3 dB down
    there. Begins as if the first sample had always been there, so that an offset makes no click.

    Args:
        blocks: float32 [n] each.

    Returns:
        An iterator of float32 [n] in [-1, 1], as long as they are.
    """
    from scipy.signal import sosfilt, sosfilt_zi

    sections, state = _sections(2, HEARING, "highpass", sample_rate), None
    for block in blocks:
        if not block.size:
            continue
        state = sosfilt_zi(sections) * block[0] if state is None else state
        made, state = sosfilt(sections, block, zi=state)
        yield np.clip(made, -1, 1).astype(np.float32)


def _sections(order: int, hertz: float, kind: str, sample_rate: int) -> np.ndarray:
    """The second-order sections of a Butterworth filter, as scipy takes them."""
    from scipy.signal import butter

    return butter(order, hertz, kind, fs=sample_rate, output="sos")


# ------------------------------------------------------------------------------------------ writing


def check_output(path) -> Path:
    """The path, if audio can be written there. Raises `UserError` for an unknown ending, and where
    `check_place` does.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise UserError(f"{printable(path)}: audio is written as {', '.join(_FORMATS)}; " + (
            f"{printable(path.suffix)!r} is none of them" if path.suffix
            else "the name has no such ending"))
    return check_place(path)


class Writer:
    """Mono audio to a wav (16 bit), flac (16 bit) or ogg (Vorbis) file by its ending, a block at a
    time.

    >>> with Writer("out.wav", 22050) as out:
    ...     out.write(block)                     # float [n] in [-1, 1]; louder clips, NaN is
    silence

    Constant memory. The same samples give the same wav and flac, byte for byte; each ogg file has
    its own serial number. The file gets its final name when the block ends without an exception.
    soundfile, not PyAV: PyAV's wheels have no Vorbis encoder, and librosa brings soundfile.

    Raises:
        UserError: on construction, as `check_output`, or where the folder cannot be written to.
        OSError: the disk is full.
    """

    def __init__(self, path, sample_rate: int):
        import soundfile

        self.path = check_output(path)
        self.sample_rate = sample_rate
        self.samples = 0
        self._suffix = self.path.suffix.lower()
        sweep(self.path.parent)
        kind, subtype = _FORMATS[self._suffix]
        self._finish = atomic_write(self.path)
        try:
            self._file = _Sink(self._finish.__enter__())
        except OSError as e:
            raise UserError(f"{printable(self.path)}: cannot be written: {reason(e)}") from e
        try:
            self._sound = soundfile.SoundFile(self._file, "w", sample_rate,
                                              channels=1, format=kind, subtype=subtype)
        except BaseException as e:
            self._finish.__exit__(type(e), e, e.__traceback__)
            raise

    def write(self, block):
        """Append float [n]."""
        block = np.asarray(block)
        if block.ndim != 1:
            raise ValueError(f"a block is [samples], not {list(block.shape)}")
        if self._suffix == ".wav" and self.samples + block.size > _WAV_LIMIT:
            raise UserError(f"{printable(self.path)}: a wav file ends at 4 GiB; write .flac or "
                            f".ogg")
        # Rounded here, since libsndfile scales by 32767.
        exact = to_int16(block)
        # In slices: libsndfile's Vorbis encoder puts a whole block on the stack.
        for start in range(0, exact.size, _BLOCK):
            with self._file.errors():
                self._sound.write(exact[start : start + _BLOCK])
        self.samples += block.size

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        try:
            with self._file.errors():
                self._sound.close()
        except BaseException as e:
            self._finish.__exit__(type(e), e, e.__traceback__)
            raise
        self._finish.__exit__(kind, error, trace)


def write(path, audio, sample_rate: int):
    """float [samples] to `path` (wav, flac or ogg by its ending), all or nothing. Raises as
    `Writer`.
    """
    with Writer(path, sample_rate) as out:
        out.write(audio)


class _Sink:
    """The file that soundfile writes through. libsndfile loses the reason of a failed call; this
    keeps it.
    """

    def __init__(self, file):
        self.file = file
        self._failed = None

    def write(self, data):
        return self._keep_error(0, self.file.write, data)

    # These two fail as well: they write what the file still buffers.
    def seek(self, offset, whence=os.SEEK_SET):
        return self._keep_error(0, self.file.seek, offset, whence)

    def tell(self):
        return self._keep_error(0, self.file.tell)

    def _keep_error(self, otherwise, call, *arguments):
        try:
            return call(*arguments)
        except OSError as e:
            self._failed = e
            return otherwise

    @contextlib.contextmanager
    def errors(self):
        try:
            yield
        finally:
            if self._failed:
                raise self._failed
