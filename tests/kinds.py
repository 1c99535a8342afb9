"""Kinds of a config's axis that only a test knows."""

import contextlib
from typing import Annotated, get_args, get_origin

import pytest
from pydantic import Field

from vqwave.config import default_kind


@contextlib.contextmanager
def one_more(config, field, kind, entries):
    """While it lasts, `field` of a config may be of the class `kind` as well.

    The field holds one kind today, several, or a tuple of one. entries: (registry, entry) pairs,
    which `kind` then has.
    """
    described = config.model_fields[field]
    before = described.annotation
    many = get_origin(before) is tuple
    today = get_args(before)[0] if many else before
    if get_origin(today) is Annotated:
        today = get_args(today)[0]
    first = (get_args(today) or [today])[0]
    union = Annotated[today | kind, Field(discriminator="kind"),
                      default_kind(first.model_fields["kind"].default)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(described, "annotation", tuple[union, ...] if many else union)
        config.model_rebuild(force=True)
        for registry, entry in entries:
            patch.setitem(registry, kind.model_fields["kind"].default, entry)
        yield
    assert described.annotation == before
    config.model_rebuild(force=True)
