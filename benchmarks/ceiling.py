"""The fastest matrix product this machine does, as a ceiling for everything else.

python -m benchmarks.ceiling DEVICE HIDDEN INTERMEDIATE VOCABULARY prints GFLOP/s as JSON: square
products and those of the model's own shapes, in float32 and bfloat16, the best of each.
"""

import json
import sys
import time

import torch

SQUARES = (1024, 2048, 4096)
TOKENS = 2048  # of a forward; the head sees about a quarter of them
SECONDS = 0.5  # for each shape, and at least three products


def main() -> None:
    """Measure and print."""
    device = torch.device(sys.argv[1])
    hidden, intermediate, vocabulary = map(int, sys.argv[2:5])
    shapes = [(n, n, n) for n in SQUARES]
    shapes += [(TOKENS, hidden, hidden), (TOKENS, hidden, intermediate)]
    shapes += [(TOKENS, intermediate, hidden), (TOKENS // 4, hidden, vocabulary)]
    print(json.dumps(ceilings(shapes, device) | {"threads": torch.get_num_threads()}))


def ceilings(
    shapes: list[tuple[int, int, int]], device: torch.device, *, seconds: float = SECONDS
) -> dict[str, dict[str, float]]:
    """GFLOP/s by dtype and shape (m x k x n); "best" is the largest."""
    found: dict[str, dict[str, float]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        rates = {f"{m}x{k}x{n}": _rate(m, k, n, dtype, device, seconds) for m, k, n in shapes}
        found[str(dtype)[6:]] = rates | {"best": max(rates.values())}
    return found


def _rate(
    m: int, k: int, n: int, dtype: torch.dtype, device: torch.device, seconds: float
) -> float:
    """GFLOP/s of the fastest of several products (m, k) @ (k, n)."""
    left, right = (torch.randn(size, device=device).to(dtype) for size in ((m, k), (k, n)))
    out = left @ right
    fastest, begun, count = float("inf"), time.perf_counter(), 0
    while count < 3 or time.perf_counter() - begun < seconds:
        _finish(device)
        started = time.perf_counter()
        torch.mm(left, right, out=out)
        _finish(device)
        fastest = min(fastest, time.perf_counter() - started)
        count += 1
    return 2 * m * k * n / fastest / 1e9


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
