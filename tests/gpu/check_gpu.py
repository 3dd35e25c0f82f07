"""What only a GPU can show: exactness of the attention kernels and routes, memory of the loss, trained tokens per second.

    python tests/gpu/check_gpu.py [--quick]

Runs in a few minutes on one CUDA device, without a network; models have random weights. Prints a table and, as the last line, JSON.
Ends with 1 if a check fails.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent / "import_root")]

import gpu_parts as parts  # noqa: E402  (beside this file)

RESULTS: list[dict[str, Any]] = []


def note(check: str, value: Any, good: bool | None, words: str = "") -> None:
    """One line of the table; ``good`` None is a figure without a verdict."""
    RESULTS.append({"check": check, "value": value, "good": good, "words": words})
    verdict = {True: "ok", False: "FAILED", None: ""}[good]
    shown = f"{value:.3g}" if isinstance(value, float) else str(value)
    print(f"{verdict:7}{check:58}{shown:>14}  {words}", flush=True)


def guarded(name: str, action: Any, *args: Any) -> None:
    """Run a group of checks; an error is a failed check."""
    begun = time.monotonic()
    try:
        action(*args)
    except Exception as error:
        traceback.print_exc()
        note(name, f"{type(error).__name__}: {error}"[:200], False)
    print(f"       ({name}: {time.monotonic() - begun:.1f} s)", flush=True)


def kernels() -> None:
    """Each kernel against float64, output and gradients."""
    for dtype, bound in (("float32", 1e-5), ("bfloat16", 1.5e-2), ("float16", 2e-3)):
        for kernel in parts.kernels_for(dtype):
            for window, scale in ((None, None), (37, None), (None, 0.3)):
                errors = parts.kernel_errors(kernel, dtype, window, scale)
                note(f"kernel {kernel} {dtype} window={window} scale={scale}", max(errors), max(errors) <= bound)


def models() -> None:
    """Each architecture: the route that is taken, and its loss and gradient against every sample alone."""
    for name in parts.MODELS:
        for dtype, bound in (("float32", 2e-5), ("bfloat16", None)):
            found = parts.model_errors(name, dtype)
            limit = bound if bound else max(2e-2, 2.0 * found["padded_gradient"])
            good = found["gradient"] <= limit and found["loss"] <= limit and found["neighbours"] == 0.0
            good = good and parts.kernels_for(dtype)[0] in found["route"]
            words = f"{found['route']}; loss {found['loss']:.1e}, padded gradient {found['padded_gradient']:.1e}, "
            note(f"model {name} {dtype}: gradient", found["gradient"], good, f"{words}neighbours {found['neighbours']:.1e}")


def flex() -> None:
    """A model that was loaded with flex attention: the flat route, and the masked one through flex itself."""
    for layout in ("flat", "masked"):
        found = parts.model_errors("llama", "float32", own="flex_attention", layout=layout)
        note(f"flex, {layout}: gradient", found["gradient"], found["gradient"] <= 1e-3, found["route"])


def memory(tokens: int) -> None:
    """Peak memory above the model, of one forward and backward pass."""
    peaks = {head: parts.head_memory(head, tokens) for head in ("full", "selected", "chunked")}
    for head, peak in peaks.items():
        note(f"memory of the loss, {head}, MB above the model", peak, None, f"49,152 words, one row of {tokens}, 40 % trained")
    note("chunked needs less than full", peaks["chunked"] / peaks["full"], peaks["chunked"] < 0.7 * peaks["full"])


def timing(steps: int) -> None:
    """Trained tokens per second of the same samples in each layout."""
    rates: dict[str, float] = {}
    for name in parts.TIMINGS:
        rate, fill, peak = parts.tokens_per_second(name, steps)
        rates[name] = rate
        note(f"trained tokens/s: {name}", rate, None, f"tokens that are no padding {fill:.0%}, peak {peak:.0f} MB")
    note("packed against padded", rates["packed"] / rates["padded"], rates["packed"] > rates["padded"])


def runs() -> None:
    """Whole runs of the extension: the same losses by every route; the model comes back."""
    with tempfile.TemporaryDirectory() as folder:
        for words, value, good in parts.whole_runs(Path(folder)):
            note(words, value, good)


def main() -> int:
    """All checks; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller figures")
    quick = parser.parse_args().quick
    import torch

    if not torch.cuda.is_available():
        print("No CUDA device: nothing to check here.")
        return 0
    facts = parts.facts()
    print(json.dumps(facts), flush=True)
    for name, action, args in (
        ("kernels", kernels, ()),
        ("models", models, ()),
        ("flex", flex, ()),
        ("runs", runs, ()),
        ("memory", memory, (2048 if quick else 8192,)),
        ("timing", timing, (5 if quick else 20,)),
    ):
        guarded(name, action, *args)
    failed = [entry["check"] for entry in RESULTS if entry["good"] is False]
    print(f"{len(failed)} checks failed: {failed}" if failed else "All checks passed.")
    print(json.dumps({"facts": facts, "results": RESULTS}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
