"""Looks for inputs that a decoder does not bear, with a fuzzer that follows the code they reach: ``make fuzz``.

    python -m tests.safety.fuzz [RUNS]

What led to new code is kept in ``corpus.txt``, which the tests replay. An input that fails is printed, with its story.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus.txt")
CORPUS_BYTES = 200_000
RUNS = 1_000_000
LONGEST = 96  # bytes that an input is made of
OPTIONS = ("-timeout=10", "-rss_limit_mb=600", f"-max_len={LONGEST}", "-verbosity=0")
INSTRUMENTED = [
    f"handoff_lab.{name}"
    for name in ("transport", "store", "node.channel", "node.tether", "node.work", "telemetry", "backends", "detached")
]
REPORTS = 5  # lines about memory in the first run


def read_corpus() -> list[tuple[str, bytes]]:
    """Name of a decoder, and bytes that its input is made of."""
    lines = CORPUS.read_text(encoding="ascii").splitlines() if CORPUS.exists() else []
    return [(name, bytes.fromhex(text)) for name, _, text in (line.partition(" ") for line in lines)]


def main(runs: int) -> int:
    """Fuzz, and keep what was found."""
    from tests.safety.decoders import DECODERS

    names = list(DECODERS)
    with tempfile.TemporaryDirectory(prefix="handoff-fuzz-") as path:
        folder = Path(path)
        for name, data in read_corpus():
            if name in names:
                content = bytes([names.index(name)]) + data
                (folder / sha256(content).hexdigest()).write_bytes(content)
        started = time.monotonic()
        code = _fuzz(f"-runs={runs}", path)  # adds what it finds
        print(f"{runs} inputs in {time.monotonic() - started:.0f} s, exit code {code}")
        if not code:
            _write_corpus([file.read_bytes() for file in folder.iterdir()], names)
    return code


def _fuzz(*options: str) -> int:
    command = [sys.executable, "-m", "tests.safety.fuzz", "--fuzz", *OPTIONS, *options]
    return subprocess.run(command, check=False, cwd=Path(__file__).parents[2]).returncode


def _write_corpus(contents: list[bytes], names: list[str]) -> None:
    lines = sorted({f"{names[data[0] % len(names)]} {data[1:].hex()}\n" for data in contents if data}, key=len)
    kept, size = [], 0
    for line in lines:  # short ones first: there is room for most of them
        size += len(line)
        if size <= CORPUS_BYTES:
            kept.append(line)
    CORPUS.write_text("".join(sorted(kept)), encoding="ascii")
    print(f"{len(kept)} inputs kept, {CORPUS.stat().st_size} bytes")


def fuzz(arguments: list[str]) -> None:
    """Be the fuzzer; it ends the process."""
    import logging

    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.safety.decoders import DECODERS
    logging.disable(logging.CRITICAL)
    decoders = list(DECODERS.values())
    runs = next((int(word.partition("=")[2]) for word in arguments if word.startswith("-runs=")), 0)
    count = 0

    def one_input(data: bytes) -> None:
        nonlocal count
        count += 1
        if runs and count % (runs // REPORTS) == 0:
            print(f"{count} inputs, {_resident_mb():.1f} MB now, {_peak_mb():.1f} MB at most", flush=True)
        if data:
            decoder = decoders[data[0] % len(decoders)]
            decoder(decoder.make(data[1:]))

    failing = f"-artifact_prefix={tempfile.gettempdir()}/handoff-fuzz-"
    atheris.Setup([sys.argv[0], failing, *arguments], one_input)
    atheris.Fuzz()


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    if sys.argv[1:2] == ["--fuzz"]:
        fuzz(sys.argv[2:])
    else:
        sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else RUNS))
