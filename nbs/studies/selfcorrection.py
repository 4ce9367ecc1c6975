"""TarGEN and its self-correction with the embedded teacher: what a second look at the labels changes, whether it is
right, and what a student learns then.

    python nbs/studies/selfcorrection.py --work runs/selfcorrection                            all of it: about a
    quarter of an hour on one CPU core
    python nbs/studies/selfcorrection.py --work runs/selfcorrection --tasks imdb               one task
    python nbs/studies/selfcorrection.py --work runs/selfcorrection --collect nbs/studies/selfcorrection.json

Every step leaves a file in the working folder and is passed over when the file is there, so the command may be stopped
and given again.
Gold data is found through SYNTHLAB_GOLD. No gold text is written anywhere; the working folder keeps their embeddings.
"""
import argparse
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score

from synthlab.correct.self_correction import SelfCorrection
from synthlab.run.rows import shorten
from synthlab.decode.choices import FewGen
from synthlab.tasks.gold import load_gold
from synthlab.embeddings import Embedder, GoldClassifier
from synthlab.measure.evaluate import Rows
from synthlab.run.generate import generate
from synthlab.run.targen import TarGEN
from synthlab.util import derive_seed
from synthlab.tasks.task import load_task
from synthlab.teacher.causal import CausalTeacher
from synthlab.correct.transitions import repair_rates, transition_matrix

from protocol import USUAL, stamp
from steps import balanced, once, rounded

TASKS, TOKENS = ('ag_news', 'imdb'), 128
# Gold rows of the judge; that students are tested on; rows of a source; seeds.
TRAIN, TEST, ROWS, SEEDS = 4000, 1000, 160, (0, 1, 2)
# Gold rows with a wrong label, planted: there the truth is known.
WRONG = .3
# Whether the corrector is told the label that a row has.
WAYS = {'shown': True, 'blind': False}
SOURCES = ('targen', 'fewgen', 'gold')


@dataclass
class Gold:
    """A task with gold rows that the judge learns from, that students are tested on, and that are corrected; no text is
    in two of them."""
    name: str
    embedder: Embedder

    @cached_property
    def task(self): return load_task(self.name)

    @cached_property
    def parts(self):
        train, test = (Rows.of(load_gold(None, self.task, part=part)) for part in ('train', 'test'))
        first = {text: n for n, text in reversed(list(enumerate(test.texts)))}
        rest = balanced(test.take(sorted(first.values())), TEST + len(SEEDS)*ROWS)
        return balanced(train.take([n for n, text in enumerate(train.texts) if text not in first]),
                        TRAIN), rest.take(range(TEST)), rest.take(range(TEST, len(rest)))

    @cached_property
    def test_vectors(self): return self.embedder.encode(self.parts[1].texts, progress=False)

    @cached_property
    def judge(self):
        "The gold classifier, whose verdict stands for the truth about synthetic rows."
        return GoldClassifier(C=10.).fit(self.embedder.encode(self.parts[0].texts, progress=False),
                                         self.parts[0].labels)

    def planted(self, seed, teacher):
        "Gold rows, a share of them with another label; cut to the length that a text may have."
        rows, names, rng = self.parts[2].take(range(seed*ROWS,
                                                    (seed + 1)
                                                    *ROWS)), self.task.label_names, np.random.default_rng(derive_seed(seed, self.name, 'planted'))
        wrong = set(rng.permutation(len(rows))[:round(WRONG*len(rows))].tolist())
        def given(n, label): return str(rng.choice([name for name in names if name != label])) if n in wrong else label
        def cut(text): return shorten(text, teacher, self.task.max_new_tokens)
        return [{'text': cut(text), 'label': given(n, label), 'truth': label} for n,
                (text, label) in enumerate(zip(rows.texts, rows.labels))]

    def student(self, X, labels):
        """Accuracy and macro-F1 on gold test rows of a logistic regression on embeddings; None where the rows have one
        label only."""
        if len(set(labels)) < 2: return None
        found = LogisticRegression(C=10, max_iter=300).fit(X, labels).predict(self.test_vectors)
        return [float(accuracy_score(self.parts[1].labels, found)),
                float(f1_score(self.parts[1].labels, found, average='macro'))]


def write_rows(gold, teacher, source, seed):
    "Rows of a source, and what the steps of TarGEN took."
    if source == 'gold': return {'rows': gold.planted(seed, teacher)}
    if source == 'targen':
        found = TarGEN(teacher, gold.task, correction=None, seed=seed).generate(ROWS)
        rows, steps = found.accepted, {name: {key: step[key] for key in ('calls', 'asked', 'kept')} for name,
                                       step in found.steps.items()}
    else:
        rows, steps = [row for group in generate(FewGen(), gold.task, teacher, ROWS, seed=seed) for row in group.rows
                       if row['status'] == 'accepted'], None
    return {'rows': [{'text': row['text'], 'label': row['label']} for row in rows], 'steps': steps}


def correct_rows(gold, teacher, rows, shown, seed):
    "The label that the teacher gives each row; None where it gives none."
    correct = SelfCorrection(teacher, gold.task, show_label=shown, policy='flag', seed=seed, progress=False)
    return [row['label_corrected'] for row in correct([{'text': row['text'], 'label': row['label']} for row in rows])]


def draw_like(labels, kept, rng):
    "As many rows as are kept, drawn at random from all: what dropping costs by itself."
    return np.sort(rng.permutation(len(labels))[:kept.sum()])


def measure(gold, rows, verdicts, seed):
    "What correction changed, how often a label is right before and after it, and what students learn."
    rng, X = np.random.default_rng(seed), gold.embedder.encode([row['text'] for row in rows], progress=False)
    judged = gold.judge.predict(X)
    told = [{'label_target': row['label'], 'label_corrected': verdict, 'sc_explanation': ''} for row,
            verdict in zip(rows, verdicts)]
    before, after = np.array([row['label'] for row in rows]), np.array([verdict or row['label'] for row,
        verdict in zip(rows, verdicts)])
    truth, kept = np.array([row.get('truth', verdict) for row, verdict in zip(rows, judged)]), before == after
    rates, draws = repair_rates(told, truth.tolist()), [draw_like(before, kept, rng) for _ in range(5)]
    shares = {name: [share.k, share.n] for name in ('before', 'after', 'kept', 'fix', 'break_')
              for share in [getattr(rates, name)]}
    fewer = [score for places in draws if (score := gold.student(X[places], before[places]))]
    students = {'as written': gold.student(X, before), 'relabelled': gold.student(X, after),
                'dropped': gold.student(X[kept], before[kept]),
                'as many at random': np.mean(fewer, axis=0).tolist() if fewer else None}
    return {'n': len(rows), 'matrix': transition_matrix(told, gold.task.label_names).counts.tolist(),
            'no verdict': sum(verdict is None for verdict in verdicts), 'shares': shares,
            'judge': sum(label == right for label, right in zip(judged, (row['truth'] for row in rows)))
            if 'truth' in rows[0] else None, 'students': students}


def study_task(work, name, embedder, teacher):
    "All steps of one task."
    gold, folder = Gold(name, embedder), work/name
    for seed in SEEDS:
        for source in SOURCES:
            # gold rows are not written to a file
            written = write_rows(gold, teacher, source,
                                 seed) if source == 'gold' else once(folder/f'rows-{source}-{seed}.json',
                                     lambda: write_rows(gold, teacher, source, seed))
            for way, shown in WAYS.items():
                verdicts = once(folder/f'verdicts-{source}-{way}-{seed}.json', lambda: correct_rows(gold, teacher,
                    written['rows'], shown, seed))
                once(folder/f'measures-{source}-{way}-{seed}.json', lambda: measure(gold, written['rows'], verdicts,
                    seed) | {'steps': written.get('steps')})
    once(folder/'judge.json', lambda: float(np.mean(np.array(gold.judge.predict(gold.test_vectors))
                                                    == np.array(gold.parts[1].labels))))


def collect(work, path):
    "Everything that the notebook shows, in one file."
    def read(file): return json.loads(file.read_text(encoding='utf-8'))
    def cells(name, source):
        return {way: [read(work/name/f'measures-{source}-{way}-{seed}.json') for seed in SEEDS] for way in WAYS}
    found = {name: {'judge': read(work/name/'judge.json'), 'labels': list(load_task(name).label_names)}
             | {source: cells(name, source) for source in SOURCES} for name in TASKS}
    command = 'python nbs/studies/selfcorrection.py --work runs/selfcorrection; ' \
              'python nbs/studies/selfcorrection.py --work runs/selfcorrection --collect nbs/studies/selfcorrection.json'
    settings = {'rows': ROWS, 'wrong': WRONG, 'train': TRAIN, 'test': TEST,
                'teacher': CausalTeacher('pocket').identity['revision']}
    mark = stamp(CausalTeacher('pocket'), USUAL, n=ROWS, seeds=SEEDS)
    found = {'stamp': mark, 'command': command, **settings, 'tasks': found}
    path.write_text(json.dumps(rounded(found, 5), allow_nan=False), encoding='utf-8')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, default=Path('runs/selfcorrection'),
                        help='folder for embeddings, rows and results')
    parser.add_argument('--tasks', default=','.join(TASKS), help='tasks, with commas between')
    parser.add_argument('--collect', type=Path, metavar='FILE', help='only gather what is there in a file for '
                        'the notebook')
    args = parser.parse_args()
    if args.collect: return collect(args.work, args.collect)
    args.work.mkdir(parents=True, exist_ok=True)
    embedder, teacher = Embedder(max_length=TOKENS, cache=args.work/'embeddings.db'), CausalTeacher('pocket',
        dtype='bfloat16')
    for name in args.tasks.split(','): study_task(args.work, name, embedder, teacher)


if __name__ == '__main__': main()
