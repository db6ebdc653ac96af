"""What may be broken in a module: each mutant is one small edit of its source."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

# Where a break changes words, the log or the documentation of the API, and nothing that AUM does.
NOT_CALLS = {"_", "gettext", "gettext_lazy", "ngettext", "isinstance", "cast", "extend_schema", "extend_schema_field"}
NOT_NAMES = {"logger", "logging", "warnings", "messages"}
NOT_KEYWORDS = {"help_text", "verbose_name", "label", "widget", "attrs", "description", "extra", "max_digits"}
NOT_FUNCTIONS = {"__str__", "__repr__"}
# A decorator without which nothing imports or works at all, or that only describes.
KEPT_DECORATORS = {
    *("property", "classmethod", "staticmethod", "abstractmethod", "cached_property", "dataclass", "overload"),
    *(
        "contextmanager",
        "shared_task",
        "register",
        "setter",
        "extend_schema",
        "extend_schema_field",
        "extend_schema_view",
    ),
    *("api_view", "action", "receiver"),
}
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
SWAPPED_METHODS = {"filter": "exclude", "exclude": "filter", "first": "last", "last": "first"}
SWAPPED_FUNCTIONS = {"any": "all", "all": "any", "min": "max", "max": "min"}
QUERIES = {"filter", "exclude", "get", "Q"}
GUARD_ENDS = (ast.Return, ast.Raise, ast.Continue, ast.Break)


@dataclass(frozen=True)
class Mutant:
    """One edit: bytes `start` to `end` of the file become `text`."""

    path: str
    line: int
    last_line: int
    scope: str  # dotted names of classes and functions around it
    operator: str
    before: str
    after: str
    start: int
    end: int
    text: str
    # True when it is run at each call; else at import, and needs a fresh process.
    at_call: bool
    # What the code outside of functions defines: the tests of whoever uses these names may notice.
    names: tuple[str, ...]
    # Of the function or statement around it, so that a result is not kept for code that changed.
    digest: str
    ordinal: int = 0

    @property
    def key(self) -> str:
        """The same as long as the edit and the code around it are the same, wherever it moves in the file."""
        parts = (self.path, self.scope, self.operator, self.before, self.after, str(self.ordinal))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def apply(self, source: bytes) -> bytes:
        """The module's source with this edit; it has the same number of lines."""
        lost = source[self.start : self.end].count(b"\n") - self.text.count("\n")
        text = self.text
        if lost > 0:
            text = f"{text[:-1]}{chr(10) * lost})" if text.endswith(")") else text + "\n" * lost
        return source[: self.start] + text.encode() + source[self.end :]

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.operator}: {self.before} -> {self.after}"


def mutants_of(path: str, source: bytes) -> list[Mutant]:
    """All mutants of a module, in the order of its lines."""
    found: list[Mutant] = []
    seen: dict[str, int] = {}
    for mutant in _Finder(path, source).found():
        ordinal = seen.get(mutant.key, 0)
        seen[mutant.key] = ordinal + 1
        found.append(Mutant(**{**mutant.__dict__, "ordinal": ordinal}))
    return sorted(found, key=lambda mutant: (mutant.line, mutant.start))


class _Finder:
    def __init__(self, path: str, source: bytes) -> None:
        self.path = path
        self.source = source
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.scope: list[str] = []
        self.at_call = False
        self.names: tuple[str, ...] = ()
        self.digest = ""

    def found(self) -> Iterator[Mutant]:
        for statement in ast.parse(self.source).body:
            yield from self._statement(statement)

    # -- edits

    def _offsets(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self.starts[node.lineno - 1] + node.col_offset,
            self.starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def _edit(
        self, node: ast.expr | ast.stmt, operator: str, before: str, after: str, text: str | None = None, back: int = 0
    ) -> Mutant:
        start, end = self._offsets(node)
        return Mutant(
            path=self.path,
            line=node.lineno,
            last_line=node.end_lineno or node.lineno,
            scope=".".join(self.scope),
            operator=operator,
            before=_short(before),
            after=_short(after),
            start=start - back,
            end=end,
            text=f"({after})" if text is None else text,
            at_call=self.at_call,
            names=self.names,
            digest=self.digest,
        )

    def _exchange(self, node: ast.expr, operator: str, new: ast.expr) -> Mutant:
        return self._edit(node, operator, ast.unparse(node), ast.unparse(new), f"({ast.unparse(new)})")

    # -- statements

    def _statements(self, body: list[ast.stmt]) -> Iterator[Mutant]:
        for statement in body:
            yield from self._statement(statement)

    def _statement(self, node: ast.stmt) -> Iterator[Mutant]:
        outermost = not self.at_call
        kept = self.names, self.digest
        if outermost:
            if not isinstance(node, ast.ClassDef):
                self.digest = _digest(node)
            self.names = (*_defined(node), *self.names)
        yield from self._inside(node)
        self.names, self.digest = kept

    def _inside(self, node: ast.stmt) -> Iterator[Mutant]:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from self._function(node)
            case ast.ClassDef():
                self.scope.append(node.name)
                yield from self._statements(node.body)
                self.scope.pop()
            case ast.If():
                yield from self._if(node)
            case ast.Return(value=ast.expr() as value):
                if not isinstance(value, ast.Constant):
                    yield self._edit(node, "return", f"return {ast.unparse(value)}", "return None", "return None")
                yield from self._expression(value)
            case ast.Expr(value=ast.Constant()):
                return
            case ast.Expr(value=ast.Call() as call):
                if _is_words(call):
                    return
                yield self._edit(node, "statement", ast.unparse(node), "pass", "pass")
                yield from self._expression(call)
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
                yield self._edit(node, "statement", ast.unparse(node), "pass", "pass")
                yield from self._expression(node.value)
            case ast.AugAssign():
                new = ARITHMETIC.get(type(node.op))
                if new is not None:
                    changed = ast.AugAssign(node.target, new(), node.value)
                    yield self._edit(
                        node, "arithmetic", ast.unparse(node), ast.unparse(changed), text=ast.unparse(changed)
                    )
                yield from self._expression(node.value)
            case ast.Continue() | ast.Break():
                word, other = ("continue", "break") if isinstance(node, ast.Continue) else ("break", "continue")
                yield self._edit(node, "loop", word, other, other)
            case ast.AnnAssign(value=ast.expr() as value):
                yield from self._expression(value)
            case ast.Delete():
                yield self._edit(node, "statement", ast.unparse(node), "pass", "pass")
            case _:
                yield from self._children(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Mutant]:
        if node.name in NOT_FUNCTIONS:
            return
        self.scope.append(node.name)
        outside = self.at_call
        for decorator in node.decorator_list:
            if _name(decorator) not in KEPT_DECORATORS:
                before = f"@{ast.unparse(decorator)}"
                edit = self._edit(decorator, "decorator", before, "(none)", text="", back=1)
                yield Mutant(**{**edit.__dict__, "last_line": node.body[0].end_lineno or node.lineno})
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            yield from self._expression(default)
        self.at_call = True
        yield from self._statements(node.body)
        self.at_call = outside
        self.scope.pop()

    def _if(self, node: ast.If) -> Iterator[Mutant]:
        if _name(node.test) == "TYPE_CHECKING":
            return
        test = ast.unparse(node.test)
        if isinstance(node.body[-1], GUARD_ENDS) and not node.orelse:
            yield self._edit(node.test, "guard", f"if {test}", "if False", "(False)")
        elif not node.orelse:
            yield self._edit(node.test, "condition", f"if {test}", "if False", "(False)")
        else:
            yield self._edit(node.test, "condition", f"if {test}", f"if not ({test})", f"(not ({test}))")
        yield from self._expression(node.test)
        yield from self._statements(node.body)
        yield from self._statements(node.orelse)

    # -- expressions

    def _children(self, node: ast.AST) -> Iterator[Mutant]:
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "type", "bases", "ctx", "pattern"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.stmt):
                    yield from self._statement(child)
                elif isinstance(child, ast.expr):
                    yield from self._expression(child)
                elif isinstance(child, ast.AST):
                    yield from self._children(child)

    def _expression(self, node: ast.expr) -> Iterator[Mutant]:
        match node:
            case ast.JoinedStr():
                return  # Python 3.11 does not know where things are in an f-string
            case ast.Lambda():
                outside, self.at_call = self.at_call, True
                yield from self._expression(node.body)
                self.at_call = outside
                return
            case ast.Constant(value=bool() as value):
                yield self._exchange(node, "constant", ast.Constant(not value))
                return
            case ast.Constant(value=int() | float() as value):
                yield self._exchange(node, "constant", ast.Constant(value + 1))
                if isinstance(value, int) and value > 0:
                    yield self._exchange(node, "constant", ast.Constant(value - 1))
                return
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int())):
                return
            case ast.UnaryOp(op=ast.Not()):
                yield self._exchange(node, "not", node.operand)
            case ast.Compare(ops=[op]):
                for other in COMPARISONS.get(type(op), ()):
                    yield self._exchange(node, "comparison", ast.Compare(node.left, [other()], node.comparators))
            case ast.BoolOp():
                other_op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
                yield self._exchange(node, "boolean", ast.BoolOp(other_op, node.values))
            case ast.BinOp():
                new = ARITHMETIC.get(type(node.op))
                if new is not None and not (_is_text(node.left) or _is_text(node.right)):
                    yield self._exchange(node, "arithmetic", ast.BinOp(node.left, new(), node.right))
            case ast.IfExp():
                negated = ast.IfExp(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
                yield self._exchange(node, "condition", negated)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                for generator in node.generators:
                    for test in generator.ifs:
                        yield self._edit(test, "condition", f"if {ast.unparse(test)}", "if True", "(True)")
            case ast.Call():
                if _is_words(node):
                    return
                yield from self._call(node)
                yield from self._expression(node.func)
                for argument in node.args:
                    yield from self._expression(argument)
                for keyword in node.keywords:
                    if keyword.arg not in NOT_KEYWORDS:
                        yield from self._expression(keyword.value)
                return
        yield from self._children(node)

    def _call(self, node: ast.Call) -> Iterator[Mutant]:
        name = _name(node.func)
        if name in QUERIES and len(node.keywords) + len(node.args) > 1:
            for position, keyword in enumerate(node.keywords):
                if keyword.arg is not None:
                    rest = node.keywords[:position] + node.keywords[position + 1 :]
                    yield self._exchange(node, "keyword", ast.Call(node.func, node.args, rest))
        if (
            isinstance(node.func, ast.Attribute)
            and name in SWAPPED_METHODS
            and (node.args or node.keywords or name in ("first", "last"))
        ):
            other = ast.Attribute(node.func.value, SWAPPED_METHODS[name], ast.Load())
            yield self._exchange(node, "method", ast.Call(other, node.args, node.keywords))
        if isinstance(node.func, ast.Name) and name in SWAPPED_FUNCTIONS:
            other_function = ast.Name(SWAPPED_FUNCTIONS[name], ast.Load())
            yield self._exchange(node, "function", ast.Call(other_function, node.args, node.keywords))


def _name(node: ast.expr) -> str:
    """The last name of `a.b.c(...)`."""
    while isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_words(call: ast.Call) -> bool:
    root: ast.expr = call.func
    while isinstance(root, ast.Attribute | ast.Call):
        root = root.value if isinstance(root, ast.Attribute) else root.func
    return _name(call) in NOT_CALLS or (isinstance(root, ast.Name) and root.id in NOT_NAMES)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr | ast.List | ast.Tuple) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _defined(node: ast.stmt) -> tuple[str, ...]:
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return (node.name,)
        case ast.Assign():
            return tuple(target.id for target in node.targets if isinstance(target, ast.Name))
        case ast.AnnAssign(target=ast.Name() as target):
            return (target.id,)
    return ()


def _digest(node: ast.stmt) -> str:
    return hashlib.sha256(ast.dump(node).encode()).hexdigest()[:12]


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 160 else f"{text[:157]}..."
