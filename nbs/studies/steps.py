"What the studies beside this file share: steps that are done once, samples with equal labels, rounded results."
import json
import time

import numpy as np


def once(path, make):
    "Read the result at `path`, or make and write it."
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        start, part = time.perf_counter(), path.with_suffix('.part')
        part.write_text(json.dumps(make(), allow_nan=False), encoding='utf-8')
        part.replace(path)
        print(f'{time.strftime("%H:%M:%S")} {path.parent.name}/{path.stem}: {time.perf_counter() - start:.1f} s',
              flush=True)
    return json.loads(path.read_text(encoding='utf-8'))


def balanced(rows, n, seed=0):
    "About n rows, the same number of each label, in random order."
    names, rng, labels = np.array(rows.labels), np.random.default_rng(seed), sorted(set(rows.labels))
    places = [rng.permutation(np.flatnonzero(names == label))[:n//len(labels)] for label in labels]
    return rows.take(rng.permutation(np.concatenate(places)).tolist())


def rounded(value, digits):
    "The same with all numbers rounded to so many digits after the point."
    if isinstance(value, dict): return {key: rounded(v, digits) for key, v in value.items()}
    return [rounded(v, digits) for v in value] if isinstance(value, list) else round(value, digits) if isinstance(value,
        float) else value
