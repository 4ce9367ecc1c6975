"A headless browser that opens a page, tells what went wrong, and takes pictures (Chrome DevTools protocol)."
import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from websocket import create_connection

NAMES = ('chromium', 'chromium-browser', 'google-chrome')
# Texts that are hard to read: less than 4.5 to 1 against what is behind them.
CONTRAST = """(() => {
  const parse = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= .03928 ? v/12.92 : ((v + .055)/1.055)**2.4).reduce((sum, v, i) => sum + v*[.2126, .7152, .0722][i], 0);
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const behind = element => { for (; element; element = element.parentElement) { const colour = rgb(getComputedStyle(element).backgroundColor); if (colour[3] > 0) return colour; } return [255, 255, 255]; };
  const weak = [];
  for (const element of document.querySelectorAll('body *:not(script):not(style):not(svg *):not(option)')) {
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()) || !element.checkVisibility()) continue;
    const [one, other] = [light(rgb(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
    if ((one + .05)/(other + .05) < 4.5) weak.push(element.className + ': ' + element.textContent.slice(0, 30));
  }
  return [...new Set(weak)];
})()"""


def find_browser(): return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    "One tab of a browser."
    def __init__(self, address):
        self.socket, self.number, self.events = create_connection(address, timeout=60, suppress_origin=True), 0, []
        for domain in ('Page', 'Runtime', 'Log', 'Network'): self.call(f'{domain}.enable')

    def call(self, method, **params):
        "Send a command and wait for its answer; events that come meanwhile are kept."
        self.number += 1
        self.socket.send(json.dumps({'id': self.number, 'method': method, 'params': params}))
        while (answer := json.loads(self.socket.recv())).get('id') != self.number: self.events.append(answer)
        if 'error' in answer: raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer['result']

    def open(self, path, width=1280, height=900, dark=False, scripts=True, media=''):
        "Open a file in a window of this width; seconds until it was loaded."
        self.call('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.call('Emulation.setEmulatedMedia', media=media, features=[{'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}])
        self.call('Emulation.setScriptExecutionDisabled', value=not scripts)
        self.events, start = [], time.perf_counter()
        self.call('Page.navigate', url=Path(path).resolve().as_uri())
        while not any(event.get('method') == 'Page.loadEventFired' for event in self.events): self.events.append(json.loads(self.socket.recv()))
        return time.perf_counter() - start

    def ask(self, expression):
        "Value of a JavaScript expression."
        answer = self.call('Runtime.evaluate', expression=expression, returnByValue=True, awaitPromise=True)
        if 'exceptionDetails' in answer: raise RuntimeError(str(answer['exceptionDetails']))
        return answer['result'].get('value')

    def press(self, key, code=0, text=''):
        "Press a key."
        for kind in ('keyDown', 'keyUp'): self.call('Input.dispatchKeyEvent', type=kind, key=key, windowsVirtualKeyCode=code, **({'text': text} if text and kind == 'keyDown' else {}))

    def complaints(self):
        "What the console said: errors, warnings, breaches of the security policy, dialogs."
        bad = ('Log.entryAdded', 'Runtime.exceptionThrown', 'Runtime.consoleAPICalled', 'Page.javascriptDialogOpening')
        return [json.dumps(event['params'])[:500] for event in self.events if event.get('method') in bad]

    def requests(self):
        "Addresses that the page asked for, apart from itself and data in it."
        urls = [event['params']['request']['url'] for event in self.events if event.get('method') == 'Network.requestWillBeSent']
        return [url for url in urls if not url.startswith('data:')][1:]

    def picture(self, path, whole=True):
        "Save a picture of the page as PNG, or of what the window shows."
        data = self.call('Page.captureScreenshot', format='png', captureBeyondViewport=whole)['data'] if not whole else self._whole()
        Path(path).write_bytes(base64.b64decode(data))
        return Path(path)

    def _whole(self):
        size = self.call('Page.getLayoutMetrics')['cssContentSize']
        clip = {'x': 0, 'y': 0, 'width': size['width'], 'height': min(size['height'], 16000), 'scale': 1}
        return self.call('Page.captureScreenshot', format='png', captureBeyondViewport=True, clip=clip)['data']


@contextlib.contextmanager
def browser():
    "Start a browser with a folder of its own, hand out its page, and stop it."
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [find_browser(), '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--disable-extensions',
                   '--disable-background-networking', f'--user-data-dir={folder}', '--remote-debugging-port=0', 'about:blank']
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield Page(_address(Path(folder)/'DevToolsActivePort', process))
        finally:
            process.terminate()
            try: process.wait(10)
            except subprocess.TimeoutExpired: process.kill()


def _address(file, process, seconds=60):
    "Address of the first tab, as soon as the browser listens."
    end = time.perf_counter() + seconds
    while time.perf_counter() < end and process.poll() is None:
        with contextlib.suppress(OSError, IndexError, StopIteration):
            port = file.read_text().split()[0]
            with urllib.request.urlopen(f'http://127.0.0.1:{port}/json', timeout=5) as answer: tabs = json.load(answer)
            return next(tab['webSocketDebuggerUrl'] for tab in tabs if tab['type'] == 'page')
        time.sleep(.1)
    raise RuntimeError(f'the browser did not start within {seconds} s')
