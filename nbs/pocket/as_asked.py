"""Measure whether a teacher writes as it is asked: attributes, seeds, contexts; and how well it corrects labels.

    python nbs/pocket/as_asked.py CORPUS OUT.json [--model pocket] [--rows 96]

What is asked comes from test texts by the rules of rules.py, and the same rules look at what was written. Each share
stands beside the one that the texts reach for what was asked of another text, as some of it is met by chance. Labels
are corrected on built-in tasks and on the held-out sets, whose labels the teacher has never met.
"""
import argparse
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
from synthlab.embeddings import default_embedder
from synthlab.tasks.task import load_task
from synthlab.teacher.causal import CausalTeacher

from collection import HELD_OUT
from corpus import PARTS
from evaluate import agreement, rounded, share
from prompts import Prompts
from rules import KEY_WORDS, LENGTHS, NAMES, tense


# ---- what an attribute asks for, as far as rules can see it

def stands_in(words, text): return re.search(rf'\b{re.escape(words.strip())}\b', text.lower()) is not None


def as_long(asked, text):
    "Whether a text has the number of words that is asked for, give or take three tenths."
    return abs(len(text.split()) - asked) <= max(.3*asked, 2)


def checks(told, text):
    "Kind and outcome of every check that attributes allow on a text."
    for key, value in told.items():
        if key in LENGTHS and (count := re.search(r'about (\d+) words', value)):
            yield 'length', as_long(int(count[1]), text)
        if key == 'style' and (said := re.search(r'\w+ tense', value)): yield 'tense', tense(text) == said[0]
        if key in KEY_WORDS and value != 'none':
            yield from (('key words', stands_in(word, text)) for word in value.split(',') if word.strip())
        if key in NAMES: yield from (('names', stands_in(name, text)) for name in value.split(',') if name.strip())


def shares(told, texts):
    "The share of checks that hold, by kind."
    found = [pair for values, text in zip(told, texts) for pair in checks(values, text)]
    return {kind: share([held for k, held in found if k == kind]) for kind in dict(found)}


def beside_chance(told, texts):
    "Shares for what was asked, and for what was asked of the next text."
    met, by_chance = shares(told, texts), shares([*told[1:], told[0]], texts)
    return {kind: {'as_asked': met[kind], 'by_chance': by_chance.get(kind)} for kind in met}


# ---- what is written

def answered(teacher, maker, kind, rows, seed=0):
    "Texts that a teacher writes for one kind of prompt, '' where the reply was no text, and what was asked."
    rng = np.random.default_rng(seed)
    requests = [maker.makers[kind](maker, row, rng)[0] for row in rows]
    replies = teacher.complete(requests, repair=False, progress=False)
    texts = [(found.value.text if kind == 'from seed' else found.text) if found.ok else '' for found in replies]
    return texts, requests


def attributes(teacher, maker, rows):
    "Checks on the attributes that are the task's own."
    always = type('Own', (), {'random': lambda self: 1.})()
    requests = [maker.makers['from attributes'](maker, row, always)[0] for row in rows]
    texts = [found.text if found.ok else '' for found in teacher.complete(requests, repair=False, progress=False)]
    return beside_chance([json.loads(row['own']) for row in rows], texts)


def seeds(teacher, maker, rows, embedder):
    "Share of texts in which the seed stands, and cosine to the text's own context and to others'."
    rows = [row for row in rows if row['subject']]
    texts, requests = answered(teacher, maker, 'from seed', rows)
    subjects = [row['subject'] for row in rows]
    around = [context_of(request) for request in requests]
    a, b = (np.asarray(embedder.encode([t or '-' for t in part])) for part in (texts, around))
    cosines, had = a @ b.T, np.array([bool(t) for t in around])
    return {'as_asked': share([stands_in(s, t) for s, t in zip(subjects, texts)]),
            'by_chance': share([stands_in(s, t) for s, t in zip([*subjects[1:], subjects[0]], texts)]),
            'context_own': np.diag(cosines)[had].mean(), 'context_others': cosines[:, had].mean()}


def context_of(request):
    "The context that a request names, '' without one."
    said = re.search(r'context, as JSON: (".*")$', request.messages[-1]['content'], re.M)
    return json.loads(said[1]) if said else ''


# ---- one task

def read_maker(corpus, name):
    "Prompts from texts that no training has seen."
    if name in HELD_OUT: task, path = load_task(corpus/f'more/{name}.toml'), corpus/f'more/{name}.rules.parquet'
    else: task, path = load_task(name), corpus/f'{name}.test.rules.parquet'
    return Prompts(task, pd.read_parquet(path).to_dict('records'))


def measure(teacher, corpus, name, n):
    "Everything about one task."
    maker, embedder = read_maker(corpus, name), default_embedder()
    rows = maker.rows[:n]
    return {'attributes': attributes(teacher, maker, rows), 'seeds': seeds(teacher, maker, rows, embedder),
            'correct': agreement(teacher, maker, rows), 'chance': 1/len(maker.task.labels)}


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('corpus', type=Path); a.add_argument('out', type=Path); a.add_argument('--model', default='pocket')
    a.add_argument('--tasks', default=','.join([*PARTS, *HELD_OUT])); a.add_argument('--rows', type=int, default=96)
    o = a.parse_args()
    results, teacher = json.loads(o.out.read_text()) if o.out.exists() else {}, CausalTeacher(o.model)
    for name in o.tasks.split(','):
        if name in results: continue
        results[name] = rounded(measure(teacher, o.corpus, name, o.rows))
        print(name, json.dumps(results[name]), flush=True)
        o.out.write_text(json.dumps(results, indent=1))


if __name__ == '__main__': main()
