/**
 * Debian's Firefox (WebDriver BiDi) and WebKit (WebDriver), as far as a few tests need them: Playwright drives neither,
 * its own builds apart. Clicks and keys are the browser's own input, elements are found by scripts of ours.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { WebSocket } from 'ws'
import { SCREENSHOT_DIR } from './browser'
import { until } from './server'

/** The parameters of `performActions` in both protocols. */
type Actions = Record<string, unknown>[]

interface Driver {
  version: string
  go: (url: string) => Promise<void>
  /** The value of an expression, as JSON. */
  evaluate: (expression: string) => Promise<string | null>
  act: (actions: Actions) => Promise<void>
  /** A screenshot as PNG in Base64. */
  screenshot: () => Promise<string>
  close: () => Promise<void>
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise((done) => child.once('exit', done))
  child.kill('SIGKILL')
  await gone
}

/** Preferences of a Firefox that makes no requests by itself. */
const BASE_PREFERENCES = [
  'user_pref("app.update.enabled", false);',
  'user_pref("browser.shell.checkDefaultBrowser", false);',
  'user_pref("browser.startup.homepage_override.mstone", "ignore");',
  'user_pref("datareporting.policy.dataSubmissionEnabled", false);',
  'user_pref("extensions.update.enabled", false);',
  'user_pref("network.captive-portal-service.enabled", false);',
  'user_pref("network.connectivity-service.enabled", false);',
  'user_pref("services.settings.server", "data:,");',
  'user_pref("toolkit.telemetry.enabled", false);',
]

interface Reply {
  id?: number
  type: string
  message?: string
  result?: unknown
}

/** Firefox; `settings` are lines of its `user.js`. */
async function firefox(settings: readonly string[]): Promise<Driver> {
  const profile = mkdtempSync(join(tmpdir(), 'hexa-firefox-'))
  writeFileSync(join(profile, 'user.js'), [...BASE_PREFERENCES, ...settings].join('\n'))
  const child = spawn('firefox-esr', ['--headless', '--no-remote', '--profile', profile, '--remote-debugging-port', '0'], {
    env: { ...process.env, HOME: profile, MOZ_DISABLE_CONTENT_SANDBOX: '1' },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let output = ''
  child.stderr.on('data', (data: Buffer) => (output += data.toString()))
  const address = await until('Firefox listens', () => {
    if (child.exitCode !== null) throw new Error(`Firefox ended:\n${output}`)
    return /WebDriver BiDi listening on (ws:\S+)/.exec(output)?.[1]
  })
  const socket = new WebSocket(`${address}/session`)
  await new Promise<void>((open, fail) => {
    socket.once('open', open)
    socket.once('error', fail)
  })
  const waiting = new Map<number, (reply: Reply) => void>()
  socket.on('message', (data) => {
    const reply = JSON.parse((data as Buffer).toString()) as Reply
    if (reply.id !== undefined) waiting.get(reply.id)?.(reply)
  })
  let last = 0
  const send = async <T>(method: string, params: unknown): Promise<T> => {
    const id = (last += 1)
    const answer = new Promise<Reply>((done) => waiting.set(id, done))
    socket.send(JSON.stringify({ id, method, params }))
    const reply = await answer
    waiting.delete(id)
    if (reply.type !== 'success') throw new Error(`${method}: ${reply.message ?? JSON.stringify(reply)}`)
    return reply.result as T
  }
  const { capabilities } = await send<{ capabilities: { browserVersion: string } }>('session.new', { capabilities: {} })
  const { contexts } = await send<{ contexts: { context: string }[] }>('browsingContext.getTree', {})
  const context = contexts[0]?.context ?? ''
  await send('browsingContext.setViewport', { context, viewport: { width: 1280, height: 800 } })
  return {
    version: `Firefox ${capabilities.browserVersion}`,
    go: (url) => send('browsingContext.navigate', { context, url, wait: 'complete' }),
    evaluate: async (expression) => {
      const done = await send<{ type: string; result?: { value?: string }; exceptionDetails?: { text: string } }>('script.evaluate', {
        expression: `Promise.resolve(${expression}).then((value) => JSON.stringify(value ?? null))`,
        target: { context },
        awaitPromise: true,
      })
      if (done.exceptionDetails !== undefined) throw new Error(done.exceptionDetails.text)
      return done.result?.value ?? null
    },
    act: (actions) => send('input.performActions', { context, actions }),
    screenshot: async () => (await send<{ data: string }>('browsingContext.captureScreenshot', { context })).data,
    close: async () => {
      socket.terminate()
      await kill(child)
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  const address = server.address()
  await new Promise((closed) => server.close(closed))
  return typeof address === 'object' && address !== null ? address.port : 0
}

const MINI_BROWSER = '/usr/lib/x86_64-linux-gnu/webkit2gtk-4.1/MiniBrowser'

/** A virtual screen for a browser without a headless mode. */
async function screen(): Promise<{ name: string; child: ChildProcess }> {
  const child = spawn('Xvfb', ['-displayfd', '3', '-screen', '0', '1280x900x24', '-nolisten', 'tcp'], { stdio: ['ignore', 'ignore', 'ignore', 'pipe'] })
  let output = ''
  child.stdio[3]?.on('data', (data: Buffer) => (output += data.toString()))
  await until('the screen is there', () => {
    if (child.exitCode !== null) throw new Error('Xvfb ended')
    return output.includes('\n')
  })
  return { name: `:${output.trim()}`, child }
}

async function webkit(): Promise<Driver> {
  const home = mkdtempSync(join(tmpdir(), 'hexa-webkit-'))
  const [display, port] = [await screen(), await freePort()]
  const env = {
    ...process.env,
    HOME: home,
    XDG_RUNTIME_DIR: home,
    DISPLAY: display.name,
    GDK_BACKEND: 'x11',
    NO_AT_BRIDGE: '1',
    // There is no graphics card, and the machine's own certificates are not needed.
    LIBGL_ALWAYS_SOFTWARE: '1',
    WEBKIT_DISABLE_COMPOSITING_MODE: '1',
    WEBKIT_DISABLE_DMABUF_RENDERER: '1',
  }
  const child = spawn('WebKitWebDriver', [`--port=${port}`], { env, stdio: ['ignore', 'ignore', 'pipe'] })
  let output = ''
  child.stderr.on('data', (data: Buffer) => (output += data.toString()))
  const base = `http://127.0.0.1:${port}`
  await until('the driver of WebKit listens', () => fetch(`${base}/status`).then((r) => r.ok, () => false))
  const call = async <T>(method: string, path: string, body?: unknown): Promise<T> => {
    const response = await fetch(`${base}${path}`, { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
    const { value } = (await response.json()) as { value: T & { error?: string; message?: string } }
    if (!response.ok) throw new Error(`${method} ${path}: ${value.error ?? ''} ${value.message ?? ''}\n${output}`)
    return value
  }
  const options = { 'webkitgtk:browserOptions': { binary: MINI_BROWSER, args: ['--automation'] } }
  const made = await call<{ sessionId: string; capabilities: { browserVersion: string } }>('POST', '/session', { capabilities: { alwaysMatch: options } })
  const at = `/session/${made.sessionId}`
  return {
    version: `WebKitGTK ${made.capabilities.browserVersion}`,
    go: (url) => call('POST', `${at}/url`, { url }),
    evaluate: (expression) =>
      call<string | null>('POST', `${at}/execute/async`, {
        script: `const done = arguments[0]; Promise.resolve(${expression}).then((value) => done(JSON.stringify(value ?? null)), (error) => done(null))`,
        args: [],
      }),
    act: (actions) => call('POST', `${at}/actions`, { actions }),
    screenshot: () => call('GET', `${at}/screenshot`),
    close: async () => {
      await call('DELETE', at).catch(() => undefined)
      await kill(child)
      await kill(display.child)
      rmSync(home, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}

/** Finds an element by a CSS selector, and by its name or text where several match. */
export interface Selector {
  css: string
  text?: string
}

export class OtherBrowser {
  constructor(readonly driver: Driver) {}

  static async open(name: 'firefox' | 'webkit', settings: readonly string[] = []): Promise<OtherBrowser> {
    const plain = new OtherBrowser(name === 'firefox' ? await firefox(settings) : await webkit())
    console.log(`in ${plain.driver.version}`)
    return plain
  }

  async value<T>(expression: string): Promise<T | null> {
    const text = await this.driver.evaluate(expression)
    return text === null ? null : (JSON.parse(text) as T)
  }

  /** The position of an element, once it can be clicked. */
  #position({ css, text }: Selector): Promise<{ x: number; y: number }> {
    const find = `(() => {
      const named = (e) => (e.getAttribute('aria-label') ?? '') + ' ' + (e.textContent ?? '')
      const found = [...document.querySelectorAll(${JSON.stringify(css)})].find((e) => named(e).includes(${JSON.stringify(text ?? '')}))
      if (!found) return null
      found.scrollIntoView({ block: 'nearest' })
      const r = found.getBoundingClientRect()
      const [x, y] = [Math.round(r.left + r.width / 2), Math.round(r.top + r.height / 2)]
      const on = document.elementFromPoint(x, y)
      return r.width > 0 && on !== null && (found.contains(on) || on.contains(found)) ? { x, y } : null
    })()`
    return until(`${css} ${text ?? ''} is there`, () => this.value<{ x: number; y: number }>(find).catch(() => null))
  }

  async waitFor(wanted: Selector): Promise<void> {
    await this.#position(wanted)
  }

  async click(wanted: Selector): Promise<void> {
    const { x, y } = await this.#position(wanted)
    const actions = [
      { type: 'pointerMove', x, y, duration: 0 },
      { type: 'pointerDown', button: 0 },
      { type: 'pointerUp', button: 0 },
    ]
    await this.driver.act([{ type: 'pointer', id: 'mouse', parameters: { pointerType: 'mouse' }, actions }])
  }

  async type(wanted: Selector, text: string): Promise<void> {
    await this.click(wanted)
    const actions = Array.from(text).flatMap((value) => [
      { type: 'keyDown', value },
      { type: 'keyUp', value },
    ])
    await this.driver.act([{ type: 'key', id: 'keys', actions }])
  }

  async saveScreenshot(name: string): Promise<void> {
    mkdirSync(SCREENSHOT_DIR, { recursive: true })
    writeFileSync(join(SCREENSHOT_DIR, `${name}.png`), Buffer.from(await this.driver.screenshot(), 'base64'))
  }

  async close(): Promise<void> {
    await this.driver.close()
  }
}
