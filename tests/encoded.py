"""Real encoded audio for the tests, in every format that is read."""

import av
import numpy as np
import soundfile

_CODECS = {".mp3": "libmp3lame", ".m4a": "aac", ".aac": "aac", ".opus": "libopus"}


def tone(seconds=1.0, sample_rate=44100, frequency=440.0, amplitude=0.5):
    """float32 [samples]: a sine."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    return (amplitude * np.sin(2 * np.pi * frequency * t)).astype(np.float32)


def encode(path, audio, sample_rate=44100, tags=None, subtype=None):
    """Write float [samples] or [samples, channels] to `path`, encoded as its ending says."""
    audio = np.asarray(audio, np.float32)
    audio = audio[:, None] if audio.ndim == 1 else audio
    suffix = path.suffix.lower()
    if suffix not in _CODECS:
        with soundfile.SoundFile(str(path), "w", sample_rate, audio.shape[1], subtype) as out:
            for name, value in (tags or {}).items():
                setattr(out, name, value)
            out.write(audio)
        return path
    with av.open(str(path), "w", format={".m4a": "ipod", ".aac": "adts", ".opus": "ogg"}.get(suffix)) as box:
        for name, value in (tags or {}).items():
            box.metadata[name] = value
        stream = box.add_stream(_CODECS[suffix], rate=sample_rate, layout="mono" if audio.shape[1] == 1 else "stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio.T), "fltp", stream.layout.name)
        frame.sample_rate = sample_rate
        box.mux(stream.encode(frame))
        box.mux(stream.encode(None))
    return path
