"""What a system is, as data: models, training, chains and presets, validated by pydantic.

Each axis of a model is a field whose `kind` names one class, and a layer in `nn/` is registered for
that class. A fact is stated once; where two statements disagree, a `ConfigError` prints both sides.
"""

from .chain import *
from .codec import *
from .codec_parts import *
from .conditions import *
from .fields import *
from .generator import *
from .heads import *
from .quantizers import *
from .training import *
