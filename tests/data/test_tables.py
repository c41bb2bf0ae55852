import csv
import gzip
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_rnnattn.data.files import MAX_LINE
from lightning_rnnattn.data.table_files import CSVFile, JSONLFile, TextLines, TSVFile, table_of_files
from lightning_rnnattn.data.table_hub import HubTable
from lightning_rnnattn.data.tables import Row, Tables
from lightning_rnnattn.errors import UserError


def write(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path, *columns):
    table = table_of_files([path], columns or ("label", "text"))
    return [(row.number, *(row.fields[name] for name in table.columns)) for row in table.rows()]


SAME = {
    "a.tsv": "id\ttext\tlabel\n1\ta fine film\tpos\n2\tdull\tneg\n",
    "a.csv": "text,label,id\na fine film,pos,1\ndull,neg,2\n",
    "a.jsonl": '{"text": "a fine film", "label": "pos", "x": {}}\n{"label": "neg", "text": "dull"}\n',
    "a.train": "pos a fine film\nneg dull\n",
}


@pytest.mark.parametrize("name", SAME)
def test_formats_agree(tmp_path, name):
    first = 2 if name in ("a.tsv", "a.csv") else 1  # the line below the header
    expected = [(first, "pos", "a fine film"), (first + 1, "neg", "dull")]
    text = SAME[name].encode()
    assert read(write(tmp_path, name, text)) == expected
    assert read(write(tmp_path, name + ".gz", gzip.compress(text))) == expected
    assert read(write(tmp_path, name, text.rstrip(b"\n"))) == expected  # no newline at the end
    assert read(write(tmp_path, name, text.replace(b"\n", b"\r\n"))) == expected
    assert read(write(tmp_path, name, b"\xef\xbb\xbf" + text)) == expected  # a byte order mark is no part of a name
    assert read(write(tmp_path, name.upper() if name != "a.train" else name, text)) == expected


def test_quotation_marks(tmp_path):
    tsv = 'text\n"open\nsay ""so""\n'
    assert read(write(tmp_path, "a.tsv", tsv), "text") == [(2, '"open'), (3, 'say ""so""')]
    comma = 'text,label\n"a, ""b""\nc",1\nd,2\n'
    assert read(write(tmp_path, "a.csv", comma), "text", "label") == [(2, 'a, "b"\nc', "1"), (4, "d", "2")]


def test_one_column_has_empty_texts(tmp_path):
    for name in ("a.tsv", "a.csv"):
        assert read(write(tmp_path, name, "text\na\n\nb\n"), "text") == [(2, "a"), (3, ""), (4, "b")]


def test_numbers_lists_and_nested_keys(tmp_path):
    lines = [{"label": 1, "text": "a"}, {"label": True, "text": ["b", 2]}, {"label": 0.5, "text": []}]
    path = write(tmp_path, "a.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert read(path) == [(1, "1", "a"), (2, "true", ["b", "2"]), (3, "0.5", [])]
    path = write(tmp_path, "b.jsonl", '{"translation": {"en": "dog", "de": "Hund"}, "a.b": 1, "a": {"b": 2}}\n')
    assert read(path, "translation.de", "translation.en", "a.b") == [(1, "Hund", "dog", "1")]


def test_text_of_a_list(tmp_path):
    row = Row({"text": ["a", "b"], "label": "x"}, "f.jsonl", 7)
    assert row.text("label") == "x"
    with pytest.raises(UserError, match=r"f.jsonl:7: column 'text' has a list of 2 where one text is wanted"):
        row.text("text")


def test_lines_of_one_column_are_whole(tmp_path):
    path = write(tmp_path, "a.txt", " a  b \n\nc\n")
    assert read(path, "text") == [(1, " a  b "), (2, ""), (3, "c")]


BROKEN = {
    ("a.tsv", b""): r":1: the file is empty",
    ("a.tsv", b"text\n"): r":1: there is no column 'label'; the header has text",
    ("a.tsv", b"text label\nx y\n"): r":1: there is no column 'label'; the header has text label",
    ("a.tsv", b"label\ttext\tlabel\nx\ty\tz\n"): r":1: 2 columns have the name 'label'",
    ("a.tsv", b"label\ttext\nx\ty\nx\ty\tz\n"): r":3: the row has 3 field\(s\), but the header has 2",
    ("a.tsv", b"label\ttext\nx\ty\n\nx\ty\n"): r":3: the line is empty, but the header has 2",
    ("a.tsv", b"label\ttext\nx\ty\0\n"): r":2: NUL byte",
    ("a.tsv", "label\ttext\nx\té\n".encode("latin-1")): r":2: byte 0xe9 at offset 13 is not UTF-8",
    ("a.tsv", gzip.compress(b"label\ttext\n" + b"x\ty\n" * 999)[:40]): r":\d+: the gzip file is cut short",
    ("a.csv", b""): r":1: the file is empty",
    ("a.csv", b'label,label,text\nx,"y",z\n'): r":1: 2 columns have the name 'label'",
    ("a.csv", b'label,text\nx,y\nx,"y\nx,y\n'): r":3: the row that begins here is no CSV \(unexpected end of data\)",
    ("a.csv", b'label,text\nx,y\nx,"y" z\n'): r":3: the row that begins here is no CSV",
    ("a.csv", b'label,text\nx,"a\nb"\nx\n'): r":4: the row has 1 field\(s\)",
    ("a.csv", b"label,text\nx,y\n\n"): r":3: the line is empty",
    ("a.csv", b"label,text\nx,a\rb\n"): r":2: the row that begins here is no CSV \(new-line",
    ("a.csv", b"label,text\nx,y\0\n"): r":2: NUL byte",
    ("a.csv", gzip.compress(b"label,text\nx,y\n")[:-5]): r":\d+: the gzip file is cut short",
    ("a.jsonl", b""): r":1: the file is empty",
    ("a.jsonl", b'{"label": 1, "text": "a"}\n\n'): r":2: the line is empty",
    ("a.jsonl", b'{"label": 1, "text": "a"\n'): r":1: the line is not JSON \(Expecting",
    ("a.jsonl", b"[" * 10**6 + b"\n"): r":1: the line is not JSON",
    ("a.jsonl", b'["label", "text"]\n'): r":1: a list, not an object",
    ("a.jsonl", b'{"text": "a"}\n'): r":1: there is no key 'label'; the object has text",
    ("a.jsonl", b'{"text": "a", "label": null}\n'): r":1: 'label' is null where",
    ("a.jsonl", b'{"text": {"a": 1}, "label": 1}\n'): r":1: 'text' is a dict where",
    ("a.jsonl", b'{"text": [["a"]], "label": 1}\n'): r":1: 'text' is a list where",
    ("a.jsonl", b'{"text": "a", "label": 1, "text": "b"}\n'): r":1: the line is not JSON \(the key 'text' occurs twice",
    ("a.jsonl", b'{"text": "\\ud83d", "label": 1}\n'): r":1: 'text' is not valid Unicode",
    ("a.jsonl", b'{"text": "a\0", "label": 1}\n'): r":1: NUL byte",
    ("a.jsonl", '{"text": "é", "label": 1}\n'.encode("latin-1")): r":1: byte 0xe9",
    ("a.txt", b""): r":1: the file is empty",
    ("a.txt", b"1 a\n1\n"): r":2: not of the form `<label> <text>` with one space between .*: '1'",
    ("a.txt", b"1 a\n a\n"): r":2: not of the form",
    ("a.txt", b"1 a\n\n1 a\n"): r":2: not of the form",
    ("a.txt", b"1\ta\n"): r":1: not of the form",
    ("a.txt", b"1 \0\n"): r":1: NUL byte",
    ("a.txt", "1 é\n".encode("latin-1")): r":1: byte 0xe9",
    ("a.json", b"[]"): r": .json files are not read: save one object per line",
    ("a.parquet", b"PAR1"): r": .parquet files are not read",
}


@pytest.mark.parametrize(("name", "content"), BROKEN, ids=[f"{name} {content[:40]!r}" for name, content in BROKEN])
def test_says_what_is_wrong(tmp_path, name, content):
    path = write(tmp_path, name, content)
    with pytest.raises(UserError, match=f"^{path}{BROKEN[name, content]}") as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["a.tsv", "a.jsonl", "a.txt"])
def test_a_line_of_ten_megabytes_is_one_row(tmp_path, name):
    long = "word " * (10 * MAX_LINE // 5)
    contents = {
        "a.tsv": f"label\ttext\nx\t{long}\ny\tb\n",
        "a.jsonl": json.dumps({"label": "x", "text": long}) + '\n{"label": "y", "text": "b"}\n',
        "a.txt": f"x {long}\ny b\n",
    }
    rows = read(write(tmp_path, name, contents[name]))
    assert [row[1:] for row in rows] == [("x", long), ("y", "b")]
    assert rows[1][0] == rows[0][0] + 1


def test_a_csv_field_too_long_for_the_csv_module_is_named(tmp_path):
    path = write(tmp_path, "a.csv", "label,text\nx,b\nx," + "a" * 200_000 + "\n")
    with pytest.raises(UserError, match=f"{path}:3: .*field larger than field limit"):
        read(path)


@given(
    rows=st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r")), min_size=3, max_size=3)
    )
)
def test_csv_gives_back_what_the_csv_module_wrote(tmp_path_factory, rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([["a", "b", "c"], *rows])
    path = write(tmp_path_factory.mktemp("csv"), "a.csv", text.getvalue())
    assert [list(row.fields.values()) for row in CSVFile(path, ["a", "b", "c"]).rows()] == rows


def test_several_files_of_different_formats(tmp_path):
    paths = [write(tmp_path, name, text) for name, text in SAME.items()]
    table = table_of_files(paths, ["label", "text"])
    assert isinstance(table, Tables)
    assert [row.fields["label"] for row in table.rows()] == ["pos", "neg"] * 4
    assert [row.place.rpartition("/")[2] for row in table.rows()][:3] == ["a.tsv:2", "a.tsv:3", "a.csv:2"]
    assert [type(part) for part in table.tables] == [TSVFile, CSVFile, JSONLFile, TextLines]


def test_fingerprint_is_of_content_and_columns(tmp_path):
    one = table_of_files([write(tmp_path, "a.tsv", SAME["a.tsv"])], ["label", "text"])
    same = table_of_files([write(tmp_path, "b.tsv", SAME["a.tsv"])], ["label", "text"])
    other = table_of_files([write(tmp_path, "c.tsv", SAME["a.tsv"] + "3\tx\tpos\n")], ["label", "text"])
    columns = table_of_files([tmp_path / "a.tsv"], ["id", "text"])
    assert one.fingerprint() == same.fingerprint()
    assert len({table.fingerprint() for table in (one, other, columns, Tables([one]), Tables([one, one]))}) == 5


@pytest.fixture
def hub(tmp_path_factory, tmp_path, monkeypatch):
    """A folder with a data set, as a hub repository is laid out."""
    datasets = pytest.importorskip("datasets")
    folder = tmp_path_factory.mktemp("rows")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    features = datasets.Features(
        {
            "sentence": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["negative", "positive"]),
            "topics": [datasets.ClassLabel(names=["art", "war"])],
            "translation": {"de": datasets.Value("string"), "en": datasets.Value("string")},
        }
    )
    for split, labels in {"train": [1, 0], "test": [-1]}.items():
        rows = [
            {"sentence": f"s{i}", "label": label, "topics": [1, 0], "translation": {"de": "Hund", "en": "dog"}}
            for i, label in enumerate(labels)
        ]
        datasets.Dataset.from_list(rows, features=features).to_parquet(folder / f"{split}.parquet")
    return str(folder)


def test_hub(hub):
    table = HubTable(hub, None, "train", ["sentence", "label", "topics"])
    assert [row.fields for row in table.rows()] == [
        {"sentence": "s0", "label": "positive", "topics": ["war", "art"]},
        {"sentence": "s1", "label": "negative", "topics": ["war", "art"]},
    ]
    assert [row.place for row in table.rows()] == [f"{hub}[train]:1", f"{hub}[train]:2"]
    [first, _] = HubTable(hub, None, "train", ["translation.de", "translation.en"]).rows()
    assert first.fields == {"translation.de": "Hund", "translation.en": "dog"}
    assert table.fingerprint() == HubTable(hub, None, "train", ["sentence", "label", "topics"]).fingerprint()
    assert table.fingerprint() != HubTable(hub, None, "train[:1]", ["sentence", "label", "topics"]).fingerprint()


def test_hub_says_what_is_wrong(hub):
    with pytest.raises(UserError, match=r"\[train\]: there is no column 'text'; it has sentence, label, topics, tr"):
        HubTable(hub, None, "train", ["text"])
    with pytest.raises(UserError, match=r"data.dataset: cannot load .*\[dev\]"):
        HubTable(hub, None, "dev", ["sentence"])
    with pytest.raises(UserError, match=r"\[test\]:1: the label -1 has no name"):
        list(HubTable(hub, None, "test", ["label"]).rows())
