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

# A command that we start gets its whole environment. Shells lose what has no shell name, and set some of their own.
unset LATCHKEY_KEPT_ENTRIES
latchkey_command=no
for latchkey_word in "$@"; do case $latchkey_word in @COMMAND_PATTERN@) latchkey_command=yes ;; esac; done
if [ $latchkey_command = yes ] && [ -r /proc/$$/environ ]; then
  if latchkey_word=$(
    export PATH=/usr/bin:/bin LC_ALL=C
    tr '\000\n' '\n\000' </proc/$$/environ | sed -n -e '/^[A-Za-z_][A-Za-z0-9_]*=/!p' @SHELLS_OWN@ | base64 -w 0
  ) && [ ${#latchkey_word} -lt 100000 ]; then # Linux takes no variable of 128 KiB or more
    export LATCHKEY_KEPT_ENTRIES="$latchkey_word"
  fi
fi

# What the environment says to Node, OpenSSL and the linker has no effect. src/cli/environment.ts has the list.
for latchkey_name in @DROPPED@; do
  eval "if [ \"\${$latchkey_name+set}\" ]; then
    export LATCHKEY_KEPT_$latchkey_name=\"\$$latchkey_name\"
    unset $latchkey_name
  else
    unset LATCHKEY_KEPT_$latchkey_name
  fi"
done

if [ -n "$latchkey_node" ] && [ -x "$latchkey_node" ]; then exec "$latchkey_node" @FLAGS@ "$latchkey_main" "$@"; fi
if command -v node >/dev/null; then exec node @ANY_FLAGS@ "$latchkey_main" "$@"; fi
echo "@NAME@: no Node.js: ${latchkey_node:-node} is gone and there is no node on PATH. Install Node.js @ENGINE@ (nodejs.org)" >&2
exit 127
