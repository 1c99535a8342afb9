"""Every stream's windows of codes give what one run over the whole piece gives."""

import numpy as np
import prepared

from vqwave.play.chain import Engines
from vqwave.play.prompt import Variation
from vqwave.play.stream import AS_COMPOSED, Stream


class Recorder:
    """An engine that keeps what it sampled."""

    def __init__(self, generator):
        self.generator, self.codes, self.log_probs = generator, [], []

    def __getattr__(self, name):
        return getattr(self.generator, name)

    def sample(self, context, uniforms, previous, state, sampling=None, forced=None,
               log_probs=True):
        codes, log_probs, state = self.generator.sample(context, uniforms, previous, state,
                                                        sampling, forced)
        self.codes.append(codes)
        self.log_probs.append(log_probs)
        return codes, log_probs, state


def whole_as_windows(exact, how):
    """Every level's codes are as likely in one run over the whole piece as they were when they were
    drawn, or given.

    exact: a `VQWave` of float32; how: what the piece begins with, "nothing", "prompt" or
    "variation".
    """
    chain = exact.chain
    levels, begin, top, bottom = chain.sizes, None, chain.top, chain.bottom
    song = prepared.music(4 * chain.block / chain.sample_rate, sample_rate=chain.sample_rate)
    if how == "prompt":
        # Nothing is added to the logits, as nothing is in one run.
        begin = exact.prompt(song[: chain.block + 7 * top + top // 2], level=bottom, stay=0)
        assert len(begin.audio) == chain.block + 7 * top
    elif how == "variation":
        levels, begin = levels[1:], exact.source(song, top)
        begin = Variation(top, begin.codes, len(begin.codes) * top)
    recorders = [Recorder(exact.generator(level)) for level in levels]
    heard = [recorder.config.source_level for recorder in recorders if recorder.config.hears]
    engines = Engines(exact.codec(bottom), recorders, {level: exact.codec(level) for level in heard})
    with Stream(engines, block=chain.block, seed=5, begin=begin, **AS_COMPOSED) as stream:
        blocks = 99 if how == "variation" else 3
        sound = np.concatenate([block for _, block in zip(range(blocks), stream, strict=False)])
    codes = {level: np.concatenate(r.codes, axis=1)
             for level, r in zip(levels, recorders, strict=True)}
    if how == "variation":
        # The last block is sampled whole; the piece ends where what is kept ends.
        codes = {level: codes[level][:, : len(begin.codes) * top // level] for level in levels}
        codes[top] = begin.codes.reshape(1, len(begin.codes), -1)
    for level, recorder in zip(levels, recorders, strict=True):
        config, context = recorder.config, None
        count = codes[level].shape[1]
        if config.source:
            wanted = count // config.ratio + config.halo
            source = codes[config.source_level][:, :wanted]
            around = ((0, 0), (config.halo, wanted - source.shape[1]), (0, 0))
            source = np.pad(source, around, constant_values=config.pad_token)
            context = exact.generator(level).context({"source": source})
            assert context.shape[1] == count
        if config.hears:
            halo, upper = config.above.halo * config.level, codes[config.source_level][0]
            above = exact.decode(upper if upper.shape[1] > 1 else upper[:, 0], config.source_level)
            above = np.pad(above, (halo, halo + count * config.level))[: 2 * halo + count * config.level]
            context = exact.generator(level).context({"sound": above.reshape(1, -1, config.level)})
        start = np.full((1, config.books), config.start_token)
        _, log_probs, _ = exact.generator(level).sample(
            context, np.zeros((1, count, config.books)), start, recorder.initial_state(1),
            forced=codes[level]
        )
        np.testing.assert_allclose(log_probs, np.concatenate(recorder.log_probs, axis=1)[:, :count],
                                   atol=1e-4)
    last = codes[bottom][0]
    whole = exact.decode(last if last.shape[1] > 1 else last[:, 0], bottom)
    assert how != "variation" or len(sound) == len(whole)
    np.testing.assert_allclose(sound, whole[: len(sound)], atol=1e-5)
