"""Texts to vectors, on this machine and without a hub: what related packing compares.

What it does: :data:`EMBEDDINGS` make an :class:`Embedder` from the loaded model's input embeddings (default) or from a folder with a
sentence-transformers model. An embedder is a function from texts to vectors that knows its identity, which becomes part of the
fingerprint under which prepared data are kept.

Guarantee: nothing is downloaded; the model is not changed and stays on its device, in its number format. A text's vector does not
depend on the other texts of a call, so a file may be embedded in blocks. Price: mean input embeddings know words, not their order;
they take about as long as tokenizing the texts. A sentence-transformers model understands more and takes far longer.

How the mean was chosen (SmolLM2-135M, 2,000 conversations; the first half of each looks for its second half among all, mean reciprocal
rank): plain mean of the rows 0.11, of centred rows of equal length 0.11; with the mean of the data taken off, as
data.packing.walk does, 0.16 and 0.22. Weights for rare tokens made the last worse (idf and SIF 0.19), so there are none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

MAX_DIMENSIONS = 1024  # of mean input embeddings; larger models are projected: cosines keep their value to about 0.03
_SAMPLED_ROWS = 8192  # of the embedding matrix, for its centre and identity
_MAX_TOKENS = 1 << 14  # of a batch: bounds the memory
_MAX_TEXTS = 1024


class Embedder(Protocol):
    """Texts to vectors.

    Attributes:
        identity: changes when the vectors would; a word and 16 hexadecimal digits.
        dim: dimensions of a vector.
    """

    identity: str
    dim: int

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """(texts, dim) float32, each row of length 1; a text without any token is a row of zeros."""
        ...


def make_embedder(name: str, model: Any, tokenizer: Any, *, folder: str = "") -> Embedder:
    """The embedder of a name on the form.

    Args:
        name: in :data:`EMBEDDINGS`.
        model: the loaded model, for 'input embeddings'.
        tokenizer: the model's.
        folder: of a sentence-transformers model, for that.

    Raises:
        ValueError: an unknown name, no folder, no such package, or a model without input embeddings.
    """
    if name not in EMBEDDINGS:
        raise ValueError(f"Embedding of related samples: {name!r} is unknown. Choose from {', '.join(EMBEDDINGS)}.")
    return EMBEDDINGS[name](model, tokenizer, folder)


def mean_input_embeddings(model: Any, tokenizer: Any, texts: Sequence[str]) -> np.ndarray:
    """Vectors of texts: the mean of their tokens' rows in the model's input embedding matrix.

    The rows are centred and made equally long first, so that no token counts for more than another.

    Returns:
        (texts, dimensions) float32, each row of length 1, at most :data:`MAX_DIMENSIONS` wide.
    """
    return InputEmbeddings(model, tokenizer)(texts)


class InputEmbeddings:
    """Mean input embeddings of a loaded model; see :func:`mean_input_embeddings`.

    Args:
        model: a transformers model in any number format (also 4-bit), on any device.
        tokenizer: the model's.

    Raises:
        ValueError: the model has no input embeddings.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        import numpy as np

        module = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
        if module is None:
            raise ValueError(
                f"Embedding of related samples: {type(model).__name__} has no input embeddings. "
                f"Choose a sentence-transformers model, or another Packing."
            )
        self._module: Any = module
        self._tokenizer = tokenizer
        self._num_rows = int(getattr(self._module, "num_embeddings", 0) or self._module.weight.shape[0])
        sampled = self._raw_rows(np.unique(np.linspace(0, self._num_rows - 1, _SAMPLED_ROWS).astype(np.int64)))
        self._centre = sampled.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._projection = _projection(sampled.shape[1])
        self.dim = sampled.shape[1] if self._projection is None else self._projection.shape[1]
        digest = hashlib.sha256(f"{self._num_rows} {sampled.shape} {self.dim} {self._module.weight.dtype}".encode())
        digest.update(np.ascontiguousarray(sampled).tobytes())
        if self._projection is not None:
            digest.update(self._projection.tobytes())
        self.identity = f"input-embeddings-{digest.hexdigest()[:16]}"

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        import numpy as np

        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for start, ids in self._batches(texts):
            vectors[start : start + len(ids)] = self._means(ids)
        return _unit(vectors)

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[int, list[list[int]]]]:
        """First text and token ids of batches of at most about ``_MAX_TOKENS`` tokens; a longer text is a batch of its own."""
        for first in range(0, len(texts), _MAX_TEXTS):
            part = list(texts[first : first + _MAX_TEXTS])
            ids = self._tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]
            start, num_tokens = 0, 0
            for place, tokens in enumerate(ids):
                if place > start and num_tokens + len(tokens) > _MAX_TOKENS:
                    yield first + start, ids[start:place]
                    start, num_tokens = place, 0
                num_tokens += len(tokens)
            yield first + start, ids[start:]

    def _means(self, ids: list[list[int]]) -> np.ndarray:
        """Mean of the rows of each text's tokens, (texts, dim); each token that occurs is fetched once."""
        import numpy as np

        lengths = np.array([len(tokens) for tokens in ids])
        flat = np.array([token for tokens in ids for token in tokens], dtype=np.int64)
        means = np.zeros((len(ids), self.dim), dtype=np.float32)
        if not len(flat):
            return means
        tokens, places = np.unique(flat, return_inverse=True)
        rows = self._rows(tokens)[places]
        ends = np.cumsum(lengths)
        filled = lengths > 0
        sums = np.add.reduceat(rows, (ends - lengths)[filled], axis=0, dtype=np.float32)
        means[filled] = sums / lengths[filled, None]
        return means

    def _rows(self, tokens: np.ndarray) -> np.ndarray:
        """Rows of tokens: centred, of length 1, projected."""
        rows = _unit(self._raw_rows(tokens) - self._centre)
        return rows if self._projection is None else rows @ self._projection

    def _raw_rows(self, tokens: np.ndarray) -> np.ndarray:
        """Rows of the matrix as float32 on the CPU, through the module: it knows how to read 4-bit weights, scales and offloading."""
        import torch

        if len(tokens) and tokens.max() >= self._num_rows:
            raise ValueError(
                f"Model: the tokenizer does not fit the model: it gives token {int(tokens.max())}, the model knows {self._num_rows} "
                f"tokens. Load the tokenizer that belongs to the model."
            )
        weight = self._module.weight
        device = torch.device("cpu") if weight.device.type == "meta" else weight.device
        with torch.no_grad():
            rows: np.ndarray = self._module(torch.from_numpy(tokens).to(device)).float().cpu().numpy()
        return rows


class SentenceTransformersFolder:
    """A sentence-transformers model that lies in a folder of this machine; texts beyond its own length are cut by it.

    Args:
        folder: the model's folder.

    Raises:
        ValueError: no folder, or the package sentence-transformers is not installed.
    """

    def __init__(self, folder: str) -> None:
        path = Path(folder).expanduser()
        if not folder or not path.is_dir():
            raise ValueError(
                f"Embedding folder: a sentence-transformers model is read from a folder; nothing is downloaded. Got: {folder!r}. "
                f"Put the model's folder there, or set Embedding of related samples to 'input embeddings'."
            )
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ValueError(
                f"Embedding of related samples: the package sentence-transformers cannot be imported ({error}). "
                f"Install it (pip install sentence-transformers), or choose 'input embeddings'."
            ) from error
        self._model = SentenceTransformer(str(path), local_files_only=True)
        self.dim = int(self._model.encode(["a"], show_progress_bar=False).shape[1])
        self.identity = f"sentence-transformers-{_folder_hash(path)}"

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        import numpy as np

        if not len(texts):
            return np.zeros((0, self.dim), dtype=np.float32)
        return _unit(np.array(self._model.encode(list(texts), show_progress_bar=False), dtype=np.float32))


# name on the form -> embedder(model, tokenizer, folder)
EMBEDDINGS: dict[str, Callable[[Any, Any, str], Embedder]] = {
    "input embeddings": lambda model, tokenizer, folder: InputEmbeddings(model, tokenizer),
    "sentence-transformers": lambda model, tokenizer, folder: SentenceTransformersFolder(folder),
}


def _projection(dim: int) -> np.ndarray | None:
    """Random signs, (dim, MAX_DIMENSIONS), always the same; None where nothing needs to be projected.

    Source: D. Achlioptas, Database-friendly random projections, 2003.
    """
    import numpy as np

    if dim <= MAX_DIMENSIONS:
        return None
    signs = np.random.default_rng(0).integers(0, 2, size=(dim, MAX_DIMENSIONS))
    return ((2 * signs - 1) / np.sqrt(MAX_DIMENSIONS)).astype(np.float32)


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1; rows of zeros stay."""
    import numpy as np

    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


def _folder_hash(folder: Path) -> str:
    """Names and contents of all files of a folder."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(file.relative_to(folder).as_posix().encode())
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()[:16]
