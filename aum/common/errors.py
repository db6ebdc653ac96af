"""Expected refusals. `aum.common.api` maps them to JSON, views to messages; nothing else catches them broadly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class DomainError(Exception):
    """An expected refusal with a stable `code` and a sentence for people that says what to do.

    `fields` maps names of inputs to lists of sentences; `status` is the HTTP status of the answer.
    """

    code = "refused"
    status = 409
    detail = "AUM refused this."

    def __init__(self, detail: str | None = None, *, fields: Mapping[str, Sequence[str]] | None = None) -> None:
        self.detail = detail or type(self).detail
        self.fields: dict[str, list[str]] = {name: list(texts) for name, texts in (fields or {}).items()}
        super().__init__(self.detail)


class InvalidInput(DomainError):
    code = "invalid"
    status = 422
    detail = "Correct the marked fields and try again."


class NotAllowed(DomainError):
    code = "not_allowed"
    status = 403
    detail = "Your role does not allow this."


class Missing(DomainError):
    code = "not_found"
    status = 404
    detail = "There is no such thing here."
