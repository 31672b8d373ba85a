"""What a run would do, in words: the order, and the exact commands with where they run. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from launcher import command
from launcher.model import Container, ProcessSpec
from launcher.plan import slug
from launcher.processes.graph import Item, Stack


def lines(stack: Stack) -> Iterator[str]:
    """A paragraph for each item, in the order in which they start; those of one number start together."""
    for number, names in enumerate(stack.levels(), 1):
        for name in names:
            yield from _item(number, stack.items[name])


def _item(number: int, item: Item) -> Iterator[str]:
    spec = item.spec
    box = f", in {_container(spec.docker)}" if spec.docker is not None else ""
    yield f"{number}. {spec.name}  on {spec.machine}{box}"
    if item.depends:
        yield f"     after   {', '.join(item.depends)}"
    if isinstance(spec, ProcessSpec):
        yield from _process(item, spec)
    else:
        yield "     server  is started if none is up, and kept up"
        yield from _block("setup", spec.setup)


def _process(item: Item, spec: ProcessSpec) -> Iterator[str]:
    yield f"     window  {slug(item.name)} of session {spec.session}"
    yield from _block("setup", spec.setup)
    yield from _block(
        "env", "\n".join(f"{name}={command.quote([value])}" for name, value in spec.env.items())
    )
    yield from _block("run", command.quote(_words(spec)))
    check = spec.ready_check
    within = f"within {spec.ready_timeout:g} s" if spec.ready_timeout else "however long it takes"
    if not spec.persistent:
        yield f"     ready   when it has ended with exit code 0, {within}"
    elif check is None:
        yield "     ready   as soon as it runs"
    elif check.command:
        yield from _block("ready", check.command)
        yield f"             exits with 0, {within}"
    else:
        what = (
            f"a line of its output matches {check.log}" if check.log
            else f"somebody listens on port {check.port}" if check.port
            else f"{check.file} exists"
        )  # fmt: skip
        yield f"     ready   when {what}, {within}"


def _words(spec: ProcessSpec) -> list[str]:
    """Its command as words. Where the rc file counts it has been read before, once for the machine."""
    shell = spec.shell or "bash"
    words = [shell, "-ic" if spec.login else "-c", spec.cmd]
    box = spec.docker
    if box is None:
        return words
    options = [
        *(["--user", box.user] if box.user else []),
        *(["--workdir", box.workdir] if box.workdir else []),
    ]
    return [box.engine, "exec", *options, box.name or f"({box.image})", *words]


def _container(box: Container) -> str:
    return f"container {box.name}" if box.name else f"a container made from {box.image}"


def _block(title: str, text: str) -> Iterator[str]:
    for index, line in enumerate(text.strip("\n").splitlines()):
        yield f"     {title if index == 0 else '':<7} {line}"
