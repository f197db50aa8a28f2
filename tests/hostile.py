#!/usr/bin/env python3
"""hostile.py STACK [NAME...]: `stack config` on files that are meant to hurt, each in a process of its own.

None may take more than 512 MB, nor more than seconds, nor end by anything but code 0 or 1; and what is refused is refused
with a place in a file. A limit on the address space keeps a failure of this from taking the machine with it.
"""

import os
import re
import resource
import sys
import tempfile

MEMORY_MB = 512
SECONDS = 10  # of processor time; what takes more than two is worth a look
BASE = "services: {a: {image: x}}\n"


def services(count, text):
    return "services:\n" + "".join(f" s{i}: {text(i)}\n" for i in range(count))


def listed(count, text, separator=","):
    return separator.join(text(i) for i in range(count))


NODES = "more than 1000000 values"
DEEP = "nested too deep"

# name: (a function for the text, or for texts by file name; exit code; what is said, "" for anything). Functions, because a
# child's peak of memory begins with that of its parent.
CASES = {
    # Size.
    "a hundred megabytes": (lambda: b"#" * 100_000_000, 1, "larger than 32 MiB"),
    "comments": (lambda: BASE + "#\n" * 15_000_000, 0, ""),
    "empty lines": (lambda: BASE + "\n" * 31_000_000, 0, ""),
    "carriage returns": (lambda: "services: {a: {image: x}}\r" + "\r" * 30_000_000, 0, ""),
    "one text": (lambda: 'services: {a: {image: x, labels: {k: "' + "a" * 31_000_000 + '"}}}\n', 0, ""),
    "many small values": (lambda: "x-a: [" + "a," * 15_000_000 + "]\n", 1, NODES),
    "many empty lists": (lambda: "x-a: [" + "[]," * 8_000_000 + "]\n", 1, NODES),
    "many keys": (lambda: "x-a:\n" + listed(1_500_000, lambda i: f" k{i}: {{}}\n", ""), 1, NODES),
    "many documents": (lambda: "---\n" * 1_000_000, 1, "more than 10000 files and documents"),
    "many documents with services": (lambda: "---\nservices: {}\n" * 1_000_000, 1, "files and documents"),
    "many services": (lambda: services(100_000, lambda i: '{image: x, tty: "yes"}'), 1, NODES),
    "10,000 services": (lambda: services(10_000, lambda i: f"{{image: x, depends_on: [s{max(i - 1, 0) if i else 1}]}}"), 1, "dependency cycle"),
    "long key": (lambda: "x-a: {? " + "k" * 20_000_000 + ": 1}\n" + BASE, 1, "a key is longer than 4096 bytes"),
    "many anchors": (lambda: "x-a: [" + listed(900_000, lambda i: f"&a{i} x") + "]\n" + BASE, 0, ""),
    # Depth.
    "1,000 deep": (lambda: "x-a: " + "[" * 998 + "]" * 998 + "\n" + BASE, 0, ""),
    "1,000,000 deep, flow lists": (lambda: "[" * 1_000_000, 1, DEEP),
    "1,000,000 deep, flow maps": (lambda: "{a: " * 1_000_000, 1, DEEP),
    "1,000,000 deep, block lists": (lambda: "- " * 1_000_000, 1, DEEP),
    "1,000,000 deep, block keys": (lambda: "? " * 1_000_000, 1, DEEP),
    "deep and wide": (lambda: "x-a: " + "[" * 990 + "1," * 90_000 + "]" * 990 + "\n" + BASE, 1, NODES),
    "deep through aliases": (lambda: "x-0: &a0 [x]\n" + listed(100_000, lambda i: f"x-{i + 1}: &a{i + 1} [*a{i}]\n", ""), 1, "excessive aliasing"),
    # Growth.
    "billion laughs": (lambda: "x-a0: &a0 [x]\n" + listed(20, lambda i: f"x-a{i + 1}: &a{i + 1} [{','.join([f'*a{i}'] * 9)}]\n", "") + BASE, 1, "excessive aliasing"),
    "quadratic aliases": (lambda: "x-0: &a0 [" + "x," * 5000 + "]\nx-l: [" + "*a0," * 5000 + "]\n" + BASE, 1, "excessive aliasing"),
    "merge keys that double": (lambda: "x-0: &a0 {" + listed(100, lambda i: f"k{i}: 1") + "}\n" + listed(40, lambda i: f"x-{i + 1}: &a{i + 1} {{b: {{<<: *a{i}}}, c: {{<<: *a{i}}}}}\n", "") + BASE, 1, "excessive aliasing"),
    "merge keys of one big map": (lambda: "x-0: &a0 {" + listed(1000, lambda i: f"k{i}: 1") + "}\nx-l: [" + "{<<: *a0}," * 100_000 + "]\n" + BASE, 1, "excessive aliasing"),
    "one merge of many maps": (lambda: listed(100_000, lambda i: f"x-{i}: &a{i} {{k{i}: 1}}\n", "") + "x-m: {<<: [" + listed(100_000, lambda i: f"*a{i}") + "]}\n" + BASE, 0, ""),
    "extends of a big service": (lambda: "services:\n b: {image: x, labels: {" + listed(50_000, lambda i: f"k{i}: v") + "}}\n" + listed(10_000, lambda i: f" s{i}: {{extends: b}}\n", ""), 1, NODES),
    "ranges of ports": (lambda: services(1000, lambda i: '{image: x, ports: ["1-65535"]}'), 1, NODES),
    "dotenv that doubles": (lambda: {"compose.yaml": BASE, ".env": "A0=0123456789\n" + listed(40, lambda i: f"A{i + 1}=$A{i}$A{i}$A{i}\n", "")}, 1, "the values of the file are too long"),
    "dotenv of many": (lambda: {"compose.yaml": BASE, ".env": listed(2_000_000, lambda i: f"A{i}=\n", "")}, 1, "more than 100000 variables"),
    "interpolation that grows": (lambda: {"compose.yaml": 'x-a: "' + "$A" * 1_000_000 + '"\n' + BASE, ".env": "A=" + "x" * 100_000}, 1, "variables put more than"),
    "environment in every service": (lambda: {"compose.yaml": services(5000, lambda i: "{image: x, environment: [A]}"), ".env": "A=" + "x" * 100_000}, 1, "variables put more than"),
    "env file in every service": (lambda: {"compose.yaml": services(5000, lambda i: "{image: x, env_file: e.env}"), "e.env": listed(5000, lambda i: f"A{i}=1\n", "")}, 1, NODES),
    "variables without a value": (lambda: 'x-a: "' + listed(3_000_000, lambda i: f"$v{i:06d}", "") + '"\n' + BASE, 0, "further warnings are not shown"),
    # Cycles and bombs across files.
    "alias of itself": (lambda: "x-a: &a {b: [*a]}\n" + BASE, 1, "cycle detected"),
    "include of itself": (lambda: "include: [compose.yaml]\n" + BASE, 1, "include cycle"),
    "includes that double": (lambda: dict([("compose.yaml", "include: [f0.yaml]\n"), ("f90.yaml", BASE)] + [(f"f{i}.yaml", f"include: [f{i + 1}.yaml, ./f{i + 1}.yaml]\n") for i in range(90)]), 1, ""),
    "extends of itself": (lambda: "services: {a: {extends: b}, b: {extends: a}}\n", 1, "circular reference"),
    "long chain of extends": (lambda: services(100_000, lambda i: f"{{image: x, extends: s{i + 1}}}"), 1, ""),
    "everybody waits for everybody": (lambda: services(400, lambda i: "{image: x, depends_on: [" + ",".join(f"s{j}" for j in range(400) if j != i) + "]}"), 1, "dependency cycle"),
    # Faults without end.
    "unknown keys": (lambda: "services:\n a:\n  image: x\n" + listed(900_000, lambda i: f"  imag{i}: 1\n", ""), 1, "not allowed"),
    "unknown keys in one line": (lambda: "services: {" + listed(30_000, lambda i: f"s{i}: {{imag: x}}") + "}", 1, "not allowed"),
    "undefined dependencies": (lambda: "services:\n a:\n  image: x\n  depends_on: [" + listed(150_000, lambda i: f"t{i}") + "]\n" + listed(10_000, lambda i: f" s{i}: {{image: x}}\n", ""), 1, "depends on undefined service"),
    "undefined volumes": (lambda: "services:\n a:\n  image: x\n  volumes:\n" + listed(90_000, lambda i: f"   - v{i}:/d{i}\n", ""), 1, "undefined volume"),
    "faults in every service": (lambda: services(100_000, lambda i: "{image: 3, tty: maybe, ports: [x], foo: 1}"), 1, "further problems are not shown"),
    "keys that are no text": (lambda: "x-a: {" + listed(900_000, lambda i: f"{i}: x") + "}\n" + BASE, 1, "non-string key"),
    "one key again and again": (lambda: "x-a: {" + "a: x," * 900_000 + "}\n" + BASE, 1, "already defined"),
    "templates left open": (lambda: 'x-a: "' + "${A:-" * 1_000_000 + '"\n' + BASE, 1, "invalid interpolation format"),
    # Bytes and the parser.
    "invalid UTF-8": (lambda: BASE.encode() + b"\xff" * 20_000_000, 1, "invalid UTF-8"),
    "zero bytes": (lambda: BASE.encode() + b"\0" * 20_000_000, 1, "control character U+0000"),
    "%TAG lines": (lambda: listed(1_000_000, lambda i: f"%TAG !a{i}! x\n", "") + "---\n" + BASE, 1, "directives"),
    "one long %TAG": (lambda: "%TAG !a! " + "x" * 1_000_000 + "\n---\nx-a: [" + "!a!b c," * 1_000_000 + "]\n", 1, "directives"),
    "tags before commas": (lambda: "x-a: [" + "!!str," * 1_000_000 + "]\n", 1, "a tag must be followed by a space"),
    "anchor of megabytes": (lambda: "x-a: &" + "a" * 10_000_000 + " [*" + "a" * 10_000_000 + "b]\n" + BASE, 1, "unknown anchor"),
    "a file without an end": (lambda: "-f /dev/zero", 1, "larger than 32 MiB"),
}


def write(files, directory):
    for name, content in files.items():
        with open(os.path.join(directory, name), "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())


def run(stack, text, directory):
    """Returns the exit code (negative for a signal), the output's start, processor seconds and megabytes."""
    arguments = [stack, "config"]
    if text == "-f /dev/zero":
        arguments = [stack, "-f", "/dev/zero", "config"]
    write(text if isinstance(text, dict) else {"compose.yaml": text}, directory)
    del text
    said = os.path.join(directory, "said")
    child = os.fork()
    if child == 0:
        try:
            os.chdir(directory)
            resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
            resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
            os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
            os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
            os.execv(stack, arguments)
        finally:
            os._exit(127)
    _, status, usage = os.wait4(child, 0)
    with open(said, encoding="utf-8", errors="replace") as file:
        words = file.read()
    return os.waitstatus_to_exitcode(status), words, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    stack = os.path.abspath(sys.argv[1])
    failures = 0
    worst = [0.0, 0.0]
    for name, (text, expected, words) in CASES.items():
        if sys.argv[2:] and name not in sys.argv[2:]:
            continue
        with tempfile.TemporaryDirectory() as directory:
            code, said, seconds, megabytes = run(stack, text(), directory)
        faults = []
        if code != expected:
            faults.append(f"exit code {code}, not {expected}")
        if words not in said:
            faults.append(f"`{words}` is not said")
        if code == 1 and "larger than 32 MiB" not in said and not re.search(r"\S+:\d+:\d+", said):
            faults.append("no place is told")
        if seconds > SECONDS:
            faults.append("too slow")
        if megabytes > MEMORY_MB:
            faults.append("too much memory")
        failures += bool(faults)
        worst = [max(worst[0], seconds), max(worst[1], megabytes)]
        verdict = "; ".join(faults) or "ok"
        print(f"{name:<32} {seconds:6.2f} s {megabytes:6.0f} MB  {verdict}", flush=True)
        if faults:
            print("    " + said[:400].replace("\n", "\n    "))
    print(f"{len(CASES)} cases, {failures} failed; at worst {worst[0]:.2f} s, {worst[1]:.0f} MB")
    sys.exit(1 if failures else 0)


main()
