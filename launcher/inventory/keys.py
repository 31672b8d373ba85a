"""The table of all keys of an inventory: what validates it, documents it and makes its JSON Schema.

A key that is not here is an error in a file. One source of truth: `entries` reads by these tables, `schema()`
prints them for editors, and a test holds docs/inventory.md against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.inventory.crossing import PATH_MAP, PUSH
from launcher.inventory.kinds import (
    BOOL,
    MACHINE,
    NAME,
    NAME_RULE,
    Key,
    Kind,
    Text,
    choice_kind,
    duration_kind,
    found,
    list_kind,
    map_kind,
    quoting_hint,
    read_keys,
    scalar,
    table_kind,
    text_kind,
    word_kind,
)
from launcher.inventory.provision import PROVISION
from launcher.inventory.report import Place, Report
from launcher.inventory.yamlnodes import Mapping as MappingNode
from launcher.inventory.yamlnodes import Node, Scalar
from launcher.model import Container

COMMAND = text_kind("a shell command", empty=False)
SCRIPT = text_kind("shell lines")
PATH = text_kind("a path", one_line=True, empty=False)
PROGRAM = word_kind(
    "the name or path of a program that runs `sh` lines, such as bash, sh, zsh or ksh",
    r"(?!-)(?!(.*/)?(fish|csh|tcsh|pwsh|nu)$)[^\s\x00-\x1f{}'\"$;&|<>]+",
)
SESSION = word_kind("a name for a tmux session, without . and :", r"(?![-=@$%])[^.:\x00-\x1f\x7f{}]{1,64}")
ENV = map_kind("variables as NAME: value", True, "a variable")
PARAMS = map_kind("parameters as name: value", False, "a parameter")
HOST_NAME = word_kind(f"a name ({NAME_RULE})", NAME.pattern.removesuffix(r"\Z"))
HOST_NAMES = list_kind("a list of names", HOST_NAME)
ANY_NAME = text_kind("a name", one_line=True, empty=False, replaced=False)
ANY_NAMES = list_kind("a list of names of processes", ANY_NAME)


def _table(*keys: Key) -> dict[str, Key]:
    return {key.name: key for key in keys}


SSH_KEYS = _table(
    Key("identity", PATH, "Private key file, on this machine."),
    Key("jump", ANY_NAME, "Machines to go through, separated by commas: as ssh -J, or hosts of this file."),
    Key("known_hosts", PATH, "File with the host keys that are accepted, on this machine.", "as ssh does"),
)

_CONTAINER = word_kind("the name of a container", r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_IMAGE = word_kind("the name of an image", r"[A-Za-z0-9][A-Za-z0-9_./:@-]*")
_USER = word_kind(
    "a user, or user:group, by name or number", r"[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_.-]+)?"
)
_WORKDIR = text_kind("a path", one_line=True, empty=False, replaced=False)
_ENGINE = choice_kind("docker", "podman")
_ARGUMENTS = list_kind("a list of options", text_kind("an option", replaced=False))
DOCKER_KEYS = _table(
    Key("container", _CONTAINER, "A container that exists."),
    Key("image", _IMAGE, "A container is made from this image for the lease and removed afterwards."),
    Key("run", _ARGUMENTS, "Options of docker run. With image only.", "[]"),
    Key("user", _USER, "Who runs the server inside, as docker exec --user.", "the container's user"),
    Key("workdir", _WORKDIR, "The server's working directory inside.", "the user's home"),
    Key("login", BOOL, "The host's shell reads its interactive rc file, as bash -i does.", "false"),
    Key("engine", _ENGINE, "What runs the container.", "docker"),
)


def _read_docker(node: Node, place: Place, report: Report) -> Container | None:
    if isinstance(node, Scalar):
        name = _CONTAINER.read(node, place, report)
        return None if name is None else Container(name=name)
    fields = read_keys(node, place, report, DOCKER_KEYS)
    if fields is None or not isinstance(node, MappingNode):
        return None
    if ("container" in node.items) == ("image" in node.items):
        report.add(place, "expected a container's name, {container: NAME} or {image: NAME, run: [options]}")
        return None
    if "run" in node.items and "image" not in node.items:
        report.add(place / "run", "options of docker run need an image")
        return None
    value = {name: field.value for name, field in fields.items()}
    run = tuple(option.value for option in value.get("run", ()))
    return Container(
        value.get("container"), value.get("image"), run, value.get("user"), value.get("workdir"),
        bool(value.get("login", False)), value.get("engine") or "docker",
    )  # fmt: skip


def _read_exclusive(node: Node, place: Place, report: Report) -> bool | str | None:
    if isinstance(node, Scalar) and node.kind == "bool":
        return bool(BOOL.read(node, place, report))
    expected = "true, false or the name of a resource"
    text = scalar(node, place, report, expected)
    if text is not None and not NAME.match(text):
        report.add(place, f"expected {expected}, {found(node)}", NAME_RULE)
        return None
    return text


READY_FORMS = "a shell command, {log: REGEX}, {port: NUMBER} or {file: PATH}"
_NUMBER = text_kind("a port (1 to 65535)", one_line=True, empty=False)
READY_KEYS = _table(
    Key("log", text_kind("an extended regular expression", one_line=True, empty=False), "A line it prints."),
    Key("port", Kind(_NUMBER.expected, _NUMBER.read, {"type": ["integer", "string"]}), "Somebody listens."),
    Key("file", PATH, "It exists, where the process runs."),
)


def _read_ready_check(node: Node, place: Place, report: Report) -> Text | Mapping[str, Text] | None:
    """A command as it is, or a mapping with one of READY_KEYS."""
    if not isinstance(node, MappingNode):
        text: Text | None = text_kind(READY_FORMS, empty=False).read(node, place, report)
        return text
    hint = quoting_hint(node)
    if hint:
        report.add(place, f"expected {READY_FORMS}, {found(node)}", hint)
        return None
    fields = read_keys(node, place, report, READY_KEYS)
    if fields is not None and len(node.items) != 1:
        report.add(place, f"expected {READY_FORMS}: one of them")
        return None
    return {name: field.value for name, field in fields.items()} if fields else None


def _object(keys: Mapping[str, Key], **more: Any) -> dict[str, Any]:
    """The JSON Schema of a mapping with these keys."""
    properties = {}
    for key in keys.values():
        inner = dict(key.kind.schema)
        if key.nullable:
            inner = {"anyOf": [inner, {"type": "null"}]}
        default = f" Default: {key.default}." if key.default else ""
        properties[key.name] = {**inner, "description": key.doc + default}
    required = [key.name for key in keys.values() if key.required]
    result: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**result, **({"required": required} if required else {}), **more}


SSH = table_kind("a mapping with identity, jump, known_hosts", SSH_KEYS, _object(SSH_KEYS))
DOCKER = Kind(
    "a container's name, {container: NAME} or {image: NAME, run: [options]}",
    _read_docker,
    {"anyOf": [{"type": "string"}, _object(DOCKER_KEYS)]},
)
READY_CHECK = Kind(
    READY_FORMS,
    _read_ready_check,
    {"anyOf": [COMMAND.schema, _object(READY_KEYS, minProperties=1, maxProperties=1)]},
)
EXCLUSIVE = Kind("true, false or the name of a resource", _read_exclusive, {"type": ["boolean", "string"]})


def _variants(name: Kind, keys: Mapping[str, Key]) -> Kind:
    """Read by `entries.read_variants`; here the table and the schema only."""
    choice = {"anyOf": [_object(keys), {"type": "null"}]}
    one = {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": choice}
    group = {"type": "array", "minItems": 1, "items": {"anyOf": [{"type": "string"}, one]}}
    schema = {
        "type": ["object", "null"],
        "propertyNames": {k: v for k, v in name.schema.items() if k == "pattern"},
        "additionalProperties": {"anyOf": [*choice["anyOf"], group]},
    }
    return Kind("variants as name: {keys}, or group: [choices]", lambda node, place, report: node, schema)


_PARAMS_KEY = Key("params", PARAMS, "Parameters while this variant is chosen; they win over all others.")
_SHELL_DOC = "Shell that runs setup."

_HOST_COMMON = (
    Key("machine", MACHINE, f"Where it runs: {'; '.join(['local', 'host', 'user@host', 'user@host:port'])}."),
    Key("ssh", SSH, "On top of ~/.ssh/config."),
    Key(
        "docker",
        DOCKER,
        "Container on the machine: its name, {container, …}, or {image, run, …}.",
        nullable=True,
    ),
    Key("shell", PROGRAM, _SHELL_DOC, "bash, or sh where there is none"),
    Key("setup", SCRIPT, "Shell lines before the server, such as source /opt/ros/jazzy/setup.bash."),
    Key("env", ENV, "Environment variables."),
    Key("push", PUSH, "Folders of this machine that are sent there before setup: scenario, or a list.", "[]"),
    Key("path_map", PATH_MAP, "Absolute paths here and what they are called there."),
    Key(
        "python",
        PATH,
        "Python that has the server; a leading ~ is expanded on the machine.",
        "what se-remote provision made, else python3",
    ),
    Key(
        "provision", PROVISION, "What se-remote provision installs; auto: a bring-up does it.", nullable=True
    ),
    Key(
        "server",
        COMMAND,
        "How the server is started; {server} is the default command.",
        "{server}",
    ),
    Key("depends", ANY_NAMES, "Processes and hosts that must be ready first.", "[]"),
    Key("exclusive", EXCLUSIVE, "One session at a time: true, or the name of what is shared.", "false"),
    Key(
        "lease",
        duration_kind(zero=False),
        "How long a session may live without hearing from its client.",
        "10s",
    ),
    Key("on_loss", choice_kind("stop", "continue"), "What actions do when the lease has ended.", "stop"),
    Key("on_stop", SCRIPT, "Command that brings the machine into a safe state."),
    Key("ready_timeout", duration_kind(zero=False), "How long the server may take until it answers.", "20s"),
)

HOST_VARIANT_KEYS = _table(_PARAMS_KEY, *_HOST_COMMON)
HOST_VARIANTS = _variants(HOST_NAME, HOST_VARIANT_KEYS)

HOST_KEYS = _table(
    *_HOST_COMMON,
    Key("aliases", HOST_NAMES, "Further names.", "[]"),
    Key("variants", HOST_VARIANTS, "Flags and groups of choices that change the other keys."),
)
HOST_KEYS["machine"] = Key("machine", MACHINE, HOST_KEYS["machine"].doc, required=True)
LOCAL_KEYS = {**HOST_KEYS, "machine": HOST_VARIANT_KEYS["machine"]}
"""The host `local` exists without a file, so its entry need not say where it is."""

_PROCESS_COMMON = (
    Key("cmd", COMMAND, "Shell command. In a variant, {cmd} is the command without it."),
    Key("ready_check", READY_CHECK, f"When it is ready: {READY_FORMS}.", nullable=True),
    Key(
        "ready_timeout",
        duration_kind(zero=True),
        "How long it may take until it is ready; 0 = for ever.",
        "60s; of a one-shot 0",
    ),
    Key("depends", ANY_NAMES, "Processes and hosts that must be ready first.", "[]"),
    Key("env", ENV, "Environment variables, on top of the host's."),
)
PROCESS_VARIANT_KEYS = _table(_PARAMS_KEY, *_PROCESS_COMMON)
PROCESS_VARIANTS = _variants(ANY_NAME, PROCESS_VARIANT_KEYS)

PROCESS_KEYS = _table(
    *_PROCESS_COMMON,
    Key("host", HOST_NAME, "Host of this file whose machine, ssh, docker, shell, setup and env it has."),
    Key("machine", MACHINE, "Where it runs, instead of host.", "local", nullable=True),
    Key("ssh", SSH, "With machine: on top of ~/.ssh/config."),
    Key("docker", DOCKER, "With machine: container on it.", nullable=True),
    Key("shell", PROGRAM, _SHELL_DOC, "the host's"),
    Key("setup", SCRIPT, "Shell lines before the command.", "the host's"),
    Key("login", BOOL, "It has what the interactive rc file of its shell sets.", "that of the container"),
    Key("persistent", BOOL, "false: a one-shot, done when it exits.", "true"),
    Key("session", SESSION, "tmux session.", "that of context", nullable=True),
    Key("force_sigquit", BOOL, "Stop it by SIGQUIT at once.", "false"),
    Key("show_ui", BOOL, "Whether user interfaces list it.", "true"),
    Key("variants", PROCESS_VARIANTS, "Flags and groups of choices that change the other keys."),
)
PROCESS_KEYS["cmd"] = Key("cmd", COMMAND, PROCESS_KEYS["cmd"].doc, required=True)

CONTEXT_KEYS = _table(
    Key("session", SESSION, "tmux session for what this file starts.", "se-remote", nullable=True),
    Key("params", PARAMS, "Parameters: {name} is replaced in commands, env and paths."),
)

_CONTEXT = {
    **_object(CONTEXT_KEYS),
    "patternProperties": {r"^\.": {}},
    "description": "Session and parameters.",
}
_HOSTS = {
    "type": ["object", "null"],
    "description": "Hosts by name.",
    "propertyNames": {"pattern": HOST_NAME.schema["pattern"]},
    "properties": {"local": _object(LOCAL_KEYS)},
    "additionalProperties": _object(HOST_KEYS),
}
_PROCESSES = {
    "type": ["object", "null"],
    "description": "Processes by name.",
    "additionalProperties": _object(PROCESS_KEYS),
}

FILE_KEYS: Mapping[str, Mapping[str, Any]] = {"context": _CONTEXT, "hosts": _HOSTS, "processes": _PROCESSES}


def schema() -> dict[str, Any]:
    """A JSON Schema (draft 2020-12) of an inventory, in our form or in concert_launcher's."""
    dots: dict[str, Any] = {r"^\.": {}}
    ours = {"properties": dict(FILE_KEYS), "patternProperties": dots, "additionalProperties": False}
    theirs = {
        "properties": {"context": _CONTEXT},
        "patternProperties": dots,
        "additionalProperties": _object(PROCESS_KEYS),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "se-remote inventory",
        "type": "object",
        "if": {"anyOf": [{"required": ["hosts"]}, {"required": ["processes"]}]},
        "then": ours,
        "else": theirs,
    }


__all__ = ["Text", "schema"]
