"""Files <-> float32 samples in [-1, 1] <-> uint16: decode, resample, write wav, flac and ogg."""

import contextlib
import functools
import itertools
import math
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from .. import cli
from ..errors import UserError
from .files import atomic_write, check_place, printable, reason, sweep

AUDIO_SUFFIXES = (".m4a", ".mp3", ".wav", ".flac", ".ogg", ".opus", ".aac", ".aiff", ".aif", ".oga",
                  ".wma", ".webm", ".mkv", ".mp4")
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz
SILENCE = 32768
HEARING = 20.0
"""Hz: lower frequencies are inaudible."""
RUMBLE = 0.01
"""A recording with more rumble than this RMS (-40 dBFS) is high-passed."""

# Without this list FFmpeg would also open a playlist or a subtitle file named song.mp3.
_DEMUXERS = "mp3,aac,flac,ogg,wav,w64,aiff,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,asf"
# The first bytes of files that libsndfile may try; not of MP3, where mpg123 prints warnings.
_SNDFILE_STARTS = (b"OggS", b"fLaC", b"RIFF", b"RF64", b"FORM")
_BLOCK = 65536
_TOLERANCE = 0.05
"""The largest difference in seconds between the lengths of an undamaged file and its header."""
_FORMATS = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}
_WAV_LIMIT = (2**32 - 4096) // 2


def to_int16(audio) -> np.ndarray:
    """round(x·32768) clipped to [-32768, 32767]: float [...] -> int16 [...]. NaN becomes 0."""
    scaled = _clip_finite(np.asarray(audio, np.float32), 1.0) * np.float32(32768)
    return np.clip(np.rint(scaled), -32768, 32767).astype(np.int16)


def from_int16(values) -> np.ndarray:
    """int16 [...] -> float32 [...] in [-1, 1)."""
    return np.asarray(values).astype(np.float32) / np.float32(32768)


def to_u16(audio) -> np.ndarray:
    """`to_int16` + 32768: float [...] -> uint16 [...], silence is 32768."""
    return (to_int16(audio).astype(np.int32) + SILENCE).astype(np.uint16)


def from_u16(values) -> np.ndarray:
    """uint16 [...] -> float32 [...] in [-1, 1)."""
    return (np.asarray(values).astype(np.float32) - SILENCE) / np.float32(32768)


def _clip_finite(samples, most):
    """The samples clipped to ±most, with 0 for NaN."""
    return np.clip(np.nan_to_num(samples, nan=0.0, posinf=most, neginf=-most), -most, most)


def read_window(path, start: int, count: int) -> np.ndarray:
    """`count` uint16 of a `.u16` file from position `start` on."""
    try:
        values = np.fromfile(path, "<u2", count, offset=2 * start)
    except OSError as e:
        raise UserError(f"{path}: cannot be read: {e.strerror}") from e
    if len(values) != count:
        raise UserError(f"{path}: is shorter than the manifest says; run {cli.command('prepare')} "
                        f"again")
    return values


class Decoder:
    """The audio of one file as mono blocks float32 [n] in [-1, 1], in constant memory.

    The weights of channels sum to one, so the mix clips only if a channel clips. NaN becomes
    silence. What FFmpeg cannot decode is left out. libsndfile tries the files that FFmpeg refuses.

    seconds: decoded so far. expected: the length in seconds, from the file's header or guessed by
    FFmpeg, or None. damaged: whether something was left out, known after the last block. A
    `UserError` names the file and the reason.
    """

    def __init__(self, path, sample_rate: int):
        self.path, self.sample_rate = Path(path), sample_rate
        self.seconds, self.expected, self.damaged = 0.0, None, False

    def __iter__(self):
        with contextlib.ExitStack() as opened:
            try:
                # A file object, because FFmpeg takes a name such as "a:b.mp3" for a protocol.
                file = opened.enter_context(open(self.path, "rb"))
                magic = file.read(4)
            except (OSError, ValueError) as e:
                why = reason(e) if isinstance(e, OSError) else e
                raise UserError(f"{printable(self.path)}: {why}") from e
            if not magic:
                raise UserError(f"{printable(self.path)}: the file is empty")
            try:
                yield from self._blocks(self._ffmpeg(file))
                return
            except UserError as e:
                if self.seconds or magic not in _SNDFILE_STARTS:
                    raise
                ffmpeg_error = e
            # For instance, FFmpeg refuses Vorbis files with repeated headers.
            try:
                yield from self._blocks(self._libsndfile(file))
            except UserError:
                if self.seconds:
                    raise
                raise ffmpeg_error from None

    def _blocks(self, frames):
        """Frames of either decoder -> blocks. Raises `UserError`."""
        import av

        name, samples, self.seconds, self.damaged = printable(self.path), 0, 0.0, False
        try:
            for block in _mono(self._count_seconds(frames), self.sample_rate):
                samples += block.size
                yield block
        except av.FFmpegError as e:
            where = (f"broken after {self.seconds:.1f} s" if self.seconds
                     else "not audio that can be decoded")
            raise UserError(f"{name}: {where}") from e
        except (OSError, ValueError) as e:
            raise UserError(f"{name}: {reason(e) if isinstance(e, OSError) else e}") from e
        if not self.seconds:
            raise UserError(f"{name}: contains no sound")
        if not samples:
            # A few samples at a higher rate may be less than one sample here.
            yield np.zeros(1, np.float32)

    def _count_seconds(self, frames):
        for frame in frames:
            self.seconds += frame.samples / frame.sample_rate
            yield frame

    def _ffmpeg(self, file):
        """The file's frames as FFmpeg decodes them."""
        import av

        file.seek(0)
        # Without the file's name, FFmpeg detects the format from the content.
        nameless = SimpleNamespace(read=file.read, seek=file.seek, tell=file.tell)
        with av.open(nameless, options={"format_whitelist": _DEMUXERS}, buffer_size=1 << 18,
                     metadata_errors="ignore") as container:
            stream = container.streams.best("audio")
            if stream is None:
                return
            self.expected = stream.duration and float(stream.duration * stream.time_base)
            errors, seconds = [], 0.0
            for packet in _packets(container, stream, errors):
                try:
                    frames = stream.decode(packet)
                except av.FFmpegError as e:
                    errors.append(e)
                    continue
                for frame in frames:
                    seconds += frame.samples / frame.sample_rate
                    yield frame
            if errors and not seconds:
                raise errors[0]
            # FFmpeg skips damaged pages of these formats without an error.
            self.damaged = bool(errors) or (container.format.name in ("ogg", "flac")
                                            and seconds < (self.expected or 0) - _TOLERANCE)

    def _libsndfile(self, file):
        """The file's frames as libsndfile decodes them, already mixed down."""
        import av
        import soundfile

        # A descriptor, because with a file object libsndfile prints errors.
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        try:
            with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
                self.expected = sound.frames / sound.samplerate
                while (block := sound.read(max(1, _BLOCK // sound.channels),
                                           "float32", always_2d=True)).size:
                    mono = _clip_finite(block, 1e6).mean(axis=1, dtype=np.float32)
                    frame = av.AudioFrame.from_ndarray(mono[None], "flt", "mono")
                    frame.sample_rate = sound.samplerate
                    yield frame
        except soundfile.LibsndfileError as e:
            raise ValueError(f"broken after {self.seconds:.1f} s") from e


def _packets(container, stream, errors):
    """The packets of a stream, as far as they can be read; after an error None, the end."""
    import av

    try:
        yield from container.demux(stream)
    except av.FFmpegError as e:
        errors.append(e)
        yield None


def decode(path, sample_rate: int) -> np.ndarray:
    """A whole file as float32 [samples] in [-1, 1], mono, at `sample_rate`. Raises as `Decoder`."""
    return np.concatenate(list(Decoder(path, sample_rate)))


def read_part(path, sample_rate: int, first: int,
              count: int | None = None) -> tuple[np.ndarray, int]:
    """Samples `first` … `first` + `count` − 1 of a file (None: to its end): float32 [at most
    count], mono, at `sample_rate`; and the sample at which reading ended. Raises as `Decoder`.
    """
    blocks, position = [np.empty(0, np.float32)], 0
    for block in Decoder(path, sample_rate):
        # Even an empty slice keeps its whole block in memory.
        if position + block.size > first:
            blocks.append(block[max(0, first - position) :])
        position += block.size
        if count is not None and position >= first + count:
            break
    return np.concatenate(blocks)[:count], position


def read_excerpt(path, sample_rate: int, start: float = 0.0,
                 seconds: float | None = None) -> np.ndarray:
    """Up to `seconds` of a file (None: to its end) from second `start` on: float32 [samples].
    Raises as `Decoder`, and if the file ends before `start`.
    """
    count = None if seconds is None else max(1, round(seconds * sample_rate))
    samples, length = read_part(path, sample_rate, round(start * sample_rate), count)
    if not samples.size:
        raise UserError(f"{printable(path)}: lasts {length / sample_rate:.1f} s, so it "
                        f"cannot start at {start:g} s")
    return samples


def _mono(frames, rate):
    """Decoded frames -> float32 blocks [n] in [-1, 1] at `rate`; a graph for each source format."""
    graph, key, pending = None, None, 0
    for frame in frames:
        frame_key = (frame.sample_rate, frame.format.name, frame.layout.name)
        if frame_key != key:  # Chained Ogg and broadcast AAC change rate or channels part way.
            if graph is not None:
                yield from _drain(graph, end=True)
            graph, key, pending = _graph(frame, rate), frame_key, 0
        frame.pts = None  # with time stamps, FFmpeg would fill gaps between frames
        graph.push(frame)
        pending += frame.samples
        # Reading an empty graph raises an exception, so wait for the input of a whole block.
        if pending * rate >= _BLOCK * frame.sample_rate:
            pending = 0
            yield from _drain(graph)
    if graph is not None:
        yield from _drain(graph, end=True)


def _graph(frame, rate):
    """An FFmpeg graph that mixes and resamples frames of this frame's format."""
    import av

    if frame.sample_rate < 1000:
        raise ValueError(f"a sample rate of {frame.sample_rate} Hz is too low for music")
    channels = len(frame.layout.channels)
    if channels > 8:
        # FFmpeg has no mix for so many channels, so take the mean.
        mix = ("pan", "mono|c0=" + "+".join(f"{1 / channels}*c{i}" for i in range(channels)))
        resample = f"{rate}:out_sample_fmt=flt"
    else:
        # FFmpeg's stereo mix of floats, 0.71 (L + R), clips. rematrix_maxval=1 takes the mean.
        mix = ("anull", None)
        resample = f"{rate}:out_sample_fmt=flt:out_chlayout=mono:rematrix_maxval=1"
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=frame.sample_rate, format=frame.format.name,
                               layout=frame.layout.name, time_base=frame.time_base)
    nodes = [graph.add(*mix), graph.add("aresample", resample),
             graph.add("asetnsamples", f"n={_BLOCK}:p=0"), graph.add("abuffersink")]
    graph.link_nodes(source, *nodes).configure()
    return graph


def _drain(graph, end=False):
    """The blocks that are ready in a graph."""
    import av

    if end:
        graph.push(None)
    with contextlib.suppress(av.BlockingIOError, av.EOFError):
        while True:
            yield _clip_finite(graph.pull().to_ndarray()[0], 1.0)


def transposed_length(samples: int, semitones: int) -> int:
    """The number of samples that `transpose` returns."""
    return math.ceil(samples * 2 ** (-semitones / 12))


def transpose(blocks, samples: int, semitones: int):
    """Resample a signal, float32 [n] in blocks of any lengths, `samples` in all, so that it sounds
    `semitones` higher, and is faster by the same factor. Yields float32 [n] in [-1, 1],
    `transposed_length` samples in all, in constant memory.
    """
    import soxr

    stream = soxr.ResampleStream(2 ** (semitones / 12), 1, 1, dtype="float32")
    left = transposed_length(samples, semitones)
    for block in itertools.chain(blocks, [None]):
        last = block is None
        resampled = stream.resample_chunk(np.empty(0, np.float32) if last
                                          else np.asarray(block, np.float32), last)[:left]
        left -= resampled.size
        # The resampler may round the length differently, so pad the end.
        yield np.clip(np.pad(resampled, (0, left)) if last else resampled, -1, 1)


def measure_rumble(blocks, sample_rate: int) -> float:
    """The RMS below half of `HEARING` of blocks float [n], 1 at full scale. Faulty converters cause
    this rumble. Models would use it to distinguish collections.
    """
    total, count = 0.0, 0
    for block in _filter(blocks, 4, HEARING / 2, "lowpass", sample_rate):
        total, count = total + float(np.square(block).sum()), count + block.size
    return math.sqrt(total / max(1, count))


def high_pass(blocks, sample_rate: int):
    """High-pass blocks float32 [n] at `HEARING` with a Butterworth filter of second order. Yields
    float32 [n] in [-1, 1], of the same lengths. The filter starts as after a constant signal of the
    first sample's value, so that an offset makes no click.
    """
    for block in _filter(blocks, 2, HEARING, "highpass", sample_rate, settled=True):
        yield np.clip(block, -1, 1).astype(np.float32)


def _filter(blocks, order: int, hertz: float, kind: str, sample_rate: int, settled: bool = False):
    """Blocks [n], filtered. settled: start as after a constant signal, otherwise after zeros."""
    from scipy.signal import butter, sosfilt, sosfilt_zi

    sections = butter(order, hertz, kind, fs=sample_rate, output="sos")
    state = None
    for block in blocks:
        if not block.size:
            continue
        if state is None:
            state = sosfilt_zi(sections) * (block[0] if settled else 0)
        filtered, state = sosfilt(sections, block, zi=state)
        yield filtered


def check_output(path) -> Path:
    """The path, if audio can be written there. Raises `UserError` as `check_place` does."""
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise UserError(f"{printable(path)}: the ending {printable(path.suffix)!r} is unknown; "
                        f"choose {', '.join(_FORMATS)}")
    return check_place(path)


class Writer:
    """Mono audio to a wav (16 bit), flac (16 bit) or ogg (Vorbis) file by its suffix, in blocks.

    >>> with Writer("out.wav", 22050) as out:
    ...     out.write(block)  # float [n] in [-1, 1]; louder clips, NaN is silence

    The same samples give the same wav and flac, byte for byte. The file gets its final name when
    the block ends without an exception. PyAV's wheels have no Vorbis encoder. copyright: a tag.
    """

    def __init__(self, path, sample_rate: int, copyright: str = ""):
        self.path, self.sample_rate, self.copyright = check_output(path), sample_rate, copyright
        self.samples = 0

    def __enter__(self):
        import soundfile

        kind, subtype = _FORMATS[self.path.suffix.lower()]
        sweep(self.path.parent)
        with contextlib.ExitStack() as opened:
            self._sink = _Sink(opened.enter_context(atomic_write(self.path)))
            opened.enter_context(self._sink.errors())
            self._sound = opened.enter_context(soundfile.SoundFile(
                self._sink, "w", self.sample_rate, 1, subtype, format=kind))
            if self.copyright:
                self._sound.copyright = self.copyright
            self._opened = opened.pop_all()
        return self

    def write(self, block):
        """Append float [n]."""
        values = to_int16(block)  # libsndfile would scale by 32767
        if values.ndim != 1:
            raise ValueError(f"a block is [samples], not {list(values.shape)}")
        self.samples += values.size
        if self.path.suffix.lower() == ".wav" and self.samples > _WAV_LIMIT:
            raise UserError(f"{printable(self.path)}: a wav file ends at 4 GiB; write .flac or "
                            f".ogg")
        # In slices, because libsndfile's Vorbis encoder puts a whole block on the stack.
        for start in range(0, values.size, _BLOCK):
            with self._sink.errors():
                self._sound.write(values[start : start + _BLOCK])

    def __exit__(self, *error):
        self._opened.__exit__(*error)


def write(path, audio, sample_rate: int):
    """float [samples] to a file, all or nothing. Raises as `Writer`."""
    with Writer(path, sample_rate) as out:
        out.write(audio)


class _Sink:
    """The file object for soundfile. It keeps the errors that libsndfile loses, also of `seek` and
    `tell`, which flush the file's buffer.
    """

    def __init__(self, file):
        self._file, self._failed = file, None

    def _call(self, name, *arguments):
        try:
            return getattr(self._file, name)(*arguments)
        except OSError as e:
            self._failed = e
            return 0

    write = functools.partialmethod(_call, "write")
    seek = functools.partialmethod(_call, "seek")
    tell = functools.partialmethod(_call, "tell")

    @contextlib.contextmanager
    def errors(self):
        """At the end of the block, raise the error of a failed call."""
        try:
            yield
        finally:
            if self._failed:
                raise self._failed
