"""The layers of kinds. A kind stands in two files side by side: NAME.py has its config, and
NAME_layer.py what Keras computes.
"""

import importlib
from typing import Any

from .fields import Config

_LAYERS: dict[type[Config], Any] = {}


def layer_for(config: type[Config]):
    """A decorator: what follows is the layer of this kind."""

    def register(layer):
        _LAYERS[config] = layer
        return layer

    return register


def layer_of(config: Config) -> Any:
    """The layer of a config's kind, which NAME_layer.py registers beside the config's NAME.py."""
    importlib.import_module(f"{type(config).__module__}_layer")
    return _LAYERS[type(config)]
