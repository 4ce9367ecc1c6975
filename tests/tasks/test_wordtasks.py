"COPA, WiC and WSC: slots, offsets and indices against gold data, brute force and the schema's own grammar."
import os
import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from pydantic import create_model
from synthlab.teacher.grammar import grammar
from synthlab.tasks.strategy import Job, InstanceSeed, assemble, check_task
from synthlab.teacher.requests import validate
from synthlab.tasks.task import load_task
from synthlab.tasks.wordtasks import (
    PRONOUNS, WSC, Copa, WiC, copa_fault, find_form, find_forms, form_pattern, pronoun_form, wic_fault, wic_senses,
    word_forms, word_places, wsc_fault, wsc_pattern)

SEEDS = {'copa': InstanceSeed({'premise': 'The gate swung open.'}),
         'wic': InstanceSeed({'word': 'board', 'part_of_speech': 'noun', 'sense1': 'a flat piece of wood', 'sense2': 'a group of people who direct a firm'}),
         'wsc': InstanceSeed({'first': 'the plumbers', 'second': 'the tenants', 'pronoun': 'they', 'situation': 'a pipe bursts'})}
REPLIES = {'copa': {'plausible': 'The wind was strong.', 'implausible': 'The road was long.'},
           'wic': {'sentence1': 'Two boards were missing from the fence.', 'sentence2': 'She nailed the board to the door.'},
           'wsc': {'text': 'The plumbers warned the tenants by phone before they turned off the water.'}}
STRATEGIES = {'copa': Copa, 'wic': WiC, 'wsc': WSC}


def strategy(name): return STRATEGIES[name](load_task(name))


def jobs(name):
    found = strategy(name)
    return [Job(n, label, SEEDS[name], layout) for n, (label, layout) in enumerate((label, layout) for label in found.task.label_names for layout in found.layouts(label))]


def gold(task, *parts):
    if 'SYNTHLAB_GOLD' not in os.environ: pytest.skip('SYNTHLAB_GOLD is not set')
    return pd.concat(pd.read_parquet(Path(os.environ['SYNTHLAB_GOLD'])/f'superglue_{task}'/f'{part}.parquet') for part in parts)


@pytest.mark.parametrize('name', STRATEGIES)
def test_every_label_and_layout_makes_a_row_that_passes(name):
    found = strategy(name)
    check_task(found.task, found)
    for job in jobs(name):
        reply = REPLIES[name]
        if name == 'wsc': reply = {'text': re.sub('they', found.pronoun(job), reply['text'])}
        rows, fault = assemble(found, job, reply)
        assert fault == '' and set(rows[0]) == set(found.task.fields)
        assert validate(reply, found.reply_schema(job))[1] == ''


@pytest.mark.parametrize('name', STRATEGIES)
def test_a_reply_cannot_overwrite_what_code_owns(name):
    found = strategy(name)
    job = jobs(name)[0]
    reply = REPLIES[name] if name != 'wsc' else {'text': REPLIES[name]['text'].replace('they', found.pronoun(job))}
    extra = {field: 'choice 7' for field in (*found.task.fields, 'label', 'question', 'premise', 'word') if field not in reply}
    value, fault = validate(reply | extra, found.reply_schema(job))
    assert fault == '' and assemble(found, job, value.model_dump()) == assemble(found, job, reply)
    assert assemble(found, job, reply | extra) == assemble(found, job, reply)


@pytest.mark.parametrize('name', STRATEGIES)
def test_schemas_make_grammars(name):
    from synthlab.teacher.causal import CausalTeacher
    tokenizer, found = CausalTeacher('pocket').tokenizer, strategy(name)
    grammar(create_model('Seeds', seeds=(list[found.seed_schema()], ...)), tokenizer)
    for job in jobs(name): grammar(found.reply_schema(job), tokenizer)


# COPA

def test_slots_are_balanced_within_each_relation():
    found = strategy('copa')
    rows = [assemble(found, job, REPLIES['copa'])[0][0] for job in jobs('copa')*5]
    slots = Counter((row['question'], [name for name in ('choice1', 'choice2') if row[name] == REPLIES['copa']['plausible']][0]) for row in rows)
    assert slots == {(relation, slot): 5 for relation in ('cause', 'effect') for slot in ('choice1', 'choice2')}


def test_the_plausible_alternative_stands_where_the_label_says():
    for job in jobs('copa'):
        (row,), _ = assemble(strategy('copa'), job, REPLIES['copa'])
        assert row[job.label] == REPLIES['copa']['plausible'] and row['question'] == job.layout['relation']


def test_the_reader_of_copa_sees_the_relation():
    shown = [strategy('copa').shown(assemble(strategy('copa'), job, REPLIES['copa'])[0][0]) for job in jobs('copa')]
    assert len({(row['question'], row['choice1']) for row in shown}) == 4


@pytest.mark.parametrize('change, told', [({'choice2': 'the WIND  was strong.'}, 'two different'), ({'choice1': 'The gate swung open.'}, 'repeats the premise'), ({'choice2': 'Far away, ' * 6}, 'equally long'),
                                          ({'choice2': 'So it fell down there.'}, "starts with 'so'"), ({'question': 'why'}, 'cause or effect')])
def test_copa_faults_say_what_to_do(change, told):
    row = {'premise': 'The gate swung open.', 'choice1': 'The wind was strong.', 'choice2': 'The road was long.', 'question': 'cause'}
    assert copa_fault(row) == '' and told in copa_fault(row | change)


def test_copa_rules_accept_gold_rows():
    assert not any(map(copa_fault, gold('copa', 'train', 'validation').to_dict('records')))


# WiC

@pytest.mark.parametrize('word, kind, forms', [('city', 'noun', 'cities'), ('key', 'noun', 'keys'), ('glass', 'noun', 'glasses'), ('hero', 'noun', 'heroes'), ('photo', 'noun', 'photos'), ('wife', 'noun', 'wives'),
    ('goose', 'noun', 'geese'), ('quiz', 'noun', 'quizzes'), ('deny', 'verb', 'denies denied denying'), ('enjoy', 'verb', 'enjoys enjoyed enjoying'), ('agree', 'verb', 'agreed agreeing'), ('dye', 'verb', 'dyed dyeing'),
    ('argue', 'verb', 'argued arguing'), ('tie', 'verb', 'tied tying'), ('plan', 'verb', 'planned planning'), ('prefer', 'verb', 'preferred preferring'), ('open', 'verb', 'opened opening'), ('travel', 'verb', 'travelled traveled'),
    ('mimic', 'verb', 'mimicked mimicking'), ('quit', 'verb', 'quits quitting'), ('snow', 'verb', 'snowed snowing'), ('fix', 'verb', 'fixes fixed fixing'), ('bring', 'verb', 'brought'), ('lie', 'verb', 'lay lain lying lied'),
    ('be', 'verb', 'is are was were been being am'), ('undergo', 'verb', 'underwent'), ('watch', 'verb', 'watches watched')])
def test_forms_of_english_words(word, kind, forms):
    assert {word, *forms.split()} <= set(word_forms(word, kind)) <= set(word_forms(word))


def test_found_offsets_slice_to_a_form_of_the_word():
    for job in jobs('wic'):
        (row,), _ = assemble(strategy('wic'), job, REPLIES['wic'])
        for n in (1, 2): assert row[f'sentence{n}'][row[f'start{n}']:row[f'end{n}']].lower() in word_forms('board', 'noun')


def test_a_word_must_stand_alone_and_once():
    assert find_forms('art', 'Party arts, ART; smart-art cart') == [(6, 10), (12, 15), (23, 26)]
    assert find_forms('do', "Doesn't it do?") == [(0, 4), (11, 13)]
    with pytest.raises(ValueError, match='2 times'): find_form('art', 'Art is art.')
    with pytest.raises(ValueError, match='neither'): find_form('art', 'Artful.')


def test_offsets_agree_with_gold():
    rows = gold('wic', 'train', 'validation').to_dict('records')
    found = [(find_forms(row['word'], row[f'sentence{n}']), (row[f'start{n}'], row[f'end{n}'])) for row in rows for n in (1, 2)]
    assert sum(span not in places for places, span in found) <= 1                       # one row of the data points to another word
    assert sum(places != [span] for places, span in found if len(places) == 1) <= 1
    assert sum(places[:1] == [span] for places, span in found)/len(found) > .998
    assert sum(not wic_fault(row) for row in rows)/len(rows) > .98


def test_words_of_the_older_tokenised_part_are_found():
    rows = gold('wic', 'test').to_dict('records')
    right = sum(find_forms(row['word'], row[f'sentence{n}'])[:1] != [] and len(row[f'sentence{n}'][:find_forms(row['word'], row[f'sentence{n}'])[0][0]].split()) == int(row['positions'].split('-')[n - 1])
                for row in rows for n in (1, 2))
    assert right/(2*len(rows)) > .99


def test_the_pattern_of_a_sentence_takes_what_the_finder_finds():
    for sentence in ('Boards creak.', 'A board!', 'On board', 'An overboard throw.', 'boarding', 'the key-board', 'nothing'):
        assert bool(re.fullmatch(form_pattern('board', 'noun'), sentence)) == bool(find_forms('board', sentence, 'noun')), sentence


def test_senses_follow_the_label():
    assert [wic_senses(label, first) for label in ('True', 'False') for first in ('sense1', 'sense2')] == [('sense1', 'sense1'), ('sense2', 'sense2'), ('sense1', 'sense2'), ('sense2', 'sense1')]
    told = {tuple(strategy('wic').told(job).values()) for job in jobs('wic')}
    assert len(told) == 4 and sum(one == other for one, other in told) == 2


# WSC

def naive_places(text, phrase):
    "Look at each word in turn, without its punctuation."
    words, wanted = [word.lower() for word in text.split()], phrase.lower().split()
    def same(word, want, last): return word == want or last and word.startswith(want) and not (word[len(want):len(want) + 1].isalnum() or word[len(want):len(want) + 1] == '_')
    return [n for n in range(len(words) - len(wanted) + 1) if all(same(words[n + k], want, k == len(wanted) - 1) for k, want in enumerate(wanted))]


def test_word_places_agree_with_looking_at_each_word():
    for text in (REPLIES['wsc']['text'], "It's late; it is. Is it? (it) its it, IT", 'the old man and the old, old man; The Old Man!'):
        for phrase in ('it', 'the old man', 'old', 'they', 'the plumbers', 'tenants'): assert word_places(text, phrase) == naive_places(text, phrase), (text, phrase)


def test_indices_start_the_spans_and_labels_choose_the_noun():
    found = strategy('wsc')
    for job in jobs('wsc'):
        (row,), fault = assemble(found, job, {'text': REPLIES['wsc']['text'].replace('they', found.pronoun(job))})
        words = row['text'].split()
        assert fault == '' and ' '.join(words[row['span1_index']:]).startswith(row['span1_text']) and words[row['span2_index']].startswith(row['span2_text'])
        assert (row['span1_text'].lower() == job.seed.parts[job.layout['referent']]) == (job.label == 'True')
        assert row['span2_text'] == pronoun_form('they', job.layout['form'])


def test_indices_agree_with_gold():
    rows = [{'text': text, **target} for text, target in zip(*(gold('wsc', 'train', 'validation')[name] for name in ('text', 'target')))]
    places = [(word_places(row['text'], row[f'span{n}_text']), row[f'span{n}_index']) for row in rows for n in (1, 2)]
    assert sum(index not in found for found, index in places) <= 1
    assert sum(not wsc_fault(row) for row in rows)/len(rows) > .98
    assert {row['span2_text'].lower() for row in rows} <= {form for forms in PRONOUNS.values() for form in forms}


@pytest.mark.parametrize('text, told', [('The plumbers warned the people before they left.', 'nowhere'), ('The plumbers and the tenants said that they saw they could.', '2 times'),
                                        ('The tenants, as they said, met the plumbers.', 'comes after both'), ('The plumbers they sent met the tenants.', 'comes after both')])
def test_wsc_faults_say_what_to_do(text, told):
    job = Job(0, 'True', SEEDS['wsc'], {'referent': 'first', 'form': 'subject'})
    assert told in assemble(strategy('wsc'), job, {'text': text})[1]


def test_nouns_from_a_user_are_data_in_the_pattern():
    odd = InstanceSeed({'first': 'C++ (the {{ 2nd }})', 'second': 'a$b|c*', 'pronoun': 'it', 'situation': 'x'})
    job, text = Job(0, 'True', odd, {'referent': 'second', 'form': 'object'}), 'We took C++ (the {{ 2nd }}) and a$b|c* apart, then sold it again.'
    assert re.fullmatch(wsc_pattern('C++ (the {{ 2nd }})', 'a$b|c*', 'it'), text)
    value, fault = validate({'text': text}, strategy('wsc').reply_schema(job))
    assert fault == '' and assemble(strategy('wsc'), job, value.model_dump())[1] == ''
