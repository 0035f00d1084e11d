"""Several trainings that differ in seed become one model: by the mean of their weights, or of their logits."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load

from ptec_udf.config_file import load_config
from ptec_udf.engine.scorer import Scorer
from ptec_udf.engine.torch_engine import pad
from ptec_udf.errors import ArtifactError, ConfigError
from ptec_udf.model.artifact import load_artifact, read_artifact
from ptec_udf.model.artifact_format import ADAPTER, MANIFEST, seal
from ptec_udf.model.backbone import resolve
from ptec_udf.model.ensemble import MeanNetwork
from tests.tiny import LABELS, tiny_backbone, tiny_companies, tiny_extract, tiny_manifest, tiny_network, tiny_text
from tests.tolerance import assert_logits_close
from tests.unit.trainings import QUICK, stop_after
from training.config import TrainConfig
from training.export import export
from training.fit.trainer import Trainer
from training.fit.warm import tensors_of
from training.train import train

TEXTS = [tiny_text(company) for company in tiny_companies(12, seed=11)]


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return tiny_extract(tmp_path_factory.mktemp("extracts") / "few", n=60)


@pytest.fixture
def exported(tiny_folder, load_tiny, tmp_path):
    """Two networks of other prompts and heads as one artifact, and their mean."""

    def exported(family, kind):
        networks = [tiny_network(*load_tiny(family), kind, seed=seed) for seed in (1, 2)]
        mean = MeanNetwork(networks).eval()
        manifest = tiny_manifest(tiny_backbone(tiny_folder, family), networks[0], members=2)
        export(mean, manifest, {}, tmp_path / "made")
        return networks, mean, tmp_path / "made"

    return exported


@pytest.fixture
def train_beside(tiny_folder, few, tmp_path):
    """Trains with the given settings, beside others that share what they have in common."""

    def train_beside(name, *settings):
        places = (f"extract={few}", f"out={tmp_path / name}", f"backbone={tiny_backbone(tiny_folder, 'bert')}")
        overrides = (*places, *QUICK, "stopping.refit=true", "stopping.epochs=1", *settings)
        train(load_config(TrainConfig, None, overrides), shared=tmp_path / "shared")
        return load_artifact(tmp_path / name)

    return train_beside


def logits_of(scorer, texts):
    return np.stack([result.logits for result in scorer.score(texts)])


@pytest.mark.parametrize(("family", "kind"), [("bert", "deep"), ("bert", "input"), ("llama", "input")])
def test_scores_are_the_mean_of_the_members_in_any_batch(exported, family, kind):
    networks, _, folder = exported(family, kind)
    made = load_artifact(folder)
    scorer = Scorer.from_artifact(made, *resolve(made.manifest.backbone.name).load())
    batch = pad([text.ids for text in scorer.encoder.encode(TEXTS)], 0)
    with torch.inference_mode():
        alone = [network(*batch).numpy() for network in networks]
    assert np.abs(alone[0] - alone[1]).max() > 0.1
    found = logits_of(scorer, TEXTS)
    assert_logits_close(found, np.mean(alone, axis=0))
    assert_logits_close(np.concatenate([logits_of(scorer, [text]) for text in TEXTS]), found)


def test_peft_loads_the_first_member(exported, load_tiny, tiny_folder):
    networks, _, folder = exported("bert", "deep")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT still passes the cache under its old name
        wrapped = PeftModel.from_pretrained(resolve(tiny_backbone(tiny_folder, "bert")).load()[0], folder).eval()
        ids = torch.tensor([[5, 6, 7, 8, 9]])
        with torch.inference_mode():
            theirs = wrapped(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
            ours = networks[0]._hidden_cached(ids, torch.ones_like(ids))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5)


def test_artifact_that_lacks_a_member_is_refused(exported):
    made = load_artifact(exported("bert", "deep")[2])
    files = {name: data for name, data in made.files.items() if name != MANIFEST}
    _, manifest = seal(made.manifest.model_copy(update={"members": 3}), files)
    with pytest.raises(ArtifactError, match=r"must hold what manifest\.json says"):
        read_artifact(files | {MANIFEST: manifest})


def test_artifact_whose_head_has_other_labels_is_refused(exported):
    made = load_artifact(exported("bert", "deep")[2])
    files = {name: data for name, data in made.files.items() if name != MANIFEST}
    fewer = made.manifest.model_copy(update={"labels": made.manifest.labels[:-1]})
    with pytest.raises(ArtifactError, match="must hold a head of all labels for each member"):
        read_artifact(files | {MANIFEST: seal(fewer, files)[1]})


@pytest.mark.parametrize(("combine", "refit", "killed"), [("weights", False, "choice-1"), ("logits", True, "refit")])
def test_interrupted_members_end_as_if_they_had_not_been(
    run, tmp_path, monkeypatch, capsys, few, combine, refit, killed
):
    settings = ("members=2", f"combine={combine}", f"stopping.refit={str(refit).lower()}")
    whole = run(tmp_path / "whole", *settings, epochs=1, extract=few)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, epoch=1, training=killed)
        run(tmp_path / "cut", *settings, epochs=1, extract=few)
    assert run(tmp_path / "cut", *settings, epochs=1, extract=few).model_id == whole.model_id
    assert "training resumes after epoch 1" in capsys.readouterr().err
    assert set(whole.metrics["courses"]) == {"choice", "choice-1", *(["refit", "refit-1"] if refit else [])}
    assert whole.manifest.members == (2 if combine == "logits" else None)
    assert whole.head_weight.shape == ((2, len(LABELS), 32) if combine == "logits" else (len(LABELS), 32))
    assert not list(tmp_path.glob(".*"))


def test_members_of_logits_are_taken_from_trainings_of_their_seeds_alone(train_beside, tmp_path, monkeypatch):
    alone = [train_beside(f"alone-{seed}", f"seed={seed}") for seed in (7, 8)]
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_epoch", None)  # none is trained
        both = train_beside("both", "seed=7", "members=2", "combine=logits")
    np.testing.assert_array_equal(both.head_weight, np.stack([made.head_weight for made in alone]))
    assert set(both.metrics["courses"]) == {"choice", "choice-1", "refit", "refit-1"}
    trained = len(list((tmp_path / "shared").iterdir()))
    train_beside("mean", "seed=7", "members=2", "combine=weights")  # they have one start, which seeds alone do not
    assert len(list((tmp_path / "shared").iterdir())) == trained + 2


@pytest.mark.parametrize("form", ["prompt.init=random", "lora={rank: 4, lr: .01}"], ids=["prompt", "lora"])
def test_mean_of_weights_is_that_of_members_with_one_start(run, tmp_path, monkeypatch, few, form):
    fit, firsts, lasts = Trainer.fit, [], []

    def remembering(self, *rest):
        firsts.append(tensors_of(self.network))
        course = fit(self, *rest)
        lasts.append(tensors_of(self.network))
        return course

    monkeypatch.setattr(Trainer, "fit", remembering)
    made = run(tmp_path / "out", form, "members=2", epochs=1, extract=few)
    for name, value in {**made.adapter, "head.weight": made.head_weight, "head.bias": made.head_bias}.items():
        assert torch.equal(firsts[0][name], firsts[1][name])
        assert not torch.equal(lasts[0][name], lasts[1][name])
        torch.testing.assert_close(value, (lasts[0][name] + lasts[1][name]) / 2, rtol=1e-4, atol=1e-5)


def test_mean_of_logits_decides_and_can_be_started_from(run, tmp_path, few):
    settings = ("members=2", "combine=logits", "prompt.init=random", "head_dropout=0", "token_dropout=0")
    earlier = run(tmp_path / "earlier", *settings, epochs=1, extract=few)
    still = ("optimiser.prompt_lr=1e-12", "optimiser.head_lr=1e-12", "optimiser.averaging=0")
    start = (*settings, *still, f"start_from={tmp_path / 'earlier'}")
    later = run(tmp_path / "later", *start, epochs=1, extract=few)
    assert (earlier.adapter["prompt_embeddings"] - earlier.adapter["prompt_embeddings.1"]).abs().max() > 0.1
    for name, value in load(later.files[ADAPTER]).items():
        torch.testing.assert_close(value, earlier.adapter[name])
    torch.testing.assert_close(later.head_bias, earlier.head_bias, rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="members with combine: logits must be that of the model to start from, 2"):
        run(tmp_path / "one", f"start_from={tmp_path / 'earlier'}", extract=few)


def test_logits_of_lora_members_cannot_be_combined(run, tmp_path):
    with pytest.raises(ConfigError, match="combine must be weights for members without a prompt"):
        run(tmp_path / "out", "members=2", "combine=logits", "lora={rank: 4}")
