# Completion of latchkey, latchkey-agent and latchkey-add for bash 4.2 or later. Source it, or copy it to a folder that
# bash-completion reads (~/.local/share/bash-completion/completions), under each of the three names.
# Where Latchkey's programs stand in for OpenSSH's:
#   complete -F _latchkey_agent ssh-agent
#   complete -F _latchkey_add ssh-add

_latchkey_hashes='md5 sha1 sha256 sha384 sha512'
_latchkey_lifetimes='10m 1h 8h 1d 1w'
_latchkey_commands='agent status watch approve deny log why keys guard ssh-config check try reload lock unlock'

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

# Questions that wait, or guards that are open: words like q12 or g3 that begin the lines of a command's output.
_latchkey_ids() {
  _latchkey_words "$(command latchkey "${@:2}" 2>/dev/null | sed -n 's/^\([gq][0-9][0-9]*\) .*/\1/p')" "$1"
}

# The options of the command $1 of latchkey. What a -- begins is a command of its own.
_latchkey_options() {
  local bounds='--key --to --via --for --count --ask --allow --known-hosts --socket'
  case $1 in
    agent) echo '-a -d -t --' ;;
    approve) echo '--for --json --socket' ;;
    check) echo '--json' ;;
    guard) echo "$bounds --ensure --json --list --revoke --" ;;
    keys) echo '--json --socket --unused' ;;
    log) echo '--denied --follow --forwarded --host --json --key --kind --since --socket --verify -f -n' ;;
    ssh-config) echo "$bounds" ;;
    try)
      echo '--confirm --file --forwarded --json --key --namespace --program --purpose --table --to --via'
      ;;
    deny | lock | reload | status | unlock | watch | why) echo '--json --socket' ;;
  esac
}

_latchkey() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} at
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    _latchkey_words "$_latchkey_commands help --help --version -h -V" "$current"
    return
  fi
  if [[ $command == agent || $command == guard ]]; then
    for ((at = 2; at < COMP_CWORD; at++)); do
      if [[ ${COMP_WORDS[at]} == -- ]]; then
        _latchkey_command $((at + 1))
        return
      fi
    done
  fi
  case "$command $previous" in
    'help help') _latchkey_words "$_latchkey_commands" "$current" ;;
    'agent -a' | *' --socket' | *' --known-hosts' | 'try --file' | 'try --program' | *' --key') _latchkey_files "$current" ;;
    'agent -t' | 'guard --for' | 'ssh-config --for') _latchkey_words "$_latchkey_lifetimes" "$current" ;;
    'approve --for') _latchkey_words 'once command destination path always' "$current" ;;
    'guard --revoke')
      _latchkey_words all "$current"
      _latchkey_ids "$current" guard --list
      ;;
    'log --kind')
      _latchkey_words 'sign list add remove remove-all expire add-token remove-token lock unlock bind' "$current"
      _latchkey_words 'extension malformed connection guard rules records start end' "$current"
      ;;
    'log --since') _latchkey_words '1h 1d 7d today yesterday' "$current" ;;
    'try --namespace') _latchkey_words 'git file' "$current" ;;
    'try --purpose')
      _latchkey_words 'login blind-login sshsig sudo certificate webauthn unidentified' "$current"
      ;;
    'try --table') _latchkey_words 'latchkey openssh' "$current" ;;
    # Where @ divides words, it stands before the host.
    *' --to' | *' --via' | 'log --host' | *' @') COMPREPLY=($(compgen -A hostname -- "$current")) ;;
    *' --count' | 'guard --ensure' | 'keys --unused' | 'log -n') ;;
    *)
      if [[ $current != -* ]]; then
        case $command in
          approve | deny) _latchkey_ids "$current" "$command" ;;
          check) _latchkey_files "$current" ;;
          ssh-config) COMPREPLY=($(compgen -A hostname -- "$current")) ;;
          *) _latchkey_words "$(_latchkey_options "$command")" "$current" ;;
        esac
      else
        _latchkey_words "$(_latchkey_options "$command")" "$current"
        ((COMP_CWORD > 2)) || _latchkey_words --help "$current"
      fi
      ;;
  esac
}

complete -F _latchkey latchkey
complete -F _latchkey_agent latchkey-agent
complete -F _latchkey_add latchkey-add
