"""The description of a system as data: models, training, chains and presets, validated by pydantic.

Each axis of a model is a field whose `kind` names a class here and a layer in `nn/`. A fact is
stated once. If two statements disagree, a `ConfigError` prints both sides.
"""

from .chain import *
from .codec import *
from .codec_parts import *
from .conditions import *
from .fields import *
from .generator import *
from .heads import *
from .levels import *
from .quantizers import *
from .training import *
