"""What every REST view shares: permissions, JSON only, idempotent writes, errors, and how the schema tells them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import resolve
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ChoiceField, Serializer
from rest_framework.views import APIView

from apps.operators.access import Access
from apps.operators.authentication import actor_of
from apps.operators.models import ApiToken, IdempotencyKey, Operator
from apps.operators.permissions import Permission
from apps.operators.throttling import Allowance, CallerThrottle
from apps.organizations.models import Organization
from apps.organizations.recorder import Actor
from aum.atlassian.errors import AtlassianError, RateLimited, WaitTooLong
from aum.common import idempotency
from aum.common.errors import DomainError, InvalidInput, NotAllowed
from aum.common.serializers import ErrorSerializer

WRITES = ("POST", "PUT", "PATCH", "DELETE")
ERRORS = {
    "400": "The request cannot be read: not JSON, or a value of the wrong kind.",
    "401": "No token, or one that is unknown, expired or revoked.",
    "403": "The role or the token's scopes do not allow this.",
    "404": "There is no such thing here, or not for this caller.",
    "405": "This address does not take this method.",
    "409": "The state does not allow this now; the code and the sentence say why.",
    "415": "The body is not JSON.",
    "422": "A value is not acceptable; `fields` names each.",
    "429": "Atlassian, or AUM, asks to wait: see Retry-After.",
    "502": "Atlassian did not answer as expected.",
}


class AtlassianRefused(DomainError):
    """A call to Atlassian failed while the request waited for it."""

    code = "atlassian_error"
    status = 502


class JsonOnly(BaseContentNegotiation):
    """JSON whatever is asked for; `?format=` belongs to exports."""

    def select_parser(self, request: Request, parsers: Sequence[BaseParser]) -> BaseParser | None:  # type: ignore[override]
        content_type = (request.content_type or "").partition(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == content_type), None)

    def select_renderer(  # type: ignore[override]
        self, request: Request, renderers: Sequence[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], str(renderers[0].media_type)


class Schema(AutoSchema):
    """Adds to each operation what all of them have: the refusals, and the header of writes."""

    def get_override_parameters(self) -> list[Any]:
        if self.method not in WRITES:
            return []
        return [
            OpenApiParameter(
                idempotency.HEADER,
                str,
                OpenApiParameter.HEADER,
                description="A repeat with the same key within 24 hours gets the same answer and changes nothing.",
            )
        ]

    def _map_serializer_field(self, field: Any, direction: Any, bypass_extensions: bool = False) -> dict[str, Any]:
        """Choices as constants, which OpenAPI 3.1 allows: as enumerations each set would need a name of its own."""
        mapped: dict[str, Any] = super()._map_serializer_field(  # type: ignore[no-untyped-call]
            field, direction, bypass_extensions
        )
        if isinstance(field, ChoiceField) and "enum" in mapped:
            constants = mapped.pop("enum")
            mapped.pop("x-spec-enum-id", None)
            mapped["oneOf"] = [{"const": value} for value in constants]
        return mapped

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        for status, description in ERRORS.items():
            if status not in bodies:
                bodies[status] = self._refusal(status) | {"description": description}
        return bodies

    def _refusal(self, status: str) -> dict[str, Any]:
        described: dict[str, Any] = self._get_response_for_code(ErrorSerializer, status)  # type: ignore[no-untyped-call]
        return described


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describes bearer tokens in the schema."""

    target_class = "apps.operators.authentication.ApiTokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "A token of /o/<org>/api-access/ or script/aum."}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describes the browser session in the schema."""

    target_class = "apps.operators.authentication.OperatorSessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid", "description": "Writes need X-CSRFToken too."}


class ApiView(APIView):
    """A view under /api/v1/. `required` names the permission of each method (`HasPermission` reads it).

    A write that waits for Atlassian sets `is_atomic` to False: no call is made inside a transaction.
    """

    required: ClassVar[dict[str, Permission | None]]
    is_atomic: ClassVar[bool] = True
    schema = Schema()
    metadata_class = None
    throttle_classes = (CallerThrottle,)
    content_negotiation_class = JsonOnly
    http_method_names = ["get", "head", "post", "put", "patch", "delete"]

    # What `HasPermission` leaves on the request.

    @property
    def access(self) -> Access:
        found: Access = self.request.access  # type: ignore[attr-defined]
        return found

    @property
    def organization(self) -> Organization:
        organization = self.access.organization
        assert organization is not None  # HasPermission answers 404 otherwise
        return organization

    @property
    def operator(self) -> Operator:
        assert isinstance(self.request.user, Operator)
        return self.request.user

    @property
    def actor(self) -> Actor:
        return actor_of(self.request)

    @property
    def is_by_token(self) -> bool:
        return isinstance(self.request.auth, ApiToken)

    def demand(self, permission: Permission, sentence: str = "") -> None:
        """A further permission, where the method's own is not enough. Raises NotAllowed."""
        if not self.access.may(permission):
            raise NotAllowed(sentence or f"This needs the permission “{permission}”.")

    def validated(self, serializer: type[Serializer[Any]], *, partial: bool = False) -> dict[str, Any]:
        """The body as `serializer` reads it; raises ValidationError."""
        if not isinstance(self.request.data, dict):
            raise InvalidInput("Send one JSON object.")
        read = serializer(data=self.request.data, partial=partial)
        unknown = sorted(set(self.request.data) - set(read.fields))
        if unknown:
            raise InvalidInput(fields={str(name)[:100]: ["There is no such field."] for name in unknown[:20]})
        read.is_valid(raise_exception=True)
        data: dict[str, Any] = read.validated_data
        return data

    # --- the request's way ---

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if not hasattr(self, str(request.method).lower()):
            self.http_method_not_allowed(request)
        super().initial(request, *args, **kwargs)
        for name, values in request.query_params.lists():
            if any("\x00" in text or not _is_text(text) for text in (name, *values)):
                raise InvalidInput(fields={_shown(name): ["This holds a character that cannot be stored."]})

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, AtlassianError):
            refusal = AtlassianRefused(f"{exc.detail} {exc.advice}".strip())
            if isinstance(exc, RateLimited | WaitTooLong):
                refusal.code, refusal.status = "rate_limited", 429
            response = super().handle_exception(refusal)
            if refusal.status == 429:
                response["Retry-After"] = str(max(1, round(exc.wait_seconds)))  # type: ignore[attr-defined]
            return response
        return super().handle_exception(exc)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """As Django REST framework's own, with the handler inside `_once` (a repeat is answered from its row)."""
        self.args, self.kwargs = args, kwargs
        self.request = wrapped = self.initialize_request(request, *args, **kwargs)
        self.headers = self.default_response_headers
        response: Any
        try:
            self.initial(wrapped, *args, **kwargs)
            handler = getattr(self, str(wrapped.method).lower())
            kwargs.pop("org", None)
            response = self._once(wrapped, lambda: handler(wrapped, *args, **kwargs))
        except Exception as error:
            response = self.handle_exception(error)
        self.response = self.finalize_response(wrapped, response, *args, **kwargs)
        allowance: Allowance | None = getattr(wrapped, "allowance", None)
        if allowance is not None:
            for name, value in allowance.headers.items():
                self.response[name] = value
        return self.response

    def _once(self, request: Request, call: Callable[[], HttpResponseBase]) -> HttpResponseBase:
        """The answer of `call`, or the stored one when the same key came with the same request before.

        The key's row and the effect are one transaction: a second request with the key waits for the first one, and a
        refused or crashed one leaves no row, so that it can be repeated with the same key.
        """
        key = idempotency.clean_key(request.headers.get(idempotency.HEADER, "")) if request.method in WRITES else ""
        access: Access | None = getattr(request, "access", None)
        if not key or access is None or access.organization is None:
            return call()
        digest = idempotency.request_hash(str(request.method), request.get_full_path(), request.body)
        IdempotencyKey.objects.of(access.organization).filter(
            created_at__lt=timezone.now() - timedelta(hours=idempotency.KEPT_HOURS)
        ).delete()
        if stored := self._stored(access.organization, key, digest):
            return stored
        if not self.is_atomic:
            response = call()
            self._keep(access.organization, key, digest, response)
            return response
        try:
            with transaction.atomic():
                row = IdempotencyKey.objects.create(
                    organization=access.organization, operator=self.operator, key=key, request_hash=digest
                )
                response = call()
                _fill(row, response)
                return response
        except IntegrityError as error:
            stored = self._stored(access.organization, key, digest) if "idempotency_key_once" in str(error) else None
            if stored is None:
                raise
            return stored

    def _stored(self, organization: Organization, key: str, digest: str) -> Response | None:
        row = IdempotencyKey.objects.of(organization).filter(operator=self.operator, key=key).first()
        if row is None:
            return None
        if row.request_hash != digest:
            raise idempotency.IdempotencyMismatch
        response = Response(row.body, status=row.status)
        if row.location:
            response["Location"] = row.location
        response["Idempotent-Replayed"] = "true"
        return response

    def _keep(self, organization: Organization, key: str, digest: str, response: HttpResponseBase) -> None:
        row, _created = IdempotencyKey.objects.get_or_create(
            organization=organization, operator=self.operator, key=key, defaults={"request_hash": digest}
        )
        _fill(row, response)


@csrf_exempt
def unknown(request: HttpRequest, path: str) -> HttpResponse:
    """Any other address under /api/v1/: refused in JSON, or sent to the same one with its closing slash."""
    if not path.endswith("/") and resolve(f"{request.path}/").url_name != "api-unknown":
        query = request.META.get("QUERY_STRING", "")
        target = f"{request.path}/" + (f"?{query}" if query else "")
        return HttpResponse(status=308, headers={"Location": target})  # 308 keeps method and body
    refusal = {"code": "not_found", "detail": "There is no such address. All of them: /api/docs/", "fields": {}}
    return JsonResponse(refusal, status=404)


def _fill(row: IdempotencyKey, response: HttpResponseBase) -> None:
    assert isinstance(response, Response)
    row.status, row.body, row.location = response.status_code, _plain(response.data), response.get("Location", "")
    row.save(update_fields=["status", "body", "location"])


def _plain(data: Any) -> Any:
    """Rendered and read again, so that the stored body is exactly what was sent."""
    return None if data is None else json.loads(JSONRenderer().render(data))


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(name: str) -> str:
    return name.encode("ascii", "replace").decode().replace("\x00", "?")[:100]
