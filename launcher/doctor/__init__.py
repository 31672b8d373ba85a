"""What can be wrong with a host, found before a scenario finds it: facts there → findings here.

    script      the one POSIX sh script that gathers the facts of a machine and its hosts
    gathering   runs it: one exec per machine                        (async, through a Runner)
    reading     its framed reply → MachineFacts, HostFacts           (pure)
    rules_*     facts → findings, each with cause and cure           (pure)
    checklist   the rules in order, and what a trial adds            (pure)

Nothing here prints, and only `gathering` talks to a machine. `launcher.cli.doctor` is the command.
"""
