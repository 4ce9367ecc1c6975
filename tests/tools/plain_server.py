"""A small chat server on loopback with switches for what servers may lack; no model behind it.

    with PlainServer(schema=False) as server: ... server.url

As a process: `python tests/tools/plain_server.py --port 8000 --without schema logprobs` serves until it is interrupted.
"""
import argparse
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class PlainServer:
    """Serves for as long as the `with` block lasts.

    `models` are the names that it knows, None for a server without a list; `key` is the only one that it accepts, None for any.
    `schema` is False for one that refuses response_format, and None for one that ignores it. `page` makes all replies a web page,
    `quotes` puts the key into every reply, and `after` delays answers, seconds.
    """

    def __init__(self, models=('owl-1',), key=None, schema=True, logprobs=True, usage=True, page=False, quotes=False, prefix='/v1', after=0., port=0):
        self.models, self.key, self.schema, self.logprobs, self.usage = models, key, schema, logprobs, usage
        self.page, self.quotes, self.prefix, self.after, self.asked = page, quotes, prefix, after, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self): self.reply(*outer.listed(self.path, self.headers))
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers['content-length'])))
                time.sleep(outer.after)
                self.reply(*outer.completed(self.path, self.headers, body))
            def reply(self, status, content):
                text = '<html>Welcome</html>' if outer.page else json.dumps(content)
                if outer.quotes: text = text.replace('wren', self.headers.get('authorization', ''))
                data = text.encode()
                self.send_response(status)
                self.send_header('Content-Type', 'text/html' if outer.page else 'application/json')
                self.send_header('Content-Length', str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            def log_message(self, *words): pass

        self.server = ThreadingHTTPServer(('127.0.0.1', port), Handler)
        self.address = f'http://127.0.0.1:{self.server.server_address[1]}'
        self.url = self.address + prefix

    def refusal(self, path, headers, wanted):
        "Status and body of what is not answered; None where it is."
        self.asked.append((path, headers.get('authorization')))
        if path != self.prefix + wanted: return 404, failure('no such path')
        if self.key and headers.get('authorization') != f'Bearer {self.key}': return 401, failure('Incorrect API key provided')

    def listed(self, path, headers):
        if refused := self.refusal(path, headers, '/models'): return refused
        if self.models is None: return 404, failure('no such path')
        return 200, {'object': 'list', 'data': [{'id': name, 'object': 'model'} for name in self.models]}

    def completed(self, path, headers, body):
        if refused := self.refusal(path, headers, '/chat/completions'): return refused
        if body['model'] not in (self.models or ('owl-1',)): return 404, failure(f"The model `{body['model']}` does not exist")
        if 'response_format' in body and self.schema is False: return 400, failure('response_format is not supported')
        shaped = 'response_format' in body and self.schema
        choice = {'index': 0, 'finish_reason': 'stop', 'message': {'role': 'assistant', 'content': '{"name": "wren", "legs": 2}' if shaped else 'A wren has two legs.'}}
        if body.get('logprobs') and self.logprobs:
            top = [{'token': word, 'logprob': -1. - n} for n, word in enumerate(('A', 'The', 'An', 'One', 'Birds')[:body['top_logprobs']])]
            choice['logprobs'] = {'content': [top[0] | {'top_logprobs': top}]}
        usage = {'usage': {'prompt_tokens': 15, 'completion_tokens': 6}} if self.usage else {}
        return 200, {'id': 'x', 'object': 'chat.completion', 'model': body['model'], 'choices': [choice]} | usage

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(.02,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()


def failure(message): return {'error': {'message': message, 'type': 'invalid_request_error'}}


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--port', type=int, default=0); a.add_argument('--key')
    a.add_argument('--without', nargs='*', default=[], choices=['models', 'schema', 'logprobs', 'usage'])
    a.add_argument('--page', action='store_true')
    o = a.parse_args()
    lacks = {name: None if name == 'models' else False for name in o.without}
    with PlainServer(key=o.key, page=o.page, port=o.port, **lacks) as server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == '__main__': main()
