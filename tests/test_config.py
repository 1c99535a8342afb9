"""config.py: what a config may be, and that anything else is a `ConfigError` that says so."""

import contextlib
import dataclasses

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from vqwave import config as configs
from vqwave.config import CodecConfig, ConfigError, GeneratorConfig, LossConfig
from vqwave.errors import UserError

PRESETS = [
    preset(f"{prefix}_{level}", size)
    for prefix, preset in (("vqvae", configs.codec_preset), ("generator", configs.generator_preset))
    for level in configs.LEVELS
    for size in configs.SIZES
]


def write(tmp_path, text):
    path = tmp_path / "config.yml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("config", PRESETS, ids=lambda c: f"{c.name}-{c.num_codes}")
def test_a_preset_is_of_the_level_its_name_says_and_survives_yaml(config, tmp_path):
    assert config.name.endswith(f"_{config.level}")
    path = write(tmp_path, configs.dump_yaml(configs.to_dict(config)))
    assert configs.from_dict(type(config), configs.load_yaml(path)) == config
    assert configs.override(config, path) == config


@pytest.mark.parametrize("size", configs.SIZES)
def test_presets_of_one_size_form_a_chain(size):
    above = None
    for level in configs.LEVELS:
        codec = configs.codec_preset(f"vqvae_{level}", size)
        generator = configs.generator_preset(f"generator_{level}", size)
        assert generator.num_codes == codec.num_codes
        assert generator.start_token == codec.num_codes
        if above is None:
            assert (generator.source_level, generator.ratio, generator.halo) == (0, 0, 0)
        else:
            assert generator.source_level == above.level
            assert generator.source_codes == generator.pad_token == above.num_codes
            assert generator.ratio * generator.level == above.level
            assert generator.halo == sum(generator.context_dilations)
        above = codec


def test_bitrate_is_codes_a_second_times_bits_a_code():
    assert configs.codec_preset("vqvae_8").bitrate == 22050 / 8 * 10


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS[0].num_codes = 3


@pytest.mark.parametrize("name", ["vqvae_64", "vqvae", "generator_32", "", "vqvae_32 "])
def test_an_unknown_codec_is_refused_with_those_there_are(name):
    with pytest.raises(ConfigError, match="vqvae_512, vqvae_128, vqvae_32, vqvae_8"):
        configs.codec_preset(name)


def test_an_unknown_generator_or_size_is_refused():
    with pytest.raises(ConfigError, match="generator_512"):
        configs.generator_preset("vqvae_512")
    with pytest.raises(ConfigError, match="'huge'.*compact, reference, tiny"):
        configs.generator_preset("generator_8", "huge")


NEAR = [("unit", "units"), ("Top_K", "top_k"), ("contex_chanels", "context_channels")]


@pytest.mark.parametrize(("key", "near"), NEAR)
def test_an_unknown_key_is_refused_with_the_nearest(key, near, tmp_path):
    path = write(tmp_path, f"{key}: 3\n")
    with pytest.raises(ConfigError, match=f"{key}.*did you mean '{near}'") as caught:
        configs.override(configs.generator_preset("generator_8"), path)
    assert str(path) in str(caught.value)


def test_an_unknown_key_of_the_loss_is_refused_too(tmp_path):
    with pytest.raises(ConfigError, match="'mell'.*did you mean 'mel'"):
        configs.override(configs.codec_preset("vqvae_8"), write(tmp_path, "loss: {mell: 1.0}"))


def test_a_missing_key_is_named():
    with pytest.raises(ConfigError, match="missing key 'strides'"):
        configs.from_dict(CodecConfig, {"name": "vqvae_8"})


def test_override_takes_only_what_the_file_says(tmp_path):
    base = configs.codec_preset("vqvae_32")
    config = configs.override(base, write(tmp_path, "num_codes: 256\nloss: {mel: 3}\n"))
    expected = dataclasses.replace(base, num_codes=256, loss=dataclasses.replace(base.loss, mel=3.0))
    assert config == expected


def test_a_number_in_scientific_notation_is_a_number_with_or_without_a_point(tmp_path):
    # YAML 1.1 takes 1e-1 for text.
    for text in ("1e-1", "1.0e-1", "0.1"):
        config = configs.override(configs.codec_preset("vqvae_8"), write(tmp_path, f"loss: {{mel: {text}}}"))
        assert config.loss.mel == 0.1


@pytest.mark.parametrize(("text", "said"), [
    ("strides: 8", "strides is 8; it must be a list"),
    ("strides: []", "strides is .*; it must be a list"),
    ("strides: [8, 4]", "one entry a stage"),
    ("strides: [4]", "the name says level 8, the numbers say 4"),
    ("strides: [0]", "at least 1"),
    ("strides: [8.0]", "strides is 8.0; it must be a whole number"),
    ("dilations: [[1, -3]]", "at least 1"),
    ("num_codes: true", "num_codes is True; it must be a whole number"),
    ("num_codes: 1", "at least 2"),
    ("num_codes: 65537", "at most 65536"),
    ("num_codes: 0x" + "f" * 5000, "num_codes is .*at most"),
    ("sample_rate: -1", "at least 1"),
    ("ema_decay: 1", "between 0 and 1"),
    ("ema_decay: .nan", "must be finite"),
    ("ema_decay: abc", "ema_decay is 'abc'; it must be a number"),
    ("revival_threshold: -1", "at least 0"),
    ("name: vqvae_16", "the name says level 16, the numbers say 8"),
    ("name: ../../vqvae_8", "vqvae_8"),
    ("name: vqvae_²", "vqvae_8"),
    ("loss: 3", "loss is 3; it must be a mapping"),
    ("loss: {mel: text}", "mel is 'text'; it must be a number"),
    ("loss: {mel: -1}", "mel is -1.0; it must be at least 0"),
])
def test_a_codec_that_cannot_be_is_refused(text, said, tmp_path):
    with pytest.raises(ConfigError, match=said) as caught:
        configs.override(configs.codec_preset("vqvae_8"), write(tmp_path, text))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(("text", "said"), [
    ("source_level: 33", "33 is not a multiple of its level 8"),
    ("source_level: 8", "8 is not a multiple of its level 8"),
    ("source_level: -32", "at least 0"),
    ("level: 0", "at least 1"),
    ("level: 16", "the name says level 8, the numbers say 16"),
    ("dropout: 1", r"\[0, 1\)"),
    ("top_p: 0", r"\(0, 1\]"),
    ("top_p: 1.5", r"\(0, 1\]"),
    ("temperature: -0.1", "at least 0"),
    ("temperature: .inf", "must be finite"),
    ("top_k: 1.5", "must be a whole number"),
    ("units: null", "units is None; it must be a whole number"),
    ("context_dilations: [1, two]", "'two'; it must be a whole number"),
    ("num_codes: 65537", "at most 65536"),
])
def test_a_generator_that_cannot_be_is_refused(text, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        configs.override(configs.generator_preset("generator_8"), write(tmp_path, text))


@pytest.mark.parametrize("content", [
    b"", b"- a\n- list", b"text", b"a: [", b"\xff\xfe\xfa", b"a: b: c", b"\x00", b"a: 2001-99-99", b"a: !!int x",
    b"a: !!timestamp x", b"a: !!bool maybe", b"!!python/object/apply:os.system [true]", b"[" * 5000,
    b"a: " + b"9" * 9000, b"? {a: b}\n: c",
])
def test_a_file_that_holds_no_mapping_is_refused_by_name(content, tmp_path):
    path = tmp_path / "broken.yml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="broken.yml"):
        configs.load_yaml(path)


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match="absent.yml.*No such file"):
        configs.load_yaml(tmp_path / "absent.yml")
    with pytest.raises(ConfigError, match="cannot be read"):
        configs.load_yaml(tmp_path)


def test_a_file_of_aliases_that_would_unfold_without_end_is_refused_in_one_short_line(tmp_path):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    path = write(tmp_path, "\n".join([*lines, "num_codes: *a11"]))
    nested = {"name": "vqvae_8", "strides": [8], "channels": [8], "dilations": [[1]],
              "num_codes": configs.load_yaml(path)["num_codes"]}
    with pytest.raises(ConfigError) as caught:
        configs.from_dict(CodecConfig, nested)
    assert len(str(caught.value)) < 500


def test_a_config_error_is_a_user_error_and_a_value_error():
    assert issubclass(ConfigError, UserError) and issubclass(ConfigError, ValueError)


# ---- whatever a file says: a config or a ConfigError -----------------------------------------------------------------
scalars = (
    st.none() | st.booleans() | st.integers() | st.integers(min_value=10**400, max_value=10**401) | st.floats()
    | st.text(max_size=20) | st.binary(max_size=4) | st.dates()
    | st.sampled_from(["1e5", "1e999", "vqvae_8", "generator_8"])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=4),
    max_leaves=8,
)


def keys(kind):
    return st.sampled_from([f.name for f in dataclasses.fields(kind)])


def is_sound(config):
    """Every number is finite, the types are those declared, and the config survives YAML."""
    text = configs.dump_yaml(configs.to_dict(config))
    return configs.from_dict(type(config), yaml.safe_load(text)) == config


@pytest.mark.parametrize("base", [configs.codec_preset("vqvae_8"), configs.generator_preset("generator_8")],
                         ids=["codec", "generator"])
def test_any_value_under_any_key_gives_a_sound_config_or_a_config_error(base):
    @given(st.dictionaries(keys(type(base)) | st.text(max_size=12) | st.integers(), anything, max_size=3))
    @example({"temperature": 10**400, "ema_decay": 10**400})
    @example({"loss": {"mel": 10**400}})
    def check(changes):
        try:
            config = configs.from_dict(type(base), configs.to_dict(base) | changes)
        except ConfigError as e:
            assert len(str(e)) < 1000
        else:
            assert is_sound(config)

    check()


@given(st.dictionaries(keys(LossConfig), anything, max_size=3))
def test_any_loss_is_sound_or_a_config_error(values):
    try:
        loss = configs.from_dict(LossConfig, values)
    except ConfigError:
        return
    assert is_sound(loss)
    assert all(v >= 0 for v in dataclasses.astuple(loss))


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode) | anything.map(
    lambda x: yaml.dump(x, allow_unicode=True).encode("utf-8", "surrogatepass")))
def test_any_file_gives_a_mapping_or_a_config_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yml"
    path.write_bytes(content)
    with contextlib.suppress(ConfigError):
        assert isinstance(configs.load_yaml(path), dict)


def test_generator_config_needs_no_source_at_the_top():
    top = GeneratorConfig("generator_512", 512)
    assert top.ratio == 0 and top.halo == 0
