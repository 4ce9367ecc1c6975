"""Measure what `pocket` writes for tasks that it was not trained for: how many texts get the label that was asked for.

    python nbs/pocket/unseen.py CORPUS nbs/pocket/unseen.json

CORPUS has a file `tasks.json` (instruction and labels of each task) and real rows in `<task>.parquet` with `text` and
`label`; no row of it goes into the package. Of each task the labels with the most rows are taken, at most eight. Real
rows, cut after 50 words, are divided for each label into examples that the teacher is shown, lessons for a judge
(logistic regression on sentence embeddings) and test rows that say how good the judge is. The texts are asked for
equally often for each label, so one without any relation to its label gets it in one of so many cases: that is chance.
The sums go into `synthlab/resources/pocket/unseen.json`, which the notice of synthlab.tasks.trust quotes.
"""
import argparse
import datetime
import hashlib
import json
from pathlib import Path

import pandas as pd
from synthlab.decode.choices import CorrSynth, FewGen
from synthlab.embeddings import Embedder, GoldClassifier
from synthlab.measure.metric import wilson_interval
from synthlab.run.generate import generate
from synthlab.tasks.task import Label, Task
from synthlab.teacher.causal import CausalTeacher

from collection import HELD_OUT
from corpus import PARTS

METHODS = {'fewgen': FewGen(), 'corrsynth': CorrSynth(delta=.5, alpha=.01)}
MOST_LABELS, SHOWN, LESSONS, TESTS, WORDS = 8, 10, 100, 40, 50
SUMMARY = Path(__file__).parents[2]/'synthlab/resources/pocket/unseen.json'


def parts(rows, names, seed):
    "Examples, lessons and test rows: none is in two of them."
    found = {'shown': [], 'lessons': [], 'test': []}
    for name in names:
        texts = rows[rows.label == name].text.drop_duplicates().sample(frac=1, random_state=seed).tolist()
        lessons = min(LESSONS, (len(texts) - SHOWN)//2)
        ends = [0, SHOWN, SHOWN + lessons, SHOWN + lessons + min(TESTS, lessons)]
        for part, low, high in zip(found, ends, ends[1:]): found[part] += [(text, name) for text in texts[low:high]]
    return found


def share(judge, pairs):
    "The share of texts to which the judge gives their label, with its interval."
    right = sum(judged == label for judged, (_, label) in zip(judge.predict([text for text, _ in pairs]), pairs))
    return {'share': round(right/len(pairs), 4), 'n': len(pairs),
            'interval': [round(end, 4) for end in wilson_interval(right, len(pairs))]}


def measure(name, about, corpus, teacher, embedder, n, seed):
    "One task: chance, the judge, and the share that each method reaches."
    rows = pd.read_parquet(corpus/f'{name}.parquet')
    rows['text'] = rows.text.map(lambda text: ' '.join(text.split()[:WORDS]))
    names = rows.label.value_counts().index[:MOST_LABELS].tolist()
    found = parts(rows, names, seed)
    task = Task(name=name, description=about['description'], labels=[Label(name=name) for name in names],
                instruction=about['instruction'].replace('{label}', '{{ label }}'), max_new_tokens=64)
    pool = {label: [{'id': str(i), 'text': text} for i, (text, other) in enumerate(found['shown']) if other == label]
            for label in names}
    judge = GoldClassifier(embedder, 3.).fit(*zip(*found['lessons']))
    result = {'labels': len(names), 'chance': round(1/len(names), 4),
              'judge': share(judge, found['test']) | {'learnt_from': len(found['lessons'])}}
    for method, decoder in METHODS.items():
        groups = generate(decoder, task, teacher, n, pool=pool, seed=seed)
        texts = [(row['text'], row['label']) for group in groups for row in group.rows if row['status'] == 'accepted']
        result[method] = share(judge, texts)
    return result


def mean(tasks, method, key='share'): return round(sum(task[method][key] for task in tasks)/len(tasks), 4)


def summary(record):
    "What the package keeps: means over the tasks, and over both methods."
    tasks = list(record['tasks'].values())
    of_methods, shares = {m: mean(tasks, m) for m in METHODS}, [task[m]['share'] for task in tasks for m in METHODS]
    return {key: record[key] for key in ('date', 'teacher', 'revision', 'seed')} | {'trained_for': list(PARTS),
        'tasks': len(tasks), 'texts': sum(task[method]['n'] for task in tasks for method in METHODS), **of_methods,
        'share': round(sum(of_methods.values())/len(of_methods), 4), 'lowest': min(shares), 'highest': max(shares),
        'chance': round(sum(task['chance'] for task in tasks)/len(tasks), 4), 'judge': mean(tasks, 'judge')}


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('corpus', type=Path); a.add_argument('out', type=Path)
    a.add_argument('--n', type=int, default=120); a.add_argument('--seed', type=int, default=0)
    o = a.parse_args()
    teacher, embedder = CausalTeacher('pocket'), Embedder()
    weights = SUMMARY.with_name('model.safetensors').read_bytes()
    about = json.loads((o.corpus/'tasks.json').read_text(encoding='utf-8'))
    record = {'date': datetime.date.today().isoformat(), 'teacher': 'pocket', 'seed': o.seed, 'asked': o.n,
              'revision': f'sha256:{hashlib.sha256(weights).hexdigest()[:16]}', 'tasks': {}}
    for name in HELD_OUT:
        record['tasks'][name] = measure(name, about[name], o.corpus, teacher, embedder, o.n, o.seed)
        print(name, json.dumps(record['tasks'][name]), flush=True)
    o.out.write_text(json.dumps(record, indent=1) + '\n')
    SUMMARY.write_text(json.dumps(summary(record), indent=1) + '\n')


if __name__ == '__main__': main()
