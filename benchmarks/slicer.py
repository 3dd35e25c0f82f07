"""The slicer: speed against tokenizing alone, fill, borders, memory; side by side with other ways to cut a text.

python benchmarks/slicer.py --tokenizer FOLDER --text PROSE.txt --other CHINESE.txt      all but the gigabyte
python benchmarks/slicer.py ... --only memory --gigabyte                                 with it (about 20 minutes)

Speed is CPU time of this process on one thread, medians of rounds in which the ways take turns; "alone" is the tokenizer on the same
text, once as one calls it (`tokenizer(text)`) and once in the fastest way we know (4 KB pieces, no offsets). Borders are those of the
hand-split texts in benchmarks/gold. Memory is the peak of a process of its own, above what it holds with the tokenizer loaded; its text is
PROSE again and again, with a changing number in each line break between two paragraphs.
pip install langchain-text-splitters semantic-text-splitter     what can be compared; neither is needed
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("RAYON_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "import_root"), str(ROOT / "benchmarks")]

LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GOLD_CUTOFF = 128
GOLD_COLUMNS = ("en_prose", "en_chat", "zh", "ja")
Spans = list[tuple[int, int]]
Way = Callable[[str, int], Spans]  # text, cutoff in tokens -> offsets of the blocks


def load(folder: Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = 1 << 60
    return tokenizer


# --- ways to cut ---------------------------------------------------------------------------------------------------------------


def ours(tokenizer: Any, language: str = "auto") -> Way:
    from training_pro.chunking import Slicer

    slicers: dict[int, Slicer] = {}

    def cut(text: str, cutoff: int) -> Spans:
        if cutoff not in slicers:
            slicers[cutoff] = Slicer(tokenizer, max_tokens=cutoff, add_eos="none", hard_cut="", language=language)
        return [(block.start, block.end) for block in slicers[cutoff].blocks(text)]

    return cut


def langchain(tokenizer: Any) -> Way:
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    def cut(text: str, cutoff: int) -> Spans:
        splitter = RecursiveCharacterTextSplitter.from_huggingface_tokenizer(tokenizer, chunk_size=cutoff, chunk_overlap=0)
        return located(text, splitter.split_text(text))

    return cut


def semantic(tokenizer: Any) -> Way:
    from semantic_text_splitter import TextSplitter

    def cut(text: str, cutoff: int) -> Spans:
        splitter = TextSplitter.from_huggingface_tokenizer(tokenizer.backend_tokenizer, cutoff)
        return [(at, at + len(chunk)) for at, chunk in splitter.chunk_indices(text)]

    return cut


def windows(tokenizer: Any) -> Way:
    """Windows of a fixed number of tokens, wherever they end."""

    def cut(text: str, cutoff: int) -> Spans:
        offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return [(offsets[at][0], offsets[min(at + cutoff, len(offsets)) - 1][1]) for at in range(0, len(offsets), cutoff)]

    return cut


def located(text: str, chunks: list[str]) -> Spans:
    spans, at = [], 0
    for chunk in chunks:
        at = text.index(chunk, at)
        spans.append((at, at + len(chunk)))
        at += len(chunk)
    return spans


def ways(tokenizer: Any) -> dict[str, Way]:
    found = {"ours": ours(tokenizer), "fixed windows": windows(tokenizer)}
    for name, make in (("langchain", langchain), ("semantic-text-splitter", semantic)):
        try:
            found[name] = make(tokenizer)
        except ImportError:
            print(f"({name} is not installed)")
            continue
        found[name]("One. Two.", 8)
    return found


# --- tables --------------------------------------------------------------------------------------------------------------------


def cpu_seconds(work: Callable[[], Any]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def in_turns(works: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each, taking turns so that a noisy machine is noisy for all."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            taken[name].append(cpu_seconds(work))
    return {name: median(times) for name, times in taken.items()}


def alone(tokenizer: Any) -> dict[str, Callable[[str], Any]]:
    backend = tokenizer.backend_tokenizer

    def pieces(text: str) -> Any:
        parts = [text[at : at + 4096] for at in range(0, len(text), 4096)]
        return [encoding.ids for encoding in backend.encode_batch_fast(parts, add_special_tokens=False)]

    return {"tokenizer(text)": lambda text: tokenizer(text, add_special_tokens=False)["input_ids"], "4 KB pieces": pieces}


def variants(folder: Path) -> dict[str, Any]:
    """The tokenizer as it is; with Llama 3's words; with a normalizer that makes every block be tokenized again."""
    from tokenizers import Regex, normalizers, pre_tokenizers

    plain, llama, again = load(folder), load(folder), load(folder)
    split = pre_tokenizers.Split(Regex(LLAMA_3), behavior="isolated")
    llama.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    again.backend_tokenizer.normalizer = normalizers.NFKC()
    return {"as it is": plain, "with Llama 3's words": llama, "re-tokenized (NFKC)": again}


def speed(folder: Path, texts: dict[str, str], cutoff: int, rounds: int) -> None:
    print(f"\n### Slicing against tokenizing alone (cutoff {cutoff}, CPU time, median of {rounds})\n")
    print("| text | tokenizer | tokenizer(text) MB/s | 4 KB pieces MB/s | slicing MB/s | of tokenizer(text) | of 4 KB pieces |")
    print("|---|---|---|---|---|---|---|")
    for name, text in texts.items():
        size = len(text.encode()) / 1e6
        for kind, tokenizer in variants(folder).items():
            cut, bare = ours(tokenizer), alone(tokenizer)
            works = {key: partial(work, text) for key, work in bare.items()}
            cut("One. Two.", cutoff)
            times = in_turns({**works, "ours": partial(cut, text, cutoff)}, rounds)
            mbs = [size / times[key] for key in ("tokenizer(text)", "4 KB pieces", "ours")]
            shares = f"{mbs[2] / mbs[0]:.0%} | {mbs[2] / mbs[1]:.0%}"
            print(f"| {name} | {kind} | {mbs[0]:.2f} | {mbs[1]:.2f} | {mbs[2]:.2f} | {shares} |", flush=True)


def compare(tokenizer: Any, texts: dict[str, str], cutoff: int) -> None:
    print(
        f"\n### Ways to cut (cutoff {cutoff}, one round)\n\n| text | way | MB/s | blocks | fill | over the cutoff | text lost |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, text in texts.items():
        for way, cut in ways(tokenizer).items():
            begin = time.process_time()
            spans = cut(text, cutoff)
            seconds = time.process_time() - begin
            counts = [len(ids) for ids in tokenizer([text[a:b] for a, b in spans], add_special_tokens=False)["input_ids"]]
            over = sum(count > cutoff for count in counts)
            fill = sum(counts) / len(counts) / cutoff
            outside = "".join(
                text[a:b] for a, b in zip([0, *(b for _, b in spans)], [*(a for a, _ in spans), len(text)], strict=True)
            )
            lost = len("".join(outside.split()))
            print(
                f"| {name} | {way} | {len(text.encode()) / 1e6 / seconds:.2f} | {len(spans)} | {fill:.1%} | {over} | {lost} |",
                flush=True,
            )


def gold(tokenizer: Any) -> None:
    from sentence_borders import borders, read_gold

    print(f"\n### Blocks that begin and end on a hand-made sentence border (cutoff {GOLD_CUTOFF})\n")
    print(
        "| way | "
        + " | ".join(f"{column}: begin, end" for column in GOLD_COLUMNS)
        + " |\n|---"
        + "|---" * len(GOLD_COLUMNS)
        + "|"
    )
    for way, cut in ways(tokenizer).items():
        cells = []
        for column in GOLD_COLUMNS:
            begins = ends = total = 0
            for document in read_gold(column):
                known = {0, *borders(document.sentences), num_black(document.text)}
                for start, end in cut(document.text, GOLD_CUTOFF):
                    total += 1
                    begins += num_black(document.text[:start]) in known
                    ends += num_black(document.text[:end]) in known
            cells.append(f"{begins / total:.1%}, {ends / total:.1%} of {total}")
        print(f"| {way} | {' | '.join(cells)} |", flush=True)


def num_black(text: str) -> int:
    return sum(map(len, text.split()))


# --- memory --------------------------------------------------------------------------------------------------------------------


def pieces_of(path: Path, num_bytes: int) -> Iterator[str]:
    """The text again and again, never twice the same, up to a number of bytes."""
    text, done, number = path.read_text(encoding="utf-8", errors="replace"), 0, 0
    while done < num_bytes:
        for part in re.findall(r"(?s).{1,65536}", text):
            number += 1
            piece = part.replace("\n\n", f"\n\n{number} ", 1)
            done += len(piece.encode("utf-8", "replace"))
            yield piece
            if done >= num_bytes:
                return


def memory_worker(folder: Path, path: Path, megabytes: int, cutoff: int, hard_cut: str) -> None:
    import psutil
    from training_pro.chunking import Slicer

    slicer = Slicer(load(folder), max_tokens=cutoff, hard_cut=hard_cut)
    next(slicer.blocks("One. Two."))
    before, begin, num_blocks, peak = psutil.Process().memory_info().rss, time.process_time(), 0, 0
    for block in slicer.blocks(pieces_of(path, megabytes * 1_000_000)):
        num_blocks += 1
        if num_blocks % 200 == 0:
            peak = max(peak, psutil.Process().memory_info().rss)
        assert block.num_tokens <= cutoff
    peak = max(peak, psutil.Process().memory_info().rss)
    seconds = time.process_time() - begin
    words = "with hard cuts" if hard_cut else "no hard cut"
    print(
        f"| {megabytes} MB | {words} | {num_blocks} | {(peak - before) / 1e6:.0f} MB | {seconds:.1f} s | {megabytes / seconds:.2f} |",
        flush=True,
    )


def memory(arguments: argparse.Namespace) -> None:
    print(
        "\n### Memory and growth (a stream of pieces)\n\n| text | | blocks | peak above the tokenizer | CPU | MB/s |\n|---|---|---|---|---|---|",
        flush=True,
    )
    jobs = [(size, "") for size in (1, 10, 100, *([1000] if arguments.gigabyte else []))] + [(10, r"\n\n\n")]
    for size, hard_cut in jobs:
        command = [
            sys.executable,
            __file__,
            "--tokenizer",
            arguments.tokenizer,
            "--text",
            arguments.text,
            "--cutoff",
            str(arguments.cutoff),
        ]
        subprocess.run([*command, "--worker", str(size), "--hard-cut", hard_cut], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True, help="folder of a model with a byte-level tokenizer")
    parser.add_argument("--text", required=True, help="running prose, at least 1 MB, UTF-8")
    parser.add_argument("--other", help="a text in another language")
    parser.add_argument("--cutoff", type=int, default=256, help="tokens")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("speed", "compare", "gold", "memory"))
    parser.add_argument("--gigabyte", action="store_true")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--hard-cut", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder, path = Path(arguments.tokenizer), Path(arguments.text)
    if arguments.worker:
        memory_worker(folder, path, arguments.worker, arguments.cutoff, arguments.hard_cut)
        return
    texts = {Path(name).stem: read_megabyte(Path(name)) for name in (arguments.text, arguments.other) if name}
    wanted = (arguments.only,) if arguments.only else ("speed", "compare", "gold", "memory")
    if "speed" in wanted:
        speed(folder, texts, arguments.cutoff, arguments.rounds)
    if "compare" in wanted:
        compare(load(folder), texts, arguments.cutoff)
    if "gold" in wanted:
        gold(load(folder))
    if "memory" in wanted:
        memory(arguments)


def read_megabyte(path: Path) -> str:
    """The first 1.2 million characters, up to the end of a line."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return text if len(text) < 1_200_000 else text[: text.rindex("\n", 0, 1_200_000)]


if __name__ == "__main__":
    main()
