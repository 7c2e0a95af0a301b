"""How long one lookup takes in a table of 10,000 routes: no cache, a mix of hits and misses.

    python bench/routing.py [--json] [--routes N]

To reach: below 2 microseconds per lookup on average over the mix.
"""

from __future__ import annotations

import argparse
import json
import random
import time

from tqserver.model.routing import Pattern, RouteTable, normalise

ROUNDS = 5  # the best is reported: on a shared machine the others measure the neighbours


def routes(count: int) -> list[str]:
    """A site's usual proportions: mostly static, a fifth with parameters, some with a rest."""
    made = []
    for number in range(count):
        area = f"/area{number % 100}"
        made.append(
            {
                0: f"{area}/users{number}/[id]",
                1: f"{area}/files{number}/[...path]",
                2: f"{area}/teams{number}/[team]/members/[member]",
            }.get(number % 10, f"{area}/section{number % 7}/page{number}")
        )
    return made


def paths(made: list[str], kind: str) -> list[str]:
    """Paths of one kind, different in each, in no order."""
    chance = random.Random(1)
    picked = [chance.choice(made) for _ in range(4000)]
    static = [route for route in picked if "[" not in route]
    filled = [
        route.replace("[id]", "4711")
        .replace("[...path]", "a/b/c.txt")
        .replace("[team]", "blue")
        .replace("[member]", "42")
        for route in picked
        if "[" in route
    ]
    return {
        "static": static,
        "below": [f"{route}/assets/style.css" for route in static],
        "parameters": filled,
        "misses": [f"{route}x" for route in static] + ["/", "/favicon.ico", "/wp-login.php"],
    }[kind]


def seconds_per_call(call: object, arguments: list[str]) -> float:
    """The best of some rounds, the cost of the loop left in."""
    assert callable(call)
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for argument in arguments:
            call(argument)
        best = min(best, (time.perf_counter() - began) / len(arguments))
    return best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--routes", type=int, default=10_000)
    options = parser.parse_args()

    made = routes(options.routes)
    began = time.perf_counter()
    table = RouteTable((Pattern.parse(route), route) for route in made)
    building = time.perf_counter() - began

    kinds = {kind: paths(made, kind) for kind in ("static", "below", "parameters", "misses")}
    mix = [path for several in kinds.values() for path in several]
    random.Random(2).shuffle(mix)
    result = {
        "routes": len(made),
        "build_seconds": building,
        "microseconds": {kind: seconds_per_call(table.match, several) * 1e6 for kind, several in kinds.items()}
        | {
            "mix": seconds_per_call(table.match, mix) * 1e6,
            "normalise": seconds_per_call(normalise, mix) * 1e6,
        },
    }
    if options.json:
        print(json.dumps(result))
        return
    print(f"{result['routes']} routes, built in {building:.3f} s; microseconds per call:")
    for kind, microseconds in result["microseconds"].items():
        print(f"  {kind:<12}{microseconds:6.2f}")


if __name__ == "__main__":
    main()
