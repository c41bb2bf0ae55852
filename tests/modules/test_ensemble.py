"""Several models that write as one."""

from functools import partial

import lightning.pytorch as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_rnnattn import (
    GRU,
    LSTM,
    BahdanauDecoder,
    BeamSearch,
    Elman,
    Ensemble,
    ExactMatch,
    InputFeedingDecoder,
    LanguageModel,
    LuongDecoder,
    Seq2Seq,
    UserError,
    WordTokenizer,
    load,
)
from lightning_rnnattn.data import PairBatch, PairText
from lightning_rnnattn.data.padded import pad

LINES = ["b c d a", "a a", "d c b a a", "c"]
TOKENIZER = WordTokenizer().train([f"{line}\n" for line in LINES])
BOS, EOS = TOKENIZER.bos_id, TOKENIZER.eos_id
ROWS = pad([torch.tensor([*TOKENIZER.encode(line), EOS]) for line in LINES])
SOURCE = ROWS.values, ROWS.lengths
BATCH = PairBatch(
    source=ROWS,
    target=ROWS,
    counts=torch.tensor([True, True, False, True]),
    indices=tuple(range(len(LINES))),
    texts=tuple(PairText(line, (line,)) for line in LINES),
)
DECODERS = [
    partial(BahdanauDecoder, rnn=partial(GRU, hidden_size=6)),
    partial(LuongDecoder, rnn=partial(LSTM, hidden_size=7, num_layers=2)),
    partial(InputFeedingDecoder, rnn=partial(Elman, hidden_size=5)),
]


def member(decoder, seed, tokenizer=TOKENIZER):
    torch.manual_seed(seed)
    size = tokenizer.vocab_size
    model = Seq2Seq(size, size, embedding_size=4, encoder=partial(GRU, hidden_size=4), decoder=decoder, dropout=0.2)
    for parameter in model.parameters():  # far from uniform
        nn.init.normal_(parameter)
    model.take_vocabularies({"source_tokenizer": tokenizer, "target_tokenizer": tokenizer})
    return model.double().eval()


@pytest.fixture
def members():
    """Three models of different make."""
    return [member(decoder, seed) for seed, decoder in enumerate(DECODERS)]


def log_mean(members, source, lengths, inputs):
    """The logarithm of the mean of the members' probabilities (B, T, V), the plain way."""
    probabilities = [model(source, lengths, inputs).softmax(-1) for model in members]
    return (sum(probabilities) / len(members)).log()


def behind_bos(target):
    return torch.cat([torch.full_like(target[:, :1], BOS), target[:, :-1]], dim=1)


def test_its_probabilities_are_the_mean_of_the_members(members):
    model = Ensemble(members)
    expected = log_mean(members, *SOURCE, behind_bos(ROWS.values))
    real = torch.arange(ROWS.values.shape[1]) < ROWS.lengths.unsqueeze(1)
    log_probs, targets = model.log_probs(BATCH)
    torch.testing.assert_close(log_probs, expected[real])

    counted = real & BATCH.counts.unsqueeze(1)
    nats = -expected.gather(-1, ROWS.values.unsqueeze(-1)).squeeze(-1)[counted].sum()
    for stage in ("train", "val"):
        total, weight = model.step(BATCH, stage)
        torch.testing.assert_close(total, nats)
        assert weight == counted.sum()
    assert torch.equal(model.teach(BATCH).predicted, expected[real].argmax(-1))
    assert torch.equal(targets == -100, ~counted[real])


def test_steps_give_what_teacher_forcing_does(members):
    model = Ensemble(members)
    inputs = behind_bos(ROWS.values)
    expected = log_mean(members, *SOURCE, inputs)
    cache = model.start(*SOURCE)
    for t in range(inputs.shape[1]):
        logits, cache, weights = model.decode_step(inputs[:, t, None], cache, need_weights=True)
        torch.testing.assert_close(logits[:, 0], expected[:, t])
        looked = model.attention_weights(*SOURCE, ROWS.values)[:, 0, t]
        torch.testing.assert_close(weights[:, 0], looked)


def test_a_text_has_the_probability_that_the_mixture_gives_it_and_no_sentence_minds_another(members):
    search = BeamSearch(beam_size=4, nbest=3, max_length=7)
    model = Ensemble(members, search=search)
    together = model.decode(*SOURCE)
    for b, found in enumerate(together):
        alone = ROWS.values[b : b + 1, : ROWS.lengths[b]], ROWS.lengths[b : b + 1]
        assert [each.tokens for each in model.decode(*alone)[0]] == [each.tokens for each in found]
        for each in found:
            target = torch.tensor([[*each.tokens, EOS]])
            log_probs = log_mean(members, *alone, behind_bos(target)).gather(-1, target.unsqueeze(-1))
            assert log_probs.sum().item() == pytest.approx(each.log_prob, rel=1e-5)
    assert together != members[0].search.search(members[0], *SOURCE, bos_id=BOS, eos_id=EOS)


def test_16_bits_are_rounded_in_the_members_only(members):
    expected, _ = Ensemble(members).log_probs(BATCH)
    model = Ensemble(members).bfloat16()
    log_probs, _ = model.log_probs(BATCH)
    assert log_probs.dtype is torch.float32
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(len(log_probs)))
    assert (log_probs.exp() - expected.exp()).abs().mean() < 0.02
    logits, _, _ = model.decode_step(ROWS.values[:, :1], model.start(*SOURCE))
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(len(LINES), 1))


@pytest.mark.parametrize("copies", [1, 3])
def test_copies_of_one_model_are_that_model(members, copies):
    search = BeamSearch(beam_size=3, max_length=7)
    model = Ensemble([members[0]] * copies, search=search)
    members[0].search = search
    for one, other in zip(model.decode(*SOURCE), members[0].decode(*SOURCE), strict=True):
        assert [each.tokens for each in one] == [each.tokens for each in other]
        assert one[0].score == pytest.approx(other[0].score)


def test_all_members_learn(members):
    model = Ensemble(members).train()
    model.step(BATCH, "train").total.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    for each in members:
        assert any(parameter.grad.abs().sum() > 0 for parameter in each.parameters())


def test_it_is_saved_and_loaded(members, tmp_path):
    model = Ensemble(members, search=BeamSearch(beam_size=2, max_length=7), text_metrics=[ExactMatch])
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, max_steps=1
    )
    trainer.fit(model, DataLoader([BATCH], batch_size=None))
    trainer.save_checkpoint(tmp_path / "all.ckpt")
    again = load(tmp_path / "all.ckpt").double()
    assert type(again) is Ensemble
    assert [type(each.decoder) for each in again.members] == [BahdanauDecoder, LuongDecoder, InputFeedingDecoder]
    assert again.source_tokenizer == again.members[2].target_tokenizer == TOKENIZER
    assert again.search == model.search
    assert list(again.text_metrics["val"]) == ["exact_match"]
    for one, other in zip(again.decode(*SOURCE), model.decode(*SOURCE), strict=True):
        assert one[0].tokens == other[0].tokens
        assert one[0].score == pytest.approx(other[0].score)


def test_members_must_speak_one_language(members):
    other = WordTokenizer().train(["e f g h\n"])
    with pytest.raises(UserError, match="each has a source tokenizer of its own: they must have the same"):
        Ensemble([*members, member(DECODERS[0], 5, other)])
    with pytest.raises(UserError, match="target_vocab_size must be the same, and is 4, 6"):
        Ensemble([Seq2Seq(5, 4), Seq2Seq(5, 6)])
    for wrong in ([], [LanguageModel(5)]):
        with pytest.raises(UserError, match="needs at least one, and each a Seq2SeqModule"):
            Ensemble(wrong)


def test_a_tokenizer_that_is_set_is_the_members_too():
    model = Ensemble([Seq2Seq(6, 6, 3), Seq2Seq(6, 6, 4)])
    assert model.source_tokenizer is None
    model.source_tokenizer = model.target_tokenizer = TOKENIZER
    assert model.teach(BATCH).loss.isfinite()
    known, unknown = Seq2Seq(6, 6, 3), Seq2Seq(6, 6, 4)
    known.take_vocabularies({"source_tokenizer": TOKENIZER, "target_tokenizer": TOKENIZER})
    assert Ensemble([unknown, known]).teach(BATCH).loss.isfinite()


def test_one_member_that_is_to_be_used_decides(members):
    assert not Ensemble([members[0].train(), members[1]]).training
    assert not members[0].training
    assert Ensemble([members[0].train(), members[1].train()]).training
