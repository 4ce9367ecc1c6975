"""Measure `pocket` for its card, prompt by prompt: valid replies, label fidelity, nats a character, agreement with gold
labels.

    python nbs/pocket/evaluate.py GOLD CORPUS nbs/pocket/results.json [--model pocket] [--rows 60] [--tasks
    ag_news,imdb]
    python nbs/pocket/evaluate.py --card nbs/pocket/results.json > synthlab/resources/pocket/README.md

Prompts are those of `prompts.py` on test texts, which no training has seen. A reply is valid when the library's own
reader takes it; it is
drawn twice, held to its schema by a grammar and free. Fidelity is the share of written texts to which a classifier
trained on gold data
gives the label that was asked for; the classifier's accuracy on gold test texts (the ruler) stands beside it, because
no measure can be
better than its ruler. One file holds the results; tasks that are in it are not measured again.
"""
import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from synthlab.correct.choices import Correction
from synthlab.correct.questions import SHORT_REASON, correction_requests
from synthlab.decode.choices import CorrSynth, FewGen
from synthlab.prompt.targeted import fault_of
from synthlab.run.generate import generate
from synthlab.tasks.strategy import Job, InstanceSeed
from synthlab.tasks.task import load_task
from synthlab.teacher.causal import CausalTeacher
from synthlab.teacher.requests import Answer, read_reply

from corpus import PARTS, classifier, cut, gold, test_texts
from prompts import KINDS, Prompts
from train import collate

ASKED = [kind for kind in KINDS if kind not in ('few-shot', 'classify')]
WRITES = ('simprompt', 'from attributes', 'from seed')


# ---- rulers

def ruler(data, name):
    "A classifier trained on gold texts, whole and cut as the teacher saw them, and its accuracy on gold test texts."
    frames = [gold(data, name, part) for part in PARTS[name]]
    frames = [f for f in frames if f.label.notna().all()]
    train = pd.concat([*frames, *(cut(name, f) for f in frames)]).drop_duplicates('text')
    model, test = classifier().fit(train.text.str.lower(), train.label), test_texts(data, name, 2000)
    return model, model.score(test.text.str.lower(), test.label)


def share(hits): return float(np.mean(hits)) if len(hits) else None


def fidelity(model, texts, labels):
    "Share of texts with the asked label, among the labels that the gold data has."
    known = [(text.lower(), label) for text, label in zip(texts, labels) if label in model.classes_]
    return share(model.predict([t for t, _ in known]) == [l for _, l in known]) if known else None


# ---- nats a character of the answer that rules and gold texts give

@torch.inference_mode()
def nats_per_char(teacher, pairs):
    "Mean nats a character of answers after their prompts, the end of the text included."
    nats = chars = 0
    for first in range(0, len(pairs), 20):
        part = pairs[first:first + 20]
        rows = [([*teacher.encode([prompt])[0]], [*teacher.tokenizer(text, add_special_tokens=False)['input_ids'],
                                                  teacher.tokenizer.eos_token_id]) for prompt, text in part]
        ids, is_text = collate([(p + t, [0]*len(p) + [1]*len(t)) for p, t in rows])
        scores = teacher.model(input_ids=ids, use_cache=False).logits[:, :-1].float().log_softmax(-1)
        nats -= scores.gather(-1, ids[:, 1:, None])[..., 0][is_text[:, 1:]].sum().item()
        chars += sum(len(text) for _, text in part)
    return nats/chars


def plain_nats(teacher, task, texts):
    return nats_per_char(teacher, [(f'{task.write_instruction(label)}\n{task.cue}', text) for text,
                                   label in texts[['text', 'label']].values])


# ---- replies

def free(request): return replace(request, schema=None)


def ask(teacher, requests, held):
    "Replies in the requests' shape, with or without the grammar."
    if held: return teacher.complete(requests, repair=False, progress=False)
    answers = teacher.complete([free(r) for r in requests], repair=False, progress=False)
    return [read_reply(r, a.answers[-1] if a.answers else Answer(error=a.reason)) for r, a in zip(requests, answers)]


def items(found):
    "The list in a reply, whatever its key."
    return next((v for v in vars(found.value).values() if isinstance(v, Sequence) and not isinstance(v, str)), None)


def is_valid(kind, maker, row, found):
    "Whether the library takes a reply; of a list, the share of different items that were asked for."
    if not found.ok: return 0.
    if kind == 'from seed':
        return float(not fault_of(found, maker.strategy,
                                  Job(0, row['label'], InstanceSeed({'subject': subject_of(found.request)}), {}))[1])
    if kind in ('contexts', 'seeds', 'values', 'several from attributes'):
        wanted = found.request.schema.model_json_schema()['properties'].popitem()[1]['minItems']
        return min(1., len({str(item).strip().lower() for item in items(found)} - {''})/wanted)
    return float(bool(found.text.strip()))


def subject_of(request):
    return json.loads(next(line for line in request.messages[-1]['content'].splitlines()
                           if line.startswith('{"subject"')))['subject']


def written(kind, found): return found.value.text if kind == 'from seed' else found.text


def prompt_report(teacher, maker, kind, model, rows, rng):
    "Valid replies, nats and fidelity of one kind of prompt."
    drawn = [maker.rows[i] for i in rng.integers(len(maker.rows), size=rows)]
    made = [maker.makers[kind](maker, row, np.random.default_rng(rng.integers(2**31))) for row in drawn]
    pairs = [(teacher.render(request.messages, request.cue), target) for request, target in made]
    out = {'nats_per_char': nats_per_char(teacher, pairs)}
    for held in (True, False):
        replies = ask(teacher, [request for request, _ in made], held)
        out['valid' if held else 'valid_free'] = share([is_valid(kind, maker, row, found) for row,
                                                        found in zip(drawn, replies)])
        if held and kind in WRITES:
            good = [(written(kind, f), row['label']) for f, row in zip(replies, drawn)
                    if f.ok]; out['fidelity'] = fidelity(model, *zip(*good))
    return out


# ---- labels

def correct_requests(maker, rows, told):
    "Questions for the label, blind, with the right one shown, or with a wrong one."
    rng, names = np.random.default_rng(0), maker.task.label_names
    def given(label):
        return label if told != 'wrong' else [n for n in names if n != label][rng.integers(len(names) - 1)]
    return [correction_requests(row | {'label': given(row['label'])}, maker.strategy,
                                Correction(show_label=told != 'blind'), 0, longest=SHORT_REASON)[0] for row in rows]


def agreement(teacher, maker, rows):
    "Share of gold test texts to which the corrector gives the gold label."
    return {told: share([found.ok and found.value.label == row['label'] for found,
                         row in zip(teacher.complete(correct_requests(maker, rows, told), repair=False, progress=False),
                                    rows)])
            for told in ('blind', 'right', 'wrong')}


def label_scores(teacher, task, text):
    "Log-probability of each label after the question."
    ask = f'{task.ask_instruction()}\n{task.cue} {text}\n{task.answer_cue}'
    return teacher.logprob([ask]*len(task.label_names), list(task.label_names))


def own_labels(teacher, task, rows):
    return share([task.label_names[label_scores(teacher, task, row['text']).argmax()] == row['label'] for row in rows])


# ---- a task

def texts_of(task, method, teacher, n):
    rows = [row for group in generate(method, task, teacher, n, seed=0) for row in group.rows if row['status']
            == 'accepted']
    return [row['text'] for row in rows], [row['label'] for row in rows]


def measure(teacher, data, corpus, name, rows):
    "Everything about one task."
    task, (model, accuracy), rng = load_task(name), ruler(data, name), np.random.default_rng(0)
    rules = pd.read_parquet(corpus/f'{name}.test.rules.parquet')
    maker = Prompts(name, rules.to_dict('records'))
    known = maker.rows[:150]
    found = dict(nats_per_char=plain_nats(teacher, task, test_texts(data, name).head(200)), ruler=float(accuracy),
                 own_labels=own_labels(teacher, task, known), correct=agreement(teacher, maker, known),
                 fidelity_fewgen=fidelity(model, *texts_of(task, FewGen(), teacher, 4*rows)),
                 fidelity_corrsynth=fidelity(model, *texts_of(task, CorrSynth(delta=.5, alpha=.01), teacher, 4*rows)))
    return found | {'prompts': {kind: prompt_report(teacher, maker, kind, model, 2*rows if kind in WRITES else rows,
                                                    rng) for kind in ASKED}}


def rounded(value):
    return {k: rounded(v) for k, v in value.items()} if isinstance(value,
        dict) else value if value is None else round(float(value), 4)


# ---- the card

HEAD = Path(__file__).with_name('card.md')


def cell(value): return '-' if value is None else f'{value:.3f}'


def mean(values): return float(np.mean(values)) if (values := [v for v in values if v is not None]) else None


def table(rows): return '\n'.join('| ' + ' | '.join(row) + ' |' for row in rows)


def read_json(name): return json.loads(HEAD.with_name(name).read_text(encoding='utf-8'))


def heeded(found):
    "A row for each task of heeding.json: nats, cosines, fidelity."
    return [[name, str(int(r['labels'])), *(cell(r['nats'][how]) for how in ('none', 'random', 'near')),
             *(cell(r['cosine'][which]) for which in ('own', 'others')),
             *(cell(r[key]) for key in ('fidelity_fewgen', 'fidelity_corrsynth', 'chance', 'ruler'))]
            for name, r in found.items()]


def as_asked(found):
    "A row for each kind of check in as_asked.json: the means over tasks."
    kinds = {kind for r in found.values() for kind in r['attributes']}
    pairs = {kind: [r['attributes'][kind] for r in found.values() if kind in r['attributes']] for kind in sorted(kinds)}
    pairs['seed, word for word'] = [r['seeds'] for r in found.values()]
    return [[kind, str(len(shares)), *(cell(mean([share[how] for share in shares]))
                                       for how in ('as_asked', 'by_chance'))] for kind, shares in pairs.items()]


def corrected(found):
    "A row for each task of as_asked.json: labels given to texts never seen."
    return [[name, *(cell(r['correct'][told]) for told in ('blind', 'right', 'wrong')), cell(r['chance'])]
            for name, r in found.items()]


def card(results):
    "The model card, with the measured figures."
    tasks = [[name, *map(cell, (r['nats_per_char'], r['fidelity_fewgen'], r['fidelity_corrsynth'], r['ruler'],
                                r['own_labels'], *r['correct'].values()))] for name, r in results.items()]
    kinds = [[kind, *(cell(mean([r['prompts'][kind].get(c) for r in results.values()])) for c in ('valid', 'valid_free',
        'fidelity', 'nats_per_char'))] for kind in ASKED]
    tables = {'tasks': lambda: tasks, 'prompts': lambda: kinds, 'heeding': lambda: heeded(read_json('heeding.json')),
              'asked': lambda: as_asked(read_json('as_asked.json')),
              'corrected': lambda: corrected({name: r for name, r in read_json('as_asked.json').items()
                                              if name not in results}),
              'sources': lambda: [[source['name'], source['from'], source['licence']]
                                  for source in read_json('sources.json')]}
    head = HEAD.read_text(encoding='utf-8')
    # Only what the text has a place for.
    for name, rows in tables.items():
        if f'{{{name}}}' in head: head = head.replace(f'{{{name}}}', table(rows()))
    return head


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('gold', type=Path, nargs='?'); a.add_argument('corpus', type=Path, nargs='?'); a.add_argument('out',
        type=Path)
    a.add_argument('--model', default='pocket'); a.add_argument('--rows', type=int, default=60)
    a.add_argument('--tasks', default=','.join(PARTS)); a.add_argument('--card', action='store_true',
        help='print the model card from OUT')
    o = a.parse_args()
    results = json.loads(o.out.read_text()) if o.out.exists() else {}
    if o.card: return print(card(results), end='')
    teacher = CausalTeacher(o.model)
    for name in o.tasks.split(','):
        if name in results: continue
        results[name] = rounded(measure(teacher, o.gold, o.corpus, name, o.rows))
        print(name, json.dumps(results[name]), flush=True)
        o.out.write_text(json.dumps(results, indent=1))


if __name__ == '__main__': main()
