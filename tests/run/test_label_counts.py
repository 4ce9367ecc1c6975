"Made-up label sets through every preset: each label gets its rows. The sizes of real ones are in tests/tools/many_labels.py."
import pytest
from many_labels import PRESETS, look
from scripted_teacher import ScriptedTeacher

from synthlab import Task, generate

THINGS = 'boat,cart,drum,fence,glove,harp,jar,kite,lamp,mill,nest,oven,pipe,quilt,rope,sail,tent,urn,vase,wheel'.split(',')
WORDS = 'red,tall,worn,loud,small'.split(',')


def made(labels, path):
    "A task of so many labels, written down, and gold rows of each."
    names = [f'{word} {thing}' for word in WORDS for thing in THINGS][:labels]
    parts = {'tone': {'meaning': 'How it sounds.', 'values': ['plain', 'hasty']}, 'form': {'meaning': 'Its form.', 'values': ['note', 'question']}}
    task = Task(name='made', instruction='Write a note about a {{ verbalisation }}.', max_new_tokens=48, attributes=parts, labels=[
        {'name': name, 'description': f'It is about a {name}.', 'demonstrations': [f'My {name} is in room {i}.' for i in range(3)]} for name in names])
    path.write_text(task.to_toml(), encoding='utf-8')
    return task, [{'text': f'The {name} of day {i} was sold.', 'label': name} for name in names for i in range(4)]


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('recipe', [name if name in ('corrsynth', 'attrprompt') else pytest.param(name, marks=pytest.mark.long)
                                    for name in PRESETS if name not in ('targen', 'combined')])
def test_six_labels_get_their_rows_from_pocket(recipe, tmp_path):
    task, gold = made(6, tmp_path/'task.toml')
    # beginnings of texts, which are quick and kept
    generate(task, 12, recipe, seed=1, max_new_tokens=8, gold=None if recipe in ('simprompt', 'attrprompt', 'verbalized') else gold, out=tmp_path/'run')
    assert look(tmp_path/'run', 12, tmp_path/'task.toml') == []


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('recipe, labels', [('fewgen', 77), ('simprompt', 77), ('attrprompt', 20), ('synalign', 20), ('targen', 20)])
def test_more_labels_get_their_rows_from_a_chat_teacher(recipe, labels, tmp_path):
    task, gold = made(labels, tmp_path/'task.toml')
    generate(task, 2*labels, recipe, gold=gold if recipe in ('fewgen', 'synalign') else None, out=tmp_path/'run', teacher=ScriptedTeacher())
    assert look(tmp_path/'run', 2*labels, tmp_path/'task.toml') == []
