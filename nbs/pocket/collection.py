"""Tasks and texts of a collection of labelled texts: to train on, and ten sets held out to measure tasks never met.

    python nbs/pocket/collection.py COLLECTION CORPUS     # CORPUS/more/NAME.parquet and NAME.toml, half a minute

COLLECTION holds NAME.parquet (`label`, `text`), tasks.json (what each label means, label signal) and SOURCES.md (origin
and licence of each, which go into nbs/pocket/sources.json for the sets that are trained on). Sets
with a licence for research only, with coarse language, or whose labels a bag of words cannot tell apart are left out
of training. The held-out sets were chosen before any training, for different kinds of text and at most 20 labels.
"""
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from synthlab.tasks.task import Label, Task

from corpus import excerpts

HELD_OUT = ('asdiv_grade', 'bbc_news', 'clickbait', 'crisis_info_type', 'medical_abstracts', 'reuters_r8', 'snips',
            'stackoverflow_titles', 'tweeteval_emotion', 'webtext_sources')
CUES = {'question': 'Question:', 'review': 'Review:', 'sentence': 'Sentence:', 'title': 'Title:', 'quer': 'Request:',
        'request': 'Request:', 'utterance': 'Request:', 'command': 'Request:', 'argument': 'Argument:', 'post': 'Post:',
        'headline': 'Headline:', 'tweet': 'Tweet:', 'definition': 'Definition:', 'summary': 'Summary:'}
SOURCES = Path(__file__).with_name('sources.json')
MOST_LABELS, LEAST_ROWS, ROWS, SIGNAL, LONGEST = 40, 16, 5000, .2, 420


def is_trained(name, about):
    "Whether a set of the collection is trained on."
    return (name not in HELD_OUT and not about['research_only'] and not about['sensitive']
            and (about['label_signal'] or 0) >= SIGNAL)


def pieces(text):
    "A short text as it is; of a long one runs of sentences."
    return [text] if len(text) <= LONGEST else excerpts(text, 360)


def texts_of(path, rng, rows=ROWS):
    "Texts of the labels with most rows: about `rows` in all and equally many of each label, none twice, shuffled."
    frame = pd.read_parquet(path, columns=['text', 'label']).sample(frac=1, random_state=int(rng.integers(2**31)))
    frame = frame.assign(text=frame.text.map(lambda text: pieces(' '.join(text.split()))[:2])).explode('text')
    frame = frame.dropna(subset='text').drop_duplicates('text')
    frame = frame[frame.text.str.len() >= 12]
    counts = frame.label.value_counts()
    names = [name for name in counts.index if counts[name] >= LEAST_ROWS][:MOST_LABELS]
    frame = frame[frame.label.isin(names)]
    return frame.groupby('label').head(max(rows//max(len(names), 1), 100)).reset_index(drop=True)


def label_name(text):
    "A label's name without the characters that a task's names may not have."
    return re.sub(r'\s+', ' ', text).strip()


def make_task(name, about, labels):
    "The task of a set: its labels with their meanings, what kind of text it is, a cue."
    meanings = {label_name(label): about['labels'][label].strip().rstrip('.') for label in labels}
    cue = next((cue for word, cue in CUES.items() if word in about['genre'].lower()), 'Text:')
    return Task(name=name, description=about['description'].rstrip('.'), instruction='Write {{ verbalisation }}.',
                cue=cue, labels=[Label(name=label, verbalisation=text) for label, text in meanings.items()])


def sources(folder, names):
    "Where the sets are from, and under what licence, as the table of SOURCES.md says."
    rows = [[cell.strip() for cell in line.strip('|\n').split('|')]
            for line in (folder/'SOURCES.md').read_text(encoding='utf-8').splitlines() if line.startswith('| ')]
    head, about = rows[0], {row[0]: row for row in rows[1:]}
    def cell(name, title): return about[name][head.index(title)]
    return [{'name': name, 'from': cell(name, 'repository'), 'licence': cell(name, 'licence as stated')}
            for name in names]


def prepare(folder, out):
    "Write texts and task of every set that is trained on or held out."
    tasks, signal = json.loads((folder/'tasks.json').read_text(encoding='utf-8')), {}
    for name, about in tasks.items():
        if not (is_trained(name, about) or name in HELD_OUT): continue
        frame = texts_of(folder/f'{name}.parquet', np.random.default_rng(0))
        if frame.label.nunique() < 2: continue
        task = make_task(name, about, frame.label.unique())
        frame = frame.assign(label=frame.label.map(label_name))
        frame.to_parquet(out/f'{name}.parquet')
        (out/f'{name}.toml').write_text(task.to_toml(), encoding='utf-8')
        signal[name] = about['label_signal']
        kind = "held out" if name in HELD_OUT else about["label_signal"]
        print(name, kind, len(frame), frame.label.nunique(), flush=True)
    trained = {name: value for name, value in signal.items() if name not in HELD_OUT}
    (out/'signal.json').write_text(json.dumps(trained, indent=1))
    SOURCES.write_text(json.dumps(sources(folder, trained), indent=1) + '\n')


if __name__ == '__main__':
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])/'more'
    out.mkdir(parents=True, exist_ok=True)
    prepare(folder, out)
