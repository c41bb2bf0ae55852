"""Word vectors for the tagger from text that has no labels, by word2vec (pip install gensim).

python recipes/ud_ewt/vectors.py vectors.txt en_ewt-ud-train.conllu wiki.train.tokens

Files that end in .conllu or .conllu.gz are CoNLL-U; of any other, each line is words with spaces between. Words are
taken in lower case, those that occur twice. A window of two words, for vectors that tell how words are used rather than
what they are about.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from gensim.models import Word2Vec

from lightning_rnnattn.data import CoNLLU
from lightning_rnnattn.data.files import read_lines


def sentences(path: Path) -> Iterator[list[str]]:
    if ".conllu" in path.suffixes:
        for sentence in CoNLLU().sentences(path, labelled=False):
            yield [word.lower() for word in sentence.words]
        return
    for line in read_lines(path):
        sentence = []
        # WikiText sets hyphens and the points within numbers apart; the treebank does not.
        for word in line.text.lower().replace(" @-@ ", "-").replace(" @,@ ", ",").replace(" @.@ ", ".").split():
            sentence.append(word)
            if word == ".":
                yield sentence
                sentence = []
        if sentence:
            yield sentence


def main() -> None:
    output, *paths = sys.argv[1:]
    text = [sentence for path in paths for sentence in sentences(Path(path))]
    model = Word2Vec(text, vector_size=100, window=2, sg=1, negative=10, min_count=2, epochs=15, workers=1, seed=1)
    model.wv.save_word2vec_format(output)
    print(f"{output}: {len(model.wv):,} words, from {sum(map(len, text)):,} in {len(text):,} sentences")


if __name__ == "__main__":
    main()
