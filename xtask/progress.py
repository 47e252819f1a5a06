#!/usr/bin/env python3
"""Runs a first build and says how far it is and how long it will still take.

    progress.py COMMAND...      cargo, with its arguments

What each crate weighs was measured (`progress.txt`, seconds of work); how fast this machine is shows as it goes. Lines of
cargo that are neither "Compiling" nor "Downloaded" are passed on. On a terminal one line is drawn again and again, elsewhere
one is printed every 30 seconds.
"""

import os
import re
import subprocess
import sys
import threading
import time

WEIGHTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "progress.txt")
# A machine is trusted to be as fast as the one that the weights are of until it has done about this much of the work.
TRUST = 60.0


def weights(target):
    """Of the crates that are not built yet."""
    deps = os.path.join(target, "release", "deps")
    files = os.listdir(deps) if os.path.isdir(deps) else []
    built = {match[1] for match in (re.match(r"lib(\w+)-[0-9a-f]{16}\.(?:rlib|so)$", file) for file in files) if match}
    with open(WEIGHTS) as lines:
        pairs = (line.split() for line in lines if line.strip() and not line.startswith("#"))
        return {name: float(seconds) for name, seconds in pairs if name.replace("-", "_") not in built}


def left(weights, started, elapsed, cores):
    """How much of the work is done (0 to 1), and the seconds that the rest will take."""
    total = sum(weights.values()) or 1.0
    # What was started last is under way: half done.
    under_way = started[-cores:]
    done = sum(weights.get(name, 0) for name in started[:-cores]) + sum(weights.get(name, 0) for name in under_way) / 2
    expected = total / cores
    share = min(done / total, 0.99)
    pace = (elapsed * cores + TRUST) / (done + TRUST)
    return share, max(expected * (1 - share) * pace, 1.0)


def say(share, seconds, name, drawn):
    minutes = "less than a minute" if seconds < 50 else f"about {round(seconds / 60) or 1} min"
    text = f"    {share:4.0%} built, {minutes} left · {name}"
    if drawn:
        sys.stderr.write(f"\r\x1b[2K{text}")
    else:
        sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main():
    known = weights(os.environ.get("CARGO_TARGET_DIR", "target"))
    cores = os.cpu_count() or 1
    drawn = sys.stderr.isatty()
    cargo = subprocess.Popen(sys.argv[1:], stderr=subprocess.PIPE, text=True, errors="replace")
    started, begun, ended = [], time.monotonic(), threading.Event()

    def tell():
        while not ended.wait(2 if drawn else 30):
            if started:
                say(*left(known, started, time.monotonic() - begun, cores), started[-1], drawn)

    teller = threading.Thread(target=tell)
    teller.start()
    for line in cargo.stderr:
        compiling = re.match(r"\s+Compiling (\S+) v", line)
        if compiling:
            started.append(compiling[1])
        elif not re.match(r"\s+(Downloading|Downloaded|Locking|Updating|Adding) ", line):
            sys.stderr.write(("\r\x1b[2K" if drawn else "") + line)
    ended.set()
    teller.join()
    if drawn:
        sys.stderr.write("\r\x1b[2K")
    return cargo.wait()


if __name__ == "__main__":
    sys.exit(main())
