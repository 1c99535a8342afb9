import math

import numpy as np
import pytest
from prepared import RecordingReporter, data_folder, music

from vqwave.codecs.codec_layer import load_codec, load_encoder
from vqwave.data import chunking, codes
from vqwave.data.codes import OFFSET_STEP, Variant
from vqwave.io import audio, manifest, weights

NAME = "vqvae_32"


@pytest.fixture
def corpus(tmp_path):
    tracks = data_folder(tmp_path / "data", {"a": music(0.3, 1), "b c": music(0.21, 2)})
    return tmp_path / "data", tracks


@pytest.fixture(scope="module")
def codec(tiny_weights):
    return weights.find(tiny_weights.codecs, NAME)


def encode(corpus, codec, offsets=2, transpose=0):
    """(the encoded corpus, how many files were not cached)"""
    log, (folder, tracks) = RecordingReporter(), corpus
    pairs = [(t, v) for t in tracks for v in codes.variants(offsets, transpose)]
    entries = codes.encode_corpus(folder, pairs, codec, log, load_encoder)
    encoded = [(track.file, variant, entry) for (track, variant), entry in zip(pairs, entries, strict=True)]
    return encoded, sum(int(line.split()[1]) for line in log.lines if line.startswith("encoding"))


def read(entry):
    path, count = entry[2]
    values = np.fromfile(path, "<u2")
    assert len(values) == count
    return values


@pytest.fixture(scope="module")
def whole_codes(codec):
    model = load_codec(codec)
    run = model.encode_model().predict_on_batch
    return lambda sound: chunking.encode(run, sound[None], codec.config.level, model.encode_halo)[0, :, 0]


def test_cached_codes_are_those_of_the_track_from_its_offset_on(corpus, codec, whole_codes):
    folder, tracks = corpus
    encoded, count = encode(corpus, codec, offsets=3)
    assert count == 6
    assert [(f, v) for f, v, _ in encoded] == [(t.file, Variant(i)) for t in tracks
                                               for i in range(3)]
    for entry in encoded:
        sound = audio.from_u16(np.fromfile(folder / entry[0], "<u2"))
        np.testing.assert_array_equal(read(entry), whole_codes(sound[entry[1].offset * OFFSET_STEP :]))


def test_transposed_codes_are_those_of_the_transposed_track_in_any_blocks(corpus, codec, whole_codes,
                                                                         monkeypatch):
    folder, tracks = corpus
    monkeypatch.setattr(codes, "BLOCK_SAMPLES", 1000)
    encoded, count = encode(corpus, codec, offsets=1, transpose=2)
    assert count == 10
    for file, (offset, shift, *_), (path, count) in encoded:
        sound = audio.from_u16(np.fromfile(folder / file, "<u2"))
        if shift:
            sound = np.concatenate(list(audio.transpose([sound], sound.size, shift)))
        sound = sound[offset * OFFSET_STEP :]
        assert count == -(-sound.size // codec.config.level)
        # The resampler rounds other blocks otherwise, which changes few codes.
        assert np.mean(read((file, None, (path, count))) == whole_codes(sound)) > 0.97
    # Nothing is encoded twice, and an untransposed track shares the cached codes.
    assert encode(corpus, codec, offsets=1, transpose=2)[1] == 0
    assert encode(corpus, codec, offsets=1)[1] == 0
    assert encode(corpus, codec, offsets=1, transpose=3)[1] == 4


@pytest.mark.parametrize("top", [8, 32, 512, 2048, 15, 60, 165, 166 * 165, 441])
def test_as_many_alignments_differ_as_a_frame_has_samples(top):
    for level in (n for n in range(2, top + 1) if top % n == 0):
        starts = [v.start for v in codes.variants(64, level=top)]
        assert len({start % level for start in starts}) == min(64, level)
    step = codes.alignment_step(top)
    assert step >= OFFSET_STEP and (step == OFFSET_STEP) == (math.gcd(165, top) == 1)


@pytest.mark.parametrize("harm", ["cut", "flip", "gone", "empty"])
def test_a_torn_file_is_made_again(corpus, codec, harm):
    encoded, _ = encode(corpus, codec)
    before = read(encoded[1])
    path = encoded[1][2][0]
    if harm == "gone":
        path.unlink()
    else:
        data = path.read_bytes()
        path.write_bytes({"cut": data[:-2], "flip": bytes([data[0] ^ 1]) + data[1:], "empty": b""}[harm])
    again, count = encode(corpus, codec)
    assert count == 1
    np.testing.assert_array_equal(read(again[1]), before)
    assert encode(corpus, codec)[1] == 0


def test_a_changed_track_is_encoded_again(corpus, codec):
    folder, _ = corpus
    encode(corpus, codec)
    tracks = data_folder(folder, {"a": music(0.3, 9), "b c": music(0.21, 2)})
    assert encode((folder, tracks), codec)[1] == 2
    # The original again: the cache now holds the changed track.
    assert encode(corpus, codec)[1] == 2


@pytest.mark.parametrize("variant", [Variant(0), Variant(3), Variant(5, 3), Variant(6, -3)])
@pytest.mark.parametrize("span", [(0, 100000), (5000, 100000), (0, 60000), (30000, 70000)])
def test_a_cut_holds_the_frames_of_its_samples_under_those_above(variant, span):
    track = manifest.Track("a", "a", 22050, 100000, "", {})
    counts = [-(-variant.samples(track) // level) for level in (128, 512)]
    part = codes.cut(track, variant, span, ("own", counts[0]), 128, ("above", counts[1]), 512)
    assert part.codes == "own" and part.above == "above" and part.track is track
    assert part.first == 4 * part.first_above and part.start == variant.start + 128 * part.first
    begin, end = (max(0, n / 2 ** (variant.shift / 12) - variant.start) for n in span)
    # From less than a frame above before its first sample to less than a frame after its last.
    assert 0 <= begin - 128 * part.first < 513
    assert 0 <= 128 * (part.first + part.frames) - end < 129
    assert 0 <= 512 * (part.first_above + part.frames_above) - end < 513
    if span == (0, 100000):
        assert (part.first, part.frames, part.frames_above) == (0, *counts)
    top = codes.cut(track, variant, span, ("own", counts[1]), 512)
    assert (top.first, top.frames, top.above, top.first_above) == (part.first_above, part.frames_above, None, 0)
