"""Models as ONNX graphs, run by onnxruntime."""

from functools import partial

import pytest
import torch

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from lightning_rnnattn import (
    GRU,
    LSTM,
    AdditiveScore,
    Attention,
    BahdanauDecoder,
    CosineScore,
    Elman,
    Entmax15,
    GeneralScore,
    InputFeedingDecoder,
    LanguageModel,
    LuongDecoder,
    MinGRU,
    MinLSTM,
    Residual,
    ScaledDotScore,
    Seq2Seq,
    SequenceTagger,
    Sparsemax,
    TokenEmbedding,
    UserError,
    ZoneoutLSTM,
)
from lightning_rnnattn.export.graphs import Graph
from lightning_rnnattn.export.onnx import check, write


class Fixed(LanguageModel):
    """A subclass whose arguments do not name the vocabulary's size."""

    def __init__(self) -> None:
        super().__init__(11, partial(TokenEmbedding, embedding_size=4), rnn=partial(GRU, hidden_size=6))


TRANSLATORS = {
    "Bahdanau, GRU": {
        "encoder": partial(GRU, hidden_size=6, bidirectional=True),
        "decoder": partial(BahdanauDecoder, rnn=partial(GRU, hidden_size=8)),
    },
    "feeding, two layers, two heads": {
        "encoder": partial(LSTM, hidden_size=6, num_layers=2, bidirectional=True, layer_norm=True),
        "decoder": partial(
            InputFeedingDecoder,
            rnn=partial(LSTM, hidden_size=8, num_layers=2),
            attention=partial(Attention, score=AdditiveScore, num_heads=2),
        ),
    },
    "Luong, cosine": {
        "encoder": partial(Elman, hidden_size=8, num_layers=2, residual=True),
        "decoder": partial(
            LuongDecoder, rnn=partial(Elman, hidden_size=8), attention=partial(Attention, score=CosineScore)
        ),
        "share_embeddings": True,
        "tie_weights": True,
    },
    "minimal units": {
        "encoder": partial(MinLSTM, hidden_size=6, num_layers=2, bidirectional=True),
        "decoder": partial(BahdanauDecoder, rnn=partial(MinGRU, hidden_size=8)),
    },
    "Luong, sparsemax": {
        "encoder": partial(LSTM, hidden_size=6),
        "decoder": partial(
            LuongDecoder,
            rnn=partial(GRU, hidden_size=8),
            attention=partial(Attention, score=GeneralScore, normalizer=Sparsemax),
        ),
    },
    "Luong, entmax": {
        "encoder": partial(LSTM, hidden_size=6),
        "decoder": partial(
            LuongDecoder,
            rnn=partial(GRU, hidden_size=8),
            attention=partial(Attention, score=GeneralScore, normalizer=Entmax15, num_heads=2),
        ),
    },
}

LANGUAGE_MODELS = {
    "plain LSTM": {"rnn": partial(LSTM, hidden_size=8, num_layers=2)},
    "additive": {"rnn": partial(GRU, hidden_size=8), "attention": partial(Attention, score=AdditiveScore, window=5)},
    "minimal units": {"rnn": partial(MinGRU, hidden_size=8, num_layers=2)},
    "zoneout": {"rnn": partial(ZoneoutLSTM, hidden_size=8, zoneout=0.1)},
    "residual": {
        "rnn": partial(Elman, hidden_size=8, num_layers=2, residual=True),
        "attention": partial(Attention, score=ScaledDotScore, num_heads=2, window=3),
        "combine": Residual,
        "tie_weights": True,
    },
}


def translator(**options):
    return Seq2Seq(19, 19, embedding_size=6, **options).eval()


@pytest.mark.parametrize("name", TRANSLATORS)
def test_translator(name, tmp_path):
    model = translator(**TRANSLATORS[name])
    write(model, tmp_path)
    check(model, tmp_path)
    check(model, tmp_path, batch_size=1, source_length=30)


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_language_model(name, tmp_path):
    model = LanguageModel(19, partial(TokenEmbedding, embedding_size=6), **LANGUAGE_MODELS[name]).eval()
    write(model, tmp_path)
    check(model, tmp_path)
    check(model, tmp_path, batch_size=1)


def test_a_model_whose_arguments_do_not_name_its_vocabulary(tmp_path):
    write(model := Fixed().eval(), tmp_path)
    check(model, tmp_path)


def test_a_graph_says_what_goes_in_and_out(tmp_path):
    write(translator(**TRANSLATORS["Bahdanau, GRU"]), tmp_path)
    step = Graph(tmp_path / "step.onnx").describe()
    assert {name: value["shape"] for name, value in step["inputs"].items()} == {
        "tokens": ["batch", "hypotheses"],
        "state.rnn": [1, "batch", "hypotheses", 8],
        "memory.key.key": ["batch", 1, "source", 8],  # the exponentials are our own way to compute it
        "memory.value": ["batch", 1, "source", 12],
        "memory.mask": ["batch", "source"],
    }
    assert {name: value["shape"] for name, value in step["outputs"].items()} == {
        "logits": ["batch", "hypotheses", 19],
        "weights": ["batch", "hypotheses", "source"],
        "next.state.rnn": [1, "batch", "hypotheses", 8],
    }


class FixedLength(Seq2Seq):
    """Python decides here by a size, which a trace takes for a constant."""

    def start(self, source, lengths):
        cache = super().start(source, lengths)
        return cache._replace(memory=cache.memory._replace(value=cache.memory.value * float(source.shape[1])))


def test_what_differs_at_another_size_is_refused(tmp_path):
    model = FixedLength(19, 19, embedding_size=6, **TRANSLATORS["Bahdanau, GRU"]).eval()
    write(model, tmp_path)
    with pytest.raises(UserError, match="the ONNX graph gives logits that differ"):
        check(model, tmp_path)


def test_a_loop_over_the_source_is_refused(tmp_path):
    model = translator(encoder=partial(ZoneoutLSTM, hidden_size=6), decoder=LuongDecoder)
    write(model, tmp_path)
    with pytest.raises(UserError, match="holds for the sizes of its trace only"):
        check(model, tmp_path)


def test_other_weights_are_noticed(tmp_path):
    model = translator(**TRANSLATORS["Bahdanau, GRU"])
    write(model, tmp_path)
    torch.nn.init.normal_(model.output.weight)
    with pytest.raises(UserError, match="logits"):
        check(model, tmp_path)


def test_other_models_say_so(tmp_path):
    with pytest.raises(UserError, match="not SequenceTagger"):
        write(SequenceTagger(19, 3, 5), tmp_path)
