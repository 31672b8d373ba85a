# ruff: noqa: E501 - scenarios, as they are written
"""The cases of test_equivalence.py: scenarios in which REMOTE stands for the modifier.

Locally REMOTE is `here()`, which changes nothing; remotely it is `remote("address")`. REMOTE_NOBODY is a
`remote` at an address where nobody is, REMOTE_OF(where) one at the parameter `where`. A case is the text of
a scenario's members: what stands before `do`, and what stands in its `do serial:`.
"""

from __future__ import annotations

import textwrap

HEAD = "import osc.helpers\nimport osc.remote\nimport osc.eq\n\n"


def scenario(name: str, body: str, members: str = "") -> str:
    """A whole scenario. It ends by itself; a timeout is there so that a mistake does not hang the test."""
    text = f"scenario {name}:\n    timeout(30s)\n"
    if members:
        text += textwrap.indent(textwrap.dedent(members).strip("\n"), "    ") + "\n"
    return text + "    do serial:\n" + textwrap.indent(textwrap.dedent(body).strip("\n"), "        ") + "\n\n"


def each(actions: str) -> str:
    """Every line an action with REMOTE; one that ends with ` #` stays without."""
    lines = [line.strip() for line in actions.strip().splitlines()]
    return "".join(
        line.removesuffix(" #") + "\n" if line.endswith(" #") else f"{line} with:\n    REMOTE\n"
        for line in lines
    )


_ALL = """
    var i: int = -7
    var u: uint = 8
    var f: float = 2.25
    var b: bool = true
    var z: string = 'grüße'
    var l: length = 3km
    var t: time = 20ms
    var e: colour = colour!red
    var p: place
    var j: journey
    var n: list of int = [1, 2, 3]
    var w: list of string = ['a', 'b']
    var q: list of place
"""
_NAMES = "iufbzltepjnwq"

CASES: dict[str, tuple[str, str]] = {}


def _case(name: str, body: str, members: str = "") -> None:
    CASES[name] = (body, members)


# --- the base library

_case("base_log", each("log('one')\nlog(msg: 'two')"))
_case("base_process", each("run_process('true')\nrun_process('echo words')"))
_case("base_process_fails", each("run_process('false')"))
_case("base_process_unknown", each("run_process('no-such-command-here')"))
_case("base_process_ends_with_the_scenario", each("run_process('sleep 600.875', wait_for_shutdown: false)"))
_case("base_compare", each("compare('a', '==', 'a')\ncompare('1', '<', '2')\ncompare('a', '!=', 'b')"))
_case("base_compare_fails", each("compare('a', '==', 'b')"))
_case(
    "base_count_up_and_down",
    each(
        "increment(x)\nincrement(x)\ndecrement(x)\neq_ref(x, 'get') #\ncompare(x, '==', 4)\ncompare(x, '<', y)\neq_ref(y, 'get') #"
    ),
    "var x: int = 3\nvar y: float = 4.5",
)
_case(
    "base_count_on_both_sides",
    each(
        "increment(x)\nincrement(x) #\nincrement(x)\neq_ref(x, 'get') #\neq_ref(x, 'get')\ncompare(x, '==', 6) #"
    ),
    "var x: int = 3",
)
_case(
    "base_log_check_there",
    """
    parallel:
        noise: run_process('sh noise.sh') with:
            REMOTE
        serial:
            process_log_check('noise', ['second']) with:
                REMOTE
            process_log_check('noise', ['first']) with:
                REMOTE
    """,
)
_case(
    "base_log_check_here_of_a_process_there",
    """
    parallel:
        noise: run_process('sh noise.sh') with:
            REMOTE
        serial:
            process_log_check('noise', ['second'])
            process_log_check('noise', ['first'])
    """,
)
_case(
    "base_log_check_of_what_is_not_said",
    """
    serial:
        noise: run_process('echo words') with:
            REMOTE
        process_log_check('noise', ['first'])
    """,
)
_case(
    "base_log_check_of_nobody",
    each("process_log_check('nobody', ['x'])"),
)
_case(
    "base_log_check_from_now_on",
    """
    parallel:
        noise: run_process('sh noise.sh') with:
            REMOTE
        serial:
            process_log_check('noise', ['first'])
            process_log_check('noise', ['first'], from_start: false) with:
                failure_is_success()
    """,
)

# --- variables

_case("var_read_every_type", each("\n".join(f"eq_ref({n}, 'get')" for n in _NAMES)), _ALL)
_case("var_as_argument", each("\n".join(f"eq_show(first: 'x', second: {n})" for n in _NAMES)), _ALL)
# The ~ is a quotation mark: OSC strings hold none.
_SETS = {
    "i": "12",
    "u": "3",
    "f": "-0.5",
    "b": "False",
    "z": "~it is ü~",
    "l": "1e3",
    "t": "0.25",
    "e": "(~green~, 5)",
    "p": "{~x~: 1.0, ~y~: 2.0, ~label~: ~z~}",
    "j": "{~begin~: {~x~: 0.0, ~y~: 0.0, ~label~: ~~}, ~stops~: 1}",
    "n": "[3, 2, [1]]",
    "w": "[]",
    "q": "None",
}
_case(
    "var_set_every_type",
    each(
        "\n".join(
            f"eq_ref({n}, 'set {value}')\neq_ref({n}, 'get') #\nlog({n}) #\neq_ref({n}, 'get')"
            for n, value in _SETS.items()
        )
    ),
    _ALL,
)
_case(
    "var_changed_in_place",
    each(
        """
        eq_ref(n, 'append 4')
        eq_ref(n, 'get') #
        eq_ref(n, 'append 5') #
        eq_ref(n, 'get')
        eq_ref(p, 'put (~x~, 9)')
        eq_ref(p, 'get') #
        eq_ref(p, 'put (~y~, 8)') #
        eq_ref(p, 'get')
        """
    ),
    _ALL,
)
_case(
    "var_enum_compares_as_a_tuple",
    each("compare(e, '==', colour!red)\neq_ref(e, 'set (~green~, 5)')\ncompare(e, '==', colour!green) #"),
    _ALL,
)
_case(
    "var_struct_member_and_parameter",
    each("eq_show(first: a.label, second: a.x)\neq_show(first: k, second: a)"),
    "a: place with:\n    keep(it.x == 4m)\nk: int = 5",
)
_case(
    "var_set_over_several_updates",
    """
    parallel:
        eq_ref(x, 'ramp 4') with:
            REMOTE
        wait x >= 3
    eq_ref(x, 'get')
    """,
    "var x: int = 0",
)
_case(
    "var_waited_for_there_set_here",
    """
    parallel:
        eq_ref(x, 'wait 2') with:
            REMOTE
        serial:
            increment(x)
            wait elapsed(0.3s)
            increment(x)
    """,
    "var x: int = 0",
)
_case(
    "var_set_by_a_callback_after_the_end",
    """
    eq_ref(x, 'later 17') with:
        REMOTE
    wait x == 17
    eq_ref(x, 'get')
    """,
    "var x: int = 0",
)
_case(
    "var_in_two_at_once",
    """
    parallel:
        increment(x) with:
            REMOTE
        increment(x) with:
            REMOTE
        increment(x)
        increment(x) with:
            REMOTE
    eq_ref(x, 'get')
    """,
    "var x: int = 0",
)
_case(
    "var_in_a_modifier_and_a_condition",
    """
    serial:
        repeat(3)
        increment(x) with:
            REMOTE
        eq_ref(x, 'get')
    eq_count(100000) with:
        REMOTE
        until x == 3
    """,
    "var x: int = 0",
)

# --- actors and context

_case(
    "actor_variables",
    each("bot.eq_mood(2)\nbot.eq_mood(3) #\nbot.eq_mood(4)\nbot.eq_tell() #\nbot.eq_tell()"),
    "bot: robot_eq with:\n    keep(it.wheels == 6)",
)
_case(
    "actor_two_of_a_kind",
    each("left.eq_mood(10)\nright.eq_mood(20)\nleft.eq_tell() #\nright.eq_tell()"),
    "left: robot_eq\nright: robot_eq",
)
_case("context", each("eq_context()\nnamed: eq_context()"))
_case(
    "args_of_every_type",
    each(
        "eq_args(spot: place(x: 3m, label: 'p'), names: ['a', 'b'], colour: colour!green, places: [place(y: 1m)])\n"
        "eq_args(spot: place(x: 0m), names: ['ü'], colour: colour!red, amount: 2.0, flag: false, number: 7, span: 2s,"
        " places: [place(label: 'q')])"
    ),
)

# --- subtrees

_case(
    "subtree",
    each("eq_twice('word', x)\neq_ref(x, 'get') #\neq_twice('word', x)\neq_ref(x, 'get') #"),
    "var x: int = 0",
)
_case("subtree_fails", each("eq_twice('fail', x)"), "var x: int = 0")
_case(
    "subtree_cancelled",
    """
    eq_processes('sleep 600.625') with:
        failure_is_success()
        timeout(0.4s)
        REMOTE
    """,
)
_case("subtree_with_a_process", each("eq_processes('echo hello')"))

# --- modifiers, before and after

_INSTANT, _LONG = "eq_count(1)", "eq_count(100000)"
_MODIFIERS = {
    "inverter": ("run_process('false')", "inverter()"),
    "repeat": ("eq_count(2)", "repeat(3)"),
    "retry": ("eq_flaky(2)", "retry(4)"),
    "retry_in_vain": ("eq_flaky(5)", "retry(2)"),
    "timeout_fires": (_LONG, "timeout(0.4s)"),
    "timeout_does_not": ("eq_count(2)", "timeout(20s)"),
    "failure_is_success": ("run_process('false')", "failure_is_success()"),
    "running_is_failure": (_LONG, "running_is_failure()"),
    "running_is_success": (_LONG, "running_is_success()"),
    "success_is_failure": (_INSTANT, "success_is_failure()"),
}
for _name, (_action, _modifier) in _MODIFIERS.items():
    _case(f"modifier_{_name}_before", f"{_action} with:\n    {_modifier}\n    REMOTE\n")
    _case(f"modifier_{_name}_after", f"{_action} with:\n    REMOTE\n    {_modifier}\n")
for _name, _action in {"failure_is_running": "run_process('false')", "success_is_running": _INSTANT}.items():
    for _place, _lines in {"before": f"{_name}()\n    REMOTE", "after": f"REMOTE\n    {_name}()"}.items():
        _case(f"modifier_{_name}_{_place}", f"{_action} with:\n    {_lines}\n    until elapsed(0.4s)\n")
_case("modifier_several", "eq_flaky(1) with:\n    inverter()\n    REMOTE\n    inverter()\n    retry(2)\n")

# --- where remote stands

_case(
    "on_serial",
    "serial:\n    REMOTE\n    log('a')\n    eq_count(2)\n    increment(x)\neq_ref(x, 'get')\n",
    "var x: int = 0",
)
_case("on_parallel", "parallel:\n    REMOTE\n    log('a')\n    eq_count(2)\n    wait elapsed(0.2s)\n")
_case("on_one_of", "one_of:\n    REMOTE\n    eq_cancellable()\n    eq_count(3)\n")
_case("on_scenario", "log('a')\neq_count(2)\nincrement(x)\neq_ref(x, 'get')\n", "REMOTE\nvar x: int = 0")
_case(
    "on_nested",
    "serial:\n    REMOTE\n    parallel:\n        eq_count(2)\n        serial:\n            eq_count(1) with:\n"
    "                inverter()\n                inverter()\n",
)
_case(
    "two_remotes",
    "serial:\n    REMOTE\n    log('a') with:\n        REMOTE\n    eq_count(2) with:\n        REMOTE\n        REMOTE\n",
)
_case(
    "the_innermost_remote_wins",
    "serial:\n    REMOTE_NOBODY\n    log('a') with:\n        REMOTE\n    parallel:\n        REMOTE\n        eq_count(2)\n",
)
_case("remote_of_a_parameter", "log('a') with:\n    REMOTE_OF(where)\n", "where: string = 'ADDRESS'")

# --- events, ends, repetition

_case(
    "events",
    """
    parallel:
        serial:
            wait @go
            eq_count(2) with:
                REMOTE
            emit gone
        serial:
            eq_count(2) with:
                REMOTE
            emit go
            wait @gone
    """,
    "event go\nevent gone",
)
_case("until_elapsed", "eq_cancellable() with:\n    REMOTE\n    until elapsed(0.3s)\n")
_case("until_it_ends", "eq_count(2) with:\n    REMOTE\n    until elapsed(20s)\n")
_case("emit_end", "parallel:\n    eq_cancellable() with:\n        REMOTE\n    emit end\n")
_case("emit_fail", "parallel:\n    eq_cancellable() with:\n        REMOTE\n    emit fail\n")
_case(
    "again_after_a_failure",
    "serial:\n    retry(3)\n    log('try') with:\n        REMOTE\n    eq_flaky(1) with:\n        REMOTE\n",
)
_case(
    "again_and_again",
    "serial:\n    repeat(3)\n    eq_count(2) with:\n        REMOTE\n    run_process('true') with:\n        REMOTE\n",
)
_case(
    "again_after_a_cancel",
    "serial:\n    repeat(2)\n    eq_cancellable() with:\n        REMOTE\n        until elapsed(0.25s)\n",
)
_case(
    "one_of_cancels_the_others",
    "one_of:\n    run_process('sleep 600.375') with:\n        REMOTE\n    eq_count(3) with:\n        REMOTE\n",
)
_case("returns_invalid", "eq_trouble('update', 'invalid') with:\n    REMOTE\n    until elapsed(0.5s)\n")
_case("returns_none", "eq_trouble('update', 'none') with:\n    REMOTE\n    until elapsed(0.5s)\n")
_case("returns_failure", each("eq_trouble('update', 'failure')"))
_case("labels", each("first: log('a')\nsecond: eq_count(2)\nlog('b')"))
