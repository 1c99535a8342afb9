"""Labels of what plays are mixed and passed from one to another, at every sample as asked for."""

from types import SimpleNamespace

import numpy as np
import pytest
import test_stream
from test_stream import BLOCK, IntegerCodec, IntegerGenerator, frame, origin

from vqwave.codecs import WHOLE_SHARE, Labels
from vqwave.errors import UserError
from vqwave.generators import Sampling
from vqwave.levels import replace, to_dict
from vqwave.play import blocks, engine, labels
from vqwave.play.chain import Engines
from vqwave.play.labels import CROSS_FADE, Mixture, read_labels
from vqwave.play.stream import AS_COMPOSED, Stream

KNOWN = Labels(names=("battle", "calm", "Crosby, Stills & Nash", "take 5: five"))
@pytest.mark.parametrize("given, shares", [
    (None, (0, 0, 0, 0, 1)), ("", (0, 0, 0, 0, 1)), ({}, (0, 0, 0, 0, 1)), ("calm", (0, 1, 0, 0, 0)),
    ("calm:0.7,battle:0.3", (0.3, 0.7, 0, 0, 0)), (" calm , battle:3", (0.75, 0.25, 0, 0, 0)),
    ({"calm": 7, "battle": 3}, (0.3, 0.7, 0, 0, 0)),
    ("Crosby, Stills & Nash", (0, 0, 1, 0, 0)), ("take 5: five", (0, 0, 0, 1, 0)),
    ("calm:1e308,battle:1e308", (0.5, 0.5, 0, 0, 0)),
])
def test_a_label_or_a_mixture_is_read(given, shares):
    read = read_labels(given, KNOWN, 2)
    np.testing.assert_allclose(read, [shares] * 2)
    np.testing.assert_array_equal(read_labels(read, KNOWN, 2), read)
    np.testing.assert_array_equal(read_labels([given, ""], KNOWN, 2)[0], read[0])


@pytest.mark.parametrize("given, message", [
    ("clam", "no label is called 'clam'; did you mean 'calm'"), ("xyz", "the labels are battle, calm"),
    ("calm:0", "the share of label 'calm' is 0.0; it must be a number above 0"),
    ("calm:inf", "the share of label 'calm' is inf"),
    ("calm:much", "the share of label 'calm' is 'much'"),
    ({"calm": True}, "the share of label 'calm' is True"), ("calm,", "no label is called ''"),
    (3, "label is 3; it must be one of battle"), (["calm"] * 3, "3 labels are given"),
    (np.ones((2, 3)), "shares of labels are .2, 3."),
])
def test_unknown_labels_are_refused_in_one_line(given, message):
    with pytest.raises(UserError, match=message) as refused:
        read_labels(given, KNOWN, 2)
    assert "\n" not in str(refused.value)


def test_a_label_passes_evenly_into_another():
    calm, battle = (read_labels(one, KNOWN, 1) for one in ("calm", "battle"))
    mixture = Mixture(calm, calm).fade_to(battle, 10, 4)
    shares = mixture.shares(8, 8)[0]
    np.testing.assert_allclose(shares[:, 0], [0, 0, 0.25, 0.5, 0.75, 1, 1, 1])
    np.testing.assert_allclose(shares.sum(-1), 1)
    again = mixture.fade_to(calm, 12, 2)  # before it is over
    np.testing.assert_allclose(again.shares(11, 4)[0, :, 0], [0.5, 0.25, 0, 0])
    pairs = mixture.pairs(0, 16)
    assert pairs.dtype == np.int32 and pairs.shape == (1, 16, 2, 2)
    assert (pairs[..., 1].sum(-1) == WHOLE_SHARE).all() and set(pairs[..., 0].flat) == {0, 1}
    np.testing.assert_array_equal(Mixture(calm, calm).pairs(5, 2), [[[[1, WHOLE_SHARE]]] * 2])
    np.testing.assert_array_equal(labels.without(pairs, KNOWN)[0, 3], [[4, WHOLE_SHARE], [4, 0]])


class LabelledGenerator(IntegerGenerator):
    """One whose context has a channel more: the labels' numbers times their shares."""

    def __init__(self, level, names=("battle", "calm", "dance"), of="folder"):
        super().__init__(level)
        self.config = replace(self.config, conditions=[
            *map(to_dict, self.config.conditions),
            {"kind": "labels", "names": list(names), "channels": 1, "of": of}])
        self.weight_set = origin(self.config)

    def context(self, inputs):
        pairs = inputs["label"]
        own = ((pairs[..., 0] + 1) * (pairs[..., 1] // 6553)).sum(-1)[..., None].astype(np.float32)
        return np.concatenate([super().context(inputs), own], -1) if self.config.source else own

    def sample(self, context, uniforms, previous, state, sampling=None, forced=None, log_probs=True):
        guided = self.config.is_guided(sampling)
        rows = len(previous) * (1 + guided)
        assert len(context) == rows and len(state[0]) == rows
        if not guided:
            return super().sample(context, uniforms, previous, state, sampling, forced, log_probs)
        half, codes, position = len(previous), [], state[0][:, 0].copy()
        for t in range(uniforms.shape[1]):
            seen = context[half:, t] + sampling.guidance * (context[:half, t] - context[half:, t])
            given = None if forced is None else forced[:, t]
            # The row without labels may have begun later.
            previous = frame(seen, uniforms[:, t], previous, position[:half] + position[half:],
                             sampling.temperature, given)
            codes.append(previous)
            position += 1
        return np.stack(codes, 1), -uniforms if log_probs else None, [np.stack([position] * 2, 1)]


def chain(down_to=128, **options):
    levels = [x for x in test_stream.LEVELS if x >= down_to]
    return IntegerCodec(down_to), [LabelledGenerator(x, **options) for x in levels]


def start(*, parts=None, music=None, **options):
    return Stream(Engines(*parts or chain(), music=music),
                  **AS_COMPOSED | {"block": BLOCK, "seed": 3} | options)


def collect(stream, blocks, changes=None):
    """The sound of so many blocks, and their codes by level; changes: {block: keywords of `set`}."""
    sound, codes = [], []
    for i in range(blocks):
        if i in (changes or {}):
            stream.set(**changes[i])
        sound.append(next(stream))
        codes.append(stream.codes)
    return np.concatenate(sound, -1), {x: np.concatenate([c[x] for c in codes], -1)
                                       for x in codes[0]}


GUIDED = {x: {"guidance": 2.0} for x in (512, 128)}
PERFORMANCE = {2: {"label": "battle"}, 4: {"label": "dance:0.5,calm:0.5", "sampling": GUIDED},
               9: {"label": ""}, 11: {"sampling": {512: {"guidance": 1.0}}}}


def test_a_label_change_keeps_earlier_music_and_fades_the_following():
    still, before = collect(start(label="calm"), 16)
    turned, after = collect(start(label="calm"), 16, {3: {"label": "dance"}})
    np.testing.assert_array_equal(turned[: 3 * BLOCK], still[: 3 * BLOCK])
    assert (after[512] != before[512]).any()
    stream = start(label="calm")
    collect(stream, 3)
    stops = {level.level: level.stop for level in stream._chain.levels}
    stream.set(label="dance")
    next(stream)
    for level in stream._chain.levels:
        labels = level.state.labels
        assert labels.begin == stops[level.level]
        assert labels.end - labels.begin == round(CROSS_FADE * 22050 / level.level)


@pytest.mark.parametrize("names, kept", [(("battle", "calm", "dance"), "dance"), (("jazz", "rock", "soul"), "")])
def test_a_jump_to_other_weights_keeps_the_last_label(names, kept):
    there = SimpleNamespace(chain_engines=lambda: Engines(*chain(names=names)))
    stream = start(music=SimpleNamespace(), label="calm")
    next(stream)
    assert stream.label == "calm"
    stream.set(label="dance")
    stream.set(jump=9, weights=there)
    assert stream.label == kept and stream.labels == names
    stream.set(label=names[1])
    stream.set(jump=10, weights=there)
    heard = np.concatenate([next(stream) for _ in range(2)])
    fresh, _ = collect(start(parts=chain(names=names), label=names[1], seed=10), 2)
    passage = round(blocks.PASSAGE * 22050)
    np.testing.assert_array_equal(heard[passage:], fresh[passage:])


def test_weights_without_labels_have_none_to_choose_and_nothing_to_follow():
    parts = test_stream.chain(128)
    for options, message in (({"label": "calm"}, "so it takes no label"),
                             ({"sampling": Sampling(guidance=2)}, "so guidance must be 1")):
        with pytest.raises(UserError, match=f"trained without labels, {message}"):
            start(parts=parts, **options)
    stream = start(parts=parts)
    assert stream.labels == ()
    with pytest.raises(UserError, match="trained without labels"):
        stream.set(label="calm")


def test_a_chain_has_one_vocabulary():
    codec, (top, bottom) = chain()
    labels = to_dict(bottom.config.labels) | {"of": "genre", "names": ["waltz", "march"]}
    bottom.config = replace(bottom.config, conditions=[
        to_dict(bottom.config.source), labels])
    with pytest.raises(UserError, match=r"generator_128 has labels by genre \(waltz, march\), but "
                                        r"generator_512 has labels by folder \(battle, calm, dance"):
        engine.check_chain(codec, [top, bottom])
