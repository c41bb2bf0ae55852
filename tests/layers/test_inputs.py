import gzip

import pytest
import torch
from torch import nn

from lightning_rnnattn import Features, TokenEmbedding, UserError
from lightning_rnnattn.layers.word_vectors import read_word_vectors

GLOVE = "the 0.5 -1 2\nCat 1 2 3\nof the 9 9 9\ncat 4 5 6\n"


@pytest.mark.parametrize("header", ["", "4 3\n"])
@pytest.mark.parametrize("pack", [str.encode, lambda text: gzip.compress(text.encode())])
def test_vectors_of_glove_and_word2vec_files(tmp_path, header, pack):
    path = tmp_path / "vectors"
    path.write_bytes(pack(header + GLOVE))
    vectors, found = read_word_vectors(path, ["<unk>", "cat", "The", "Cat"], 3)
    assert found.tolist() == [False, True, True, True]
    assert vectors.tolist() == [[0, 0, 0], [4, 5, 6], [0.5, -1, 2], [1, 2, 3]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the 1 2 3\ncat 1 x 3\n", r"vectors:2: the line does not parse"),
        ("the 1 2 3\ncat 1\n", r"vectors:2: 2 fields where a word and 3 numbers should be"),
        ("the 1 2\n", r"vectors:1: vectors of 2 numbers, but embedding_size is 3"),
        ("the 1 2 3\ncat 1 nan 3\n", r"vectors:2: the vector has a number that is not finite"),
    ],
)
def test_lines_that_do_not_parse_are_named(tmp_path, text, message):
    (tmp_path / "vectors").write_text(text)
    with pytest.raises(UserError, match=message):
        read_word_vectors(tmp_path / "vectors", ["cat"], 3)


def test_a_file_cut_short_or_missing_is_named(tmp_path):
    (tmp_path / "cut.gz").write_bytes(gzip.compress(GLOVE.encode())[:-9])
    with pytest.raises(UserError, match="gzip file is cut short"):
        read_word_vectors(tmp_path / "cut.gz", ["cat"], 3)
    with pytest.raises(UserError, match="cannot read the word vectors"):
        read_word_vectors(tmp_path / "none", ["cat"], 3)


def test_pretrained_vectors_are_put_in_place_once(tmp_path):
    path = tmp_path / "vectors"
    path.write_text(GLOVE)
    layer = TokenEmbedding(3, embedding_size=3, vectors=str(path), freeze=True)
    before = layer.embedding.weight[0].clone()
    assert layer.prepare(["<unk>", "cat", "the"]) == f"{path}: vectors for 2 of 3 tokens"
    assert layer(torch.tensor([[1, 2]])).tolist() == [[[4, 5, 6], [0.5, -1, 2]]]
    assert torch.equal(layer.embedding.weight[0], before)
    assert not layer.embedding.weight.requires_grad
    again = TokenEmbedding(3, embedding_size=3, vectors="gone", freeze=True)
    again.load_state_dict(layer.state_dict())
    assert again.prepare(["<unk>", "cat", "the"]) is None  # the checkpoint has them
    with pytest.raises(UserError, match="has none of the 1 tokens"):
        TokenEmbedding(1, embedding_size=3, vectors=str(path)).prepare(["<unk>"])


def test_token_dropout_drops_whole_words_everywhere_in_training_only():
    torch.manual_seed(0)
    layer = TokenEmbedding(50, embedding_size=4, token_dropout=0.5)
    ids = torch.arange(50).repeat(2, 1)
    dropped = layer(ids)
    assert torch.equal(dropped[0], dropped[1])
    zero = (dropped[0] == 0).all(-1)
    assert 10 < zero.sum() < 40
    torch.testing.assert_close(dropped[0][~zero], 2 * layer.embedding.weight[~zero])
    assert torch.equal(layer.eval()(ids)[0], layer.embedding.weight)


def test_features_as_they_are_or_projected():
    x = torch.randn(2, 5, 3)
    assert Features(3)(x) is x
    projected = Features(3, 4)
    assert projected(x).shape == (2, 5, 4)
    assert projected.output_size == 4


def test_bad_settings():
    for make in (
        lambda: TokenEmbedding(0),
        lambda: TokenEmbedding(3, dropout=1.0),
        lambda: TokenEmbedding(3, token_dropout=-0.1),
        lambda: TokenEmbedding(3, freeze=True),
        lambda: Features(3, 0),
    ):
        with pytest.raises(UserError):
            make()


def test_dropout_drops_features_of_tokens(assert_drops):
    model, ids = nn.Sequential(TokenEmbedding(9, 20, dropout=0.3), nn.Identity()), torch.randint(9, (3, 8))
    assert_drops(model, lambda: model(ids), 0.3, before=model[0].embedding, behind=model[1])


@pytest.mark.parametrize("projection_size", [None, 20])
def test_dropout_drops_real_valued_features(projection_size, assert_drops):
    model, x = nn.Sequential(Features(30, projection_size, dropout=0.3), nn.Identity()), torch.randn(3, 8, 30)
    assert_drops(model, lambda: model(x), 0.3, before=model[0].projection, behind=model[1])


def test_ids_and_features_are_not_taken_for_each_other():
    with pytest.raises(UserError, match=r"set model\.input to Features"):
        TokenEmbedding(4)(torch.randn(2, 3, 4))
    with pytest.raises(UserError, match=r"set model\.input to TokenEmbedding"):
        Features(4)(torch.zeros(2, 3, dtype=torch.int64))


def test_locked_dropout_drops_a_feature_of_a_sequence_at_every_element():
    layer = TokenEmbedding(9, 20, locked_dropout=0.5)
    kept = layer(torch.randint(9, (3, 8))) != 0
    assert 0 < kept.float().mean() < 1
    assert (kept == kept[:, :1]).all()
