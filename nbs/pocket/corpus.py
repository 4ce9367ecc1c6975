"The training texts of `pocket`: cleaned, cut to length, kept where a gold classifier agrees with the label."
import html, re, tomllib
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline

TASKS = Path(__file__).parents[2]/'synthlab/resources/tasks'
PARTS = {'ag_news': ['agnews/train', 'agnews/train_extra_world_scitech', 'agnews/train_description_only'],
         'imdb': ['imdb/train', 'imdb/unsupervised'], 'sst2': ['sst2/train_sentences'],
         'humor': ['humor/train'], 'amazon_category': ['amazon14/train'], 'toi_headlines': ['toi2001/train']}
TEST = {'ag_news': 'agnews/test', 'imdb': 'imdb/test', 'sst2': 'sst2/test', 'humor': 'humor/test',
        'amazon_category': 'amazon14/test', 'toi_headlines': 'toi2001/test'}
LONG = {'imdb', 'amazon_category'}                       # texts cut into runs of one to four sentences
SURE = {'ag_news': .4, 'imdb': .7, 'sst2': .3, 'humor': .4, 'amazon_category': .35, 'toi_headlines': .4}


def task(name): return tomllib.loads((TASKS/f'{name}.toml').read_text(encoding='utf-8'))


def label_names(name):
    "Gold label, name or alias, to the task's own label name; labels outside the task are absent."
    return {alias: l['name'] for l in task(name)['labels'] for alias in [l['name'], *l['aliases']]}


def clean(text):
    "Undo markup, escape sequences and tokenisation by spaces."
    text = re.sub(r'&?(#\d+|\b(?:quot|amp|lt|gt|nbsp));', lambda m: html.unescape(f'&{m[1]};'), text)
    text = re.sub(r'<[^<>]{1,80}>', ' ', text.replace('\\', ' '))
    text = re.sub(r'-lrb- ?', '(', text); text = re.sub(r' ?-rrb-', ')', text)
    text = text.replace('`` ', '"').replace(" ''", '"').replace('``', '"').replace("''", '"')
    text = re.sub(r" (n't|'s|'re|'ve|'ll|'d|'m)\b", r'\1', text)
    text = re.sub(r' ([,.;:!?)\]])(?=[\s,.;:!?)"\']|$)', r'\1', text)
    text = re.sub(r'([(\[]) ', r'\1', text)
    return ' '.join(text.split())


def excerpts(text, longest):
    "Consecutive runs of one to four sentences of at most `longest` characters, the lengths varied by position."
    runs, run = [], []
    for s in re.split(r'(?<=[.!?])\s+(?=\S)', text):
        if run and (len(' '.join([*run, s])) > longest or len(run) == 1 + (len(runs) * 7 + len(text)) % 4):
            runs.append(' '.join(run)); run = []
        run.append(s)
    return [r for r in [*runs, ' '.join(run)] if 25 <= len(r) <= longest]


def classifier():
    return make_pipeline(TfidfVectorizer(sublinear_tf=True, min_df=2, ngram_range=(1, 2), max_features=200_000),
                         LogisticRegression(C=4, max_iter=200))


def gold(data, name, part, rows=None):
    "One gold part with cleaned text and the task's own label names; label None where it has none."
    frame = pd.read_parquet(Path(data)/f'{part}.parquet')
    if rows: frame = frame.sample(min(rows, len(frame)), random_state=0)
    frame['text'] = frame.text.map(clean)
    frame['label'] = frame.label_text.map(label_names(name)) if 'label_text' in frame else None
    return frame.loc[(frame.text.str.len() > 0) & (frame.label.notna() | ('label_text' not in frame)), ['text',
        'label']]


def cut(name, frame):
    "Long reviews become excerpts."
    if name not in LONG: return frame[frame.text.str.len() <= 420]
    frame = frame.assign(text=frame.text.map(lambda t: excerpts(t, 360))).explode('text').dropna(subset='text')
    return frame.drop_duplicates('text')


def agreeing(name, labelled, whole, other):
    "Texts whose label the classifier finds likely; unlabelled texts take the label that it is nearly sure of."
    model, classes = classifier(), np.unique(labelled.label)
    if name in LONG: proba = model.fit(whole.text, whole.label).predict_proba(labelled.text)
    else: proba = cross_val_predict(model, labelled.text, labelled.label, cv=5, method='predict_proba')
    own = proba[np.arange(len(labelled)), np.searchsorted(classes, labelled.label)]
    kept = labelled[own >= SURE[name]]
    if not len(other): return kept
    proba = model.predict_proba(other.text)
    sure = other.assign(label=classes[proba.argmax(1)])[proba.max(1) >= .85]
    return pd.concat([kept, sure])


def training_texts(data, name):
    "All training texts of one task, with labels, shuffled."
    frames = [gold(data, name, p) for p in PARTS[name]]
    whole = pd.concat([f for f in frames if f.label.notna().all()])
    bare = pd.concat([f for f in frames if not f.label.notna().all()] or [whole.head(0)])
    texts = agreeing(name, cut(name, whole), whole, cut(name, bare))
    return texts.drop_duplicates('text').sample(frac=1, random_state=0).reset_index(drop=True)


def test_texts(data, name, rows=1000):
    return cut(name, gold(data, name, TEST[name], rows)).drop_duplicates('text').sample(frac=1,
        random_state=0).head(rows)


if __name__ == '__main__':
    import sys
    data, out = map(Path, sys.argv[1:3])
    out.mkdir(parents=True, exist_ok=True)
    for name in PARTS:
        texts = training_texts(data, name)
        texts.to_parquet(out/f'{name}.parquet'); test_texts(data, name).to_parquet(out/f'{name}.test.parquet')
        print(name, len(texts), texts.text.str.len().sum(), texts.label.value_counts().to_dict(), flush=True)
