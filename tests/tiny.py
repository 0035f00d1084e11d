"""Tiny things that tests train and score in seconds: backbones with random weights, companies, extracts, artifacts.

Everything is decided by seeds. The backbones are real transformers models, saved and loaded as any other; their
weights are drawn wider than usual, so that attention, and with it the soft prompt, makes a difference.
"""

from __future__ import annotations

import hashlib
import json
import random
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from ptec_training.config import PromptConfig
from ptec_training.data.folder import DATA, RECORD, write_extract
from ptec_training.export import export
from ptec_training.fit.head import StandardisedHead
from ptec_training.fit.prompt import initial_prompt, prompt_spec
from ptec_udf.engine.encoder import Encoder
from ptec_udf.engine.torch_engine import pad
from ptec_udf.model.backbone import resolve
from ptec_udf.model.manifest import BackboneRef, ExtractOrigin, Label, Manifest
from ptec_udf.model.network import Pooling, PromptKind, PtecNetwork

FAMILIES = ("bert", "llama", "bloom")
KINDS = ("input", "deep")
TEMPLATE = "Name: {name}. {about}"
WORDS_OF_LABEL = {
    "biotech": ("gene", "protein", "cell", "vaccine", "therapy", "enzyme"),
    "energy": ("solar", "wind", "grid", "battery", "turbine", "power"),
    "fintech": ("payment", "loan", "bank", "credit", "wallet", "invoice"),
    "media": ("film", "music", "podcast", "news", "studio", "radio"),
    "travel": ("hotel", "flight", "tour", "beach", "airport", "luggage"),
}
LABELS = tuple(WORDS_OF_LABEL)

_FILLERS = ("we", "make", "sell", "a", "the", "for", "and", "with", "new", "best", "team", "from", "name", "is", "in")
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "<s>")
_WIDTH, _N_LAYERS, _N_HEADS, _N_POSITIONS = 32, 2, 4, 96


def tiny_backbone(folder: str | Path, family: str) -> str:
    """Save a backbone with its tokeniser in ``folder/family``, unless it is there; return its ``path:`` name.

    Args:
        folder: where backbones are kept.
        family: ``bert``; ``llama`` (grouped keys and values, no padding token); ``bloom`` (no positions); ``mpnet``
            (takes no cache); ``writer`` (a llama with language-model head and end token).
    """
    place = Path(folder).resolve() / family
    if not (place / "config.json").exists():
        tokenizer = _tokenizer(family)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = _model(family, len(tokenizer))
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
    return f"path:{place}"


def tiny_companies(n: int = 300, seed: int = 0) -> list[dict[str, Any]]:
    """Make up companies with key, name, about and one or two labels, whose words stand in ``about``."""
    draw = random.Random(seed)
    companies = []
    for at in range(n):
        labels = sorted(draw.sample(LABELS, draw.choice((1, 1, 1, 2))))
        words = [word for label in labels for word in draw.choices(WORDS_OF_LABEL[label], k=draw.randint(3, 6))]
        words += draw.choices(_FILLERS, k=draw.randint(1, 6))
        draw.shuffle(words)
        name = "".join(draw.choices(string.ascii_lowercase, k=draw.randint(2, 6)))
        companies.append({"key": f"c{at:04d}", "name": name, "about": " ".join(words), "labels": labels})
    return companies


def tiny_text(company: dict[str, Any]) -> str:
    """Return a company's text under ``TEMPLATE``."""
    return TEMPLATE.format(**company)


def tiny_extract(folder: str | Path, n: int = 300, seed: int = 0) -> Path:
    """Write an extract of made-up companies: a tenth is dev, a tenth test."""
    splits = ["dev", "test", *["train"] * 8]
    rows = []
    for at, company in enumerate(tiny_companies(n, seed)):
        text = tiny_text(company)
        text_hash = hashlib.sha256(text.encode()).hexdigest()
        row = {"key": company["key"], "text": text, "text_hash": text_hash, "labels": company["labels"]}
        rows.append(row | {"split": splits[at % len(splits)]})
    write_extract(folder, True, _record(rows), lambda uri: write_rows(Path(uri.removeprefix("file://")).parent, rows))
    return Path(folder)


def write_rows(folder: str | Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write an extract's rows, each with the hash of its text, in place of the present ones.

    Of the record only what it counts changes.
    """
    data = Path(folder) / DATA
    data.mkdir(exist_ok=True)
    hashed = [row | {"text_hash": hashlib.sha256(row["text"].encode()).hexdigest()} for row in rows]
    pq.write_table(pa.Table.from_pylist(hashed), data / "part-0.parquet")
    if (file := Path(folder) / RECORD).exists():
        record = json.loads(file.read_text(encoding="utf-8"))
        names = [label["name"] for label in record["labels"]]
        file.write_text(json.dumps(record | _counted(rows, names)), encoding="utf-8")


def tiny_network(
    backbone: Any,
    tokenizer: Any,
    kind: PromptKind = "deep",
    *,
    pooling: Pooling = "mean",
    seed: int = 0,
    n_tokens: int = 4,
) -> PtecNetwork:
    """Make an untrained network; every label is true of about half of all texts."""
    generator = torch.Generator().manual_seed(seed)
    config = PromptConfig(kind=kind, n_tokens=n_tokens)
    prompt = initial_prompt(config, backbone, tokenizer, LABELS, generator)
    network = PtecNetwork(backbone=backbone, kind=kind, prompt=prompt, head=torch.nn.Identity(), pooling=pooling)
    encoded = Encoder(tokenizer, _N_POSITIONS // 2).encode([tiny_text(company) for company in tiny_companies(32)])
    with torch.no_grad():
        features = network(*pad([text.ids for text in encoded], 0))
        network.head = StandardisedHead(features, torch.full((len(LABELS),), 0.5), features[: len(LABELS)])
        network.head.linear.weight.normal_(std=0.3, generator=generator)
    return network.eval()


def tiny_artifact(folder: str | Path, family: str = "bert", kind: PromptKind = "deep", *, seed: int = 0) -> Path:
    """Export an untrained network; its backbone is kept in the same folder.

    Args:
        folder: gets the backbone and, under a name of its own for every other argument, the artifact.
        family: of the backbone, see ``tiny_backbone``.
        kind: ``input`` or ``deep``.
        seed: another seed gives a model with other scores.

    Returns:
        The artifact's folder.
    """
    name = tiny_backbone(folder, family)
    network = tiny_network(*resolve(name).load(), kind, seed=seed)
    out = Path(folder) / f"{family}_{kind}_{seed}"
    metrics = {"splits": {"dev": {"overall": {"map": 0.5}}}, "log_pos_weights": dict.fromkeys(LABELS, 0.0)}
    export([network], tiny_manifest(name, network), metrics, out)
    return out


def tiny_manifest(backbone_name: str, network: PtecNetwork, **changes: Any) -> Manifest:
    """Describe a tiny network; keyword arguments replace fields."""
    config = PromptConfig(kind=network.kind, n_tokens=len(network.prompt))
    labels = [Label(name=name, threshold=0.5, scale=1.0, offset=0.0, training_positives=20) for name in LABELS]
    fields: dict[str, Any] = {
        "created": "2026-01-01T00:00:00+00:00",
        "backbone": BackboneRef(name=backbone_name, content_hash=resolve(backbone_name).content_hash()),
        "template": TEMPLATE,
        "max_tokens": 32,
        "pooling": network.pooling,
        "prompt": prompt_spec(config, network.caches_prompt),
        "threshold_logit": 0.0,
        "labels": labels,
        "extract": ExtractOrigin(fingerprint="f" * 64, source="crm.companies", source_id="s", version=0),
        "packages": {"torch": "0"},
    }
    return Manifest(**fields | changes)


def _record(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Describe an extract as ``ptec extract`` does."""
    return {
        "format_version": 1,
        "name": "crm.companies",
        "source_id": "made-up",
        "version": 3,
        "template": TEMPLATE,
        "created": "2026-01-01T00:00:00+00:00",
        **_counted(rows, LABELS),
        "fingerprint": hashlib.sha256(json.dumps(list(rows)).encode()).hexdigest(),
    }


def _counted(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """What a record counts."""

    def count(name: str, split: str) -> int:
        return sum(row["split"] == split and name in (row["labels"] or ()) for row in rows)

    splits = ("train", "dev", "test")
    return {
        "labels": [{"name": name, **{split: count(name, split) for split in splits}} for name in names],
        "counts": {"written": {split: sum(row["split"] == split for row in rows) for split in splits}},
    }


def _tokenizer(family: str) -> Any:
    """Make a WordPiece tokeniser that spells out unknown words."""
    characters = string.ascii_lowercase + string.digits + string.punctuation
    words = [word for group in (_FILLERS, *WORDS_OF_LABEL.values(), WORDS_OF_LABEL) for word in group]
    line_breaks = ["\u21b5"] if family == "writer" else []
    pieces = dict.fromkeys([*_SPECIAL, *characters, *(f"##{one}" for one in characters), *words, *line_breaks])
    vocabulary = {piece: at for at, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=50))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    if line_breaks:
        visible = normalizers.Replace("\n", f" {line_breaks[0]} ")
        tokenizer.normalizer = normalizers.Sequence([visible, tokenizer.normalizer])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    arounds = {
        "bert": "[CLS] $A [SEP]",
        "mpnet": "[CLS] $A [SEP]",
        "llama": "<s> $A",
        "writer": "<s> $A",
        "bloom": "$A",
    }
    around = arounds[family]
    used = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]", "<s>") if name in around]
    tokenizer.post_processor = processors.TemplateProcessing(single=around, special_tokens=used)
    more = {"llama": {}, "writer": {"eos_token": "[SEP]"}}.get(family, {"pad_token": "[PAD]"})
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", **more)


def _model(family: str, n_ids: int) -> Any:
    """Make a backbone with random weights."""
    common: dict[str, Any] = {"vocab_size": n_ids, "hidden_size": _WIDTH, "pad_token_id": 0, "initializer_range": 0.2}
    if family == "bloom":
        config = transformers.BloomConfig(**common, n_layer=_N_LAYERS, n_head=_N_HEADS)
        return transformers.BloomModel(config)
    common |= {"num_hidden_layers": _N_LAYERS, "num_attention_heads": _N_HEADS, "intermediate_size": 2 * _WIDTH}
    common |= {"max_position_embeddings": _N_POSITIONS}
    if family == "llama":
        return transformers.LlamaModel(transformers.LlamaConfig(**common, num_key_value_heads=2))
    if family == "writer":
        config = transformers.LlamaConfig(**common, num_key_value_heads=2, tie_word_embeddings=True)
        return transformers.LlamaForCausalLM(config)
    if family == "mpnet":
        return transformers.MPNetModel(transformers.MPNetConfig(**common), add_pooling_layer=False)
    return transformers.BertModel(transformers.BertConfig(**common), add_pooling_layer=False)
