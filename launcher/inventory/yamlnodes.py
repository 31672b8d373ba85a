"""YAML text to a graph of nodes that know their line.

Rules:
- The graph is finite and acyclic, at most MAX_DEPTH deep and MAX_NODES large with all aliases expanded, so
  whoever walks it may recurse and needs no guard of its own.
- Scalars keep their text as written: ``7``, ``yes`` and ``010`` mean what the reader of the file sees.
- Merge keys are applied here: a key of the mapping itself wins over a merged one, an earlier merged one over
  a later.
- Nothing is constructed: a tag such as ``!!python/object`` is a problem, never an object.
- Every fault is a Problem. PyYAML's exceptions end here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from launcher.inventory.report import Place, close_match
from launcher.model import Problem

if TYPE_CHECKING:
    import yaml

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_NODES = 20_000

_STR = "tag:yaml.org,2002:str"
_KNOWN_TAGS = frozenset(
    "tag:yaml.org,2002:" + t for t in ("null", "bool", "int", "float", "str", "timestamp", "value", "merge")
)


@dataclass(frozen=True)
class Scalar:
    text: str
    kind: str
    """``null``, ``bool``, ``int``, ``float`` or ``str``."""
    line: int
    size: int = 1
    depth: int = 1


@dataclass(eq=False)
class Sequence:
    line: int
    items: list[Node] = field(default_factory=list)
    size: int = 1
    depth: int = 1


@dataclass(eq=False)
class Mapping:
    line: int
    items: dict[str, tuple[int, Node]] = field(default_factory=dict)
    """Key to (line of the key, value), merge keys applied, in the order of the file."""
    size: int = 1
    depth: int = 1


Node = Scalar | Sequence | Mapping


class _Broken(Exception):
    """The text cannot be read any further."""

    def __init__(self, message: str, line: int = 0, hint: str = "") -> None:
        self.message, self.line, self.hint = message, line, hint
        super().__init__(message)


def parse(text: str, file: str) -> tuple[Node | None, list[Problem]]:
    """The one document in `text`, or None, and everything that is wrong with it as YAML."""
    here = Place(file)
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return None, [here.problem("is larger than 1 MiB: this is not an inventory")]
    composer = _Composer()
    try:
        node = composer.compose(text)
    except _Broken as fault:
        # What is missing at the end is missed on the last line, not on one after it.
        last = min(fault.line, text.rstrip().count("\n") + 1)
        return None, [*_located(here, composer), here.at(last).problem(fault.message, fault.hint)]
    problems = _located(here, composer)
    if node is None and not problems:
        problems.append(
            here.problem("is empty", "a first inventory: hosts: {lab-pc: {machine: user@lab-pc}}")
        )
    return node, problems


def _located(here: Place, composer: _Composer) -> list[Problem]:
    return [Problem(message, here.file, line, path, hint) for line, path, message, hint in composer.problems]


class _Composer:
    """Events to nodes without recursion: PyYAML's own composer overflows the stack on deep input."""

    def __init__(self) -> None:
        self.problems: list[tuple[int, str, str, str]] = []
        self._anchors: dict[str, Node] = {}
        self._open: list[_Open] = []
        self._root: Node | None = None
        self._total = 0
        self._resolve: Callable[[str], str] = lambda text: _STR

    def compose(self, text: str) -> Node | None:
        documents = 0
        for event in self._events(text):
            name = type(event).__name__
            if name == "DocumentStartEvent":
                documents += 1
                if documents > 1:
                    raise _Broken(
                        "a second document begins here: an inventory is one", event.start_mark.line + 1
                    )
            elif name == "AliasEvent":
                self._add(self._alias(event))
            elif name == "ScalarEvent":
                self._add(self._anchored(event, self._scalar(event)))
            elif name in ("SequenceStartEvent", "MappingStartEvent"):
                self._start(event, name)
            elif name in ("SequenceEndEvent", "MappingEndEvent"):
                self._add(self._end())
        return self._root

    def _events(self, text: str) -> Iterator[Any]:
        import yaml  # 20 ms, which `se-remote --help` does not need

        # libyaml is ten times faster where PyYAML has it; events are the same.
        loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        resolve_tag: Callable[..., Any] = yaml.SafeLoader("").resolve

        def resolve(value: str) -> str:
            return str(resolve_tag(yaml.ScalarNode, value, (True, False)))

        self._resolve = resolve
        try:
            yield from yaml.parse(text, Loader=loader)
        except yaml.MarkedYAMLError as error:
            raise _syntax(error) from error
        except (yaml.YAMLError, UnicodeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise _Broken(f"is not text in YAML: {reason}") from error

    def _start(self, event: Any, name: str) -> None:
        line = event.start_mark.line + 1
        if len(self._open) >= MAX_DEPTH:
            raise _Broken(f"is nested more than {MAX_DEPTH} levels deep", line)
        if event.tag not in (None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            self._fault(line, f"has the tag {event.tag}; tags have no meaning here")
        node: Node = Sequence(line) if name == "SequenceStartEvent" else Mapping(line)
        self._open.append(_Open(node))
        self._anchored(event, node)

    def _scalar(self, event: Any) -> Scalar:
        line = event.start_mark.line + 1
        tag = event.tag
        if tag in (None, "!"):
            tag = self._resolve(event.value) if event.implicit[0] and tag is None else _STR
        elif tag not in _KNOWN_TAGS:
            self._fault(line, f"has the tag {tag}; tags have no meaning here")
            tag = _STR
        kind = tag.rpartition(":")[2]
        return Scalar(event.value, kind if kind in ("null", "bool", "int", "float", "merge") else "str", line)

    def _anchored(self, event: Any, node: Node) -> Node:
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any) -> Node:
        line = event.start_mark.line + 1
        node = self._anchors.get(event.anchor)
        if node is None:
            hint = close_match(event.anchor, self._anchors)
            raise _Broken(f"*{event.anchor} has no anchor &{event.anchor} before it", line, hint)
        if any(open_.node is node for open_ in self._open):
            raise _Broken(f"*{event.anchor} stands inside of what it names", line)
        return node

    def _end(self) -> Node:
        open_ = self._open.pop()
        node = open_.node
        if isinstance(node, Mapping):
            if open_.key is not None:
                raise _Broken("a key without a value", node.line)
            self._merge(node, open_.merges)
            children: list[Node] = [value for _, value in node.items.values()]
        else:
            assert isinstance(node, Sequence)
            children = node.items
        node.size = 1 + sum(child.size for child in children)
        node.depth = 1 + max((child.depth for child in children), default=0)
        # Aliases make a small text an endless walk ("billion laughs"): the size counts them expanded.
        # Merge keys do the same before the outer size is known: the running total counts them.
        self._total += len(children)
        if max(node.size, self._total) > MAX_NODES:
            raise _Broken(f"has more than {MAX_NODES} values with its aliases expanded", node.line)
        if node.depth > MAX_DEPTH:
            raise _Broken(f"is nested more than {MAX_DEPTH} levels deep with its aliases expanded", node.line)
        return node

    def _fault(self, line: int, message: str, hint: str = "", key: str = "") -> None:
        """A problem at the place that is being read."""
        keys = [open_.key.text for open_ in self._open if open_.key is not None]
        path = ".".join(text for text in [*keys, key] if text)
        self.problems.append((line, path, message, hint))

    def _add(self, node: Node) -> None:
        if not self._open:
            self._root = node
            return
        open_ = self._open[-1]
        if isinstance(open_.node, Sequence):
            open_.node.items.append(node)
        elif isinstance(open_.node, Mapping):
            self._add_to_mapping(open_, open_.node, node)

    def _add_to_mapping(self, open_: _Open, mapping: Mapping, node: Node) -> None:
        if open_.key is None:
            if not isinstance(node, Scalar):
                self._fault(node.line, "a key must be a word, not a list or a mapping", _QUOTE)
                node = _BAD_KEY
            open_.key = node
            return
        key, open_.key = open_.key, None
        if key.kind == "merge":
            open_.merges.append((key.line, node))
        elif key is _BAD_KEY:
            pass  # reported above
        elif key.text in mapping.items:
            first = mapping.items[key.text][0]
            self._fault(
                key.line, f'the key "{key.text}" stands here twice', f"first on line {first}", key.text
            )
        else:
            mapping.items[key.text] = (key.line, node)

    def _merge(self, mapping: Mapping, merges: list[tuple[int, Node]]) -> None:
        if not merges:
            return
        merged: dict[str, tuple[int, Node]] = {}
        for line, node in merges:
            for source in node.items if isinstance(node, Sequence) else [node]:
                if not isinstance(source, Mapping):
                    self._fault(line, "<< takes a mapping or a list of mappings")
                    continue
                for key, value in source.items.items():
                    merged.setdefault(key, value)
        for key, value in merged.items():
            mapping.items.setdefault(key, value)


_BAD_KEY = Scalar("", "str", 0)
_QUOTE = 'text that begins with { is written in quotes: "{name} …"'


@dataclass
class _Open:
    """A list or mapping whose end has not come yet."""

    node: Node
    key: Scalar | None = None
    merges: list[tuple[int, Node]] = field(default_factory=list)


def _syntax(error: yaml.MarkedYAMLError) -> _Broken:
    """What PyYAML found, as one sentence with the two mistakes that are made most."""
    problem = (error.problem or "is not YAML").strip()
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else 0
    hint = ""
    if "mapping values are not allowed" in problem:
        hint = 'text that holds ": " is written in quotes'
    elif "flow" in (error.context or "") or "block mapping" in (error.context or ""):
        hint = _QUOTE
    elif "\\t" in problem or "cannot start any token" in problem:
        hint = "indent with spaces, and quote text that begins with a special character"
    context = f" {error.context}" if error.context else ""
    return _Broken(f"is not YAML{context}: {problem}", line, hint)
