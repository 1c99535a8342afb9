"""The studio: a page to make music on, to hear and see it while it is made, and to listen to the
codecs.

`takes` is what it does, without a web; `web` serves that, and `page` is the form. Gradio is
imported only by the last.
"""

from .takes import Settings, Studio

__all__ = ["Settings", "Studio"]
