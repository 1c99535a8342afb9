"""Valid configs and presets; anything else is a `ConfigError` of one line."""

import contextlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vqwave.errors import UserError
from vqwave.generators import validate_model
from vqwave.levels import (
    ConfigError,
    DataConfig,
    Split,
    dump_yaml,
    fields,
    load_yaml,
    replace,
    to_dict,
    validate,
)
from vqwave.presets import load_preset, preset_names

PRESETS = {name: load_preset(name) for name in preset_names()}
COMPACT = PRESETS["compact"]
CODEC, GENERATOR = COMPACT.codec("vqvae_8"), COMPACT.generator("generator_8")


def write(tmp_path, text):
    path = tmp_path / "config.yml"
    path.write_text(text, encoding="utf-8")
    return path


def override(base, text, who="f.yml"):
    return fields.override(base, yaml.safe_load(text), who)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_the_models_of_a_preset_survive_yaml(preset):
    for config in preset.models.values():
        again = yaml.safe_load(dump_yaml(to_dict(config)))
        assert validate_model(again) == validate(type(config), again) == config
        assert fields.override(config, again, "") == replace(config) == config


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_the_models_of_a_preset_form_its_chain(preset):
    above = None
    for level in preset.chain.sizes:
        codec = preset.codec(level)
        assert codec.level == level and codec.sample_rate == preset.chain.sample_rate
        assert preset.trainings[codec.name].input_length % level == 0
        if level in preset.chain.generators:
            generator = preset.generator(level)
            assert (generator.level, generator.num_codes, generator.books) == (
                level, codec.num_codes, codec.books)
            assert generator.ratio * level == generator.source_level == (above.level if above else 0)
            assert generator.pad_token == (above.num_codes if above and not generator.hears else 0)
            # A window holds whole frames of the level above.
            assert preset.trainings[generator.name].input_length % (above or codec).level == 0
        above = codec


def test_a_preset_may_stand_on_another(tmp_path):
    path = write(tmp_path, "base: tiny\nabout: wider\ngenerators: {generator_8: {core: {units: 40}}}\n")
    wider, tiny = load_preset(path), PRESETS["tiny"]
    assert wider.generator(8) == fields.override(tiny.generator(8), {"core": {"units": 40}}, "")
    assert wider.codec(8) == tiny.codec(8) and wider.about == "wider"


SMALL = """
chain: {sample_rate: 8000, block: 64, levels: [{level: 16, codec: a, generator: b}, {level: 8, codec: c, generator: d}]}
codecs: {a: {stages: [{stride: 16, channels: 4}]}, c: {stages: [{stride: 8, channels: 4}]}}
generators: {b: {}, d: {}}
"""


WRONG_PRESETS = [
    ("stride: 8", "stride: 4", "c at level 8, but its strides multiply to 4"),
    ("level: 16", "level: 12", "12 is not a multiple of the level below it, 8"),
    ("block: 64", "block: 24", "block is 24.*top level, 16"),
    ("d: {}", "e: {}", "generators must describe .*: missing d; unused e"),
    ("codec: a, generator: b", "codec: a", "generators must describe .*: unused b$"),
    ("codec: c", "codec: a", "same name: a, a"),
    ("{b: {}", "{b: {conditions: [{kind: codes}]}", "b is the top of the chain"),
    ("d: {}", "d: {num_codes: 3}", "d: num_codes is 3, but the chain says 1024"),
    ("d: {}", "d: {conditions: [{level: 8}]}", "d: conditions: level is 8, but the chain says 16"),
    ("d: {}", "d: {conditions: 3}", "generators.d.conditions is 3"),
    ("d: {}", "d: {training: {stpes: 3}}", "d: training: unknown key 'stpes'; did you mean 'steps'"),
    ("chain:", "abuot: x\nchain:", "unknown key 'abuot'; did you mean 'about'"),
    ("block: 64", "block: 64, end: 9", "no level is called '9'; there are 16x, 8x"),
    ("chain:", "schema: 9\nchain:", "schema is 9; this program reads 2"),
    ("chain:", "base: none\nchain:", "base is 'none'; it must be one of compact"),
    ("stages: [{stride: 8, channels: 4}]", "stages: [{stride: 8, channels: 4}], quantizer: {kind: gaussian}",
     "d needs codes, but c has a quantizer of gaussian"),
    ("d: {}", "d: {core: {kind: lstm}, books: 0}", "d: books is 0, but the chain says 1"),
]


def test_a_preset_that_disagrees_with_itself_is_refused_by_name(tmp_path):
    for old, new, message in WRONG_PRESETS:
        path = write(tmp_path, SMALL.replace(old, new, 1))
        with pytest.raises(ConfigError, match=message) as caught:
            load_preset(path)
        assert str(path) in str(caught.value)
    assert load_preset(write(tmp_path, SMALL)).chain.sizes == (16, 8)


def test_more_codes_a_frame_than_a_generator_draws_name_the_codec(tmp_path):
    text = "schema: 2\nbase: spectrogram_rvq\ncodecs: {vqvae_2048: {quantizer: {kind: residual, books: 8}}}\n"
    with pytest.raises(ConfigError, match="generator_2048 takes at most 64 codes a frame, and vqvae_2048 makes 80"):
        load_preset(write(tmp_path, text))


def test_a_level_may_have_no_generator(tmp_path):
    text = SMALL.replace("codec: c, generator: d", "codec: c").replace(", d: {}", "")
    half = load_preset(write(tmp_path, text))
    assert half.chain.sizes == (16, 8) and half.chain.names == ["a", "c", "b"]
    assert half.chain.generators == {16: "b"} and half.chain.can_generate
    for generator_of in (half.chain.generator, half.generator):
        with pytest.raises(UserError, match="level 8x of the chain has no generator: c stands alone"):
            generator_of(8)
    vae = "[{stride: 16, channels: 4}], quantizer: {kind: gaussian, dim: 6}"
    text = SMALL.replace("[{stride: 16, channels: 4}]", vae)
    with pytest.raises(ConfigError, match="b needs codes, but a has a quantizer of gaussian"):
        load_preset(write(tmp_path, text))
    # The generator below has no codes to read.
    text = text.replace("codec: a, generator: b", "codec: a").replace("b: {}, ", "")
    with pytest.raises(ConfigError, match="d needs codes, but a has a quantizer of gaussian"):
        load_preset(write(tmp_path, text))
    text = text.replace("d: {}", "d: {conditions: []}")
    alone = load_preset(write(tmp_path, text))
    assert not alone.chain.can_generate
    codec = alone.codec("a")
    assert (codec.has_codes, codec.frame_width, codec.frame_dtype) == (False, 6, "float32")
    for key in ("num_codes", "books", "bitrate"):
        with pytest.raises(ConfigError, match="a has a quantizer of gaussian, which makes no codes"):
            getattr(codec, key)


def test_an_unknown_model_preset_or_level_is_refused():
    with pytest.raises(ConfigError, match="vqvae_512, vqvae_128, vqvae_32, vqvae_8"):
        COMPACT.codec("vqvae_64")
    with pytest.raises(ConfigError, match="generator_512"):
        COMPACT.generator("vqvae_512")
    with pytest.raises(ConfigError, match="'huge'; there are compact, .*, tiny"):
        load_preset("huge")
    with pytest.raises(UserError, match="no level is called '64'; there are 512x, 128x, 32x, 8x"):
        COMPACT.chain.check_level(64)


def test_a_split_must_be_a_share_or_tracks():
    for split, message in [
            (1.0, "split.share is 1.0; it must be less than 1"), ("half", "split.share is 'half'"),
            ({"validation": "a"}, "split.tracks.validation is 'a'; it must be a valid list"),
            ({"valdation": []}, "unknown key 'valdation'; did you mean 'validation'")]:
        with pytest.raises(ConfigError, match=message):
            validate(DataConfig, {"split": split}, "f.yml: data")
    assert DataConfig(split="1e-1").split == 0.1 and DataConfig(split=0).split == 0.0
    tracks = Split(validation=("a",))
    assert DataConfig(split=tracks).split == DataConfig(split={"validation": ["a"]}).split == tracks


def test_an_unknown_key_is_refused_with_the_nearest():
    for text, key, near in [
            ("{nam: x}", "nam", "name"), ("{core: {unit: 3}}", "unit", "units"),
            ("{sampling: {Top_K: 3}}", "Top_K", "top_k"),
            ("{conditions: [{kind: codes, level: 32, num_codes: 9, chanels: 3}]}", "chanels", "channels")]:
        with pytest.raises(ConfigError, match=f"f.yml.*{key}.*did you mean '{near}'"):
            override(GENERATOR, text)


def test_override_changes_only_given_keys_and_another_kind_resets_the_rest():
    config = override(CODEC, "quantizer: {num_codes: 256}\nloss: {mel: 3}")
    assert config.quantizer == replace(CODEC.quantizer, num_codes=256)
    assert config.loss == replace(CODEC.loss, mel=3.0)
    other = override(config, "quantizer: {kind: residual, books: 2}").quantizer
    assert (other.kind, other.books, other.num_codes) == ("residual", 2, 1024)


def test_a_number_in_scientific_notation_is_a_number_with_or_without_a_point():
    # YAML 1.1 takes 1e-1 for text.
    for text in ("1e-1", "1.0e-1", "0.1"):
        assert override(CODEC, f"loss: {{mel: {text}}}").loss.mel == 0.1


BANDED = """
front_end: {kind: log_frequency, hop: 8}
encoder: {kind: banded}
quantizer: {kind: banded}"""
"""A codec of a network for each band."""

PLANE = """
even: 0.0
front_end: {kind: spectrogram, hop: 16, n_fft: 64, mels: 8}
encoder: {kind: plane}
head: {kind: spectrogram, n_fft: 64}
stages: [{stride: 16, channels: 4}, {stride: 2, channels: 4}, {stride: 2, channels: 4}]"""
"""A codec of spectrograms as pictures."""


WRONG_CODECS = [
    ("stages: [{stride: 1200000, channels: 1}]", "1200000 samples a code; at most 1048576"),
    ("quantizer: {num_codes: 0x" + "f" * 5000 + "}", "num_codes is a number too long"),
    ("quantizer: {kind: huffman}", "'huffman'.*kind must be one of 'banded', 'ema', 'gain_shape'"),
    ("quantizer: {kind: gain_shape}", "gain_shape, needs encoder of kind banded, not mirror"),
    ("block: {kernel_size: 4}", "kernel_size: 4 is even"),
    ("head: {kind: tones}\nstages: [{stride: 3, channels: 1}]", "power of 2, but the strides multiply to 3"),
    ("padding: valid", "padding is 'valid'; it must be 'same' or 'causal'"),
    ("padding: causal\nhead: {kind: tones}", "padding is causal, but the head, tones"),
    ("padding: causal\nquantizer: {kind: banded}", "padding is causal, but the quantizer, banded"),
    ("padding: causal\nfront_end: {kind: spectrogram, hop: 8}", "padding is causal, but the front_end"),
    ("padding: causal\nupsampling: {kind: transposed}", "padding is causal, but the upsampling"),
    ("even: 0.5\nupsampling: {kind: transposed}", "even needs an upsampling of kind sub_pixel, not transposed"),
    ("padding: causal\nblock: {kind: resnet}", "padding is causal, but the block, resnet"),
    ("front_end: {kind: spectrogram, hop: 16}", "hop of 16; it must be one of 1, 8"),
    ("front_end: {kind: log_frequency, hop: 8, lowest: 60}", "lowest is 60"),
    ("front_end: {kind: log_frequency, hop: 8, octaves: 9}", "front_end goes up to 28160 Hz"),
    ("front_end: {kind: spectrogram, hop: 8, n_fft: 1000}", "n_fft is 1000.*16"),
    ("front_end: {kind: spectrogram, hop: 8, n_fft: 1024, mels: 512}", "512 mel bands, 76 of which hold no bin"),
    (BANDED + "\nbottleneck: {kind: energy}", "needs bottleneck of kind none, not energy"),
    (BANDED.replace("quantizer: {kind: banded", "quantizer: {kind: banded, books: 5"), "168 quarter tones, which 5 bands do not divide"),
    (BANDED.replace("hop: 8", "hop: 1"), "whose hop, 1, is the product of the strides, 8"),
    ("encoder: {kind: plane}", "needs front_end of kind spectrogram, not waveform"),
    (PLANE.replace("mels: 8", "mels: 6"), "6 bands, which the later strides, 4 in all"),
    (PLANE.replace("stride: 16", "stride: 8"), "its stride, 8, must be the hop of front_end, 16"),
    (PLANE + "\nquantizer: {kind: banded}", "needs quantizer of kind"),
    (PLANE + "\nhierarchy: {kind: vqvae2, bottom: 2}", "bottom 2; it must be below the last stage, 2"),
    (PLANE + "\nhead: {kind: griffin_lim}", "these terms of the loss to 0: spectral_convergence"),
    (PLANE + "\nhead: {kind: griffin_lim}\nadversary: {}", "griffin_lim makes no audio: set adversary"),
    (PLANE + "\nhead: {kind: waveform}", "plane, needs head of kind spectrogram or griffin_lim"),
    ("front_end: {kind: spectrogram, hop: 1}\nhead: {kind: griffin_lim}",
     "hop, 1, is the first stage's stride, 8"),
    (PLANE + "\nloss: {channel_average: 1.0}", "channel_average needs two stages"),
    ("labels: {of: genre}", "labels need a quantizer of gaussian"),
    ("head: {kind: spectrogram, n_fft: 24}", "multiple of twice the first stage's stride, 8"),
    ("bottleneck: {kind: energy, heads: 3}", "3 heads, which do not divide the 128 channels"),
    ("name: ../../vqvae_8", "name is '../../vqvae_8'"),
    ("name: vqvae_00010", "must not end in"),
    ("name: chain", "must not be the name of a file"),
    ("adversary: {discriminators: [{n_fft: 3, hop: 1}]}", "n_fft is 3"),
]


def test_impossible_codecs_are_refused():
    for text, message in WRONG_CODECS:
        with pytest.raises(ConfigError, match=message) as caught:
            override(CODEC, text)
        assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


def test_a_frame_of_a_plane_has_codes_for_each_place():
    plane = override(CODEC, PLANE)
    assert (plane.level, plane.positions, plane.books) == (64, 2, 2)
    residual = override(CODEC, PLANE + "\nquantizer: {kind: residual, books: 3}")
    assert residual.codebook_of == (0, 0, 1, 1, 2, 2) and residual.nested
    two_levels = override(CODEC, PLANE + "\nhierarchy: {kind: vqvae2, bottom: 1}")
    assert (two_levels.bottom_positions, two_levels.bottom_frames, two_levels.nested) == (4, 2, False)
    assert two_levels.codebook_of == (0,) * 2 + (1,) * 8
    vae = override(CODEC, PLANE + "\nquantizer: {kind: gaussian, dim: 3}")
    assert (vae.frame_width, vae.vector_width) == (6, 6)
    assert (CODEC.positions, CODEC.bottom_positions, CODEC.codebook_of) == (1, 0, (0,))


def condition(**more):
    return {"conditions": [{"kind": "codes", "level": 32, "num_codes": 64} | more]}


WRONG_GENERATORS = [
    (condition(level=33), "33, must be a multiple of the generator's level, 8"),
    (condition(level=8), "8, must be a multiple of the generator's level, 8"),
    ({"conditions": condition()["conditions"] * 2}, "two conditions have the same input"),
    ({"core": {"kind": "gru"}}, "'gru'.*'lstm', 'pixelcnn'"),
    ({"core": {"kind": "wavenet", "units": 8}}, "unknown key 'units'; did you mean"),
    ({"core": {"kind": "transformer", "heads": 7}}, "width is 256; it must be a multiple of heads, 7"),
    ({"core": {"kind": "pixelcnn", "dilations": [1, 2], "kernel_books": 5}, "books": 7},
     "5 earlier books, but a frame has 7:"),
]


def test_impossible_generators_are_refused():
    for values, message in WRONG_GENERATORS:
        with pytest.raises(ConfigError, match=message):
            fields.override(GENERATOR, values, "f.yml")


@pytest.mark.parametrize("content", [
    b"", b"- a\n- list", b"text", b"a: [", b"\xff\xfe\xfa", b"a: b: c",
    b"\x00", b"a: 2001-99-99", b"a: !!int x",
    b"a: !!timestamp x", b"a: !!bool maybe", b"!!python/object/apply:os.system [true]", b"[" * 5000,
    b"a: " + b"9" * 9000, b"? {a: b}\n: c",
])
def test_a_file_that_holds_no_mapping_is_refused_by_name(content, tmp_path):
    path = tmp_path / "broken.yml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="broken.yml"):
        load_yaml(path)


LAUGHS = "\n".join(["a0: &a0 [1, 1]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12))])
MERGES = "\n".join(["a0: &a0 {x: 1}", *(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 8)}]}}"
                                       for i in range(1, 9))])


@pytest.mark.parametrize("text, message", [
    (LAUGHS, r"an alias \(\*\) is not allowed"), (MERGES, r"a merge key \(<<\) is not allowed"),
    ("a: &a [*a]", "an alias"), ("a: {<<: [{b: 1}, {<<: {c: 2}}]}", r"a merge key \(<<\) is not allowed"),
    ("[" * 5000, "nested more than 32 deep"), ("a:" + "\n- " * 40 + "- " * 40, "nested more than 32 deep"),
    ("a: " + "1:" * 50_000 + "1", "a number has more than 100 characters"),
    ("a: " + "1:" * 200 + "1.5", "a number has more than 100 characters"),
    ("a: " + "x" * (16 << 20), "has more than 16 MiB"),
], ids=range(9))
def test_a_file_that_would_unfold_is_refused_in_one_short_line(tmp_path, text, message):
    path = tmp_path / "bomb.yml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"bomb.yml: .*{message}") as caught:
        load_yaml(path)
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


def test_values_that_share_a_list_are_written_without_an_alias(tmp_path):
    shared = [[1, 2], {"b": 3}]
    path = tmp_path / "shared.yml"
    path.write_text(dump_yaml({"a": shared, "c": shared}))
    assert load_yaml(path) == {"a": shared, "c": shared}


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_file_gives_a_mapping_or_a_config_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yml"
    path.write_bytes(content)
    with contextlib.suppress(ConfigError):
        assert isinstance(load_yaml(path), dict)
