"""A chat server on loopback with a real model behind it, which keeps answers to the JSON schema that it is sent.

    with LocalServer(CausalTeacher(folder)) as server: ... server.url

It speaks as much of the OpenAI protocol as a chat teacher needs. Requests wait in a queue; the model answers many of them together.
"""
import asyncio
import json
import queue
import threading
import time
from collections import Counter
from typing import Any

from aiohttp import web
from pydantic import BaseModel, RootModel

from synthlab.decode.sampling import Sampling
from synthlab.teacher.requests import Request

_shapes: dict[str, type[BaseModel]] = {}


def shape_of(schema):
    "A pydantic class that has this JSON schema, the same for the same schema."
    def made(): return type('Sent', (RootModel[Any],), {'model_json_schema': classmethod(lambda cls, *args, **kwargs: schema)})
    return _shapes.setdefault(json.dumps(schema, sort_keys=True), made())


def request_of(body):
    "The request that a body asks for."
    form = body.get('response_format')
    sampling = Sampling(body['max_tokens'], body.get('temperature', 1.), body.get('top_p', 1.), body.get('top_k', 0))
    return Request(body['messages'], sampling, shape_of(form['json_schema']['schema']) if form else None, seed=body.get('seed'), top_logprobs=body.get('top_logprobs', 0))


def first_logprobs(teacher, request):
    "The part of a choice that shows the likeliest first tokens with their log-probabilities, nats."
    ids = teacher.encode([teacher.render(request.messages, request.cue)])
    values, tokens = teacher.next_logits(ids)[0].log_softmax(-1).topk(request.top_logprobs)
    top = [{'token': teacher.tokenizer.decode([token]), 'logprob': value} for value, token in zip(values.tolist(), tokens.tolist())]
    return {'logprobs': {'content': [top[0] | {'top_logprobs': top}]}}


def completion_of(answer):
    "An answer as the protocol writes it."
    if answer.error: return {'error': {'message': answer.error, 'type': 'model'}}
    usage = {'prompt_tokens': answer.prompt_tokens, 'completion_tokens': answer.completion_tokens, 'total_tokens': answer.prompt_tokens + answer.completion_tokens}
    return {'id': 'local', 'object': 'chat.completion', 'created': 1, 'model': answer.model, 'usage': usage,
            'choices': [{'index': 0, 'finish_reason': answer.finish_reason, 'message': {'role': 'assistant', 'content': answer.text}}]}


class LocalServer:
    "Serves a teacher of this process for as long as the `with` block lasts."

    def __init__(self, teacher): self.teacher, self.asked, self.ready = teacher, Counter(), threading.Event()

    def _feed(self, sent):
        "Requests as they come; None while others are being answered and none waits."
        while True:
            if not any(sent): time.sleep(.02)                      # those that come together begin together
            found = None if any(sent) and self.queue.empty() else self.queue.get()
            if found == 'over': return
            sent.append(found)
            yield found and found[0]

    def _work(self):
        "Answer what is in the queue, many at a time; the next joins when another's answer is done."
        sent = []
        for place, answer in self.teacher.ask(self._feed(sent)):
            (_, future), sent[place] = sent[place], None
            self.loop.call_soon_threadsafe(lambda future, answer: future.done() or future.set_result(answer), future, answer)

    async def _complete(self, http):
        body = await http.json()
        self.asked[body['model']] += 1
        future = asyncio.get_running_loop().create_future()
        self.queue.put((request_of(body), future))
        reply, request = completion_of(await future), request_of(body)
        if request.top_logprobs and 'error' not in reply: reply['choices'][0] |= await asyncio.to_thread(first_logprobs, self.teacher, request)
        return web.json_response(reply, status=400 if 'error' in reply else 200)

    async def _serve(self):
        self.queue, self.over = queue.SimpleQueue(), asyncio.Event()
        app = web.Application(client_max_size=2**24)
        app.router.add_post('/v1/chat/completions', self._complete)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, '127.0.0.1', 0)
        await site.start()
        self.loop, worker = asyncio.get_running_loop(), asyncio.create_task(asyncio.to_thread(self._work))
        self.url = f'http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1'
        self.ready.set()
        await self.over.wait()
        self.queue.put('over')
        await worker
        await runner.cleanup()

    def __enter__(self):
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self.thread.start()
        assert self.ready.wait(30)
        return self

    def __exit__(self, *error):
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join(30)
