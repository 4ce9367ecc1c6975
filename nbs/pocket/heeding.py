"""Measure whether a teacher heeds what it is shown, on built-in tasks and on the ten held-out sets.

    python nbs/pocket/heeding.py CORPUS OUT.json [--model pocket] [--tasks ag_news,snips] [--texts 300]

Texts are split: a pool to show and to learn the ruler from, and others to measure on, which no training has seen.

- nats a character of real texts after no demonstration, a random one of the label, and the nearest one of the pool;
- cosine of a written text to the one demonstration before it, and to those of the other texts of its label;
- fidelity: share of written texts to which a classifier that learnt from the pool gives the label asked for, beside
  chance and that classifier's accuracy on real texts (the ruler).

One file holds the results; tasks that are in it are not measured again.
"""
import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from synthlab.decode.choices import CorrSynth, FewGen
from synthlab.decode.model import plain_prompt
from synthlab.decode.sampling import Sampling
from synthlab.embeddings import GoldClassifier, default_embedder
from synthlab.run.generate import generate
from synthlab.tasks.task import load_task, messages
from synthlab.teacher.causal import CausalTeacher
from synthlab.teacher.requests import Request

from collection import HELD_OUT
from evaluate import nats_per_char, rounded

SHOWN = 8                                       # texts of a label to draw demonstrations from
TASKS = ('ag_news', 'sst2', 'humor', 'amazon_category', *HELD_OUT)


def parts(corpus, name, rng, most=2000):
    "Task, pool and texts to measure on: a held-out set is split in two, a built-in task has test texts of its own."
    if name in HELD_OUT:
        task, frame = load_task(corpus/f'more/{name}.toml'), pd.read_parquet(corpus/f'more/{name}.parquet')
        frame = frame.sample(min(len(frame), most), random_state=0)
        return with_texts(task, frame.iloc[len(frame)//3:], frame.iloc[:len(frame)//3])
    pool, test = (pd.read_parquet(corpus/f'{name}{part}.parquet') for part in ('', '.test'))
    return with_texts(load_task(name), pool.head(most), test.head(most//2))


def with_texts(task, pool, test):
    "The task with those labels only that have at least eight texts to show, and their texts."
    counts = pool.label.value_counts()
    labels = [label for label in task.labels if counts.get(label.name, 0) >= SHOWN]
    names = [label.name for label in labels]
    return task.model_copy(update={'labels': labels}), pool[pool.label.isin(names)], test[test.label.isin(names)]


def asked(task, label, demonstrations):
    "The library's few-shot prompt."
    return plain_prompt(messages(task, label, demonstrations), task.cue)


def saving(teacher, task, pool, test, vectors, rng, rows=200):
    "Nats a character after no, a random and a near demonstration."
    out, (of_pool, of_test) = {}, vectors
    test, of_test = test.iloc[:rows], of_test[:rows]
    by_label = {label: np.flatnonzero(pool.label == label) for label in pool.label.unique()}
    picks = {'random': [], 'near': []}
    for vector, label in zip(of_test, test.label):
        rows_ = by_label[label]
        picks['random'].append(pool.text.iloc[rng.choice(rows_)])
        picks['near'].append(pool.text.iloc[rows_[np.argmax(of_pool[rows_] @ vector)]])
    shown_by = {'none': [()]*len(test)} | {how: [(text,) for text in texts] for how, texts in picks.items()}
    for how, shown in shown_by.items():
        out[how] = nats_per_char(teacher, [(asked(task, label, demos), text)
                                           for text, label, demos in zip(test.text, test.label, shown)])
    return out


def heeding(teacher, task, pool, embedder, rng, texts=96):
    "Cosine of a written text to its own demonstration, and to the others of its label."
    labels = [label for label in task.label_names if (pool.label == label).sum() > 1]
    each = max(texts//len(labels), 3)
    groups = [pool[pool.label == label] for label in labels]
    shown = pd.concat([group.sample(min(each, len(group)), random_state=0) for group in groups])
    written = write_once(teacher, task, shown)
    a, b = (np.asarray(embedder.encode(list(part))) for part in (written, shown.text))
    cosines, same = a @ b.T, np.equal.outer(shown.label.to_numpy(), shown.label.to_numpy())
    own, others = np.diag(cosines), cosines[same & ~np.eye(len(a), dtype=bool)]
    return {'own': own.mean(), 'others': others.mean(), 'n': len(a)}


def write_once(teacher, task, shown):
    "One text after each demonstration."
    sampling = Sampling(task.max_new_tokens, .95, .9)
    requests = [Request(messages(task, label, (text,)), sampling, cue=task.cue, seed=place)
                for place, (text, label) in enumerate(zip(shown.text, shown.label))]
    return [reply.text.strip() or '-' for reply in teacher.complete(requests, repair=False, progress=False)]


def fidelity(teacher, task, pool, test, embedder, decoder, n):
    "Share of written texts with the label asked for, by a classifier of the pool, and its accuracy on real texts."
    ruler = GoldClassifier(embedder).fit(list(pool.text), list(pool.label))
    few = {label: [{'id': f'{label} {i}', 'text': text} for i, text in enumerate(group.text[:SHOWN])]
           for label, group in pool.groupby('label')}
    rows = [row for group in generate(decoder, task, teacher, n, pool=few, seed=0, proportions=None)
            for row in group.rows if row['status'] == 'accepted']
    found = ruler.predict([row['text'] for row in rows])
    return np.mean([label == row['label'] for label, row in zip(found, rows)]), \
        np.mean(np.array(ruler.predict(list(test.text))) == test.label.to_numpy())


def measure(teacher, corpus, name, n):
    "Everything about one task."
    rng, embedder = np.random.default_rng(0), default_embedder()
    task, pool, test = parts(corpus, name, rng)
    vectors = [np.asarray(embedder.encode(list(part.text))) for part in (pool, test)]
    found = {'nats': saving(teacher, task, pool, test, vectors, rng),
             'cosine': heeding(teacher, task, pool, embedder, rng)}
    for decoder in (FewGen(), CorrSynth()):
        share, ruler = fidelity(teacher, task, pool, test, embedder, decoder, n)
        found[f'fidelity_{type(decoder).__name__.lower()}'] = share
    return found | {'ruler': ruler, 'chance': 1/len(task.labels), 'labels': len(task.labels)}


def way(entry, which): return (entry[f'fidelity_{which}'] - entry['chance'])/(entry['ruler'] - entry['chance'])


def in_words(name, entry):
    "One line about a task."
    nats, cosines = entry['nats'], entry['cosine']
    shares = ', '.join(f"{which} {entry[f'fidelity_{which}']:.2f} ({way(entry, which):.0%} of the way)"
                       for which in ('fewgen', 'corrsynth'))
    return (f"{name}: heeds {cosines['own'] - cosines['others']:.3f}; near saves {nats['random'] - nats['near']:.3f} "
            f"of {nats['none']:.3f} nats; {shares}, from {entry['chance']:.2f} to {entry['ruler']:.2f}")


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('corpus', type=Path); a.add_argument('out', type=Path); a.add_argument('--model', default='pocket')
    a.add_argument('--tasks', default=','.join(TASKS)); a.add_argument('--texts', type=int, default=300)
    o = a.parse_args()
    results, teacher = json.loads(o.out.read_text()) if o.out.exists() else {}, CausalTeacher(o.model)
    for name in o.tasks.split(','):
        if name in results: continue
        entry = results[name] = rounded(measure(teacher, o.corpus, name, o.texts))
        print(in_words(name, entry), flush=True)
        o.out.write_text(json.dumps(results, indent=1))


if __name__ == '__main__': main()
