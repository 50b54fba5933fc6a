"""Counts the instructions of a running process with callgrind, and reads the files that callgrind writes."""

import collections
import dataclasses
import pathlib
import re
import subprocess
import time

NAME = re.compile(r"(\(\d+\))(?: (.*))?")
# The hash at the end of a Rust symbol. It changes with each version of the compiler.
HASH = re.compile(r"::h[0-9a-f]{16}$")


def wrapper(directory):
    """Returns the start of a command that runs a program under callgrind. Counting starts with a `Recorder`."""
    return ["valgrind", "--tool=callgrind", "--quiet", "--instr-atstart=no", "--fair-sched=yes",
            f"--callgrind-out-file={directory}/callgrind"]


@dataclasses.dataclass
class Profile:
    """The instructions of a process: the total, and for each function the number without and with its callees."""

    total: int
    own: dict
    inclusive: dict
    # The binary or library of each function. It identifies C functions, whose names contain no crate.
    objects: dict


class Recorder:
    """Counts the instructions of a process that runs under `wrapper`."""

    def __init__(self, pid, directory):
        self.pid, self.directory, self.dumps = pid, pathlib.Path(directory), 0
        self.control("-i", "on")

    def control(self, *arguments):
        subprocess.run(["callgrind_control", *arguments, str(self.pid)], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    def discard(self):
        """Sets the counters to zero."""
        wait_until_idle(self.pid)
        self.control("-z")

    def take(self):
        """Returns the instructions since the last call."""
        wait_until_idle(self.pid)
        self.control("-d")
        self.dumps += 1
        return read(self.directory / f"callgrind.{self.dumps}")


def wait_until_idle(pid, interval=0.004):
    """Waits until the process is idle, because it does a part of its work after it has sent a response."""
    before = None
    while (now := [path.read_text() for path in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat")]) != before:
        before = now
        time.sleep(interval)


def read(path):
    """Reads a file in callgrind's format (https://valgrind.org/docs/manual/cl-format.html)."""
    names, objects, object_of = {}, {}, {}
    own, inclusive = collections.Counter(), collections.Counter()
    total, function, current_object, callee, is_call = 0, None, None, None, False
    for line in path.read_text().splitlines():
        key, separator, value = line.partition("=")
        if separator and key in ("fn", "cfn"):
            name = resolve(names, value)
            if key == "cfn":
                callee = name
            else:
                function = name
                object_of.setdefault(function, current_object)
        elif separator and key in ("ob", "cob"):
            name = resolve(objects, value)
            current_object = name if key == "ob" else current_object
        elif separator and key == "calls":
            is_call = True
        elif line[:1] in "0123456789+-*" and line:
            cost = int(line.split()[1])
            if not is_call:
                own[function] += cost
                inclusive[function] += cost
            elif callee != function:
                inclusive[function] += cost
            is_call = False
        elif line.startswith(("totals:", "summary:")):
            total = int(line.split()[1])
    return Profile(total, own, inclusive, object_of)


def resolve(names, value):
    """Returns the full name. A file contains each full name once; after that, it contains only the name's number."""
    number, name = NAME.fullmatch(value).groups()
    if name is not None:
        names[number] = HASH.sub("", name)
    return names[number]


def crate(function, file):
    """Returns the crate of a Rust function, or the library of a C function."""
    if function.startswith(("mi_", "_mi_")):
        return "mimalloc"
    if "aws_lc" in function:
        return "aws_lc"
    match = re.match(r"[<&\[(*]*(?:dyn |mut |const )*([A-Za-z_0-9]+)::", function)
    if match:
        return match[1]
    return pathlib.Path(file or "?").name
