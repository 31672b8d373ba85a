"""Shell functions that take what the interactive rc file of a shell gives: variables, aliases, functions.

Part of the agent. Once for each shell while an agent lives, however many processes want it.
"""

from __future__ import annotations

from typing import Final

LOGIN: Final = r"""
snapshot_file() {
  printf '%s/.login.%s.%s' "$root" "${login_id:-$$}" "$(printf '%s' "$shells" | tr -c 'A-Za-z0-9_-' _)"
}
snapshots() {
  i=0
  while [ "$i" -lt "$1" ]; do
    i=$((i + 1)); "item_$i"
    [ -z "$login" ] || [ -n "$boxed" ] || snapshot "$(snapshot_file)"
  done
}
snapshot() {
  [ ! -e "$1" ] || return 0
  if (set -C; true >"$1.begun") 2>/dev/null; then take "$1"
  else
    tries=0
    until [ -e "$1" ] || [ ! -e "$1.begun" ] || [ "$tries" -ge 800 ]; do nap; tries=$((tries + 1)); done
    [ -e "$1" ] || { rm -f "$1.begun"; snapshot "$1"; }
  fi
}
take() {
  for choice in $shells; do
    case $choice in '~'*) choice=$HOME${choice#\~} ;; esac
    command -v "$choice" >/dev/null 2>&1 && break
    choice=
  done
  if [ -z "$choice" ]; then
    rm -f "$1.begun"
    fail shell "there is no shell $shells on this machine" "install it, or set \`shell\`"
  fi
  case ${choice##*/} in
    bash) code=$bash_snapshot ;;
    zsh) code=$zsh_snapshot ;;
    *) code=$sh_snapshot ;;
  esac
  ( [ "$umask" = "" ] || umask "$umask"; cd "$HOME" 2>/dev/null || cd /
    SE_REMOTE_SNAPSHOT=$1.taken; export SE_REMOTE_SNAPSHOT
    exec "$choice" -i -c "$code" </dev/null >"$1.said" 2>&1 3>&- ) &
  taking=$!
  ( count=0
    while [ "$count" -lt 20 ]; do sleep 1; count=$((count + 1)); done
    kill -KILL "$taking" ) >/dev/null 2>&1 3>&- &
  limiting=$!
  wait "$taking"; code=$?
  kill -0 "$limiting" 2>/dev/null && limit= || limit=yes
  { kill -KILL "$limiting"; wait "$limiting"; } 2>/dev/null
  if [ -e "$1.taken" ]; then mv "$1.taken" "$1"; rm -f "$1.begun" "$1.said"; return 0; fi
  said=$(grep -v -e 'cannot set terminal process group' -e 'no job control' "$1.said" |
    tail -n 3 | tr '\n' ' ')
  rm -f "$1.begun" "$1.said"
  [ -z "$limit" ] || fail shell "the rc file of $choice does not end within 20 s" "$choice -i -c true"
  fail shell "the rc file of $choice ended the shell (exit code $code) $said" "$choice -i -c true"
}
"""
"""`login`: what the interactive rc file of a shell gives, taken once while the agent lives; each run folder
has a link to it, since checks read it after the agent has gone."""

SNAPSHOTS: Final = {
    "bash_snapshot": r"""
set +eu
{
  # extglob before the functions: bash could not read those of bash-completion without
  shopt -p | grep -v -e expand_aliases -e login_shell -e restricted_shell
  for se_remote_name in $(compgen -v); do
    case $se_remote_name in
      BASH|BASH_*|BASHOPTS|BASHPID|SHELLOPTS|EUID|UID|PPID|GROUPS|_|FUNCNAME|DIRSTACK|COMP_*) continue ;;
      PIPESTATUS|RANDOM|SRANDOM|SECONDS|EPOCH*|LINENO|HIST*|OPT*|PWD|OLDPWD|SHLVL|PS[0-9]) continue ;;
      COLUMNS|LINES|SE_REMOTE_*) continue ;;
      se_remote_*|PROMPT_*|MAILCHECK|TERM|TMUX*|IFS) continue ;;
    esac
    declare -p "$se_remote_name"
  done
  declare -f
  shopt -p expand_aliases
  alias -p
} >"$SE_REMOTE_SNAPSHOT.new" 2>/dev/null
mv "$SE_REMOTE_SNAPSHOT.new" "$SE_REMOTE_SNAPSHOT"
exit 0
""",
    "zsh_snapshot": r"""
{
  export -p | grep -v -e '^export SHLVL=' -e '^export _=' -e '^export PWD=' -e '^export SE_REMOTE_'
  typeset -f
  alias -L
} >"$SE_REMOTE_SNAPSHOT.new" 2>/dev/null
mv "$SE_REMOTE_SNAPSHOT.new" "$SE_REMOTE_SNAPSHOT"
exit 0
""",
    "sh_snapshot": r"""
{
  export -p | grep -v -e '^[a-z]* -*[a-z]* *PWD=' -e '^[a-z]* -*[a-z]* *SE_REMOTE_'
  alias | sed 's/^alias //; s/^/alias /'
} >"$SE_REMOTE_SNAPSHOT.new" 2>/dev/null
mv "$SE_REMOTE_SNAPSHOT.new" "$SE_REMOTE_SNAPSHOT"
exit 0
""",
}
"""Options, variables, functions, then aliases: those would change the functions when they are read."""
