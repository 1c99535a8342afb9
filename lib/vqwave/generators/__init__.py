"""Generators: conditions and a core. Each kind stands in two files.

NAME.py has the config of a kind, and NAME_layer.py its Keras layer. `family/` has the kinds that
only neighbouring systems use. This package offers the configs.
"""

from .cores import *
from .generator import *
from .performer import *
from .score_above import *
