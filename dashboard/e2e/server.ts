/** A real server, and devices over real sockets, for the tests in the browser. */
import { type ChildProcess, spawn } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { WebSocket } from 'ws'

const ROOT = resolve(import.meta.dirname, '../..')
const TARGET = process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target')
export const HEXA = process.env.HEXA_BIN ?? join(TARGET, 'debug/hexa')
const PLUGINS = process.env.HEXA_PLUGINS_DIR ?? join(TARGET, 'plugins')
/** A plugin that misbehaves on request (plugins/hostile), beside the real ones. */
const HOSTILE = join(PLUGINS, '../plugins-test')
export const PASSWORD = 'correct horse battery staple'
const TIMEOUT_MS = 30_000

/** Repeats a check until it gives a value. */
export async function until<T>(what: string, check: () => T | null | undefined | false | Promise<T | null | undefined | false>): Promise<T> {
  const start = Date.now()
  for (;;) {
    const found = await check()
    if (found !== null && found !== undefined && found !== false) return found
    if (Date.now() - start > TIMEOUT_MS) throw new Error(`not within ${TIMEOUT_MS} ms: ${what}`)
    await new Promise((next) => setTimeout(next, 25))
  }
}

export interface User {
  email: string
  id: string
  token: string
}

interface ServerOptions {
  env?: Record<string, string>
  /** Adds the plugin of class `hybrid` that misbehaves on request. */
  hostile?: boolean
}

export class Server {
  url = ''
  readonly dir = mkdtempSync(join(tmpdir(), 'hexa-console-'))
  #child: ChildProcess | null = null
  #log = ''
  #others: ChildProcess[] = []
  #env: Record<string, string>
  admin!: User

  private constructor(given: ServerOptions) {
    this.#env = { LIMIT_USER_RPS: '10000', LIMIT_USER_BURST: '10000', LIMIT_LOGIN_FAILURES: '1000', LIMIT_PROVISION_RPS: '10000', LIMIT_PUBLIC_RPS: '10000', LIMIT_USER_SOCKETS: '1000', ...given.env }
  }

  static async start(given: ServerOptions = {}): Promise<Server> {
    const server = new Server(given)
    if (given.hostile === true) {
      const plugins = join(server.dir, 'plugins')
      for (const from of [PLUGINS, HOSTILE]) cpSync(from, plugins, { recursive: true })
      server.setEnvironment({ HEXA_PLUGINS_DIR: plugins })
    }
    await server.launch('127.0.0.1:0')
    const bootstrap_secret = readFileSync(join(server.dir, 'secrets/bootstrap_secret'), 'utf8').trim()
    server.admin = await server.register('admin@hexa.local', 'Ada Admin', bootstrap_secret)
    return server
  }

  async launch(listen: string): Promise<void> {
    const file = join(this.dir, 'listen.addr')
    rmSync(file, { force: true })
    const env = { PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? '', HEXA_LISTEN: listen, HEXA_DATA_DIR: this.dir, HEXA_PLUGINS_DIR: PLUGINS, ...this.#env }
    const child = spawn(HEXA, ['serve'], { env, cwd: this.dir, stdio: ['ignore', 'pipe', 'pipe'] })
    this.#child = child
    const append = (data: Buffer) => (this.#log += data.toString())
    child.stdout.on('data', append)
    child.stderr.on('data', append)
    await until(`the server is ready:\n${this.#log}`, async () => {
      if (child.exitCode !== null) throw new Error(`the server ended:\n${this.#log}`)
      if (!existsSync(file)) return false
      this.url = `http://${readFileSync(file, 'utf8').trim()}`
      return this.#log.includes('plugin active') && (await fetch(`${this.url}/ready`).then((r) => r.ok, () => false))
    })
  }

  /** Sets environment variables for the next start. */
  setEnvironment(more: Record<string, string>): void {
    Object.assign(this.#env, more)
  }

  /** Kills the server's process, as a power cut would. */
  async kill(): Promise<void> {
    const child = this.#child
    if (child === null) return
    this.#child = null
    const ended = new Promise((done) => child.once('exit', done))
    child.kill('SIGKILL')
    await ended
  }

  /** Starts it again at the same address, with the same data. */
  async restart(): Promise<void> {
    this.#log = ''
    await this.launch(this.url.replace('http://', ''))
  }

  async stop(): Promise<void> {
    for (const child of this.#others) child.kill('SIGTERM')
    await this.kill()
    rmSync(this.dir, { recursive: true, force: true })
  }

  async call<T = Record<string, unknown>>(method: string, path: string, token?: string, body?: unknown): Promise<T> {
    const response = await fetch(`${this.url}${path}`, {
      method,
      headers: { 'content-type': 'application/json', ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`)
    return (text === '' ? {} : JSON.parse(text)) as T
  }

  async register(email: string, name: string, bootstrap_secret?: string): Promise<User> {
    const body = { email, name, password: PASSWORD, ...(bootstrap_secret === undefined ? {} : { bootstrap_secret }) }
    const made = await this.call<{ access_token: string; user: { id: string } }>('POST', '/api/v1/auth/register', undefined, body)
    return { email, id: made.user.id, token: made.access_token }
  }

  /** Provisions a device with the provisioning key. */
  async provision(relays: number, device_class = 'relay_controller'): Promise<{ device_uid: string; device_token: string; claim_code: string }> {
    const key = readFileSync(join(this.dir, 'secrets/device_provision_key'), 'utf8').trim().split(',')[0] ?? ''
    const response = await fetch(`${this.url}/api/v1/provision/register`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-provision-key': key },
      body: JSON.stringify({ device_class, relay_count: relays, input_count: 2, model: 'HX-4', firmware_version: '1.2.0' }),
    })
    const made = (await response.json()) as { device_uid: string; device_token: string; claim_code: string }
    if (!response.ok) throw new Error(JSON.stringify(made))
    return made
  }

  /** Creates a connected device of an account. */
  async createDevice(owner: User, relays = 4, name?: string, device_class?: string): Promise<FakeDevice> {
    const made = await this.provision(relays, device_class)
    await this.call('POST', '/api/v1/devices/claim', owner.token, { code: made.claim_code })
    if (name !== undefined) await this.call('PATCH', `/api/v1/devices/${made.device_uid}`, owner.token, { name })
    const device = new FakeDevice(made.device_uid, made.device_token, relays)
    await device.connect(this.url)
    return device
  }

  /** Creates many simulated devices of an account. */
  async simulate(owner: User, devices: number, more: string[] = []): Promise<ChildProcess> {
    const child = spawn(
      HEXA,
      ['sim', '--quiet', '--server', this.url, '--devices', String(devices), '--relays', '4', '--provision-key-file', join(this.dir, 'secrets/device_provision_key'), '--state', join(this.dir, 'sim.json'), ...more],
      { env: { PATH: process.env.PATH ?? '', HEXA_TOKEN: owner.token }, stdio: 'ignore' },
    )
    this.#others.push(child)
    await until(`${devices} devices are online`, async () => {
      const fleet = await this.call<{ devices: { online: number } }>('GET', '/api/v1/admin/fleet', this.admin.token)
      return fleet.devices.online >= devices
    })
    return child
  }
}

interface Command {
  type: string
  command_id: string
  relay?: number
  state: boolean
}

/** A device that follows docs/DEVICES.md, and records its commands. */
export class FakeDevice {
  readonly commands: Command[] = []
  readonly state: boolean[]
  /** How it answers the next commands. */
  behaviour: 'ack' | 'reject' | 'silent' = 'ack'
  /** How long it takes to answer. */
  delayMs = 0
  #socket: WebSocket | null = null

  constructor(
    readonly uid: string,
    readonly token: string,
    relays: number,
  ) {
    this.state = Array.from({ length: relays }, () => false)
  }

  async connect(url: string): Promise<void> {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/ws/device?uid=${this.uid}`, { headers: { authorization: `Bearer ${this.token}` } })
    this.#socket = socket
    socket.on('message', (data) => this.#onCommand(JSON.parse((data as Buffer).toString()) as Command))
    socket.on('error', () => undefined)
    await new Promise<void>((open, fail) => {
      socket.once('open', open)
      socket.once('error', fail)
    })
    this.#send({ type: 'hello', firmware_version: '1.2.0' })
    this.report()
  }

  report(): void {
    this.#send({ type: 'state_report', complete: true, relays: this.state.map((state, index) => ({ index, state })) })
  }

  /** Switches a relay by hand, and reports it. */
  setByHand(index: number, state: boolean): void {
    this.state[index] = state
    this.report()
  }

  press(input: number): void {
    this.#send({ type: 'input_event', input, event: 'double_click' })
  }

  /** Makes the hostile plugin misbehave. */
  misbehave(how: string): void {
    this.#send({ type: 'misbehave', how })
  }

  disconnect(): void {
    this.#socket?.close()
  }

  #send(frame: unknown): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame))
  }

  #onCommand(frame: Command): void {
    if (frame.type !== 'set_relay' && frame.type !== 'set_all_relays') return
    this.commands.push(frame)
    const { command_id } = frame
    if (this.behaviour === 'silent') return
    if (this.behaviour === 'reject') {
      this.#send({ type: 'ack', command_id, status: 'rejected', reason: 'interlock', message: 'the gate is moving' })
      return
    }
    setTimeout(() => {
      if (frame.type === 'set_all_relays') this.state.fill(frame.state)
      else this.state[frame.relay ?? 0] = frame.state
      this.#send({ type: 'ack', command_id, status: 'executed' })
    }, this.delayMs)
  }
}
