"Models: base and chat, what ends a text, what is loaded and what is refused."
from importlib.resources import files

import pytest
import torch
from synthlab.models import CausalModel, fold_system, left_pad, positions
from synthlab.tasks import load_task, messages
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"


@pytest.fixture
def folder(tmp_path):
    "A tiny Llama with random weights and pocket's tokenizer."
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=12_300, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                         max_position_embeddings=256, bos_token_id=2, eos_token_id=3)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(str(files('synthlab')/'resources'/'pocket')).save_pretrained(tmp_path)
    return tmp_path


def add_template(folder, template=TEMPLATE):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


def test_a_base_model_gets_plain_text(folder):
    task = load_task('ag_news')
    talk = messages(task, 'Sports', ['one', 'two'])
    ask = task.write_instruction('Sports')
    assert CausalModel(folder).render(talk, task.cue) == f'{ask}\nSummary: one\n\n{ask}\nSummary: two\n\n{ask}\nSummary:'


def test_a_chat_model_gets_its_own_template(folder):
    add_template(folder)
    task, teacher = load_task('ag_news'), CausalModel(folder)
    ask = task.write_instruction('Sports')
    assert teacher.render(messages(task, 'Sports', ['one']), task.cue) == f'<user>{ask}<assistant>Summary: one<user>{ask}<assistant>'
    assert teacher.encode(['x'])[0][0] != teacher.tokenizer.bos_token_id          # the template is the whole prompt
    assert teacher.decode(teacher.tokenizer('two lines', add_special_tokens=False)['input_ids']) == 'two lines'


SYSTEM = [{'role': 'system', 'content': ' Write in French. '}, {'role': 'user', 'content': 'one'}, {'role': 'assistant', 'content': 'un'}, {'role': 'user', 'content': 'two'}]


def test_a_system_turn_stands_above_plain_text(folder):
    assert CausalModel(folder).render(SYSTEM, 'Answer:') == ' Write in French. \n\none\nun\n\ntwo\nAnswer:'


@pytest.mark.parametrize('template, expected', [
    (TEMPLATE, '<system> Write in French. <user>one<assistant>un<user>two<assistant>'),
    ("{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}{% endfor %}" + TEMPLATE, '<user> Write in French. \n\none<assistant>un<user>two<assistant>'),
    ("{% set messages = messages | rejectattr('role', 'equalto', 'system') | list %}" + TEMPLATE, '<user> Write in French. \n\none<assistant>un<user>two<assistant>'),
    (TEMPLATE.replace('m.content', 'm.content | trim'), '<system>Write in French.<user>one<assistant>un<user>two<assistant>')], ids=['known', 'refused', 'dropped', 'trimmed'])
def test_a_system_turn_always_reaches_a_chat_model(folder, template, expected):
    add_template(folder, template)
    assert CausalModel(folder).render(SYSTEM, 'Answer:') == expected


def test_folding_a_system_turn_before_an_answer():
    talk = [SYSTEM[0], {'role': 'assistant', 'content': 'Hello.'}, {'role': 'user', 'content': 'one'}]
    assert fold_system(talk) == [{'role': 'user', 'content': ' Write in French. '}, *talk[1:]]


def test_every_prompt_begins_with_the_begin_of_text_token_once(teacher):
    bos = teacher.tokenizer.bos_token_id
    for row in teacher.encode(['once upon a time', 'a dog']): assert row[0] == bos and row.count(bos) == 1


def test_what_ends_a_text(teacher, folder):
    "The end-of-text token, and for a base model every token with a line break; a chat model may write lines."
    texts = teacher.tokenizer.batch_decode([[i] for i in range(teacher.vocab_size)])
    breaks = {i for i, text in enumerate(texts) if '\n' in text}
    assert set(teacher.stop_ids.tolist()) == breaks | {teacher.tokenizer.eos_token_id}
    assert teacher.end_ids.tolist() == [teacher.tokenizer.eos_token_id]
    add_template(folder)
    assert CausalModel(folder).stop_ids.tolist() == CausalModel(folder).end_ids.tolist() == [3]


def test_a_base_model_is_read_to_its_first_line(teacher, monkeypatch):
    monkeypatch.setattr(teacher.tokenizer, 'decode', lambda ids, **options: ' one \ntwo ')
    assert (teacher.decode([5]), teacher.decode([5], whole=True)) == ('one', 'one \ntwo')


def test_ids_beyond_the_tokenizer_are_masked(folder):
    logits = CausalModel(folder).next_logits([[2, 7, 8]])
    assert logits.shape == (1, 12_300)
    assert logits[:, 12_288:].isneginf().all() and logits[:, :12_288].isfinite().all()


def test_left_padding_gives_the_scores_of_single_prompts(teacher):
    rows = teacher.encode(['once upon a time there was a dog', 'one', 'the girl ran to the park and'])
    alone = torch.cat([teacher.next_logits([row]) for row in rows])
    torch.testing.assert_close(teacher.next_logits(rows).log_softmax(-1), alone.log_softmax(-1), atol=2e-4, rtol=0)


def test_logprob_against_transformers_loss(teacher):
    "The model's own cross entropy over the whole sequence, taken apart at the prompt's end."
    head = teacher.encode(['the dog'])[0]
    tail = teacher.tokenizer(' ran home', add_special_tokens=False)['input_ids']
    ids = torch.tensor([head + tail])
    labels = torch.tensor([[-100]*len(head) + tail])
    loss = torch.nn.functional.cross_entropy(teacher.model(ids).logits[0, :-1].float(), labels[0, 1:], reduction='sum')
    assert teacher.logprob(['the dog'], ['ran home']).item() == pytest.approx(-loss.item(), abs=1e-3)


def test_types_and_devices(folder):
    assert CausalModel(folder).dtype == torch.float32
    assert CausalModel(folder, dtype='bfloat16').next_logits([[2, 5]]).dtype == torch.float32
    assert CausalModel(folder, device='cpu').device.type == 'cpu'


def test_pickled_weights_are_refused(folder):
    model = LlamaForCausalLM.from_pretrained(folder)
    (folder/'model.safetensors').unlink()
    torch.save(model.state_dict(), folder/'pytorch_model.bin')
    with pytest.raises(ValueError, match='cannot load the model'): CausalModel(folder)


@pytest.mark.parametrize('change', ['config.json', 'model.safetensors', 'tokenizer.json'])
def test_an_incomplete_folder_is_refused(folder, change):
    (folder/change).unlink()
    with pytest.raises(ValueError, match='cannot load the model'): CausalModel(folder)


def test_code_in_a_model_folder_never_runs(folder):
    text = (folder/'config.json').read_text()
    (folder/'config.json').write_text(text.replace('"model_type": "llama"', '"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}'))
    (folder/'evil.py').write_text(f"open({str(folder/'ran')!r}, 'w')")
    with pytest.raises(ValueError, match='cannot load the model'): CausalModel(folder)
    assert not (folder/'ran').exists()


def test_padding_helpers():
    ids, mask = left_pad([[5], [6, 7, 8]], 0)
    assert ids.tolist() == [[0, 0, 5], [6, 7, 8]] and positions(mask).tolist() == [[0, 0, 0], [0, 1, 2]]
