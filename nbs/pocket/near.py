"""The nearest neighbours of every training text among the texts of its label, by the words that they share.

    python nbs/pocket/near.py CORPUS      # CORPUS/NAME.near.npy beside each NAME.parquet, some minutes

A demonstration that is drawn from them says more about the text that follows than its label does, so that a model
which is trained on such prompts learns to look at what it is shown. Distances are cosines of tf-idf vectors: sentence
embeddings of 200,000 texts take an hour on two cores, these take minutes.
"""
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

NEIGHBOURS, SAME = 12, .8                        # a cosine above SAME is nearly a copy, and teaches copying


def nearest(vectors, k=NEIGHBOURS, block=1000):
    "Places of the k nearest other vectors that are no copies, nearest first; -1 where there are fewer."
    out = np.full((vectors.shape[0], k), -1, np.int32)
    for first in range(0, vectors.shape[0], block):
        cosines = (vectors[first:first + block] @ vectors.T).toarray()
        cosines[cosines > SAME] = 0.
        order = np.argsort(-cosines, axis=1)[:, :k] if cosines.shape[1] <= 4*k else top(cosines, k)
        out[first:first + block, :order.shape[1]] = np.where(np.take_along_axis(cosines, order, 1) > .05, order, -1)
    return out


def top(values, k):
    "Places of the k largest values of each row, largest first."
    places = np.argpartition(-values, k, axis=1)[:, :k]
    return np.take_along_axis(places, np.argsort(-np.take_along_axis(values, places, 1), axis=1), 1)


def near_rows(frame):
    "Neighbours within the label, as rows of the frame."
    words = TfidfVectorizer(sublinear_tf=True, stop_words=list(ENGLISH_STOP_WORDS), dtype=np.float32)
    vectors = words.fit_transform(frame.text)
    out = np.full((len(frame), NEIGHBOURS), -1, np.int32)
    for rows in frame.groupby('label').indices.values():
        found = nearest(vectors[rows])
        out[rows] = np.where(found >= 0, rows[found], -1)
    return out


if __name__ == '__main__':
    corpus, most = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 40_000
    for path in sorted([*corpus.glob('*.parquet'), *corpus.glob('more/*.parquet')]):
        if path.name.count('.') > 1 or path.with_suffix('.near.npy').exists(): continue
        frame = pd.read_parquet(path).head(most)
        np.save(path.with_suffix('.near.npy'), near_rows(frame))
        print(path.stem, len(frame), flush=True)
