from importlib.util import find_spec

import pytest

from vqwave.codecs import codec
from vqwave.generators import generator
from vqwave.levels.kinds import Kinds

FIELDS = {name: kinds for module in (codec, generator) for name, kinds in vars(module).items()
          if isinstance(kinds, Kinds)}


@pytest.mark.parametrize("field", FIELDS)
def test_every_kind_stands_in_two_files(field):
    configs = FIELDS[field].configs
    assert FIELDS[field].default in configs
    assert all(find_spec(f"{config.__module__}_layer") for config in configs.values())
