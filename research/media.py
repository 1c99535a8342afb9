"""Sounds of the result pages and of comparisons, as Ogg/Opus or MP3."""

import io

import numpy as np


def encode_file(x, sample_rate: int, encoder: str, bit_rate: int, **options) -> bytes:
    """float32 [samples] as a file: Ogg for `libopus`, otherwise MP3. options: for FFmpeg."""
    import av

    opus = encoder == "libopus"
    rate = 24000 if opus else sample_rate
    file = io.BytesIO()
    with av.open(file, "w", format="ogg" if opus else "mp3",
                 container_options={"fflags": "+bitexact"}) as container:
        options = {key: str(value) for key, value in options.items()}
        stream = container.add_stream(encoder, rate=rate, layout="mono", options=options)
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(x, np.float32)[None], "flt", "mono")
        frame.sample_rate = sample_rate
        context = stream.codec_context
        context.open()
        resampler = av.AudioResampler(context.format.name, "mono", rate, context.frame_size or None)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return file.getvalue()
