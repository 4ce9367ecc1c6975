"""Label evidence against self-correction, on gold rows with planted errors: five tasks, three shares of wrong labels.

    python nbs/studies/evidence.py --work runs/evidence                                       a quarter of an hour on one core
    python nbs/studies/evidence.py --work runs/evidence --collect nbs/studies/evidence.json

The rows are gold test rows that no bake-off has scored on, in two parts: one gets wrong labels, planted evenly, and
teaches a student, the other tests it. Each policy says what the student learns from. Every step leaves a file in the
working folder and is passed over when the file is there. Gold data is found through SYNTHLAB_GOLD; no text is collected.
"""
import argparse
import json
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from synthlab.cli.runs import kept_embedder
from synthlab.correct.evidence import calibration_gap, decide, label_evidence, places, scored, some_of_each
from synthlab.correct.self_correction import SelfCorrection
from synthlab.measure.evaluate import Rows, sample_rows
from synthlab.measure.students import Probe
from synthlab.run.rows import shorten
from synthlab.tasks.gold import load_gold
from synthlab.teacher.causal import CausalTeacher

from protocol import GOLD, SEEDS, fresh_test, gold_task, stamp, train_file
from steps import once

ROWS, TEST, NOISE = 200, 1000, (0., .1, .2, .3)
BINS = 10


def plant(codes, share, K, rng):
    "Wrong labels in place of a share of the right ones, every other label alike."
    wrong = rng.random(len(codes)) < share
    return np.where(wrong, (codes + rng.integers(1, K, len(codes))) % K, codes)


class Task:
    "Gold rows of a task, what a teacher says of them, and a student."
    def __init__(self, name, teacher, embedder):
        self.task, self.teacher, self.embedder = gold_task(name), teacher, embedder
        self.names = list(self.task.label_names)
        fresh = Rows.of(fresh_test(name))
        self.all = sample_rows(fresh, 2*ROWS*4 + TEST)
        train = list(load_gold(train_file(name), self.task))
        self.demos = {label: [row for row in train if row['label'] == label][:50] for label in self.names}

    def rows(self, seed):
        "Rows to learn from, and rows to be tested on, by seed."
        order = np.random.default_rng(seed).permutation(len(self.all))
        return sample_rows(self.all.take(order[:len(order)//2]), ROWS, seed), \
            sample_rows(self.all.take(order[len(order)//2:]), TEST, seed)

    def cut(self, text): return shorten(text, self.teacher, self.task.max_new_tokens)

    def tables(self, texts): return scored(self.teacher, self.task, [self.cut(text) for text in texts], progress=False)

    def known(self):
        "Scores and labels of demonstrations."
        texts, codes = some_of_each(self.demos, self.names)
        return self.tables(texts), codes


def learnt(rows, test, embedder, weights=None):
    "Accuracy of a student."
    return float(Probe(embedder).fit(rows, weights).score(test.records()))


def verdicts(task, rows, labels):
    "The answers of self-correction that is not told the label: places of labels, -1 where there is none."
    asked = [{'text': task.cut(text), 'label': label} for text, label in zip(rows.texts, labels)]
    found = SelfCorrection(task.teacher, task.task, show_label=False, policy='flag', progress=False)(asked)
    return [task.names.index(row['label_corrected']) if row['label_corrected'] else -1 for row in found]


def policies(task, rows, test, given, said, probs):
    "Accuracy of the student by what it learns from; `given` and `said` are places of labels."
    def labelled(codes): return [{'text': text, 'label': task.names[code]} for text, code in zip(rows.texts, codes)]
    def score(found, weights=None): return learnt(found, test, task.embedder, weights)
    soft = [row | {'soft_label': dict(zip(task.names, map(float, line)))} for row, line in zip(labelled(given), probs)]
    kept = [row for row, code, verdict in zip(labelled(given), given, said) if code == verdict]
    agreed = [row for row, code, line in zip(labelled(given), given, probs) if line.argmax() == code]
    return {'leave': score(labelled(given)), 'self-correction, drop': score(kept),
            'self-correction, relabel': score(labelled([code if verdict < 0 else verdict for code, verdict in
                                                        zip(given, said)])),
            'evidence, weigh': score(labelled(given), decide(probs, given, 'weigh')[1].tolist()),
            'evidence, soft': score(soft),
            'evidence, relabel': score(labelled(decide(probs, given, 'relabel')[0])),
            'evidence, drop doubted': score(agreed)}


def reliability_table(probs, right):
    "Confidence and accuracy by bins of confidence, with their rows."
    sure, hit = probs.max(1), probs.argmax(1) == right
    bins = np.minimum((sure*BINS).astype(int), BINS - 1)
    return [{'confidence': float(sure[bins == b].mean()), 'accuracy': float(hit[bins == b].mean()),
             'rows': int((bins == b).sum())} for b in range(BINS) if (bins == b).any()]


def trial(task, seed, known):
    "One draw of rows, with every share of wrong labels."
    rows, test = task.rows(seed)
    right, rng = places(rows.labels, task.names), np.random.default_rng([seed, 1])
    tables = task.tables(rows.texts)
    said = np.array(verdicts(task, rows, rows.labels))
    found = []
    for share in NOISE:
        given = plant(right, share, len(task.names), rng)
        for source, kinds in {'name': [0], 'channel': [1], 'both': [0, 1]}.items():
            probs, summary = label_evidence([tables[k] for k in kinds], given, task.names,
                                            ([known[0][k] for k in kinds], known[1]))
            own = probs[np.arange(len(given)), given]
            found.append({'noise': share, 'source': source, 'seed': seed, 'scales': summary['scales'],
                          'right': float((probs.argmax(1) == right).mean()), 'verdict': float((said == right).mean()),
                          'gap': calibration_gap(probs, right),
                          'auc': float(roc_auc_score(given != right, -own)) if share else None,
                          'auc_verdict': float(roc_auc_score(given != right, given != said)) if share else None,
                          'bins': reliability_table(probs, right) if source == 'both' else None,
                          'students': policies(task, rows, test, given, said, probs)})
    return found


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--work', type=Path, default=Path('runs/evidence')); a.add_argument('--tasks', default=','.join(GOLD))
    a.add_argument('--seeds', type=int, default=SEEDS); a.add_argument('--collect', type=Path)
    o = a.parse_args()
    teacher = CausalTeacher('pocket')
    if o.collect:
        found = {name: [trial for seed in range(o.seeds) if (o.work/name/f'{seed}.json').exists()
                        for trial in json.loads((o.work/name/f'{seed}.json').read_text(encoding='utf-8'))] for name in GOLD}
        mark = stamp(teacher, n=f'{ROWS} rows, {TEST:,} test rows', seeds=o.seeds)
        return o.collect.write_text(json.dumps({'stamp': mark} | found), encoding='utf-8')
    for name in o.tasks.split(','):
        task = Task(name, teacher, kept_embedder())
        known = task.known()
        for seed in range(o.seeds):
            once(o.work/name/f'{seed}.json', lambda: trial(task, seed, known))
            print(name, seed, flush=True)


if __name__ == '__main__': main()
