"""The studio: a page to make music on, to hear and see it while it is made, and to listen to the
codecs.

`takes` is what it does, without a web; `web` serves that and the page in `static`.
"""

from .settings import Settings
from .takes import Studio, plays

__all__ = ["Settings", "Studio", "plays"]
