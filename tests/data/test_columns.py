import gzip
import os
from pathlib import Path

import pytest

from lightning_rnnattn.data.columns import Columns, CoNLLU, WordLines
from lightning_rnnattn.errors import UserError


def conllu(*words):
    """A sentence in CoNLL-U, of (id, form, upos)."""
    return "".join(f"{i}\t{form}\tL\t{upos}\tX{upos}\t_\t0\troot\t_\t_\n" for i, form, upos in words) + "\n"


DOGS = conllu((1, "dogs", "NOUN"), (2, "bark", "VERB"))


def write(tmp_path, content, name="words.conllu"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path, form, labelled=True):
    return [(sentence.words, sentence.labels, sentence.numbers) for sentence in form.sentences(path, labelled=labelled)]


def test_conllu(tmp_path):
    text = "# text = a\n" + DOGS + "\n# newdoc\n# text = b\n" + conllu((1, "New York", "PROPN"))
    expected = [(("dogs", "bark"), ("NOUN", "VERB"), (2, 3)), (("New York",), ("PROPN",), (8,))]
    assert read(write(tmp_path, text), CoNLLU()) == expected
    assert read(write(tmp_path, gzip.compress(text.encode())), CoNLLU()) == expected
    assert read(write(tmp_path, "\ufeff" + text.replace("\n", "\r\n")), CoNLLU()) == expected


def test_conllu_leaves_out_multiword_tokens_and_empty_nodes(tmp_path):
    text = conllu(
        ("1-2", "can't", "_"), (1, "ca", "AUX"), (2, "n't", "PART"), ("2.1", "see", "VERB"), (3, "it", "PRON")
    )
    text = conllu(("0.1", "he", "PRON"), (1, "who", "PRON")) + text
    assert read(write(tmp_path, text), CoNLLU()) == [
        (("who",), ("PRON",), (2,)),
        (("ca", "n't", "it"), ("AUX", "PART", "PRON"), (5, 6, 8)),
    ]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (CoNLLU(label="XPOS"), ("dogs", "XNOUN")),
        (CoNLLU(label="xpos"), ("dogs", "XNOUN")),
        (CoNLLU(label=5), ("dogs", "XNOUN")),
        (CoNLLU(label="5"), ("dogs", "XNOUN")),
        (CoNLLU(word="LEMMA", label="DEPREL"), ("L", "root")),
    ],
)
def test_conllu_columns_by_name_or_number(tmp_path, form, expected):
    [(words, labels, _)] = read(write(tmp_path, DOGS), form)
    assert (words[0], labels[0]) == expected


BROKEN = {
    b"": r":1: the file is empty",
    b"dogs\n": r":1: CoNLL-U has 10 columns with a tab between, but here are 1: 'dogs'",
    DOGS.encode() + b"1\ta\tb\n\n": r":4: CoNLL-U has 10 columns.* but here are 3",
    DOGS.replace("\t_\n", "\t_\t_\n", 1).encode(): r":1: CoNLL-U has 10 columns.* but here are 11",
    conllu((1, "a", "X"), (1, "b", "X")).encode(): r":2: the id is '1', where 2 is due",
    conllu((1, "a", "X"), (3, "b", "X")).encode(): r":2: the id is '3', where 2 is due",
    conllu(("x", "a", "X")).encode(): r":1: the id is 'x', where 1 is due",
    DOGS.rstrip("\n").encode(): r":2: no blank line ends the last sentence: is the file cut short\?",
    DOGS.encode() + b"# text = b\n": r":4: no blank line ends the last sentence",
    DOGS.encode() + b"# text = b\n\n": r":5: the sentence that ends here has comments but no words",
    DOGS[:-1].encode() + b"# text = b\n" + DOGS.encode(): r":3: a comment inside a sentence",
    DOGS.replace("bark", "b\0rk").encode(): r":2: NUL byte",
    DOGS.replace("bark", "äst").encode("latin-1"): r":2: byte 0xe4",
    gzip.compress(DOGS.encode() * 99)[:60]: r":\d+: the gzip file is cut short",
    b"word " * (2 << 20): r":1: CoNLL-U has 10 columns.* but here are 1: 'word word",
}


@pytest.mark.parametrize("content", BROKEN, ids=lambda content: repr(content[:30]))
def test_broken_conllu(tmp_path, content):
    path = write(tmp_path, content)
    with pytest.raises(UserError, match=f"^{path}{BROKEN[content]}") as caught:
        read(path, CoNLLU())
    assert "\n" not in str(caught.value)


CONLL2003 = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

Peter\tNNP  B-NP B-PER
"""


def test_columns(tmp_path):
    path = write(tmp_path, CONLL2003, "eng.train")
    assert read(path, Columns()) == [
        (("EU", "rejects"), ("B-ORG", "O"), (3, 4)),
        (("Peter",), ("B-PER",), (6,)),
    ]
    assert [labels for _, labels, _ in read(path, Columns(label=2))] == [("NNP", "VBZ"), ("NNP",)]
    assert [labels for _, labels, _ in read(path, Columns(label=-2))] == [("B-NP", "B-VP"), ("B-NP",)]
    assert read(write(tmp_path, CONLL2003.replace("\n", "\r\n"), "eng.train"), Columns()) == read(path, Columns())


def test_labels_need_not_be_there_for_predictions(tmp_path):
    path = write(tmp_path, "EU\nrejects\n\nPeter\n", "words.txt")
    assert read(path, Columns(), labelled=False) == [(("EU", "rejects"), None, (1, 2)), (("Peter",), None, (4,))]
    [(words, labels, _)] = read(write(tmp_path, DOGS), CoNLLU(), labelled=False)
    assert (words, labels) == (("dogs", "bark"), None)


def test_a_no_break_space_is_part_of_a_word(tmp_path):
    path = write(tmp_path, "10\u00a0000 O\n", "words.txt")
    assert read(path, Columns())[0][0] == ("10\u00a0000",)
    assert read(path, WordLines(), labelled=False)[0][0] == ("10\u00a0000", "O")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r":1: the file is empty"),
        (b"a O\nb X O\n", r":2: 3 column\(s\), where line 1 has 2"),
        (b"a O\n\nb\n", r":3: 1 column\(s\), where line 1 has 2"),
        (b"a\tO\nb\0\tO\n", r":2: NUL byte"),
        ("é O\n".encode("latin-1"), r":1: byte 0xe9"),
        (gzip.compress(b"a O\n" * 999)[:30], r":\d+: the gzip file is cut short"),
    ],
)
def test_broken_columns(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(UserError, match=f"^{path}{message}"):
        read(path, Columns())


def test_a_column_that_is_not_there(tmp_path):
    path = write(tmp_path, "a O\n")
    with pytest.raises(UserError, match=r":1: data.format.label is 3, but the line has 2 column\(s\)"):
        read(path, Columns(label=3))
    with pytest.raises(UserError, match=r":1: data.format.word is -3, but"):
        read(path, Columns(word=-3))
    with pytest.raises(UserError, match=r"data.format.label is 0: columns count from 1"):
        Columns(label=0)
    with pytest.raises(UserError, match=r"data.format.label is 'POS': it must be one of ID, FORM, .*, or 1 to 10"):
        CoNLLU(label="POS")
    with pytest.raises(UserError, match=r"data.format.word is 11"):
        CoNLLU(word=11)


def test_lines_of_words(tmp_path):
    path = write(tmp_path, " the dog\tbarks \n\nyes\n")
    assert [words for words, _, _ in read(path, WordLines(), labelled=False)] == [("the", "dog", "barks"), (), ("yes",)]
    with pytest.raises(UserError, match=r":1: plain lines have no labels"):
        read(path, WordLines())
    long = write(tmp_path, "word " * (2 << 20))
    assert [len(words) for words, _, _ in read(long, WordLines(), labelled=False)] == [2 << 20]


def test_a_format_is_recorded_as_yaml_has_it():
    assert CoNLLU(label="XPOS").to_spec() == {
        "class_path": "lightning_rnnattn.data.columns.CoNLLU",
        "init_args": {"word": "FORM", "label": "XPOS"},
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("split", "sentences", "words", "labels"),
    [("train", 12_544, 204_577, 17), ("dev", 2_001, 25_147, 17), ("test", 2_077, 25_094, 17)],
)
def test_universal_dependencies(split, sentences, words, labels):
    folder = os.environ.get("LIGHTNING_RNNATTN_DATA")
    if folder is None:
        pytest.skip("LIGHTNING_RNNATTN_DATA is not set")
    path = Path(folder) / "ud-english-ewt" / f"en_ewt-ud-{split}.conllu.gz"
    found = list(CoNLLU().sentences(path, labelled=True))
    assert len(found) == sentences
    assert sum(len(sentence.words) for sentence in found) == words
    assert len({label for sentence in found for label in sentence.labels}) == labels
