"""
Turn into another program that the kernel kills as soon as its parent is gone: `python tether.py PARENT_PID PROGRAM ARGS...`

For the one end that no `finally` sees, SIGKILL of the parent. Linux only; elsewhere the program just runs. A program of
its own and no `preexec_fn`, which is unsafe once the parent has threads, as every MongoClient gives it.
The kernel watches the *thread* that started this: start servers from a thread that lives as long as they should.
"""

import ctypes
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1


def tethered(command: list[str]) -> list[str]:
    """The command to start instead of `command`, so that it dies with this process."""
    if os.name == "nt" or threading.current_thread() is not threading.main_thread():
        return command
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def end_with_parent(number: int) -> None:
    """Have the kernel send this process a signal when the thread that started it has ended. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number))


def main(parent_pid: int, command: list[str]) -> None:
    if sys.platform == "linux":
        end_with_parent(signal.SIGKILL)
        if os.getppid() != parent_pid:  # it died before the kernel was told to watch it
            sys.exit("the parent has ended already")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
