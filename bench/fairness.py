#!/usr/bin/env python3
"""Measures how one greedy tenant affects the latency of the other tenants.

    cargo build --release
    bench/fairness.py [--seconds 20] [--rounds 3] [--tenants 200]

Needs wrk. In each round, all tenants except the greedy one send document Q3 at a steady rate: first alone, then
while the greedy tenant sends ten times as many requests as its budget allows and ignores rejections. The result
is the median of the rounds. Measures the default settings first, then turns off one limit after another.
Prints the latencies of the other tenants and the rates of the greedy tenant.
"""

import argparse
import statistics
import time

import lab

# Q3 fetches 356 rows, so the default budget of 1,000,000 rows per minute allows 47 requests per second.
BUDGET_PER_SECOND = 1_000_000 / 60 / 356
OTHERS_LOAD = {"connections": 16, "pause_ms": 100}
NO_TENANT_LIMIT = ("--tenant-slots", "1000")
SETTINGS = {
    "defaults": (),
    "no budget": ("--tenant-budget", "0"),
    "no budget, no concurrency limit": ("--tenant-budget", "0", *NO_TENANT_LIMIT),
}


def main():
    options = arguments()
    with lab.database(options.tenants) as environment:
        tenants, _ = lab.load_tenants(environment, options.tenants)
        with lab.service(environment) as server:
            greedy = lab.prepare(server, "q3", tenants[:1], "greedy")
            others = lab.prepare(server, "q3", tenants[1:], "others")
        print("| setting | others' p50 ms, without and with greedy | others' p99 ms, without and with greedy "
              "| factor of p99 | others' req/s | greedy sent/s | greedy accepted/s | bad |")
        print("|---|---|---|---|---|---|---|---|")
        for name, flags in SETTINGS.items():
            with lab.service(environment, *flags) as server:
                measure(options, name, server, greedy, others)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=20, help="duration of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements per setting; the median is printed")
    parser.add_argument("--tenants", type=int, default=200)
    parser.add_argument("--budgets", type=float, default=10,
                        help="load of the greedy tenant, as a multiple of its budget")
    return parser.parse_args()


def measure(options, name, server, greedy, others):
    lab.Load(server, others, seconds=3, **OTHERS_LOAD).result()
    rounds = [measure_round(options, server, greedy, others) for _ in range(options.rounds)]
    (p50_without, p99_without, p50_with, p99_with, factor, rate, sent, accepted, bad) = (
        statistics.median(column) for column in zip(*rounds))
    print(f"| {name} | {p50_without:.1f}, {p50_with:.1f} | {p99_without:.1f}, {p99_with:.1f} "
          f"| {factor:.2f} | {rate:.0f} | {sent:.0f} | {accepted:.0f} | {bad:.0f} |", flush=True)


def measure_round(options, server, greedy, others):
    def others_load():
        return lab.Load(server, others, seconds=options.seconds, **OTHERS_LOAD)

    _, _, p50_without, p99_without, _, bad_without = others_load().result()
    # Each connection sends about ten requests per second, because it pauses for 100 ms on average.
    requests_per_second = BUDGET_PER_SECOND * options.budgets
    load = lab.Load(server, greedy, round(requests_per_second / 10), options.seconds + 10, pause_ms=98)
    # The greedy tenant starts with the budget of a whole minute. Wait until it has used this budget.
    time.sleep(9)
    requests, seconds, p50_with, p99_with, _, bad = others_load().result()
    sent, greedy_seconds, _, _, rejected, bad_greedy = load.result()
    return (p50_without, p99_without, p50_with, p99_with, p99_with / p99_without, requests / seconds,
            sent / greedy_seconds, (sent - rejected) / greedy_seconds, bad_without + bad + bad_greedy)


if __name__ == "__main__":
    main()
