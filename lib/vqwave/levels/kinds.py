"""The kinds of a config's field. A kind stands in two files side by side: NAME.py has its config,
and NAME_layer.py what Keras computes. A kind is found because it stands there.
"""

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any, Union

from pydantic import Field

from .fields import Config, default_kind

_LAYERS: dict[type[Config], Any] = {}


def import_kinds(package: str):
    """Import each NAME.py of a package, and of its folder `family`, that has a NAME_layer.py."""
    folder = Path(sys.modules[package].__file__).parent
    for path in sorted(folder.glob("**/*_layer.py")):
        module = path.with_name(path.name.replace("_layer", ""))
        if module.exists():
            names = module.relative_to(folder).with_suffix("").parts
            importlib.import_module(".".join((package, *names)))


class Kinds:
    """The annotation of a field that takes a config of any kind of `base`: every subclass with a
    field `kind` that is imported before. default: the kind of a mapping without `kind`.
    """

    def __init__(self, base: type[Config], default: str):
        self.base, self.default = base, default

    @property
    def configs(self) -> dict[str, Any]:
        """The config of each kind, by name."""
        configs, classes = {}, [self.base]
        for config in classes:
            classes += config.__subclasses__()
            if (kind := config.model_fields.get("kind")) and isinstance(kind.default, str):
                configs[kind.default] = config
        return dict(sorted(configs.items()))

    def __get_pydantic_core_schema__(self, source, handler):
        kinds = Union[tuple(self.configs.values())]  # noqa: UP007
        return handler.generate_schema(
            Annotated[kinds, Field(discriminator="kind"), default_kind(self.default)])


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
