from functools import partial
from itertools import pairwise

import lightning.pytorch as L
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rnnattn import (
    GRU,
    LSTM,
    AdaptiveSpanAttention,
    AdditiveScore,
    Attention,
    Elman,
    Entmax15,
    Features,
    GeneralScore,
    LanguageModel,
    MinGRU,
    MinLSTM,
    NeuralCache,
    Residual,
    TextDataModule,
    TokenEmbedding,
    UserError,
)
from lightning_rnnattn.data import TokenBatch
from lightning_rnnattn.modules import LossMetric
from lightning_rnnattn.tokenizers import BPETokenizer, CharTokenizer, WordTokenizer

V = 11
RNNS = [LSTM, GRU, partial(Elman, num_layers=2, residual=True), MinGRU, partial(MinLSTM, num_layers=2)]
ATTENTIONS = [
    None,
    partial(Attention, score=AdditiveScore, window=4),
    partial(Attention, score=GeneralScore, num_heads=2, normalizer=Entmax15, window=1),
    partial(Attention, num_heads=2, window=50),
    partial(AdaptiveSpanAttention, num_heads=2, window=9, ramp=3),
]


def build(rnn=LSTM, attention=ATTENTIONS[1], **options):
    input = partial(TokenEmbedding, embedding_size=6)
    return LanguageModel(V, input, rnn=partial(rnn, hidden_size=8), attention=attention, **options).double()


def cut(size, cuts):
    """Sizes of the pieces of a text that is cut at the given places."""
    places = [0, *sorted({c for c in cuts if 0 < c < size}), size]
    return [b - a for a, b in pairwise(places)]


@settings(max_examples=40, deadline=None)
@given(
    rnn=st.sampled_from(RNNS),
    attention=st.sampled_from(ATTENTIONS),
    size=st.integers(1, 12),
    cuts=st.lists(st.integers(1, 11), max_size=6),
    seed=st.integers(0, 100),
)
def test_logits_do_not_depend_on_how_a_text_is_cut(rnn, attention, size, cuts, seed):
    torch.manual_seed(seed)
    model = build(rnn, attention).eval()
    tokens = torch.randint(V, (2, size))
    whole, _ = model(tokens)
    past, pieces = None, []
    for piece in tokens.split(cut(size, cuts), dim=1):
        logits, past = model(piece, past)
        pieces.append(logits)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)


@settings(max_examples=30, deadline=None)
@given(
    rnn=st.sampled_from(RNNS),
    attention=st.sampled_from(ATTENTIONS),
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    seed=st.integers(0, 100),
)
def test_step_by_step_equals_all_at_once_for_texts_of_any_length(rnn, attention, lengths, seed):
    torch.manual_seed(seed)
    model = build(rnn, attention).eval()
    rows = torch.arange(len(lengths))
    tokens, at = torch.randint(V, (len(lengths), 12)), torch.tensor(lengths)
    whole, _ = model(tokens)
    logits, cache = model.prefill(tokens[:, : max(lengths)], at)
    torch.testing.assert_close(logits, whole[rows, at - 1])
    for step in range(6):
        logits, cache = model.decode_step(tokens[rows, at + step], cache)
        torch.testing.assert_close(logits, whole[rows, at + step])


def test_a_state_goes_on_after_texts_of_different_lengths():
    model = build().eval()
    tokens = torch.randint(V, (3, 9))
    whole, _ = model(tokens)
    lengths = torch.tensor([5, 2, 0])
    _, past = model(tokens[:, :5], lengths=lengths)
    rest = torch.stack([tokens[b, n : n + 4] for b, n in enumerate(lengths)])
    logits, _ = model(rest, past)
    expected = torch.stack([whole[b, n : n + 4] for b, n in enumerate(lengths)])
    torch.testing.assert_close(logits, expected)


def test_the_window_is_all_that_attention_reaches():
    model = build(attention=partial(Attention, window=3)).eval()
    tokens = torch.randint(V, (1, 10))
    weights = model.attention_weights(tokens)[0, 0]
    for t in range(10):
        assert (weights[t] > 0).tolist() == [t - 3 < j <= t for j in range(10)]


def test_generation_carries_a_bounded_memory():
    model = build(attention=partial(Attention, window=4)).eval()
    _, cache = model.prefill(torch.randint(V, (1, 3)), torch.tensor([3]))
    for _ in range(10):
        _, cache = model.decode_step(torch.tensor([1]), cache)
    assert cache.memory.value.shape[-2] == 4


def test_loss_is_a_sum_over_what_counts_and_state_is_carried():
    model = build().eval()
    tokens = torch.randint(V, (2, 9))
    mask = torch.ones(2, 4, dtype=torch.bool)
    mask[1, 3] = False
    first = TokenBatch(tokens[:, :4], tokens[:, 1:5], torch.ones_like(mask), is_first=True)
    second = TokenBatch(tokens[:, 4:8], tokens[:, 5:9], mask, is_first=False)
    log_probs = model(tokens)[0].log_softmax(-1)
    nats = -log_probs[:, :8].gather(2, tokens[:, 1:, None])[..., 0]

    for batch, expected, weight in ((first, nats[:, :4].sum(), 8), (second, nats[:, 4:][mask].sum(), 7)):
        total, count = model.step(batch, "val")
        torch.testing.assert_close(total, expected)
        assert count == weight
    again, _ = model.step(first, "val")
    torch.testing.assert_close(again, nats[:, :4].sum())  # a first batch forgets what was carried


def test_training_and_validation_carry_states_of_their_own():
    model = build().eval()
    tokens = torch.randint(V, (1, 9))
    a = TokenBatch(tokens[:, :4], tokens[:, 1:5], torch.ones(1, 4, dtype=torch.bool), is_first=True)
    b = TokenBatch(tokens[:, 4:8], tokens[:, 5:9], torch.ones(1, 4, dtype=torch.bool), is_first=False)
    model.step(a, "train")
    expected, _ = model.step(b, "train")
    model.step(a, "train")
    model.step(a._replace(tokens=tokens[:, 3:7]), "val")
    interrupted, _ = model.step(b, "train")
    assert torch.equal(expected, interrupted)


def test_gradients_stop_at_the_batch():
    model = build()
    tokens = torch.randint(V, (1, 4))
    mask = torch.ones(1, 4, dtype=torch.bool)
    model.step(TokenBatch(tokens, tokens, mask, is_first=True), "train").total.backward()
    carried = model._carried["train"]
    assert not any(x.requires_grad for x in (*carried.rnn, carried.outputs))
    model.step(TokenBatch(tokens, tokens, mask, is_first=False), "train").total.backward()


@pytest.mark.parametrize(("embedding_size", "projected"), [(8, False), (6, True)])
def test_tied_weights_are_one_matrix(embedding_size, projected):
    model = LanguageModel(
        V, partial(TokenEmbedding, embedding_size=embedding_size), rnn=partial(LSTM, hidden_size=8), tie_weights=True
    )
    assert model.output.weight is model.input.embedding.weight
    assert isinstance(model.projection, torch.nn.Linear) == projected
    assert model(torch.zeros(1, 2, dtype=torch.long))[0].shape == (1, 2, V)


def test_dropout_and_label_smoothing_act_in_training_only():
    model = build(dropout=0.5, label_smoothing=0.1)
    tokens = torch.randint(V, (2, 5))
    batch = TokenBatch(tokens, tokens, torch.ones(2, 5, dtype=torch.bool), is_first=True)
    assert not torch.equal(model(tokens)[0], model(tokens)[0])
    assert model.step(batch, "train").total != model.step(batch, "train").total
    model.eval()
    assert torch.equal(model(tokens)[0], model(tokens)[0])
    plain, smoothed = model.step(batch, "val").total, model.step(batch, "train").total
    uniform = -model(tokens)[0].log_softmax(-1).mean(-1).sum()
    torch.testing.assert_close(smoothed, 0.9 * plain + 0.1 * uniform)


def stream_batches(tokens, size):
    """The batches of a stream (B, N)."""
    pieces = zip(tokens[:, :-1].split(size, 1), tokens[:, 1:].split(size, 1), strict=True)
    return [TokenBatch(x, y, torch.ones_like(x, dtype=torch.bool), is_first=i == 0) for i, (x, y) in enumerate(pieces)]


def test_penalties_are_those_of_the_released_awd_lstm():
    """alpha: mean square of the outputs after dropout; beta: mean square of their change before it."""
    options = {"attention": None, "tie_weights": False, "locked_dropout": 0.5}
    plain, penalised = build(**options), build(**options, activation_penalty=2.0, slowness_penalty=1.5)
    penalised.load_state_dict(plain.state_dict())
    [batch] = stream_batches(torch.randint(V, (3, 8)), 7)
    torch.manual_seed(5)
    loss, count = plain.step(batch, "train")
    torch.manual_seed(5)
    raw, _ = penalised.features(batch.tokens)
    dropped = penalised.dropout(raw)
    torch.manual_seed(5)
    total, _ = penalised.step(batch, "train")
    change = raw[:, 1:] - raw[:, :-1]
    expected = loss / count + 2.0 * dropped.pow(2).mean() + 1.5 * change.pow(2).mean()
    torch.testing.assert_close(total / count, expected)
    assert not torch.equal(raw, dropped)
    penalised.eval()
    plain.eval()
    torch.testing.assert_close(penalised.step(batch, "val").total, plain.step(batch, "val").total)


def test_locked_dropout_is_before_the_output_layer():
    model = build(locked_dropout=0.5)
    seen = []
    model.output.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model(torch.randint(V, (2, 5)))
    kept = seen[0] != 0
    assert 0 < kept.double().mean() < 1
    assert (kept == kept[:, :1]).all()


@pytest.mark.parametrize("size", [3, 100])
def test_a_cache_is_exact_however_the_text_is_cut(size):
    """Against Grave et al.'s equations word by word."""
    torch.manual_seed(2)
    cache = NeuralCache(size=size, theta=0.7, share=0.3)
    model = build(cache=cache).eval()
    tokens = torch.randint(4, (2, 13))
    features, _ = model.features(tokens[:, :-1])
    p_model = model.output(features).softmax(-1)
    expected = torch.zeros(2, 12, dtype=torch.float64)
    for b in range(2):
        for t in range(12):
            p = p_model[b, t, tokens[b, t + 1]]
            weights = {i: torch.exp(0.7 * features[b, t] @ features[b, i]) for i in range(max(0, t - size), t)}
            if weights:
                hit = sum(w for i, w in weights.items() if tokens[b, i + 1] == tokens[b, t + 1])
                p = 0.7 * p + 0.3 * hit / sum(weights.values())
            expected[b, t] = -torch.log(p)
    for cut in (1, 4, 12):
        for stage in ("val", "test"):
            total = sum(model.step(batch, stage).total for batch in stream_batches(tokens, cut))
            torch.testing.assert_close(total, expected.sum().float())


def test_a_cache_takes_no_part_in_training_and_its_predictions_are_those_it_is_tested_with():
    model = build(cache=NeuralCache(size=5)).eval()
    plain = build().eval()
    plain.load_state_dict(model.state_dict())
    tokens = torch.randint(3, (1, 9))
    for batch in stream_batches(tokens, 4):
        assert torch.equal(model.step(batch, "train").total, plain.step(batch, "train").total)
        total = model.step(batch, "test").total
        assert not torch.isclose(total, plain.step(batch, "test").total.float())
        [row] = model.predict_step(batch._replace(documents=["a"]), 0)
        torch.testing.assert_close(-sum(row["log_probs"]), total.item())


def test_residual_starts_as_the_plain_network():
    torch.manual_seed(1)
    plain = build(attention=None).eval()
    attentive = build(combine=Residual).eval()
    attentive.load_state_dict(plain.state_dict(), strict=False)
    tokens = torch.randint(V, (2, 5))
    torch.testing.assert_close(attentive(tokens)[0], plain(tokens)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 1.5}, "dropout=1.5"),
        ({"label_smoothing": 2.0}, "label_smoothing=2.0"),
        ({"input": Features, "tie_weights": True}, "tie_weights: Features has no embedding"),
        ({"rnn": partial(LSTM, bidirectional=True)}, "bidirectional must be false"),
        ({"attention": Attention}, "attention.window"),
    ],
)
def test_settings_that_a_language_model_cannot_use(options, message):
    with pytest.raises(UserError, match=message):
        LanguageModel(V, **options)


def fit(tmp_path, text, tokenizer, *, max_steps=3, precision=None, ckpt_path=None, **options):
    path = tmp_path / "text.txt"
    path.write_text(text)
    data = TextDataModule(
        str(path),
        val_files=str(path),
        test_files=str(path),
        tokenizer=tokenizer,
        batch_size=2,
        seq_len=8,
        cache_dir=str(tmp_path / "cache"),
    )
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=max_steps,
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = LanguageModel(
        data.vocab_size,
        partial(TokenEmbedding, embedding_size=8),
        rnn=partial(GRU, hidden_size=8),
        **{"attention": partial(Attention, window=4), **options},
    )
    trainer.fit(model, data, ckpt_path=ckpt_path)
    return trainer, model, data


TEXT = "the cat sat on the mat\nthe dog sat on the log\n" * 8


def test_layers_may_add_to_what_training_minimises(tmp_path):
    logs = {}
    for penalty in (0.0, 0.25):
        torch.manual_seed(1)
        options = {"optimizer": partial(torch.optim.SGD, lr=0.1), "max_steps": 1}
        attention = partial(AdaptiveSpanAttention, window=4, span_penalty=penalty)
        _, model, _ = fit(tmp_path, TEXT, CharTokenizer(), attention=attention, **options)
        logs[penalty] = model.core.attention.log_span.detach()
    # 0.25 z more to be minimised, z = exp(log_span), which was 2
    torch.testing.assert_close(logs[0.0] - logs[0.25], torch.tensor([0.1 * 0.25 * 2]))


@pytest.mark.parametrize("tokenizer", [CharTokenizer(), BPETokenizer(vocab_size=300), WordTokenizer()])
def test_metrics_are_those_of_the_whole_text(tmp_path, tokenizer):
    trainer, model, data = fit(tmp_path, TEXT, tokenizer)
    [metrics] = trainer.test(model, data, verbose=False)
    ids = torch.tensor([data.tokenizer.encode(TEXT)])

    nats, tokens, characters = 0.0, 0, 0
    for row in torch.arange(ids.shape[1] - 1).tensor_split(2):  # evaluation cuts the text into two streams
        logits, _ = model.eval()(ids[:, row])
        nats -= logits.log_softmax(-1)[0].gather(1, ids[0, row + 1, None]).sum().item()
        tokens += len(row)
        characters += len(data.tokenizer.decode(ids[0, row + 1]))
    assert metrics["test_loss"] == pytest.approx(nats / tokens, rel=1e-5)
    assert metrics["test_perplexity"] == pytest.approx(torch.tensor(nats / tokens).exp().item(), rel=1e-5)
    if isinstance(tokenizer, WordTokenizer):
        assert "test_bpc" not in metrics  # words do not say how many characters they stand for
    else:
        assert metrics["test_bpc"] == pytest.approx(nats / characters / torch.tensor(2.0).log().item(), rel=1e-5)


def test_plateau_scheduler_and_its_monitor(tmp_path):
    from lightning.pytorch.cli import ReduceLROnPlateau

    trainer, _, _ = fit(
        tmp_path,
        TEXT,
        CharTokenizer(),
        optimizer=partial(torch.optim.SGD, lr=1.0),
        lr_scheduler=partial(ReduceLROnPlateau, monitor="val_loss"),
    )
    [config] = trainer.lr_scheduler_configs
    assert config.monitor == "val_loss"
    assert isinstance(trainer.optimizers[0], torch.optim.SGD)


def test_a_loss_that_is_no_number_shows():
    metric = LossMetric()
    metric.update(torch.tensor(float("nan")), torch.tensor(3))
    metric.update(torch.tensor(2.0), torch.tensor(1))
    assert metric.compute().isnan()


def test_a_loaded_model_starts_a_new_run_with_the_new_seed(tmp_path):
    trainer, _, data = fit(tmp_path, TEXT, CharTokenizer())
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    weights = []
    for seed in (1, 2):
        model = LanguageModel.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
        model.dropout[0].p = 0.5
        L.seed_everything(seed, verbose=False)
        trainer = L.Trainer(
            accelerator="cpu", max_steps=2, logger=False, enable_checkpointing=False, enable_progress_bar=False
        )
        trainer.fit(model, data)
        weights.append(model.output.weight.detach().clone())
    assert not torch.equal(*weights)


def test_resuming_with_text_of_another_vocabulary_is_refused(tmp_path):
    trainer, _, _ = fit(tmp_path, TEXT, CharTokenizer())
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="tokenizer"):
        fit(tmp_path / "other", TEXT.upper(), CharTokenizer(), ckpt_path=tmp_path / "model.ckpt")


def test_data_of_more_tokens_than_the_model_are_refused():
    data, tokenizer = TextDataModule("none.txt"), CharTokenizer().train(["abcd"])
    data.tokenizer = tokenizer
    model = LanguageModel(tokenizer.vocab_size - 1)
    with pytest.raises(UserError, match=rf"knows {tokenizer.vocab_size} ids, and the model was made for"):
        model.take_vocabularies_of(data)
    LanguageModel(tokenizer.vocab_size + 7).take_vocabularies_of(data)  # rounded up for speed


def test_a_run_goes_on_in_another_precision(tmp_path):
    trainer, _, _ = fit(tmp_path, TEXT, CharTokenizer(), precision="bf16-true")
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    trainer, _, _ = fit(tmp_path, TEXT, CharTokenizer(), max_steps=5, ckpt_path=tmp_path / "model.ckpt")
    assert trainer.global_step == 5
