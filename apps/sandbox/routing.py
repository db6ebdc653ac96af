"""Finds the handler of a path, by its segments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apps.sandbox.http import Request, Response

if TYPE_CHECKING:
    from apps.sandbox.core import Core

Handler = Callable[["Core", Request, dict[str, str]], Response]


@dataclass(frozen=True, slots=True)
class Route:
    """`family` decides who may call and how a refusal looks: v1, v2, workspaces, manage, site, open or gone.

    `scope`: what a key with scopes needs; None means that no scope exists, so such a key is refused.
    """

    method: str
    template: str
    family: str
    handler: Handler
    scope: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


class Routes:
    """A set of routes, filled with the decorator `routes.add(...)`."""

    def __init__(self) -> None:
        self.all: list[Route] = []

    def add(
        self,
        method: str,
        template: str,
        family: str,
        *,
        scope: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            self.all.append(Route(method, template, family, handler, scope, headers))
            return handler

        return register


class Router:
    """A tree of segments; a literal segment wins over a parameter."""

    def __init__(self, *route_sets: Routes) -> None:
        self._root: dict[str, Any] = {}
        for routes in route_sets:
            for route in routes.all:
                node = self._root
                for segment in route.template.strip("/").split("/"):
                    node = node.setdefault("{}" if segment.startswith("{") else segment, {})
                node.setdefault("//", {})[route.method] = route

    def find(self, method: str, path: str) -> tuple[Route | None, dict[str, str], bool]:
        """(route, path parameters, whether the path exists at all)."""
        segments = path.strip("/").split("/")
        leaf = self._walk(self._root, segments, 0)
        if leaf is None:
            return None, {}, False
        route: Route | None = leaf.get(method)
        if route is None:
            return None, {}, True
        values = {
            name[1:-1]: segment
            for name, segment in zip(route.template.strip("/").split("/"), segments, strict=True)
            if name.startswith("{")
        }
        return route, values, True

    def _walk(self, node: dict[str, Any], segments: list[str], position: int) -> dict[str, Route] | None:
        if position == len(segments):
            return node.get("//")
        for branch in (segments[position], "{}"):
            if branch in node and segments[position]:
                leaf = self._walk(node[branch], segments, position + 1)
                if leaf is not None:
                    return leaf
        return None
