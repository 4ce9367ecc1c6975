"""When does self-correction help? Wrong labels of a known share in gold rows, correctors of known accuracy, on two
tasks.

    python nbs/studies/correction.py --work runs/correction                                       all of it: about
    half an hour on two busy CPU cores
    python nbs/studies/correction.py --work runs/correction --collect nbs/studies/correction.json

Every step leaves a file in the working folder and is passed over when the file is there, so the command may be stopped
and given again.
Gold data is found through SYNTHLAB_GOLD. No gold text is written anywhere; the working folder keeps their embeddings.
"""
import argparse
import json
import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from synthlab.teacher.asking import TextTeacher
from synthlab.correct.self_correction import SelfCorrection
from synthlab.tasks.gold import load_gold
from synthlab.embeddings import Embedder, GoldClassifier
from synthlab.measure.evaluate import Rows
from synthlab.teacher.requests import Answer, request_key
from synthlab.util import derive_seed
from synthlab.tasks.task import load_task
from synthlab.correct.transitions import repair_rates

from protocol import stamp
from steps import balanced, once, rounded

TASKS, TOKENS = ('ag_news', 'imdb'), 128
# Gold rows that the best corrector learns from; that are corrected; that students are tested on.
TRAIN, ROWS, TEST = 4000, 2000, 2000
NOISE = (0., .02, .05, .1, .2, .3, .4)
# Correctors that have learnt from so many rows: an error is the same whenever they are asked.
FEW = (8, 20, 60, 4000)
# The last of these, with so many of its answers replaced: an error is a slip, made anew in each vote.
SLIPS = (.1, .2, .3, .4)
# Correctors stronger than any classifier here: the gold labels, with so many answers replaced.
STRONG = (.02, .06)
# Gold rows of the classifier that says which wrong labels are plausible.
HARD = 1000
# How often a corrector that is shown the label repeats it without looking.
ANCHOR = .5
WAYS = {f'{"shown" if shown else "blind"}-{votes}': (shown, votes) for shown in (False, True) for votes in (1, 3)}


@dataclass
class Gold:
    "A task with gold rows to learn from, to correct, and to test students on; no text is in two of them."
    name: str
    embedder: Embedder

    @cached_property
    def task(self): return load_task(self.name)

    @cached_property
    def parts(self):
        train, test = (Rows.of(load_gold(None, self.task, part=part)) for part in ('train', 'test'))
        first = {text: n for n, text in reversed(list(enumerate(test.texts)))}
        rest = balanced(test.take(sorted(first.values())), ROWS + TEST)
        train = balanced(train.take([n for n, text in enumerate(train.texts) if text not in first]), TRAIN)
        return train, rest.take(range(ROWS)), rest.take(range(ROWS, ROWS + TEST))

    @cached_property
    def vectors(self): return [self.embedder.encode(rows.texts, progress=False) for rows in self.parts]

    def classifier(self, n):
        "What n gold rows teach, the same number of each label."
        rows, X = self.parts[0], self.vectors[0]
        names, each = np.array(rows.labels), n//len(self.task.labels)
        places = np.concatenate([np.flatnonzero(names == label)[:each] for label in self.task.label_names])
        return GoldClassifier(C=10.).fit(X[places], names[places].tolist())

    def student(self, X, labels):
        "Accuracy of a student of labelled rows on gold test rows."
        model = LogisticRegression(C=10, max_iter=300).fit(X, labels)
        return float((model.predict(self.vectors[2]) == np.array(self.parts[2].labels)).mean())


class ClassifierTeacher(TextTeacher):
    """A classifier that answers correction requests.

    It finds the text in the prompt and gives the classifier's label; a share `slips` of its answers is replaced by
    another label at random. When it is shown the current label, it repeats
    that with probability `anchor` and does not look. All draws depend on the request alone, so the same request has the
    same answer, and each vote its own.
    """

    # asked as a base model is, so that the prompts, and with them all draws, stay those of the measurement
    is_chat = False

    def __init__(self, name, known, labels, slips=0., anchor=0.):
        self.name, self.known, self.labels, self.slips, self.anchor = name, known, labels, slips, anchor

    @property
    def identity(self): return {'name': self.name, 'revision': None}

    def token_bound(self, request): return len(request.messages[0]['content'])

    def label(self, request):
        data = [json.loads(line) for line in request.messages[0]['content'].split('\n') if line.startswith('{')]
        rng = random.Random(request_key(request, self.identity))
        if len(data) > 1 and rng.random() < self.anchor: return data[1]['label']
        found = self.known[data[0]['text']]
        return rng.choice([label for label in self.labels if label != found]) if rng.random() < self.slips else found

    def ask(self, requests):
        for place, request in enumerate(requests):
            if request is not None:
                yield place, Answer(json.dumps({'explanation': '', 'label': self.label(request)}), prompt_tokens=0,
                                    completion_tokens=0)


def teachers(gold):
    "Correctors by name."
    texts, labels, X = gold.parts[1].texts, gold.task.label_names, gold.vectors[1]
    def known(n): return dict(zip(texts, gold.classifier(n).predict(X)))
    best = known(TRAIN)
    return {f'rows-{n}': ClassifierTeacher(f'rows-{n}', known(n), labels, anchor=ANCHOR) for n in FEW} | {
        f'slips-{share}': ClassifierTeacher(f'slips-{share}', best, labels, share, ANCHOR) for share in SLIPS} | {
        f'strong-{share}': ClassifierTeacher(f'strong-{share}', dict(zip(texts, gold.parts[1].labels)), labels, share,
                                             ANCHOR) for share in STRONG}


def planted(gold, share, seed=0):
    "Rows of which a share has a wrong label; a larger share has the wrong labels of a smaller one and more."
    rng, names = np.random.default_rng(derive_seed(seed, gold.name, 'noise')), gold.task.label_names
    rows = gold.parts[1]
    wrong, others = np.argsort(rng.random(len(rows)))[:round(share*len(rows))], rng.integers(1, len(names), len(rows))
    labels = list(rows.labels)
    for n in wrong: labels[n] = names[(names.index(labels[n]) + others[n]) % len(names)]
    return [{'text': text, 'label': label} for text, label in zip(rows.texts, labels)]


def counted(gold, rows):
    "What correction did, and what students of the rows learn: relabelled, and without the rows that flipped."
    rates, labels = repair_rates(rows, gold.parts[1].labels), np.array([row['label'] for row in rows])
    kept = np.array([not row['flipped'] for row in rows])
    shares = {name: [getattr(rates, name).k, getattr(rates, name).n] for name in ('fix', 'break_', 'kept')}
    return shares | {'students': {'relabel': gold.student(gold.vectors[1], labels),
                                  'drop': gold.student(gold.vectors[1][kept], labels[kept])}}


def corrector_study(gold, teacher):
    "One corrector: its accuracy asked blind, and every share of wrong labels in every way of asking."
    calls, found = {}, {}
    for way, (shown, votes) in WAYS.items():
        correct = SelfCorrection(teacher, gold.task, show_label=shown, votes=votes, calls=calls, progress=False)
        found[way] = {str(share): counted(gold, correct(planted(gold, share))) for share in NOISE}
    right = [row['label'] == label for row, label in zip(SelfCorrection(teacher, gold.task, show_label=False,
        calls=calls, progress=False)(planted(gold, 0.)), gold.parts[1].labels)]
    return {'accuracy': float(np.mean(right)), 'ways': found}


def hard(gold, share):
    """Rows of which a share has a wrong label where a classifier of other rows thinks it likeliest: the mistakes of
    somebody who knows the task, not of chance."""
    judge, rows = gold.classifier(HARD), gold.parts[1]
    probs, names = judge.predict_proba(gold.vectors[1]), judge.labels
    right = np.array([names.index(label) for label in rows.labels])
    others = probs.copy()
    others[np.arange(len(right)), right] = -1
    wrong = set(np.argsort(probs[np.arange(len(right)), right] - others.max(1))[:round(share*len(right))].tolist())
    return [{'text': text, 'label': names[others[n].argmax()] if n in wrong else label} for n,
            (text, label) in enumerate(zip(rows.texts, rows.labels))]


def hard_study(gold):
    "All correctors, asked blind, where wrong labels are plausible ones."
    def one(teacher):
        calls = {}
        return {str(share): counted(gold, SelfCorrection(teacher, gold.task, show_label=False, calls=calls,
                                                         progress=False)(hard(gold, share))) for share in NOISE}
    return {name: one(teacher) for name, teacher in teachers(gold).items()} | {'uncorrected': {
        str(share): gold.student(gold.vectors[1], [row['label'] for row in hard(gold, share)]) for share in NOISE}}


def study_task(work, name, embedder):
    "All correctors of one task, and students of rows that nobody corrected."
    gold, folder = Gold(name, embedder), work/name
    def uncorrected(share): return gold.student(gold.vectors[1], [row['label'] for row in planted(gold, share)])
    once(folder/'uncorrected.json', lambda: {str(share): uncorrected(share) for share in NOISE})
    for teacher in teachers(gold).values(): once(folder/f'{teacher.name}.json', lambda: corrector_study(gold, teacher))
    once(folder/'hard.json', lambda: hard_study(gold))


def collect(work, path):
    "Everything that the notebook shows, in one file."
    def read(file): return json.loads(file.read_text(encoding='utf-8'))
    found = {name: {file.stem: read(file) for file in sorted((work/name).glob('*.json'))} for name in TASKS}
    command = ('python nbs/studies/correction.py --work runs/correction; python nbs/studies/correction.py --work '
               'runs/correction --collect nbs/studies/correction.json')
    settings = {'stamp': stamp(None, n=ROWS), 'command': command, 'rows': ROWS, 'anchor': ANCHOR}
    path.write_text(json.dumps(rounded(settings | {'tasks': found}, digits=5), allow_nan=False), encoding='utf-8')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, default=Path('runs/correction'), help='folder for embeddings and results')
    parser.add_argument('--tasks', default=','.join(TASKS), help='tasks, with commas between')
    parser.add_argument('--collect', type=Path, metavar='FILE', help='only gather what is there in a file for '
                        'the notebook')
    args = parser.parse_args()
    if args.collect: return collect(args.work, args.collect)
    args.work.mkdir(parents=True, exist_ok=True)
    embedder = Embedder(max_length=TOKENS, cache=args.work/'embeddings.db')
    for name in args.tasks.split(','): study_task(args.work, name, embedder)


if __name__ == '__main__': main()
