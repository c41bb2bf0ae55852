"""What modules say about where they looked: of real batches, and of the same texts as a user types them."""

from functools import partial

import pytest
import torch

from lightning_rnnattn import (
    LSTM,
    Attention,
    CharacterEncoder,
    LanguageModel,
    SequenceTagger,
    ShowsAttention,
    TaggedDataModule,
    TextDataModule,
    UserError,
    WordTokenizer,
)

WINDOW = partial(Attention, num_heads=2, window=3)


def language_model(folder, tokenizer, attention=WINDOW):
    (folder / "text.txt").write_text("the cat sat on the mat\n" * 20)
    files = str(folder / "text.txt")
    data = TextDataModule(files, files, tokenizer=tokenizer, batch_size=2, seq_len=7, cache_dir=str(folder / "cache"))
    data.prepare_data()
    model = LanguageModel(data.vocab_size, rnn=partial(LSTM, hidden_size=8), attention=attention).eval()
    model.tokenizer = data.tokenizer
    return model, next(iter(data.val_dataloader()))


def tagger(folder, **options):
    sentences = ["The DET\ncat NOUN\nsat VERB\n", "It PRON\nsat VERB\n", "On ADP\nthe DET\nmat NOUN\n. PUNCT\n"]
    (folder / "tags.txt").write_text("\n".join(sentences))
    files = str(folder / "tags.txt")
    data = TaggedDataModule(files, files, format=options.pop("format"), lowercase=True, batch_size=3)
    sizes = data.input_size, data.num_labels, data.num_characters
    model = SequenceTagger(*sizes, rnn=partial(LSTM, hidden_size=8, bidirectional=True), **options).eval()
    model.take_vocabularies_of(data)
    return model, next(iter(data.val_dataloader()))


@pytest.fixture
def columns():
    from lightning_rnnattn import Columns

    return Columns()


def test_language_model(tmp_path):
    model, batch = language_model(tmp_path, WordTokenizer())
    assert isinstance(model, ShowsAttention)
    ((view,), (second,)) = model.attention_views(batch, rows=5)
    assert view.queries == view.keys == ("the", "cat", "sat", "on", "the", "mat", "\n")
    assert view.weights.shape == (2, 7, 7)
    torch.testing.assert_close(view.weights.sum(-1), torch.ones(2, 7))
    assert (view.weights[:, 5, :3] == 0).all()  # beyond the window
    assert len(second.queries) == 7
    assert len(model.attention_views(batch, rows=1)) == 1
    (again,) = model.text_views("the cat sat on the mat\n")
    torch.testing.assert_close(again.weights, view.weights)
    with pytest.raises(UserError, match="there is no token in the text ''"):
        model.text_views("")


def test_tagger(tmp_path, columns):
    characters = partial(CharacterEncoder, rnn=partial(LSTM, hidden_size=4))
    model, batch = tagger(tmp_path, format=columns, attention=partial(Attention, num_heads=4), characters=characters)
    assert isinstance(model, ShowsAttention)
    examples = model.attention_views(batch, rows=3)
    texts = {" ".join(view.queries): view for (view,) in examples}
    assert set(texts) == {"The cat sat", "It sat", "On the mat ."}
    for text, view in texts.items():
        assert view.weights.shape == (4, len(view.queries), len(view.queries))
        torch.testing.assert_close(view.weights.sum(-1), torch.ones(4, len(view.queries)))
        (again,) = model.text_views(text)  # words in lower case, characters as they are
        torch.testing.assert_close(again.weights, view.weights)
    with pytest.raises(UserError, match="there is no word"):
        model.text_views("  ")


def test_without_attention(tmp_path, columns):
    for model, batch in (language_model(tmp_path, WordTokenizer(), attention=None), tagger(tmp_path, format=columns)):
        with pytest.raises(UserError, match="no attention weights"):
            model.attention_views(batch, 1)
        with pytest.raises(UserError, match="no attention weights"):
            model.text_views("the cat")
