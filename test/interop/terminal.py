"""Runs a command on a terminal of its own and plays a person.

Standard input is JSON: {"argv": [...], "env": {...}, "steps": [[wait_for, send], ...]}. A step waits for wait_for in
what was not matched yet, notes whether the terminal echoes, and types `send`; "signal:NAME" sends the program that signal
instead. Standard output is JSON: {"output", "status", "signal", "echo": [...], "echo_after"}.
"""

import json
import os
import pty
import select
import signal
import sys
import termios
import time

LIMIT_SECONDS = 30

job = json.load(sys.stdin)
pid, fd = pty.fork()
if pid == 0:
    os.execvpe(job["argv"][0], job["argv"], job["env"])

output = b""


def more():
    global output
    ready, _, _ = select.select([fd], [], [], LIMIT_SECONDS)
    if not ready:
        os.kill(pid, signal.SIGKILL)
        sys.exit(f"no answer after {output!r}")
    try:
        data = os.read(fd, 4096)
    except OSError:
        data = b""
    output += data
    return data != b""


def echoes():
    return bool(termios.tcgetattr(fd)[3] & termios.ECHO)


echo = []
seen = 0
for wait_for, send in job["steps"]:
    while wait_for.encode() not in output[seen:]:
        if not more():
            sys.exit(f"ended before {wait_for!r}: {output!r}")
    seen = output.index(wait_for.encode(), seen) + len(wait_for.encode())
    echo.append(echoes())
    if send.startswith("signal:"):
        os.kill(pid, getattr(signal, send[7:]))
    else:
        os.write(fd, send.encode())

# Wait without reaping first: the terminal is gone once its last user is, and we want to look at it before.
while more():
    if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
        break
deadline = time.time() + LIMIT_SECONDS
while time.time() < deadline:
    if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
        break
    time.sleep(0.01)
echo_after = echoes()
while select.select([fd], [], [], 0)[0] and more():
    pass
_, status = os.waitpid(pid, 0)
json.dump(
    {
        "output": output.decode(errors="replace").replace("\r\n", "\n"),
        "status": os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else None,
        "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
        "echo": echo,
        "echo_after": echo_after,
    },
    sys.stdout,
)
