import json
from functools import partial

import lightning.pytorch as L
import pytest
import torch
from torch import nn

from lightning_rnnattn import (
    BLEU,
    GRU,
    LSTM,
    AdditiveScore,
    Attention,
    BahdanauDecoder,
    BeamSearch,
    Elman,
    ExactMatch,
    Greedy,
    InputFeedingDecoder,
    LuongDecoder,
    PairDataModule,
    PhoneErrorRate,
    ProjectionBridge,
    Sampling,
    Seq2Seq,
    UserError,
    WordTokenizer,
    ZeroBridge,
    load,
)
from lightning_rnnattn.cli import main
from lightning_rnnattn.data import PairBatch, PairText
from lightning_rnnattn.data.padded import pad

LINES = ["b c d a", "a a", "d c b a a", "c"]
TOKENIZER = WordTokenizer().train([f"{line}\n" for line in LINES])
DECODERS = [
    partial(BahdanauDecoder, rnn=partial(GRU, hidden_size=6)),
    partial(LuongDecoder, rnn=partial(LSTM, hidden_size=6, num_layers=2)),
    partial(InputFeedingDecoder, rnn=partial(Elman, hidden_size=6), attention=partial(Attention, score=AdditiveScore)),
]


def build(decoder=DECODERS[0], **options):
    options = {"encoder": partial(LSTM, hidden_size=4, bidirectional=True), "embedding_size": 5, **options}
    size = TOKENIZER.vocab_size
    model = Seq2Seq(size, options.pop("target_vocab_size", size), decoder=decoder, **options).double()
    model.take_vocabularies({"source_tokenizer": TOKENIZER, "target_tokenizer": TOKENIZER})
    return model


def rows(lines):
    return [torch.tensor([*TOKENIZER.encode(line), TOKENIZER.eos_id]) for line in lines]


def batch_of(sources=LINES, targets=LINES, counts=None):
    return PairBatch(
        source=pad(rows(sources)),
        target=pad(rows(targets)),
        counts=torch.tensor([True] * len(sources) if counts is None else counts),
        indices=tuple(range(7, 7 + len(sources))),
        texts=tuple(PairText(source, (target,)) for source, target in zip(sources, targets, strict=True)),
    )


def inputs_of(batch):
    begin = torch.full_like(batch.target.values[:, :1], TOKENIZER.bos_id)
    return torch.cat([begin, batch.target.values[:, :-1]], dim=1)


@pytest.mark.parametrize("tie_weights", [False, True])
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_loop_of_steps_gives_the_logits_of_teacher_forcing(decoder, tie_weights):
    model, batch = build(decoder, tie_weights=tie_weights).eval(), batch_of()
    inputs = inputs_of(batch)
    logits = model(*(batch.source.values, batch.source.lengths), inputs)
    alignments = model.attention_weights(batch.source.values, batch.source.lengths, batch.target.values)
    cache = model.start(batch.source.values, batch.source.lengths)
    for t in range(inputs.shape[1]):
        out, cache, weights = model.decode_step(inputs[:, t, None], cache, need_weights=True)
        torch.testing.assert_close(out[:, 0], logits[:, t])
        torch.testing.assert_close(weights[:, 0], alignments[:, :, t].mean(1))
    assert model.decode_step(inputs[:, :1], cache)[2] is None


@pytest.mark.parametrize("decoder", DECODERS)
def test_hypotheses_are_chosen_and_sentences_leave_without_a_copy_of_the_memory(decoder):
    model, batch = build(decoder).eval(), batch_of()
    cache = model.start(batch.source.values, batch.source.lengths)
    wide = cache.select(torch.zeros(4, 3, dtype=torch.int64))
    assert wide.memory is cache.memory
    tokens = torch.randint(TOKENIZER.vocab_size, (4, 3))
    logits, wide, _ = model.decode_step(tokens, wide)
    for k in range(3):
        alone, _, _ = model.decode_step(tokens[:, k, None], cache)
        torch.testing.assert_close(logits[:, k], alone[:, 0])

    picks, stay = torch.tensor([[2, 2], [0, 1], [1, 0], [2, 1]]), torch.tensor([0, 3])
    after, _, _ = model.decode_step(tokens[:, :2], wide.select(picks))
    for b in range(4):
        straight = wide.select(picks).keep(torch.tensor([b]))
        out, _, _ = model.decode_step(tokens[b : b + 1, :2], straight)
        torch.testing.assert_close(out[0], after[b])
    kept, _, _ = model.decode_step(tokens[stay, :2], wide.select(picks).keep(stay))
    torch.testing.assert_close(kept, after[stay])


@pytest.mark.parametrize(
    "search", [Greedy(max_length=6), BeamSearch(max_length=6, beam_size=3), Sampling(max_length=6)]
)
@pytest.mark.parametrize("decoder", DECODERS)
def test_what_is_found_has_the_probability_that_teacher_forcing_gives_it(decoder, search):
    model, batch = build(decoder, search=search).eval(), batch_of()
    for parameter in model.parameters():  # far from uniform
        nn.init.normal_(parameter)
    found = model.decode(batch.source.values, batch.source.lengths, need_weights=True)
    for b, hypotheses in enumerate(found):
        alone = [row[b : b + 1] for row in (batch.source.values, batch.source.lengths)]
        for hypothesis in hypotheses:
            target = torch.tensor([[*hypothesis.tokens, TOKENIZER.eos_id]])
            inputs = torch.cat([torch.tensor([[TOKENIZER.bos_id]]), target[:, :-1]], dim=1)
            log_probs = model(*alone, inputs).log_softmax(-1).gather(-1, target.unsqueeze(-1))
            assert log_probs.sum().item() == pytest.approx(hypothesis.log_prob, rel=1e-5)
            weights = model.attention_weights(*alone, target)[0].mean(0)[:-1, : len(LINES[b].split()) + 1]
            torch.testing.assert_close(hypothesis.weights.double(), weights, atol=1e-6, rtol=1e-5)


def test_the_loss_is_the_nats_of_each_target_token_its_end_included():
    model, batch = build(dropout=0.5, label_smoothing=0.3).eval(), batch_of()
    logits = model(batch.source.values, batch.source.lengths, inputs_of(batch)).log_softmax(-1)
    expected = sum(
        -logits[b, t, batch.target.values[b, t]] for b, n in enumerate(batch.target.lengths) for t in range(n)
    )
    total, weight = model.step(batch, "val")
    torch.testing.assert_close(total, expected)
    assert weight == batch.target.lengths.sum() == model.num_tokens(batch)
    smooth, _ = model.step(batch, "train")
    spread = sum(-logits[b, t].mean() for b, n in enumerate(batch.target.lengths) for t in range(n))
    torch.testing.assert_close(smooth, 0.7 * expected + 0.3 * spread)


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        ("source_embedding", "encoder"),
        ("encoder", "decoder.attention.score.key_proj"),
        ("target_embedding", "decoder.rnn"),
        ("decoder.combine", "output"),
    ],
)
def test_dropout_is_of_embeddings_of_what_was_read_and_before_the_output(before, behind, assert_drops):
    model, source, inputs = build(DECODERS[1], dropout=0.3), *torch.randint(TOKENIZER.vocab_size, (2, 20, 6))
    layers = map(model.get_submodule, (before, behind))
    assert_drops(model, lambda: model(source, torch.full((20,), 6), inputs), 0.3, *layers)


def test_the_loss_and_the_steps_drop_what_forward_drops():
    model, batch = build(dropout=0.5), batch_of(targets=[""] * 4)  # of one token, so that all draw in the same order
    source, inputs = (batch.source.values, batch.source.lengths), inputs_of(batch)

    def drawn(run):
        torch.manual_seed(4)
        return run()

    logits = drawn(lambda: model(*source, inputs))
    stepped, _, _ = drawn(lambda: model.decode_step(inputs, model.start(*source)))
    loss, _ = drawn(lambda: model.step(batch, "train"))
    torch.testing.assert_close(stepped, logits)
    torch.testing.assert_close(
        loss, nn.functional.cross_entropy(logits[:, 0], batch.target.values[:, 0], reduction="sum")
    )


def test_rows_that_do_not_count_have_no_part_and_run_every_parameter():
    model, whole = build(), batch_of()
    total, weight = model.step(whole._replace(counts=torch.tensor([True, True, False, False])), "train")
    first, size = model.step(batch_of(LINES[:2], LINES[:2]), "train")
    torch.testing.assert_close(total, first)
    assert weight == size
    model.zero_grad()
    nothing, none = model.step(whole._replace(counts=torch.zeros(4, dtype=torch.bool)), "train")
    nothing.backward()
    assert nothing == none == 0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_batch_equals_its_rows_one_by_one(decoder):
    model = build(decoder)
    together, _ = model.step(batch_of(), "train")
    alone = sum(model.step(batch_of([line], [line]), "train").total for line in LINES)
    torch.testing.assert_close(together, alone)


def test_one_matrix_for_all_three():
    model = build(share_embeddings=True, tie_weights=True)
    assert model.source_embedding.weight is model.target_embedding.weight is model.output.weight
    assert model.projection.weight.shape == (5, 6)  # features to embedding
    assert isinstance(build(tie_weights=True, embedding_size=6).projection, nn.Identity)
    apart = build(tie_weights=True)
    assert apart.source_embedding.weight is not apart.target_embedding.weight is apart.output.weight


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share_embeddings": True, "target_vocab_size": 9}, "the target 9: one matrix needs one vocabulary"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"label_smoothing": -0.1}, "label_smoothing=-0.1"),
        ({"text_metrics": [ExactMatch, ExactMatch]}, "two are called 'exact_match'"),
    ],
)
def test_what_cannot_work_is_said(options, message):
    with pytest.raises(UserError, match=message):
        build(**options)


def test_without_a_tokenizer_it_says_so():
    model = Seq2Seq(5, 5)
    with pytest.raises(UserError, match="the target tokenizer is not known"):
        model.step(batch_of(), "train")


@pytest.mark.parametrize("bridge", [ZeroBridge, ProjectionBridge])
def test_predictions_can_be_read(bridge):
    model = build(bridge=bridge, search=BeamSearch(beam_size=3, nbest=2, max_length=4))
    batch = batch_of(counts=[True, False, True, True])
    found = model.predict_step(batch, 0)
    assert [row["index"] for row in found] == [7, 9, 10]
    assert [row["source"] for row in found] == [LINES[0], *LINES[2:]]
    assert all(row["nbest"][0] == {"text": row["text"], "score": row["score"]} for row in found)
    assert json.loads(json.dumps(found)) == found
    model.search = Greedy(max_length=4)
    assert "nbest" not in model.predict_step(batch, 0)[0]


def test_an_empty_line_stays_empty():
    model = build(search=BeamSearch(beam_size=3, nbest=2, min_length=2, max_length=4))
    found = model.predict_step(batch_of(["", "b c"], ["a", "a"]), 0)
    assert [(row["text"] == "", "nbest" in row) for row in found] == [(True, False), (False, True)]
    assert found[0]["score"] == 0.0


def test_shared_embeddings_need_one_vocabulary_not_two_of_one_size():
    size = TOKENIZER.vocab_size
    other = WordTokenizer().train([f"{line.upper()}\n" for line in LINES])
    assert other.vocab_size == size
    apart = Seq2Seq(size, size)
    apart.take_vocabularies({"source_tokenizer": TOKENIZER, "target_tokenizer": other})
    model = Seq2Seq(size, size, share_embeddings=True)
    with pytest.raises(UserError, match=r"model.share_embeddings: source and target have vocabularies of their own"):
        model.take_vocabularies({"source_tokenizer": TOKENIZER, "target_tokenizer": other})


def test_shows_where_it_looks():
    model, batch = build(search=BeamSearch(beam_size=2, nbest=2, max_length=4)).eval(), batch_of()
    first, second = (views[0] for views in model.attention_views(batch, 2))
    assert first.keys == first.queries == ("b", "c", "d", "a", TOKENIZER.decode([TOKENIZER.eos_id]))
    assert second.weights.shape == (1, 3, 3)
    torch.testing.assert_close(first.weights.sum(-1), torch.ones(1, 5))
    best, other = model.text_views("d a c")
    assert (best.name, other.name) == ("hypothesis 1", "hypothesis 2")
    assert best.keys[:3] == ("d", "a", "c")
    assert best.weights.shape == (1, len(best.queries), 4)


@pytest.fixture
def files(tmp_path):
    """Pairs whose target is the source, backwards."""
    torch.manual_seed(0)
    words = [[chr(97 + i) for i in torch.randint(6, (int(n),))] for n in torch.randint(1, 6, (400,))]
    (tmp_path / "source.txt").write_text("".join(" ".join(line) + "\n" for line in words))
    (tmp_path / "target.txt").write_text("".join(" ".join(line[::-1]) + "\n" for line in words))
    (tmp_path / "new.txt").write_text("a b\nf e d c\n\nc\n")
    return tmp_path


def test_learns_validates_tests_and_loads_again(files):
    paths = {"train_source": f"{files}/source.txt", "train_target": f"{files}/target.txt"}
    paths |= {name.replace("train", "test"): path for name, path in paths.items()}
    data = PairDataModule(**paths, val_fraction=0.1, source_tokenizer=WordTokenizer(), cache_dir=str(files))
    model = Seq2Seq(
        data.source_vocab_size,
        data.target_vocab_size,
        embedding_size=24,
        encoder=partial(GRU, hidden_size=24, bidirectional=True),
        decoder=partial(BahdanauDecoder, rnn=partial(GRU, hidden_size=48)),
        search=Greedy(max_length=10),
        text_metrics=[ExactMatch, PhoneErrorRate],
        optimizer=partial(torch.optim.Adam, lr=0.01),
    )
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=200,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(model, datamodule=data)
    known = trainer.callback_metrics
    assert known["val_perplexity"] == pytest.approx(float(known["val_loss"].exp()), rel=1e-4)
    assert known["val_exact_match"] > 60
    assert known["val_per"] < 20
    assert known["val_accuracy"] > 0.8
    assert trainer.test(model, datamodule=data, verbose=False)[0]["test_exact_match"] > 60
    path = files / "model.ckpt"
    trainer.save_checkpoint(path)
    again = load(path)
    assert again.search == Greedy(max_length=10)
    assert again.source_tokenizer == data.source_tokenizer
    source = torch.tensor([[*data.source_tokenizer.encode("b c a"), data.source_tokenizer.eos_id]])
    (best,) = again.decode(source, torch.tensor([4]))[0]
    assert again.text(best.tokens) == "a c b"


def test_a_fit_may_follow_a_validation(files):
    paths = {f"{split}_{side}": f"{files}/{side}.txt" for split in ("train", "val") for side in ("source", "target")}
    data = PairDataModule(**paths, source_tokenizer=WordTokenizer(), cache_dir=str(files))
    data.prepare_data()
    data.setup("fit")
    model = Seq2Seq(data.source_vocab_size, data.target_vocab_size, text_metrics=[ExactMatch, BLEU])
    silent = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(accelerator="cpu", max_steps=2, enable_checkpointing=False, **silent)
    before = trainer.validate(model, datamodule=data, verbose=False)
    trainer.fit(model, datamodule=data)
    after = trainer.validate(model, datamodule=data, verbose=False)
    assert before[0]["val_loss"] != after[0]["val_loss"]


def test_from_the_command_line_to_predictions(files, monkeypatch):
    monkeypatch.chdir(files)
    common = [
        *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.logger.class_path=CSVLogger"),
        *("--trainer.logger.save_dir=runs", "--trainer.logger.name=pairs"),
    ]
    main(
        [
            *("fit", "--model=Seq2Seq", "--model.embedding_size=8", "--model.encoder=GRU", "--model.bridge=ZeroBridge"),
            *("--model.encoder.hidden_size=8", "--model.decoder=InputFeedingDecoder", "--model.decoder.rnn=GRU"),
            *("--model.decoder.rnn.hidden_size=8", "--model.decoder.attention.score=AdditiveScore"),
            *("--model.decoder.attention.num_heads=2", "--model.share_embeddings=true", "--model.tie_weights=true"),
            *("--model.text_metrics=[ExactMatch]", "--model.search=Greedy", "--model.search.max_length=9"),
            *("--data=PairDataModule", "--data.train_source=source.txt", "--data.train_target=target.txt"),
            *("--data.val_fraction=0.1", "--data.source_tokenizer=WordTokenizer", f"--data.cache_dir={files}"),
            *("--trainer.max_steps=3", *common),
        ]
    )
    (last,) = files.rglob("last.ckpt")
    options = [f"--ckpt_path={last}", "--data.predict_source=new.txt", *common]
    main(["predict", *options, "--output=plain.txt"])
    assert len((files / "plain.txt").read_text().splitlines()) == 4
    main(["predict", *options, "--output=page.HTML"])
    assert "<p>f e d c</p>" in (files / "page.HTML").read_text()
    beam = ["--model.search=BeamSearch", "--model.search.beam_size=4", "--model.search.nbest=3"]
    main(["predict", *options, *beam, "--output=found.jsonl"])
    found = [json.loads(line) for line in (files / "found.jsonl").read_text().splitlines()]
    assert [row["source"] for row in found] == ["a b", "f e d c", "", "c"]
    empty = found.pop(2)
    assert (empty["text"], "nbest" in empty) == ("", False)
    assert all(len(row["nbest"]) == 3 for row in found)
    assert all(row["nbest"] == sorted(row["nbest"], key=lambda each: -each["score"]) for row in found)
