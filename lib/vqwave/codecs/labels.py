"""Labels as a condition of a model."""

from typing import Annotated, Literal

import numpy as np
import pydantic
from pydantic import Field

from ..errors import first_names
from ..levels.conditions import ConditionConfig, View
from ..levels.fields import Positive, Share, Text

WHOLE_SHARE = 1 << 16
"""The sum of the shares of a frame's labels."""


class Labels(ConditionConfig):
    """A learnt vector for each label: a track's folder, a tag, or a part of a track.

    The input holds the labels of each frame, [T, labels, 2], as (index of the label, share), where
    the shares add up to `WHOLE_SHARE`.

    of: the source of the labels. With "part", the labels are "folder/song/01", …, and each section
        of a score draws one.
    names: the vocabulary in the order of the indices; empty: taken from the training data.
    moods: names of parts that are alike by measurement, such as the loud ones, and their indices.
    channels: of the vector. dropout: the share of training windows without a label, so that the
    model also plays without a label, and for guidance.
    """

    input = "label"
    kind: Literal["labels"] = "labels"
    of: Literal["folder", "genre", "artist", "album", "part"] = "folder"
    names: Annotated[tuple[Text, ...], Field(max_length=65536)] = ()
    moods: dict[Text, tuple[int, ...]] = {}
    channels: Positive = 32
    dropout: Share = 0.1

    @pydantic.model_validator(mode="after")
    def _check(self):
        if len(set(self.names)) < len(self.names):
            raise ValueError("names holds a label twice")
        return self

    @property
    def shape(self) -> tuple[int | None, ...]:
        return None, None, 2

    def rows(self, view: View, start: int, count: int) -> np.ndarray:
        return view.labels(start, count)

    @property
    def unlabelled_index(self) -> int:
        """The index that means "no label"."""
        return len(self.names)

    @property
    def are_parts(self) -> bool:
        """Whether the labels are parts of tracks, so that the names belong to one corpus."""
        return self.of == "part"

    @property
    def groups(self) -> dict[str, list[int]]:
        """The indices that each name stands for: of parts, the names of tracks, of their folders,
        and of moods.
        """
        if not self.are_parts:
            return {name: [number] for number, name in enumerate(self.names)}
        groups: dict[str, list[int]] = {}
        for number, name in enumerate(self.names):
            places = name.split("/")
            for depth in range(1, len(places)):
                groups.setdefault("/".join(places[:depth]), []).append(number)
        return groups | {name: list(numbers) for name, numbers in self.moods.items()
                         if name not in groups}

    @property
    def tracks(self) -> list[int]:
        """The number of each label's track; of labels that are no parts, its index."""
        names = [name.rpartition("/")[0] if self.are_parts else name for name in self.names]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        return [numbers[name] for name in names]

    @property
    def summary(self) -> str:
        return f"labels by {self.of} ({first_names(self.names)})"
