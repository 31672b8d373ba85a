"""`se-remote completion bash|zsh|fish`: prints the script that has a shell complete `se-remote`.

The scripts know nothing of our commands: they hand the line over to `se-remote __complete` and show its
answer, so they stay right when commands are added. They go by the program that stands in the line, so each
virtual environment completes its own.
"""

from __future__ import annotations

import argparse
from typing import Final

from launcher.cli.output import Output

BASH: Final = r"""# bash: eval "$(se-remote completion bash)"
_se_remote() {
    local kind line answer=() breaks=${COMP_WORDBREAKS//[^=:]/}
    local up_to=${COMP_LINE:0:COMP_POINT}
    local quote=${COMP_WORDS[COMP_CWORD]:0:1}
    case $quote in [\'\"]) breaks= ;; *) quote= ;; esac
    COMPREPLY=()
    while IFS= read -r line; do answer+=("$line"); done \
        < <("$1" __complete line "$breaks" "$up_to" 2>/dev/null)
    [ "${#answer[@]}" -gt 0 ] || return 0
    kind=${answer[0]}
    case $kind in
        files) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$2"); return 0 ;;
        dirs) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$2"); return 0 ;;
        command*) mapfile -t COMPREPLY < <(compgen -c -- "$2"; compgen -f -- "$2"); return 0 ;;
        nospace) compopt -o nospace ;;
    esac
    for line in "${answer[@]:1}"; do
        line=${line%%$'\t'*}
        # in an open quote the shell puts the word in as it is
        if [ -n "$quote" ]; then COMPREPLY+=("$line"); else COMPREPLY+=("$(printf '%q' "$line")"); fi
    done
}
complete -F _se_remote se-remote
"""

ZSH: Final = r"""#compdef se-remote
# zsh: eval "$(se-remote completion zsh)" behind compinit; or as a file _se-remote in a folder of $fpath
_se_remote() {
    local -a answer values shown
    local line kind
    local -a before=("${(@Q)words[1,CURRENT-1]}")
    answer=("${(@f)$("$before[1]" __complete words "${(@)before}" "${(Q)PREFIX}" 2>/dev/null)}")
    kind=${answer[1]}
    case $kind in
        files) _files; return ;;
        dirs) _files -/; return ;;
        command*)
            local -i at=${kind#command }
            shift $at words; (( CURRENT -= at )); _normal; return ;;
    esac
    for line in "${(@)answer[2,-1]}"; do
        [[ -n $line ]] || continue
        values+=("${line%%$'\t'*}")
        shown+=("${line%%$'\t'*}  ${${line#*$'\t'}#${line%%$'\t'*}}")
    done
    (( $#values )) || return 1
    if [[ $kind = nospace ]]; then compadd -S '' -l -d shown -- "${values[@]}"
    else compadd -l -d shown -- "${values[@]}"; fi
}
if [ "${funcstack[1]}" = _se-remote ]; then _se_remote "$@"; else compdef _se_remote se-remote; fi
"""

FISH: Final = r"""# fish: se-remote completion fish | source; or > ~/.config/fish/completions/se-remote.fish
function __se_remote_complete
    set -l before (commandline -opc)
    set -l typed (commandline -ct)
    set -l current (string unescape -- "$typed"; or string unescape -- "$typed\""
        or string unescape -- "$typed'")
    set -l answer (command $before[1] __complete words $before "$current" 2>/dev/null)
    switch "$answer[1]"
        case files
            __fish_complete_path "$current"
        case dirs
            __fish_complete_directories "$current" ''
        case 'command*'
            set -e before[1..(string split ' ' -- $answer[1])[2]]
            complete -C (string join ' ' -- (string escape -- $before) "$current")
        case '*'
            test (count $answer) -gt 1; and printf '%s\n' $answer[2..-1]
    end
end
complete -c se-remote -f -a '(__se_remote_complete)'
"""

SCRIPTS: Final = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def run(args: argparse.Namespace) -> int:
    """Prints the script."""
    Output().result(SCRIPTS[args.shell].rstrip("\n"))
    return 0
