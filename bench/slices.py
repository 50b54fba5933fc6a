"""Measures slices: short loads of one system. A slice in which other processes used the machine is repeated."""

import dataclasses
import statistics
import sys

import lab
from usage import Usage, children

# How many cores other processes may use during a slice, and how often a slice is repeated if they use more.
MAX_NOISE = 0.15
MAX_REPETITIONS = 4


@dataclasses.dataclass
class Measurement:
    """The result of one slice, or the median of several."""

    rate: float
    p50: float = 0
    p99: float = 0
    service_us: float = 0
    postgres_us: float = 0
    bad: float = 0
    noise: float = 0


def median(measurements):
    return Measurement(*(statistics.median(column) for column in zip(*map(dataclasses.astuple, measurements))))


class Slices:
    """Runs slices of systems that share one PostgreSQL."""

    def __init__(self, options, postgres, servers):
        self.options, self.postgres, self.servers = options, postgres, servers
        # The names of the slices that were still noisy after all repetitions.
        self.noisy = []

    def alternate(self, name, runs):
        """Measures several systems in turn. A run is a function of the duration in seconds. Returns the medians."""
        for run in runs.values():
            run(1)
        rounds = [{system: self.measure(f"{name} {system}", run) for system, run in runs.items()}
                  for _ in range(self.options.rounds)]
        return {system: median([slices[system] for slices in rounds]) for system in runs}

    def measure(self, name, run):
        slices = []
        while len(slices) <= MAX_REPETITIONS:
            slices.append(run(self.options.seconds))
            if slices[-1].noise <= self.options.max_noise:
                return slices[-1]
        best = min(slices, key=lambda measurement: measurement.noise)
        print(f"warning: {name}: other processes used {best.noise:.2f} cores", file=sys.stderr)
        if name not in self.noisy:
            self.noisy.append(name)
        return best

    def wrk(self, server, path, connections):
        """Returns a run that loads a server with wrk."""
        def run(seconds):
            before = self.usage(server.pid)
            requests, elapsed, p50, p99, rejected, bad = lab.Load(server, path, connections, seconds).result()
            used = self.usage(server.pid) - before
            requests = max(requests, 1)
            return Measurement(requests / elapsed, p50, p99, used.measured / requests * 1e6,
                               used.postgres / requests * 1e6, rejected + bad, used.noise())
        return run

    def floor(self, floor, document, connections):
        """Returns a run that loads PostgreSQL with pgbench, without a service."""
        def run(seconds):
            before, backends = self.usage(), children(self.postgres)
            rate = floor.run(document, connections, seconds)
            # The CPU time of an ended backend counts only after PostgreSQL has reaped the backend.
            lab.wait_for(lambda: children(self.postgres) <= backends)
            used = self.usage() - before
            return Measurement(rate, postgres_us=used.postgres / (rate * seconds) * 1e6, noise=used.noise())
        return run

    def usage(self, measured=None):
        return Usage.now(self.postgres, [server.pid for server in self.servers], measured)

    def warning(self):
        if not self.noisy:
            return ""
        return f"\nOther processes used more than {self.options.max_noise} cores during: {', '.join(self.noisy)}.\n"


def add_arguments(parser):
    parser.add_argument("--seconds", type=int, default=2, help="duration of a slice")
    parser.add_argument("--rounds", type=int, default=3, help="slices per cell; the median is printed")
    parser.add_argument("--max-noise", type=float, default=MAX_NOISE, help="cores that other processes may use")
    parser.add_argument("--write-docs", action="store_true", help="write docs/performance.md")
