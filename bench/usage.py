"""CPU time and memory of processes, read from /proc."""

import dataclasses
import os
import pathlib
import time

TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass
class Usage:
    """CPU seconds, of the whole machine and of the processes that belong to a measurement."""

    time: float
    machine: float
    postgres: float
    # The server under measurement.
    measured: float
    # All processes of the benchmark.
    own: float

    @classmethod
    def now(cls, postgres, servers, measured=None):
        postgres_seconds = tree_seconds(postgres)
        times = os.times()
        # wrk and pgbench have ended, so the CPU time of this process's children includes theirs.
        own = sum(times[:4]) + postgres_seconds + sum(map(tree_seconds, servers))
        measured_seconds = tree_seconds(measured) if measured else 0
        return cls(time.monotonic(), machine_seconds(), postgres_seconds, measured_seconds, own)

    def __sub__(self, before):
        return Usage(*(end - start for end, start in zip(dataclasses.astuple(self), dataclasses.astuple(before))))

    def noise(self):
        """Returns how many cores other processes used, including other virtual machines on the same host."""
        return max(0, self.machine - self.own) / self.time


def machine_seconds():
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    ticks = dict(zip(names, map(int, fields)))
    return (sum(ticks.values()) - ticks["idle"] - ticks["iowait"]) / TICKS


def tree_seconds(pid):
    """Returns the CPU seconds of a process and of all its descendants, including children that have ended."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(map(int, stat[11:15])) / TICKS + sum(map(tree_seconds, children(pid)))


def children(pid):
    try:
        return {int(child) for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children")
                for child in path.read_text().split()}
    except (FileNotFoundError, ProcessLookupError):
        return set()


def peak_memory_mib(pid):
    """Returns the peak resident memory of a process and its children."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024 + sum(map(peak_memory_mib, children(pid)))


def postmaster_pid(data_dir):
    pid_files = sorted(data_dir.glob("pg*/postmaster.pid"))
    return int(pid_files[-1].read_text().split()[0])
