"""The studio, a page for music and for listening to codecs, and radio.

`library` is the studio without a web server; `routes` and `web` serve it and the page in `static`.
"""

from .folders import plays
from .library import Studio
from .requests import ChangeRequest, CompareRequest, Settings, TakeRequest

__all__ = ["ChangeRequest", "CompareRequest", "Settings", "Studio", "TakeRequest", "plays"]
