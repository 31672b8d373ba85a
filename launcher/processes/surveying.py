"""Shell functions that read the small files of many runs at once: what each says, and whether it lives.

A shell reads a file byte by byte, a call of the system each: the few files of a process and the line of its
wrapper in /proc cost it more than an awk costs that reads those of a hundred processes.
"""

from __future__ import annotations

from typing import Final

_READING: Final = r"""
function first(path,   line) {
  line = ""; there = (getline line < path) >= 0; close(path)
  return line
}
function quoted(text,   part, n, i, out) {
  n = split(text, part, quote); out = part[1]
  for (i = 2; i <= n; i++) out = out quote "\\" quote quote part[i]
  return quote out quote
}
function set(name, text) { print name "=" quoted(text) }
function alive(pid, start, life,   line, part) {
  if (pid !~ /^[0-9]+$/ || life != boot) return 0
  line = first("/proc/" pid "/stat"); sub(/^.*\) /, "", line); split(line, part, " ")
  return line != "" && part[1] !~ /[ZXx]/ && part[20] == start
}
BEGIN {
  boot = ENVIRON["boot"]; quote = sprintf("%c", 39)
  names = split("htoken hhash hby hwhat hlease hbox hname hkeep hbegan", name, " ")
  for (i = 1; i < ARGC; i++) {
    run = ARGV[i]; plain = "yes"
    print "seen_" i "() {"
    for (n = 1; n <= names; n++) {
      line = ""
      if ((getline line < (run "/about")) <= 0) plain = ""
      set(name[n], line)
    }
    close(run "/about")
    split("", word); split(first(run "/wrapper"), word, " ")
    set("wpid", word[1]); set("wstart", word[2]); set("wlife", word[3])
    if (word[4] != "" || !alive(word[1], word[2], word[3])) plain = ""
    split("", word); split(first(run "/state"), word, " "); set("hstate", word[1])
    line = first(run "/exit"); split("", word)
    if (there) plain = ""
    if (split(line, word, " ") >= 3) {
      set("hcode", word[1]); set("hsig", word[2]); set("hwhen", word[3])
    } else print "hcode=-; hsig=0; hwhen="
    first(run "/stopping"); if (there) plain = ""
    set("plain", plain)
    print "}"
  }
}
"""

SURVEY: Final = (
    "surveying='"
    + _READING
    + "'"
    + r"""
survey() {
  set --
  for key in $keys; do set -- "$@" "$root/$key"; done
  [ "$#" = 0 ] || eval "$(boot=$boot LC_ALL=C $awk "$surveying" "$@")"
}
tell_later() {
  told="$told${told:+$newline}c $1 $2 $3 - 0 $epoch "
  [ "${#told}" -lt 3000 ] || tell_now
}
tell_now() { [ -z "$told" ] || tell_all "$told"; told=; }
"""
)
"""`survey` reads the runs of $keys; then `seen_1`, `seen_2`, … set what `about`, `wrapped`, `stated` set of
the first, the second, …, and $plain: it runs, and nobody ends it.

`tell_later KEY TOKEN STATE`, of many, then `tell_now`: written at once, in pieces that a fifo takes whole."""
