"""The nearest neighbours of every training text among the texts of its label, in the space of sentence embeddings.

    python nbs/pocket/near.py CORPUS [ROWS]     # NAME.near.npy and NAME.cosines.npy beside NAME.parquet; 10 minutes

A demonstration that is drawn from them says more about the text that follows than its label does, so that a model
which is trained on such prompts learns to look at what it is shown. Of a built-in task the first ROWS texts are
taken, and a fifth as many of a set of the collection.
"""
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from synthlab.embeddings import Embedder

from collection import HELD_OUT

NEIGHBOURS, SAME, ROWS = 12, .95, 8000         # a cosine above SAME is nearly a copy, and teaches copying


def nearest(vectors, k=NEIGHBOURS, block=1000):
    "Places and cosines of the k nearest other vectors that are no copies, nearest first; -1 and 0 where fewer are."
    places, found = np.full((len(vectors), k), -1, np.int32), np.zeros((len(vectors), k), np.float16)
    for first in range(0, len(vectors), block):
        cosines = vectors[first:first + block] @ vectors.T
        cosines[cosines > SAME] = -1.
        order = np.argsort(-cosines, axis=1)[:, :k]
        best, rows, columns = np.take_along_axis(cosines, order, 1), slice(first, first + block), order.shape[1]
        places[rows, :columns], found[rows, :columns] = np.where(best > 0, order, -1), best.clip(0)
    return places, found


def near_rows(frame, embedder):
    "Neighbours within the label, as rows of the frame, and their cosines."
    vectors = embedder.encode(list(frame.text))
    places, cosines = np.full((len(frame), NEIGHBOURS), -1, np.int32), np.zeros((len(frame), NEIGHBOURS), np.float16)
    for rows in frame.groupby('label').indices.values():
        found, cosines[rows] = nearest(vectors[rows])
        places[rows] = np.where(found >= 0, rows[found], -1)
    return places, cosines


if __name__ == '__main__':
    corpus, most = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else ROWS
    embedder = Embedder(batch_size=32)
    for path in sorted([*corpus.glob('*.parquet'), *corpus.glob('more/*.parquet')]):
        near = path.with_suffix('.near.npy')
        if path.name.count('.') > 1 or path.stem in HELD_OUT or near.exists(): continue
        frame = pd.read_parquet(path).head(most if path.parent == corpus else most//5)
        places, cosines = near_rows(frame, embedder)
        np.save(path.with_suffix('.cosines.npy'), cosines)
        np.save(near, places)
        print(path.stem, len(frame), cosines[:, 0].mean().round(3), flush=True)
