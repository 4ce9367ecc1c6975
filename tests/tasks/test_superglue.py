"SuperGLUE in its official shapes: schemas, files, gold rows there and back, and text-to-text forms that all kinds of student can learn from."
import json
import os
import re
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest
import torch
from datasets import Dataset, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from synthlab.measure.students import Student, score_seeds
from synthlab.tasks.gold import DataError
from synthlab.tasks.superglue import (
    FEATURES, LABELS, entity_spans, from_official, learner_rows, load_superglue, multi_task, official_dataset,
    official_rows, original_rows, task_definition, text_to_text, write_official)
from synthlab.tasks.task import load_task

gold = pytest.mark.skipif(not os.environ.get('SYNTHLAB_GOLD'), reason='needs gold data: set SYNTHLAB_GOLD')
# What the card of aps/super_glue says of each configuration: columns in order, s for string, i for int32.
CARD = {'axb': 'sentence1:s sentence2:s idx:i', 'axg': 'premise:s hypothesis:s idx:i', 'boolq': 'question:s passage:s idx:i', 'cb': 'premise:s hypothesis:s idx:i',
        'copa': 'premise:s choice1:s choice2:s question:s idx:i', 'multirc': 'paragraph:s question:s answer:s idx:{paragraph,question,answer}', 'rte': 'premise:s hypothesis:s idx:i',
        'record': 'passage:s query:s entities:[s] entity_spans:[text,start,end] answers:[s] idx:{passage,query}',
        'wic': 'word:s sentence1:s sentence2:s start1:i start2:i end1:i end2:i idx:i', 'wsc': 'text:s span1_index:i span2_index:i span1_text:s span2_text:s idx:i'}
CLASSES = {'cb': ['entailment', 'contradiction', 'neutral'], 'copa': ['choice1', 'choice2']} | dict.fromkeys(['axb', 'axg', 'rte'], ['entailment', 'not_entailment']) | dict.fromkeys(['boolq', 'multirc', 'wic', 'wsc'], ['False', 'True'])
NEWS = {'passage': 'Ida Holt of Veldt won the Veldt Cup. Holt thanked Veldt.', 'query': 'On Sunday @placeholder will rest.', 'entities': ['Ida Holt', 'Veldt', 'Veldt Cup', 'Holt'], 'answers': ['Holt', 'Ida Holt']}
FIELDS = {'axb': {'sentence1': 'All mills closed.', 'sentence2': 'A mill closed.'}, 'axg': {'premise': 'The cook thanked the guest because he had paid.', 'hypothesis': 'The guest had paid.'},
          'boolq': {'question': 'is the mill open', 'passage': 'The mill closed in May.'}, 'cb': {'premise': 'It is late. I do not think the mill runs.', 'hypothesis': 'the mill runs'},
          'copa': {'premise': 'The mill closed.', 'choice1': 'It had burnt.', 'choice2': 'It was new.', 'question': 'cause'},
          'multirc': {'paragraph': 'The mill closed. It was old.', 'question': 'Why?', 'answer': 'Age'}, 'record': NEWS, 'rte': {'premise': 'The mill closed in May.', 'hypothesis': 'A mill closed.'},
          'wic': {'word': 'mill', 'sentence1': 'The mill closed.', 'sentence2': 'They mill flour.', 'start1': 4, 'start2': 5, 'end1': 8, 'end2': 9},
          'wsc': {'text': 'Ann thanked Eva because she had helped.', 'span1_index': 2, 'span2_index': 4, 'span1_text': 'Eva', 'span2_text': 'she'}}


def rows(task, n=4):
    "Rows of our own, the labels in turn."
    names = LABELS[task] or ('cloze',)
    return [{'id': f'r{i}', 'fields': FIELDS[task], 'label': names[i % len(names)], 'text': '', 'status': 'accepted'} for i in range(n)]


def kind(feature):
    "A feature in the words of CARD."
    if isinstance(feature, dict): return ('[' if 'text' in feature else '{') + ','.join(feature) + (']' if 'text' in feature else '}')
    inner = getattr(feature, 'feature', None)
    if inner is not None: return kind(inner) if isinstance(inner, dict) else f'[{kind(inner)}]'
    return {'string': 's', 'int32': 'i'}[feature.dtype]


# ---- the schema

@pytest.mark.parametrize('task', CARD)
def test_features_are_those_of_the_hub(task):
    features = dict(FEATURES[task])
    label = features.pop('label', None)
    assert ' '.join(f'{name}:{kind(feature)}' for name, feature in features.items()) == CARD[task]
    assert (label.names if label else []) == CLASSES.get(task, [])


@pytest.mark.parametrize('task', CARD)
def test_a_dataset_has_them_and_files_give_them_back(task, tmp_path):
    made = official_dataset(rows(task), task)
    assert made.features == FEATURES[task] and len(made) == 4
    assert write_official(rows(task), task, tmp_path/'train.parquet') == 4
    read = load_dataset('parquet', data_files=str(tmp_path/'train.parquet'), split='train', cache_dir=str(tmp_path))
    assert read.features == FEATURES[task] and read.to_list() == made.to_list()
    write_official(rows(task), task, tmp_path/'train.jsonl')
    lines = [json.loads(line) for line in (tmp_path/'train.jsonl').read_text(encoding='utf-8').splitlines()]
    assert lines == original_rows(rows(task), task)
    for where in (tmp_path, tmp_path/'train.parquet'): assert official_rows(load_superglue(task, 'train', where), task) == official_rows(rows(task), task)
    assert official_rows(from_official(lines, task), task) == official_rows(rows(task), task)


def test_the_labels_of_the_original_lines():
    spelt = {'axg': ['entailment', 'not_entailment'], 'cb': ['entailment', 'contradiction'], 'boolq': [False, True], 'wic': [False, True], 'wsc': [False, True], 'copa': [0, 1]}
    for task, wanted in spelt.items(): assert [row['label'] for row in original_rows(rows(task, 2), task)] == wanted
    line = original_rows(rows('multirc'), 'multirc')[0]
    assert [answer['label'] for answer in line['passage']['questions'][0]['answers']] == [0, 1, 0, 1] and line['version'] == 1.1


def test_rows_that_were_not_accepted_stay_out():
    assert len(official_rows([*rows('cb'), rows('cb')[0] | {'status': 'rejected'}], 'cb')) == 4
    assert len(text_to_text([*rows('cb'), rows('cb')[0] | {'status': 'failed'}], 'cb')) == 4


def test_numbers_are_kept_where_all_rows_have_one_and_else_new():
    assert [row['idx'] for row in official_rows([row | {'idx': 7 + n} for n, row in enumerate(rows('rte'))], 'rte')] == [7, 8, 9, 10]
    assert [row['idx'] for row in official_rows([rows('rte')[0] | {'idx': 7}, *rows('rte', 2)], 'rte')] == [0, 1, 2]


@pytest.mark.parametrize('change, told', [({'label': 'Entailment'}, "the label 'Entailment'; did you mean 'entailment'"), ({'fields': {'premise': 'x'}}, "no field 'hypothesis'; a row of rte needs premise, hypothesis")])
def test_what_cannot_be_written_is_told(change, told):
    with pytest.raises(DataError, match=re.escape(told)): official_rows([rows('rte')[0] | change], 'rte')
    with pytest.raises(ValueError, match="'rtee' is no task of SuperGLUE; did you mean 'rte'"): official_rows([], 'rtee')


def test_a_file_is_whole_or_not_there(tmp_path):
    with pytest.raises(ValueError, match='no accepted rows'): write_official([], 'cb', tmp_path/'a.parquet')
    with pytest.raises(ValueError, match='must end in'): write_official(rows('cb'), 'cb', tmp_path/'a.csv')
    with pytest.raises(DataError): write_official([rows('cb')[0] | {'label': 'x'}], 'cb', tmp_path/'a.jsonl')
    assert not list(tmp_path.iterdir())


# ---- ReCoRD, of which no gold part is at hand

@given(st.text('ab ', max_size=30), st.lists(st.text('ab', min_size=1, max_size=3), max_size=4))
def test_spans_are_all_places_of_all_entities(passage, entities):
    wanted = sorted({(start, start + len(name), name) for name in entities for start in range(len(passage)) if passage[start:].startswith(name)})
    found = entity_spans(passage, entities)
    assert list(zip(found['start'], found['end'], found['text'])) == wanted


def test_original_lines_of_record_count_the_last_character_in():
    line = {'source': 'own', 'idx': 3, 'passage': {'text': NEWS['passage'], 'entities': [{'start': 12, 'end': 16}, {'start': 0, 'end': 7}]},
            'qas': [{'query': NEWS['query'], 'idx': 9, 'answers': [{'start': 0, 'end': 7, 'text': 'Ida Holt'}]}]}
    row = official_rows(from_official([line], 'record'), 'record')[0]
    assert row['entities'] == ['Ida Holt', 'Veldt'] and row['entity_spans'] == {'text': ['Ida Holt', 'Veldt'], 'start': [0, 12], 'end': [8, 17]} and row['idx'] == {'passage': 3, 'query': 9}
    assert official_rows(from_official(original_rows(from_official([line], 'record'), 'record'), 'record'), 'record') == [row]


# ---- gold rows

def raw(task, part): return pd.read_parquet(Path(os.environ['SYNTHLAB_GOLD'])/f'superglue_{task}'/f'{part}.parquet').to_dict('records')


@gold
@pytest.mark.parametrize('task, part', [('axb', 'test'), ('axg', 'test'), ('boolq', 'validation'), ('boolq', 'dev_as_train'), ('cb', 'train'), ('cb', 'validation'), ('cb', 'test_unlabelled'),
                                        ('copa', 'train'), ('copa', 'validation'), ('rte', 'train'), ('rte', 'validation'), ('rte', 'test_unlabelled'), ('wic', 'train'), ('wic', 'validation'),
                                        ('wsc', 'train'), ('wsc', 'validation')])
def test_every_gold_row_survives(task, part):
    "The rows that come out are compared with the file itself, column by column."
    real, ours = raw(task, part), load_superglue(task, part)
    lines, back = original_rows(ours, task), official_rows(from_official(official_dataset(ours, task), task), task)
    renamed = {'sentence1': 'premise', 'sentence2': 'hypothesis'} if task == 'axb' else {}
    assert len(real) == len(ours) == len(lines) == len(back)
    for line, row, found in zip(lines, back, real):
        found = {key: value for key, value in found.items() if key not in ('pos', 'version')}
        assert {renamed.get(key, key): value for key, value in line.items() if key != 'version'} == found
        label = found.get('label')
        assert row['label'] == (-1 if label is None else CLASSES[task].index(str(label)) if str(label) in CLASSES[task] else label)


@gold
def test_every_gold_line_of_multirc_survives():
    path = Path(os.environ['SYNTHLAB_GOLD'])/'superglue_multirc'/'validation.jsonl'
    real, ours = [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines()], load_superglue('multirc')
    assert len(ours) == 4848 and original_rows(ours, 'multirc') == real
    assert original_rows(from_official(official_dataset(ours, 'multirc'), 'multirc'), 'multirc') == real


@gold
def test_gold_offsets_are_where_the_words_stand():
    for part in ('train', 'validation', 'test'):
        for row in official_rows(load_superglue('wic', part), 'wic'):
            for n in '12':
                word, sentence = row[f'sentence{n}'][row[f'start{n}']:row[f'end{n}']], row[f'sentence{n}']
                assert word and ' ' not in word.strip() and sentence[max(0, row[f'start{n}'] - 1):row[f'start{n}']] in ('', ' ', '"', "'", '-', '(', '`', '‘', '“')
    for row in official_rows(load_superglue('wsc', 'train'), 'wsc'): assert row['text'].split()[row['span2_index']].lower().startswith(row['span2_text'].lower().split()[0][:2])


@gold
def test_a_missing_part_is_told():
    with pytest.raises(DataError, match="no part 'vaildation'.*did you mean 'validation'"): load_superglue('cb', 'vaildation')


# ---- text to text

@pytest.mark.parametrize('task', CARD)
def test_text_to_text_forms(task, tmp_path):
    plain, told, named = (text_to_text(rows(task), task, **form) for form in ({}, {'instruction': True}, {'prefix': True}))
    assert plain.column_names == ['input', 'output', 'task', 'id'] and plain['id'][:] == ['r0', 'r1', 'r2', 'r3']
    assert all(b == f'{task_definition(task)}\n{a}' and c == f'{task} {a}' for a, b, c in zip(plain['input'], told['input'], named['input']))
    assert set(plain['output']) == (set(LABELS[task][:len(set(LABELS[task]))]) if task != 'record' else {'Ida Holt'})
    if task != 'record': assert all(label.description in told['input'][0] for label in load_task(task).labels)
    for suffix, kind in (('parquet', 'parquet'), ('jsonl', 'json'), ('csv', 'csv')):
        path = str(tmp_path/f'pairs.{suffix}')
        {'parquet': told.to_parquet, 'jsonl': told.to_json, 'csv': told.to_csv}[suffix](path)
        read = pd.read_csv(path, dtype=str, keep_default_na=False).to_dict('records') if kind == 'csv' else load_dataset(kind, data_files=path, split='train', cache_dir=str(tmp_path)).to_list()
        assert read == told.to_list()


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_categories=['Cs'], exclude_characters='\0'), min_size=1, max_size=40))
def test_any_text_survives(text):
    row = {'fields': {'premise': text, 'hypothesis': f'{{{{ x }}}} {text}'}, 'label': 'neutral', 'id': 'a'}
    assert from_official(official_dataset([row], 'cb'), 'cb')[0]['fields'] == row['fields']
    assert from_official(json.loads(json.dumps(original_rows([row], 'cb'))), 'cb')[0]['fields'] == row['fields']
    assert text_to_text([row], 'cb', instruction=True)['input'][0].endswith(f'premise: {text} hypothesis: {{{{ x }}}} {text}')


def test_fields_may_be_json_or_columns():
    assert official_rows([FIELDS['multirc'] | {'label': 'False'}], 'multirc') == official_rows(rows('multirc', 1), 'multirc')
    assert official_rows([rows('cb')[0] | {'fields': json.dumps(FIELDS['cb'])}], 'cb') == official_rows(rows('cb', 1), 'cb')


def test_several_tasks_in_one():
    both = multi_task({'cb': rows('cb'), 'copa': rows('copa', 2)})
    assert both['task'][:] == ['cb']*4 + ['copa']*2 and all(text.startswith(f'{task} ') for text, task in zip(both['input'], both['task']))


# ---- students of the three kinds

@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    "Folders with tiny models of random weights: nothing pretrained is needed to see that the forms can be learned from."
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration
    tokenizer, root = AutoTokenizer.from_pretrained(str(files('synthlab')/'resources'/'pocket')), tmp_path_factory.mktemp('models')
    size = dict(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=512)
    models = {'encoder': lambda: BertForSequenceClassification(BertConfig(**size)), 'decoder': lambda: LlamaForCausalLM(LlamaConfig(**size)),
              'seq2seq': lambda: T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0))}
    for name, build in models.items():
        torch.manual_seed(0)
        build().save_pretrained(root/name)
        tokenizer.save_pretrained(root/name)
    return root


@pytest.mark.parametrize('form', ['plain', 'instruction', 'multi'])
@pytest.mark.parametrize('model', ['encoder', 'seq2seq', 'decoder'])
def test_every_kind_of_student_runs_in_every_form(tiny, model, form):
    pairs = multi_task({'cb': rows('cb', 6), 'wic': rows('wic', 6)}) if form == 'multi' else text_to_text(rows('cb', 12), 'cb', instruction=form == 'instruction')
    learned = Student(str(tiny/model), kind=model, epochs=1, max_length=256).fit(learner_rows(pairs))
    assert set(learned.labels_) == set(pairs['output']) and learned.score(learner_rows(pairs)).n == 12


def test_seeds_are_scored_on_official_rows(tiny):
    student = Student(str(tiny/'encoder'), epochs=1, max_length=64)
    pairs = learner_rows(text_to_text(from_official(Dataset.from_list(official_rows(rows('copa', 8), 'copa')), 'copa'), 'copa'))
    assert len(score_seeds(student, pairs, pairs, seeds=(0, 1)).details['scores']) == 2
