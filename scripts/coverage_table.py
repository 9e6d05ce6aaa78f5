"""Reads what llvm-cov exported of a crate's tests, and tells what of its code they did not reach. The status is 1 if there is any."""

import json
import re
import sys
from pathlib import Path

# Files that are test code as a whole.
TESTS = ("tests.rs", "samples.rs")


def first_line_of_tests(path):
    """Every file ends with its tests."""
    before = re.split(r"^#\[cfg\(test\)\]\nmod tests", Path(path).read_text(encoding="utf-8"), flags=re.MULTILINE)[0]
    return before.count("\n") + 1


def line_counts(segments):
    """How often each line ran, as llvm-cov counts it: the most of what goes on from above and of what begins there."""
    by_line = {}
    for segment in segments:
        by_line.setdefault(segment[0], []).append(segment)
    counts, above = {}, None
    for line in range(segments[0][0], segments[-1][0] + 1):
        here = by_line.get(line, [])
        begins = [count for _, _, count, is_counted, is_entry, is_gap in here if is_counted and is_entry and not is_gap]
        goes_on = above is not None and above[3]
        if begins or goes_on:
            counts[line] = max(begins + ([above[2]] if goes_on else []))
        above = here[-1] if here else above
    return counts


def main():
    data = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["data"][0]
    # Generic code and closures are there several times: what one of them reached is reached.
    regions = {}
    for function in data["functions"]:
        for *span, count, file, _, kind in function["regions"]:
            if kind == 0:
                key = (function["filenames"][file], *span)
                regions[key] = regions.get(key, 0) + count
    rows, places = [], []
    for file in data["files"]:
        path = file["filename"]
        name = path[path.rindex("/src/") + 1 :]
        if path.endswith(TESTS):
            continue
        end = first_line_of_tests(path)
        lines = {line: count for line, count in line_counts(file["segments"]).items() if line < end}
        own = {key[1:]: count for key, count in regions.items() if key[0] == path and key[1] < end}
        branches = {}
        for line, column, _, _, taken, passed, *_ in file["branches"]:
            if line < end:
                for way, count in (("true", taken), ("false", passed)):
                    branches[line, column, way] = branches.get((line, column, way), 0) + count
        rows.append((name, lines, own, branches))
        places += [f"{name}:{line}:{column}: not reached" for (line, column, *_), count in sorted(own.items()) if not count]
        places += [f"{name}:{line}:{column}: never {way}" for (line, column, way), count in sorted(branches.items()) if not count]

    if not rows:
        sys.exit("scripts/coverage: nothing was measured")

    def parts(counts):
        return f"{sum(1 for count in counts.values() if count)}/{len(counts)}"

    print(f"{'':28} {'lines':>10} {'regions':>10} {'branches':>10}")
    for name, *columns in sorted(rows):
        print(f"{name:28}", *(f"{parts(counts):>10}" for counts in columns))
    every = [{(row[0], key): count for row in rows for key, count in row[at].items()} for at in (1, 2, 3)]
    print(f"{'all':28}", *(f"{parts(counts):>10}" for counts in every))
    print(*places, sep="\n")
    return 1 if places else 0


sys.exit(main())
