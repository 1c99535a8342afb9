"""Codecs: each axis of a codec is a field of its config. Each kind of an axis stands in two files,
NAME.py with its config and NAME_layer.py with its Keras layer.

`family/` has the kinds that only neighbouring systems use. This package offers the configs.
"""

from .adversary import *
from .codec import *
from .front_ends import *
from .labels import *
from .parts import *
from .quantizers import *
