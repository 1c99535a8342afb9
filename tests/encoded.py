"""Real encoded audio for the tests, in every format that is read."""

import struct

import av
import numpy as np
import soundfile

_CODECS = {".mp3": "libmp3lame", ".m4a": "aac", ".aac": "aac", ".opus": "libopus", ".mp4": "aac", ".wma": "wmav2",
           ".webm": "libopus", ".mkv": "libmp3lame"}
_BOXES = {".m4a": "ipod", ".aac": "adts", ".opus": "ogg", ".wma": "asf", ".mkv": "matroska"}
_SOUNDFILE = {".aif": "AIFF", ".oga": "OGG"}


def tone(seconds=1.0, sample_rate=44100, frequency=440.0, amplitude=0.5):
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    return (amplitude * np.sin(2 * np.pi * frequency * t)).astype(np.float32)


def encode(path, audio, sample_rate=44100, tags=None, subtype=None):
    """Write float [samples] or [samples, channels] to `path`, encoded as its ending says."""
    audio = np.asarray(audio, np.float32)
    audio = audio[:, None] if audio.ndim == 1 else audio
    suffix = path.suffix.lower()
    if suffix not in _CODECS:
        with soundfile.SoundFile(str(path), "w", sample_rate, audio.shape[1], subtype,
                                 format=_SOUNDFILE.get(suffix)) as out:
            for name, value in (tags or {}).items():
                setattr(out, name, value)
            out.write(audio)
        return path
    with av.open(str(path), "w", format=_BOXES.get(suffix)) as box:
        for name, value in (tags or {}).items():
            box.metadata[name] = value
        stream = box.add_stream(_CODECS[suffix], rate=sample_rate,
                                layout="mono" if audio.shape[1] == 1 else "stereo")
        if suffix == ".wma":
            stream.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio.T), "fltp", stream.layout.name)
        frame.sample_rate = sample_rate
        box.mux(stream.encode(frame))
        box.mux(stream.encode(None))
    return path


def with_headers_twice(content: bytes, within: bool) -> bytes:
    """An Ogg Vorbis file with its headers once more, in an own page or `within` the next."""
    pages = []
    while content:
        lacing = content[27 : 27 + content[26]]
        size = 27 + len(lacing) + sum(lacing)
        pages.append((content[:27], lacing, content[27 + len(lacing) : size]))
        content = content[size:]
    first = next(i for i, (head, _, _) in enumerate(pages)
                 if struct.unpack_from("<q", head, 6)[0] > 0)
    lacing = b"".join(lacing for _, lacing, _ in pages[:first])
    packets = b"".join(data for _, _, data in pages[:first])
    assert packets.count(b"vorbis") == 3
    if within:
        head, own, data = pages[first]
        pages[first] = head, lacing + own, packets + data
    else:
        pages.insert(first, (pages[first - 1][0], lacing, packets))
    made = b""
    for number, (head, lacing, data) in enumerate(pages):
        page = head[:18] + struct.pack("<II", number, 0) + bytes([len(lacing)]) + lacing + data
        made += page[:22] + struct.pack("<I", _ogg_checksum(page)) + page[26:]
    return made


def _ogg_checksum(page) -> int:
    """Ogg's CRC-32: the polynomial 0x04c11db7, no bit order turned round, nothing inverted."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value
