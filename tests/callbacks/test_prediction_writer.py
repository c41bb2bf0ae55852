import json
import math
from typing import Any, NamedTuple

import lightning.pytorch as L
import pytest

from lightning_rnnattn.callbacks import PredictionWriter
from lightning_rnnattn.tokenizers import BPETokenizer

from .tiny import Batches, TinyModel


class Rows(NamedTuple):
    """What a batch of two documents side by side looks like to the writer."""

    rows: list[dict[str, Any]]
    is_first: bool = True


class Loader:
    """Batches that are ready."""

    def __init__(self, *batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


class Echo(L.LightningModule):
    """Predicts what the batch says."""

    def predict_step(self, batch, batch_idx):
        return batch.rows

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return batch


def row(document, tokens, log_probs):
    return {"document": document, "tokens": tokens, "log_probs": log_probs}


@pytest.fixture
def predict(tmp_path):
    def run(batches, module=None):
        output = tmp_path / "out" / "predictions.jsonl"
        trainer = L.Trainer(
            logger=False,
            accelerator="cpu",
            enable_progress_bar=False,
            callbacks=[PredictionWriter(str(output))],
            default_root_dir=tmp_path,
        )
        trainer.predict(module or Echo(), batches, return_predictions=False)
        assert [path.name for path in output.parent.iterdir()] == ["predictions.jsonl"]
        return [json.loads(line) for line in output.read_text().splitlines()]

    return run


def test_chunks_of_a_document_are_joined(predict):
    half, quarter = math.log(0.5), math.log(0.25)
    documents = predict(
        Loader(
            Rows([row("a", [1, 2], [half, half]), row("b", [5], [half])]),
            Rows([row("a", [3], [quarter]), row("b", [], [])], is_first=False),
            Rows([row("a", [9], [half])]),  # another document of the same name
        )
    )
    assert [document["document"] for document in documents] == ["a", "b", "a"]
    assert [document["ids"] for document in documents] == [[1, 2, 3], [5], [9]]
    assert [document["tokens"] for document in documents] == [[1, 2, 3], [5], [9]]  # there is no tokenizer
    assert documents[0]["log_probs"] == pytest.approx([half, half, quarter], abs=1e-6)
    assert documents[0]["nats"] == pytest.approx(4 * math.log(2), abs=1e-6)
    assert documents[0]["perplexity"] == pytest.approx(2 ** (4 / 3))
    assert documents[1]["num_tokens"] == 1


def test_a_document_without_tokens(predict):
    (document,) = predict(Loader(Rows([row("empty", [], [])])))
    assert (document["num_tokens"], document["nats"], document["perplexity"]) == (0, 0, None)
    assert document["tokens"] == document["ids"] == document["log_probs"] == []


def test_tokens_are_text_where_the_module_has_a_tokenizer(predict):
    documents = predict(Batches(2), TinyModel())
    assert [document["document"] for document in documents] == ["0.0", "0.1", "1.0", "1.1"]
    assert "".join(documents[0]["tokens"]) == "o be, or no"


def test_ids_keep_what_the_text_of_single_bytes_loses(predict):
    tokenizer = BPETokenizer(vocab_size=260).train(["plain text"])  # é is two bytes, and no token of its own
    module = Echo()
    module.tokenizer = tokenizer
    (document,) = predict(Loader(Rows([row("a", ids := tokenizer.encode("né"), [-1.0] * len(ids))])), module)
    assert "\ufffd" in document["tokens"]
    assert tokenizer.decode(document["ids"]) == "né"


def test_an_error_leaves_nothing_behind(tmp_path):
    class Fails(Echo):
        def predict_step(self, batch, batch_idx):
            if batch_idx == 1:
                raise RuntimeError("no")
            return batch.rows

    output = tmp_path / "predictions.jsonl"
    trainer = L.Trainer(
        logger=False,
        accelerator="cpu",
        enable_progress_bar=False,
        callbacks=[PredictionWriter(str(output))],
        default_root_dir=tmp_path,
    )
    with pytest.raises(RuntimeError):
        trainer.predict(Fails(), Loader(*[Rows([row("a", [1], [-1.0])])] * 2), return_predictions=False)
    assert not list(tmp_path.iterdir())
