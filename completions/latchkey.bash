# Completion of latchkey, latchkey-agent and latchkey-add for bash 4.2 or later. Source it, or copy it to a folder that
# bash-completion reads (~/.local/share/bash-completion/completions), under each of the three names.
# Where Latchkey's programs stand in for OpenSSH's:
#   complete -F _latchkey_agent ssh-agent
#   complete -F _latchkey_add ssh-add

_latchkey_hashes='md5 sha1 sha256 sha384 sha512'
_latchkey_lifetimes='10m 1h 8h 1d 1w'

_latchkey_words() {
  COMPREPLY+=($(compgen -W "$1" -- "$2"))
}

_latchkey_files() {
  # An own IFS, since names may hold blanks.
  local IFS=$'\n'
  compopt -o filenames 2>/dev/null
  COMPREPLY+=($(compgen -f -- "$1"))
}

# The command that starts at word $1, and its arguments.
_latchkey_command() {
  if declare -F _command_offset >/dev/null; then
    _command_offset "$1"
  elif ((COMP_CWORD == $1)); then
    COMPREPLY=($(compgen -c -- "${COMP_WORDS[COMP_CWORD]}"))
  else
    _latchkey_files "${COMP_WORDS[COMP_CWORD]}"
  fi
}

_latchkey_agent() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} at
  COMPREPLY=()
  for ((at = 1; at < COMP_CWORD; at++)); do
    case ${COMP_WORDS[at]} in
      -*[aEOPt]) ((at++)) ;;
      --)
        _latchkey_command $((at + 1))
        return
        ;;
      -?*) ;;
      *)
        _latchkey_command "$at"
        return
        ;;
    esac
  done
  case $previous in
    -*a | -*P) _latchkey_files "$current" ;;
    -*E) _latchkey_words "$_latchkey_hashes" "$current" ;;
    -*O) _latchkey_words 'guarded no-restrict-websafe allow-remote-pkcs11 websafe-allow=' "$current" ;;
    -*t) _latchkey_words "$_latchkey_lifetimes" "$current" ;;
    *)
      if [[ $current == -* ]]; then
        _latchkey_words '-a -c -D -d -E -k -O -P -s -T -t -U -u -V --help --version' "$current"
      else
        _latchkey_command "$COMP_CWORD"
      fi
      ;;
  esac
}

_latchkey_add() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  COMPREPLY=()
  case $previous in
    -*E) _latchkey_words "$_latchkey_hashes" "$current" ;;
    -*t) _latchkey_words "$_latchkey_lifetimes" "$current" ;;
    -*h) COMPREPLY=($(compgen -A hostname -- "$current")) ;;
    -*[mM]) ;;
    --*) _latchkey_files "$current" ;;
    *)
      if [[ $current == -* && $previous != -*[HSse] ]]; then
        _latchkey_words '-C -c -D -d -E -e -H -h -K -k -L -l -M -m -N -Q -q -S -s -T -t -v -X -x' "$current"
        _latchkey_words '--apple-load-keychain --apple-use-keychain --help --version' "$current"
      else
        _latchkey_files "$current"
      fi
      ;;
  esac
}

_latchkey() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} at
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    _latchkey_words 'agent status help --help --version -h -V' "$current"
    return
  fi
  case ${COMP_WORDS[1]} in
    agent)
      for ((at = 2; at < COMP_CWORD; at++)); do
        case ${COMP_WORDS[at]} in
          -*[at]) ((at++)) ;;
          --)
            _latchkey_command $((at + 1))
            return
            ;;
          -?*) ;;
          *)
            _latchkey_command "$at"
            return
            ;;
        esac
      done
      case $previous in
        --) ;;
        -*a) _latchkey_files "$current" ;;
        -*t) _latchkey_words "$_latchkey_lifetimes" "$current" ;;
        *) _latchkey_words '-a -d -t --' "$current" ;;
      esac
      ;;
    status)
      if [[ $previous == --socket ]]; then
        _latchkey_files "$current"
      else
        _latchkey_words '--json --socket' "$current"
      fi
      ;;
  esac
}

complete -F _latchkey latchkey
complete -F _latchkey_agent latchkey-agent
complete -F _latchkey_add latchkey-add
