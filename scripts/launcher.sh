#!/bin/sh
# Starts @NAME@ (Latchkey) and becomes it: this shell replaces itself, no second process stays. Written by
# scripts/build.mjs from scripts/launcher.sh; why a shell: docs/decisions/0003-launcher.md. In the usual case nothing
# but builtins runs before Node: each fork would be a millisecond that every ssh-add waits for.
latchkey_home=@HOME@
latchkey_node=@NODE@

latchkey_main=$latchkey_home/dist/@NAME@.cjs
if [ -z "$latchkey_home" ] || ! [ "$0" -ef "$latchkey_home/bin/@NAME@" ]; then
  # Not where it was built: moved, copied or installed. The folder beside the real file comes first.
  case $0 in */*) latchkey_self=$0 ;; *) latchkey_self=./$0 ;; esac
  latchkey_self=$(PATH=/usr/bin:/bin && readlink -f -- "$latchkey_self")
  latchkey_self=${latchkey_self%/*}
  if [ -f "${latchkey_self%/*}/dist/@NAME@.cjs" ]; then latchkey_main=${latchkey_self%/*}/dist/@NAME@.cjs; fi
fi
if ! [ -f "$latchkey_main" ]; then
  echo "@NAME@: $latchkey_main is missing: run \"npm run build\" in Latchkey's folder" >&2
  exit 127
fi

# A command that we start gets what a C program would hand on. Kept here is what shells or Node lose of it: entries
# without a shell name, and those that shells set; which descriptors are open (Node marks the first 16 and their
# followers close-on-exec), the limit of open files (it raises that) and the signals that are ignored or blocked.
unset LATCHKEY_KEPT_ENTRIES LATCHKEY_KEPT_STATE LATCHKEY_KEPT_DESCRIPTORS LATCHKEY_KEPT_WORDS
latchkey_title=--title=@NAME@
latchkey_command=no
latchkey_plain=yes
for latchkey_word in "$@"; do
  case $latchkey_word in @COMMAND_PATTERN@) latchkey_command=yes ;; esac
  case $latchkey_word in *[!\ -~]*) latchkey_plain=no ;; esac
done
if [ $latchkey_command = yes ] && [ -r /proc/$$/environ ]; then
  latchkey_fds=
  for latchkey_word in /proc/$$/fdinfo/*; do
    latchkey_name=${latchkey_word##*/}
    # The listing may name what it was read with, closed by now.
    case $latchkey_name in [012] | *[!0-9]*) continue ;; esac
    if ! [ -r "$latchkey_word" ] || [ /proc/$$/fd/$latchkey_name -ef "$0" ]; then continue; fi
    { read -r latchkey_flags && read -r latchkey_flags; } <"$latchkey_word"
    # Octal: 2000000 is O_CLOEXEC. Shells set it on what is theirs; dash forgets that for its script where 3 to 9 are open.
    case $latchkey_flags in *[2367]??????) ;; flags:*) latchkey_fds="$latchkey_fds $latchkey_name" ;; esac
  done
  if [ ${#latchkey_fds} -lt 100000 ]; then # Linux takes no variable of 128 KiB or more
    export LATCHKEY_KEPT_DESCRIPTORS="$latchkey_fds"
  fi
  # Signals are those of a child: shells have handlers, and bash ignores SIGQUIT, but for themselves alone.
  if latchkey_word=$(
    export PATH=/usr/bin:/bin LC_ALL=C
    tr '\000\n' '\n\000' </proc/$$/environ | sed -n -e '/^[A-Za-z_][A-Za-z0-9_]*=/!p' @SHELLS_OWN@ | base64 -w 0 &&
      printf ' ' && ulimit -Sn && sed -n '/^Sig[BI]/p' /proc/self/status
  ); then
    export LATCHKEY_KEPT_STATE="${latchkey_word#* }"
    latchkey_word=${latchkey_word%% *}
    if [ ${#latchkey_word} -lt 100000 ]; then export LATCHKEY_KEPT_ENTRIES="$latchkey_word"; fi
  fi
  # Words that may not be UTF-8 are read from /proc/self/cmdline, which a title would overwrite.
  if [ $latchkey_plain = no ]; then
    export LATCHKEY_KEPT_WORDS=cmdline
    latchkey_title=
  fi
fi

# What the environment says to Node, OpenSSL and the linker has no effect. src/cli/environment.ts has the list.
# One look at all of them first: mostly none is set, and a look at each takes a millisecond.
unset @KEPT@
if [ -n "@ANY_DROPPED@" ]; then
  for latchkey_name in @DROPPED@; do
    eval "if [ \"\${$latchkey_name+set}\" ]; then
      export LATCHKEY_KEPT_$latchkey_name=\"\$$latchkey_name\"
      unset $latchkey_name
    fi"
  done
fi

if [ -n "$latchkey_node" ] && [ -x "$latchkey_node" ]; then exec "$latchkey_node" @FLAGS@ $latchkey_title "$latchkey_main" "$@"; fi
if command -v node >/dev/null; then exec node @ANY_FLAGS@ $latchkey_title "$latchkey_main" "$@"; fi
echo "@NAME@: no Node.js: ${latchkey_node:-node} is gone and there is no node on PATH. Install Node.js @ENGINE@ (nodejs.org)" >&2
exit 127
