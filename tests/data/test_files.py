import gzip

import pytest

from lightning_rnnattn.data import files
from lightning_rnnattn.data.files import find_files, read_lines
from lightning_rnnattn.errors import UserError


def read(path):
    return [(line.number, line.text) for line in read_lines(path)]


def write(tmp_path, content):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"one", [(1, "one\n")]),
        (b"\n", [(1, "\n")]),
        (b"a\n\nb\n", [(1, "a\n"), (2, "\n"), (3, "b\n")]),
        (b"a\r\nb\r\n", [(1, "a\n"), (2, "b\n")]),
        (b"a\rb\n", [(1, "a\rb\n")]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", [(1, "a\n"), (2, "\ufeffb\n")]),
        ("é\u2028日\x85\n".encode(), [(1, "é\u2028日\x85\n")]),
    ],
)
def test_reads(tmp_path, content, expected):
    assert read(write(tmp_path, content)) == expected
    assert read(write(tmp_path, gzip.compress(content))) == expected  # whatever the file is called


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", r":1: the file is empty", id="empty"),
        pytest.param(gzip.compress(b""), r":1: the file is empty", id="empty gzip"),
        pytest.param(b"a\nb\0c\n", r":2: NUL byte at offset 3", id="NUL"),
        pytest.param("één\n".encode("latin-1"), r":1: byte 0xe9 at offset 0 is not UTF-8.*iconv", id="Latin-1"),
        pytest.param(b"ab\n\ncd\xff\n", r":3: byte 0xff at offset 6", id="one bad byte"),
        pytest.param("a\n".encode("utf-16"), r":1: NUL byte at offset 3", id="UTF-16"),
        pytest.param(
            gzip.compress(b"line\n" * 9999)[:-12], r":\d+: the gzip file is cut short", id="gzip without its end"
        ),
        pytest.param(
            gzip.compress(b"line\n" * 9999)[:20], r":1: the gzip file is cut short", id="gzip without its middle"
        ),
        pytest.param(
            gzip.compress(b"line\n")[:-3] + b"xyz", r":\d+: the gzip file is .*damaged", id="gzip of other length"
        ),
    ],
)
def test_says_what_is_wrong(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(UserError, match=f"{path}{message}") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="cannot read the file: No such file"):
        read(tmp_path / "none.txt")
    with pytest.raises(UserError, match="cannot read the file"):
        read(tmp_path)


def test_long_lines_come_in_pieces_cut_before_a_space(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_LINE", 8)
    text = "aaa bbb ccc dddddddddddddddd ée\nx\n"
    pieces = read(write(tmp_path, text.encode()))
    assert [piece for _, piece in pieces][:2] == ["aaa bbb", " ccc"]
    assert "".join(piece for _, piece in pieces) == text
    assert pieces[-1] == (2, "x\n")
    assert {number for number, _ in pieces[:-1]} == {1}


@pytest.mark.parametrize("character", ["é", "日", "🙂"])
def test_no_character_is_cut(tmp_path, monkeypatch, character):
    for size in range(5, 12):
        monkeypatch.setattr(files, "MAX_LINE", size)
        assert "".join(piece for _, piece in read(write(tmp_path, character.encode() * 50))) == character * 50 + "\n"


def test_line_of_ten_megabytes(tmp_path):
    text = "word " * 2_000_000
    pieces = read(write(tmp_path, text.encode()))
    assert "".join(piece for _, piece in pieces) == text + "\n"
    assert max(len(piece) for _, piece in pieces) <= 2 * files.MAX_LINE


@pytest.fixture
def folder(tmp_path):
    for name, text in {"b.txt": "b1\nb2\n", "a.txt": "a1\na2", "c.md": "c\n", "deep/er/d.txt": "d\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def names(paths):
    return [path.name for path in paths]


def test_find_files(folder):
    assert names(find_files(f"{folder}/c.md", "k")) == ["c.md"]
    assert names(find_files(f"{folder}/*.txt", "k")) == ["a.txt", "b.txt"]
    assert names(find_files([f"{folder}/c.md", f"{folder}/*.txt"], "k")) == ["c.md", "a.txt", "b.txt"]
    assert names(find_files(f"{folder}/**/*.txt", "k")) == ["a.txt", "b.txt", "d.txt"]
    (folder / "odd[1].txt").touch()
    assert names(find_files(f"{folder}/odd[1].txt", "k")) == ["odd[1].txt"]


def test_find_files_says_which_key(folder):
    with pytest.raises(UserError, match=r"data.train_files: .*\.csv matches no file"):
        find_files(f"{folder}/*.csv", "data.train_files")
    with pytest.raises(UserError, match=r"data.val_files: .* is a folder"):
        find_files(str(folder), "data.val_files")
    with pytest.raises(UserError, match=r"data.val_files: the list is empty"):
        find_files([], "data.val_files")
