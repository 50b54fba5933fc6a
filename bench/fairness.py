#!/usr/bin/env python3
"""Measures what one greedy tenant does to the others.

    cargo build --release
    bench/fairness.py [--seconds 20] [--rounds 3] [--tenants 200]

Needs wrk. All but one of the tenants together send document Q3 at a steady rate, first alone, then beside
one tenant that offers ten times its budget and ignores that it is refused; the two in turn, the median of
the rounds. That for the service as it comes and with its bounds off one by one. Prints the others'
latencies, and what the greedy tenant got.
"""

import argparse
import statistics
import time

import lab

# Q3 fetches 356 rows, so the default budget of 1,000,000 rows a minute is 47 of them a second.
BUDGET = 1_000_000 / 60 / 356
OTHERS = {"connections": 16, "pause_ms": 100}
NOBODY_WAITS = ("--tenant-slots", "1000")
SETTINGS = {
    "as it comes": (),
    "no budget": ("--tenant-budget", "0"),
    "no budget, no places": ("--tenant-budget", "0", *NOBODY_WAITS),
}


def main():
    options = arguments()
    with lab.database(options.tenants) as environment:
        with lab.service(environment):
            tokens = lab.make_tokens(options.tenants)
            greedy, _ = lab.prepare("q3", tokens[:1], "greedy")
            others, _ = lab.prepare("q3", tokens[1:], "others")
        print("| setting | others' p50 ms, alone and beside | others' p99 ms, alone and beside | factor of p99 "
              "| others' req/s | greedy offers | greedy gets | bad |")
        print("|---|---|---|---|---|---|---|---|")
        for name, flags in SETTINGS.items():
            with lab.service(environment, *flags):
                measure(options, name, greedy, others)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=20, help="length of a slice")
    parser.add_argument("--rounds", type=int, default=3, help="slices of each cell; the median is shown")
    parser.add_argument("--tenants", type=int, default=200)
    parser.add_argument("--budgets", type=float, default=10, help="budgets that the greedy tenant offers")
    return parser.parse_args()


def measure(options, name, greedy, others):
    lab.Load(others, seconds=3, **OTHERS).result()
    runs = [round_(options, greedy, others) for _ in range(options.rounds)]
    (alone50, alone99, beside50, beside99, factor, rate, offered, got, bad) = (
        statistics.median(column) for column in zip(*runs))
    print(f"| {name} | {alone50:.1f}, {beside50:.1f} | {alone99:.1f}, {beside99:.1f} | {factor:.2f} | {rate:.0f} "
          f"| {offered:.0f} | {got:.0f} | {bad:.0f} |", flush=True)


def round_(options, greedy, others):
    _, _, alone50, alone99, _, bad_alone = lab.Load(others, seconds=options.seconds, **OTHERS).result()
    # What the tenant offers in a second is spread over connections that each wait 100 ms on average.
    wanted = BUDGET * options.budgets
    load = lab.Load(greedy, round(wanted / 10), options.seconds + 10, pause_ms=98)
    # It has its whole minute's budget at once in the beginning; what counts is what comes then.
    time.sleep(9)
    requests, took, beside50, beside99, _, bad = lab.Load(others, seconds=options.seconds, **OTHERS).result()
    offered, long, _, _, refused, bad_greedy = load.result()
    return (alone50, alone99, beside50, beside99, beside99 / alone99, requests / took,
            offered / long, (offered - refused) / long, bad_alone + bad + bad_greedy)


if __name__ == "__main__":
    main()
