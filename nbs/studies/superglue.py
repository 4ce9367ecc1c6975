"""Students on gold SuperGLUE parts: single-task, with an instruction, and one student for six tasks.

    python nbs/studies/superglue.py --work runs/superglue                                          all of it: about 50
    minutes on one CPU core
    python nbs/studies/superglue.py --work runs/superglue --forms plain --seeds 0                  one form, one seed
    python nbs/studies/superglue.py --work runs/superglue --collect nbs/studies/superglue.json

Every student leaves a file in the working folder and is passed over when the file is there, so the command may be
stopped and given again.
Gold data is found through SYNTHLAB_GOLD. No gold text is written anywhere.
"""
import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np

from synthlab.measure.students import Student
from synthlab.tasks.superglue import learner_rows, load_superglue, multi_task, text_to_text
from synthlab.util import derive_seed

from protocol import stamp
from steps import once

# Train part, rows of it, epochs, test part. The official train part of BoolQ is not at hand: its validation part is cut in two by passage.
TASKS = {'cb': ('train', 250, 5, 'validation'), 'rte': ('train', 500, 3, 'validation'),
         'copa': ('train', 400, 5, 'validation'),
         'wic': ('train', 800, 3, 'validation'), 'wsc': ('train', 554, 4, 'validation'), 'boolq': ('dev_as_train', 400,
             3, 'dev_as_test')}
FORMS = {'plain': 160, 'multi': 160, 'instruction': 256}                     # the longest input, in tokens
MULTI_EPOCHS, TEST_ROWS, SEEDS = 3, 300, (0, 1, 2)


def some(rows, n, task):
    "At most n rows of a task, drawn once and for all."
    places = np.random.default_rng(derive_seed(0, 'superglue', task)).permutation(len(rows))[:n]
    return [rows[i] for i in sorted(places)]


def parts(task):
    "Train and test rows of a task."
    train, n, _, test = TASKS[task]
    return some(load_superglue(task, train), n, task), some(load_superglue(task, test), TEST_ROWS, task)


def scores_of(student, rows):
    "What is kept of a student's score."
    score = student.score(rows)
    return {'accuracy': float(score), 'macro_f1': score.details['macro_f1'], 'test_rows': score.n,
            'train_rows': student.n_, 'seconds': student.seconds_}


def single(task, form, seed):
    "A student of one task."
    train, test = (learner_rows(text_to_text(rows, task, instruction=form == 'instruction')) for rows in parts(task))
    student = Student('minilm', recipe='quick', seed=seed, epochs=TASKS[task][2], max_length=FORMS[form]).fit(train)
    return scores_of(student, test)


def joint(seed):
    "A student of all six tasks, scored on each; an answer of another task counts as wrong."
    every = {task: parts(task) for task in TASKS}
    student = Student('minilm', recipe='quick', seed=seed, epochs=MULTI_EPOCHS,
                      max_length=FORMS['multi']).fit(learner_rows(multi_task({task: train for task,
                          (train, _) in every.items()})))
    return {task: scores_of(student, learner_rows(text_to_text(test, task, prefix=True)))
            | {'answers_of_other_tasks': strays(student, task, test)} for task, (_, test) in every.items()}


def strays(student, task, test):
    "Share of the predictions that are no answer of the task."
    rows = learner_rows(text_to_text(test, task, prefix=True))
    known = {row['label'] for row in rows}
    return float(np.mean([answer not in known for answer in student.predict([row['text'] for row in rows])]))


def baseline(task):
    "Rows and the share of the likeliest label: of the train part, on the test part."
    train, test = (Counter(row['label'] for row in rows) for rows in parts(task))
    guess = train.most_common(1)[0][0]
    return {'train_rows': sum(train.values()), 'test_rows': sum(test.values()), 'guess': guess,
            'accuracy': test[guess]/sum(test.values())}


def study(work, forms, seeds):
    "All students of some forms, seed by seed."
    for task in TASKS: once(work/'baseline'/f'{task}.json', lambda: baseline(task))
    for seed in seeds:
        for form in forms:
            if form == 'multi': once(work/form/f'all-{seed}.json', lambda: joint(seed))
            else:
                for task in TASKS: once(work/form/f'{task}-{seed}.json', lambda: single(task, form, seed))


def collect(work, path):
    "Everything that the notebook shows, in one file."
    def read(name): return json.loads((work/name).read_text(encoding='utf-8')) if (work/name).exists() else None
    found = {'baseline': {task: read(f'baseline/{task}.json') for task in TASKS}}
    joints = [result for seed in SEEDS if (result := read(f'multi/all-{seed}.json'))]
    found['multi'] = {task: [result[task] for result in joints] for task in TASKS}
    for form in ('plain', 'instruction'):
        found[form] = {task: [result for seed in SEEDS if (result := read(f'{form}/{task}-{seed}.json'))]
                       for task in TASKS}
    settings = {'tasks': TASKS, 'forms': FORMS, 'multi_epochs': MULTI_EPOCHS, 'seeds': SEEDS, 'student': 'minilm',
                'recipe': 'quick'}
    found = {'stamp': stamp(None), 'settings': settings} | found
    path.write_text(json.dumps(found, allow_nan=False, indent=1), encoding='utf-8')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, default=Path('runs/superglue'), help='folder for results')
    parser.add_argument('--forms', default=','.join(FORMS), help='forms, with commas between')
    parser.add_argument('--seeds', default=','.join(map(str, SEEDS)), help='seeds, with commas between')
    parser.add_argument('--collect', type=Path, metavar='FILE', help='only gather what is there in a file for '
                        'the notebook')
    args = parser.parse_args()
    if args.collect: return collect(args.work, args.collect)
    Student.progress = False
    study(args.work, args.forms.split(','), [int(seed) for seed in args.seeds.split(',')])


if __name__ == '__main__': main()
