"""Parts that several REST resources share: the shape of errors and of lists."""

from __future__ import annotations

from functools import cache
from typing import Any

from rest_framework import serializers


class ErrorSerializer(serializers.Serializer[Any]):
    """Every refusal: a stable code, a sentence that says what to do, and sentences by input."""

    code = serializers.CharField()
    detail = serializers.CharField()
    fields = serializers.DictField(child=serializers.ListField(child=serializers.CharField()))  # type: ignore[assignment]


class PlainText(serializers.CharField):
    """A text of at most 500 characters unless said otherwise, trimmed; not null characters, not half a character."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("max_length", 500)
        super().__init__(**options)


@cache
def page_of(child: type[serializers.Serializer[Any]]) -> type[serializers.Serializer[Any]]:
    """The serializer of a list of `child`, for the schema."""
    name = child.__name__.removesuffix("Serializer")
    fields = {
        "__module__": child.__module__,
        "__doc__": "A page of a list. `next` and `previous` are addresses, null at the ends; `count` if asked for.",
        "results": child(many=True),
        "next": serializers.URLField(allow_null=True),
        "previous": serializers.URLField(allow_null=True),
        "count": serializers.IntegerField(required=False),
    }
    return type(f"{name}PageSerializer", (serializers.Serializer,), fields)
