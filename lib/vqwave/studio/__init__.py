"""The studio, a page for music and for listening to codecs, and radio.

`studio` is the studio without a web server; `routes` and `web` serve it and the page in `static`.
"""

from .folders import plays
from .requests import ChangeRequest, CompareRequest, Settings, TakeRequest
from .studio import Studio

__all__ = ["ChangeRequest", "CompareRequest", "Settings", "Studio", "TakeRequest", "plays"]
