"""Residual quantization."""

from typing import Literal

from ...levels.fields import BookCount, Fraction
from ..quantizers import CodebookConfig


class ResidualQuantizer(CodebookConfig):
    """Each codebook quantizes the residual of the books before (SoundStream, Zeghidour et al.
    2021).

    dropout: the share of training windows that use only the first n books, with uniform n. The
    trained codec can then encode with any number of books.
    """

    kind: Literal["residual"] = "residual"
    nested = True
    training_only = (*CodebookConfig.training_only, "dropout")
    books: BookCount = 4
    dropout: Fraction = 0.5
