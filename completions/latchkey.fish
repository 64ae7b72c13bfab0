# Completion of latchkey, latchkey-agent and latchkey-add for fish 3 or later. Copy it to ~/.config/fish/completions,
# under each of the three names, or source it. Where Latchkey's programs stand in for OpenSSH's:
#   complete -c ssh-agent -e; complete -c ssh-agent -w latchkey-agent
#   complete -c ssh-add -e; complete -c ssh-add -w latchkey-add

set -l hashes 'md5 sha1 sha256 sha384 sha512'
set -l lifetimes '10m 1h 8h 1d 1w'

complete -c latchkey-agent -f
complete -c latchkey-agent -s a -rF -d 'listen on this socket'
complete -c latchkey-agent -s c -d 'print commands for csh'
complete -c latchkey-agent -s D -d 'stay in the foreground'
complete -c latchkey-agent -s d -d 'stay in the foreground and say more'
complete -c latchkey-agent -s E -x -a $hashes -d 'hash of fingerprints in prompts'
complete -c latchkey-agent -s k -d 'end this shell\'s agent'
complete -c latchkey-agent -s O -x -a 'guarded no-restrict-websafe allow-remote-pkcs11 websafe-allow=' -d 'what connections and security keys may do'
complete -c latchkey-agent -s P -rF -d 'what connections and security keys may do'
complete -c latchkey-agent -s s -d 'print commands for a Bourne shell'
complete -c latchkey-agent -s T -d 'listen in a new folder below TMPDIR'
complete -c latchkey-agent -s t -x -a $lifetimes -d 'lifetime of keys'
complete -c latchkey-agent -s U -d 'keep stale sockets'
complete -c latchkey-agent -s u -d 'remove stale sockets and exit'
complete -c latchkey-agent -s V -l version -d 'show the version'
complete -c latchkey-agent -l help -d 'show the usage'
complete -c latchkey-agent -a '(__fish_complete_subcommand --fcs-skip=1)'

complete -c latchkey-add -s C -d 'certificates only'
complete -c latchkey-add -s c -d 'ask before each use'
complete -c latchkey-add -s D -d 'remove all keys'
complete -c latchkey-add -s d -d 'remove keys'
complete -c latchkey-add -s E -x -a $hashes -d 'hash of fingerprints'
complete -c latchkey-add -s e -rF -d 'remove the keys of a smart card'
complete -c latchkey-add -s H -rF -d 'look up host keys here'
complete -c latchkey-add -s h -x -a '(__fish_print_hostnames)' -d 'let the key be used for this destination alone'
complete -c latchkey-add -s K -d 'load keys from security keys'
complete -c latchkey-add -s k -d 'plain keys only'
complete -c latchkey-add -s L -d 'list public keys'
complete -c latchkey-add -s l -d 'list fingerprints'
complete -c latchkey-add -s M -x -d 'ignored'
complete -c latchkey-add -s m -x -d 'ignored'
complete -c latchkey-add -s N -d 'certificates without regard to their expiry'
complete -c latchkey-add -s Q -d 'list protocol extensions'
complete -c latchkey-add -s q -d 'say nothing about success'
complete -c latchkey-add -s S -rF -d 'library for keys on security keys'
complete -c latchkey-add -s s -rF -d 'add the keys of a smart card'
complete -c latchkey-add -s T -d 'test keys'
complete -c latchkey-add -s t -x -a $lifetimes -d 'lifetime of keys'
complete -c latchkey-add -s v -d 'say more'
complete -c latchkey-add -s X -d 'unlock the agent'
complete -c latchkey-add -s x -d 'lock the agent'
complete -c latchkey-add -l apple-load-keychain -d 'refused'
complete -c latchkey-add -l apple-use-keychain -d 'refused'
complete -c latchkey-add -l help -d 'show the usage'
complete -c latchkey-add -l version -d 'show the version'

# Whether the command is one of these words.
function __latchkey_is
    set -l words (commandline -opc)
    test (count $words) -gt 1; and contains -- $words[2] $argv
end

# Questions that wait, or guards that are open: words like q12 or g3 that begin the lines of a command's output.
function __latchkey_ids
    command -q latchkey; or return
    command latchkey $argv 2>/dev/null | string replace -rf '^([gq]\d+) +(.*)' '$1\t$2'
end

# What stands behind --: a command of its own.
function __latchkey_after
    set -l words (commandline -opc) (commandline -ct)
    set -e words[1..(contains -i -- -- $words)]
    complete -C "$words"
end

set -l first 'test (count (commandline -opc)) -eq 1'
set -l second 'test (count (commandline -opc)) -eq 2'
complete -c latchkey -f
complete -c latchkey -n $first -a agent -d 'run an agent'
complete -c latchkey -n $first -a status -d 'what the agent holds, and how'
complete -c latchkey -n $first -a watch -d 'show requests, and answer questions'
complete -c latchkey -n $first -a approve -d 'say yes to a question'
complete -c latchkey -n $first -a deny -d 'refuse a question'
complete -c latchkey -n $first -a log -d 'what the agent was used for'
complete -c latchkey -n $first -a why -d 'explain a record'
complete -c latchkey -n $first -a keys -d 'what each key was used for'
complete -c latchkey -n $first -a guard -d 'open a restricted socket'
complete -c latchkey -n $first -a ssh-config -d 'lines for ~/.ssh/config that forward guards'
complete -c latchkey -n $first -a check -d 'whether the configuration can be used'
complete -c latchkey -n $first -a try -d 'what would happen to a request'
complete -c latchkey -n $first -a reload -d 'read the configuration again'
complete -c latchkey -n $first -a lock -d 'lock the agent'
complete -c latchkey -n $first -a unlock -d 'unlock the agent'
complete -c latchkey -n $first -a help -d 'show the usage'
complete -c latchkey -n $first -s h -l help -d 'show the usage'
complete -c latchkey -n $first -s V -l version -d 'show the version'
complete -c latchkey -n "$second; and __latchkey_is help" -a 'agent status watch approve deny log why keys guard ssh-config check try reload lock unlock'
complete -c latchkey -n "$second; and not __latchkey_is help" -l help -d 'show the usage'

# Several commands have these.
complete -c latchkey -n '__latchkey_is approve check deny guard keys lock log reload status try unlock watch why' -l json -d 'for programs'
complete -c latchkey -n '__latchkey_is approve deny guard keys lock log reload ssh-config status unlock watch why' -l socket -rF -d 'the socket of the agent'
complete -c latchkey -n '__latchkey_is guard ssh-config' -l allow -d 'allow what fits without a question'
complete -c latchkey -n '__latchkey_is guard ssh-config' -l ask -d 'ask for each use'
complete -c latchkey -n '__latchkey_is guard ssh-config' -l count -x -d 'end after so many signatures'
complete -c latchkey -n '__latchkey_is guard ssh-config' -l for -x -a $lifetimes -d 'end after this time'
complete -c latchkey -n '__latchkey_is guard ssh-config' -l key -rF -d 'only this key: fingerprint, comment or public file'
complete -c latchkey -n '__latchkey_is guard ssh-config' -l known-hosts -rF -d 'look up host keys here'
complete -c latchkey -n '__latchkey_is guard ssh-config' -l to -x -a '(__fish_print_hostnames)' -d 'only logins to [user@]host'
complete -c latchkey -n '__latchkey_is guard ssh-config' -l via -x -a '(__fish_print_hostnames)' -d 'only what this host forwards'

complete -c latchkey -n '__latchkey_is agent' -s a -rF -d 'listen on this socket'
complete -c latchkey -n '__latchkey_is agent' -s d -d 'say more'
complete -c latchkey -n '__latchkey_is agent' -s t -x -a $lifetimes -d 'lifetime of keys'
complete -c latchkey -n '__latchkey_is agent guard; and contains -- -- (commandline -opc)' -a '(__latchkey_after)'
complete -c latchkey -n '__latchkey_is approve' -l for -x -a 'once command destination path always' -d 'how long the yes holds'
complete -c latchkey -n '__latchkey_is approve' -a '(__latchkey_ids approve)'
complete -c latchkey -n '__latchkey_is deny' -a '(__latchkey_ids deny)'
complete -c latchkey -n '__latchkey_is check' -F
complete -c latchkey -n '__latchkey_is guard' -l ensure -x -d 'open the guard of this name, or renew its time'
complete -c latchkey -n '__latchkey_is guard' -l list -d 'what is open'
complete -c latchkey -n '__latchkey_is guard' -l revoke -x -a 'all (__latchkey_ids guard --list)' -d 'end a guard'
complete -c latchkey -n '__latchkey_is keys' -l unused -x -d 'only keys without a signature for so many days'
complete -c latchkey -n '__latchkey_is log' -l denied -d 'what was refused'
complete -c latchkey -n '__latchkey_is log' -s f -l follow -d 'and those that come'
complete -c latchkey -n '__latchkey_is log' -l forwarded -d 'what may have come from another machine'
complete -c latchkey -n '__latchkey_is log' -l host -x -a '(__fish_print_hostnames)' -d 'a host on the way'
complete -c latchkey -n '__latchkey_is log' -l key -rF -d 'a fingerprint or how it begins, or a comment'
complete -c latchkey -n '__latchkey_is log' -l kind -x -a 'sign list add remove remove-all expire add-token remove-token lock unlock bind extension malformed connection guard rules records start end' -d 'what was done'
complete -c latchkey -n '__latchkey_is log' -s n -x -d 'the last ones'
complete -c latchkey -n '__latchkey_is log' -l since -x -a '1h 1d 7d today yesterday' -d 'since then'
complete -c latchkey -n '__latchkey_is log' -l verify -d 'check the chain of all records'
complete -c latchkey -n '__latchkey_is ssh-config' -a '(__fish_print_hostnames)'
complete -c latchkey -n '__latchkey_is try' -l confirm -d 'the key was added with -c'
complete -c latchkey -n '__latchkey_is try' -l file -rF -d 'the rules of this file'
complete -c latchkey -n '__latchkey_is try' -l forwarded -d 'may come from another machine'
complete -c latchkey -n '__latchkey_is try' -l key -rF -d 'fingerprint, comment or public file'
complete -c latchkey -n '__latchkey_is try' -l namespace -x -a 'git file' -d 'a signature for a file or commit'
complete -c latchkey -n '__latchkey_is try' -l program -rF -d 'the program that asks; again for what started it'
complete -c latchkey -n '__latchkey_is try' -l purpose -x -a 'login blind-login sshsig sudo certificate webauthn unidentified' -d 'what the signature is for'
complete -c latchkey -n '__latchkey_is try' -l table -x -a 'latchkey openssh' -d 'the defaults'
complete -c latchkey -n '__latchkey_is try' -l to -x -a '(__fish_print_hostnames)' -d 'a login to [user@]host'
complete -c latchkey -n '__latchkey_is try' -l via -x -a '(__fish_print_hostnames)' -d 'forwarded by this host'
