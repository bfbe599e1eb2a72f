import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { ClientSocket, type ConnectionState } from './socket'

const { verify } = vi.hoisted(() => ({ verify: vi.fn() }))
vi.mock('./session', () => ({ verify, session: { base: () => '', state: () => ({ status: 'in' }) } }))
vi.mock('./client', () => ({ api: () => ({ POST: () => null }), unwrap: () => Promise.resolve({ ticket: 't' }) }))

class FakeSocket {
  static readonly OPEN = 1
  static all: FakeSocket[] = []
  readyState = 0
  sent: string[] = []
  onopen: () => void = () => undefined
  onmessage: (event: { data: string }) => void = () => undefined
  onclose: (event: { code: number; reason: string }) => void = () => undefined
  constructor(readonly url: string) {
    FakeSocket.all.push(this)
  }
  open(): this {
    this.readyState = FakeSocket.OPEN
    this.onopen()
    this.onmessage({ data: '{"type":"pong"}' })
    return this
  }
  end(code: number, reason = ''): void {
    this.readyState = 3
    this.onclose({ code, reason })
  }
  send(frame: string): void {
    this.sent.push(frame)
  }
  close(): void {
    this.readyState = 3
  }
}

let states: ConnectionState[] = []
let client: ClientSocket

beforeEach(async () => {
  vi.useFakeTimers()
  vi.spyOn(Math, 'random').mockReturnValue(0.5)
  vi.stubGlobal('WebSocket', FakeSocket)
  FakeSocket.all = []
  states = []
  client = new ClientSocket(() => undefined, (state) => states.push(state))
  client.setSubscription({ all: true, devices: [] })
  await vi.advanceTimersByTimeAsync(0)
})

afterEach(() => {
  client.close()
  vi.restoreAllMocks()
  vi.useRealTimers()
})

const count = () => FakeSocket.all.length
const newest = () => FakeSocket.all.at(-1) as FakeSocket

test('a client that sent too much waits longer each time, whatever else it receives', async () => {
  const pauses: number[] = []
  for (let n = 0; n < 4; n += 1) {
    newest().open().end(4008)
    // Not even a network event shortens the wait.
    window.dispatchEvent(new Event('online'))
    const [before, start] = [count(), performance.now()]
    while (count() === before && performance.now() - start < 60_000) await vi.advanceTimersByTimeAsync(250)
    pauses.push(performance.now() - start)
  }
  expect(pauses[0]).toBeGreaterThanOrEqual(5_000)
  expect(pauses[2]).toBeGreaterThanOrEqual(15_000)
  // A stable connection resets the delays.
  newest().open()
  await vi.advanceTimersByTimeAsync(11_000)
  newest().onmessage({ data: '{"type":"pong"}' })
  const before = count()
  newest().end(1006)
  await vi.advanceTimersByTimeAsync(1_000)
  expect(count()).toBe(before + 1)
})

test('a server that accepts and closes every socket is not asked without pauses', async () => {
  const start = performance.now()
  for (let n = 0; n < 6; n += 1) {
    newest().open().end(1006)
    const before = count()
    while (count() === before) await vi.advanceTimersByTimeAsync(250)
  }
  expect(performance.now() - start).toBeGreaterThan(40_000)
})

test('close code 4003 checks at once whether the session has ended', async () => {
  newest().open().end(4003)
  expect(verify).toHaveBeenCalledTimes(1)
  await vi.advanceTimersByTimeAsync(1_000)
  expect(count()).toBe(2)
})

test('a restarting server gives the reconnect delay', async () => {
  newest().open().end(1012, '{"reconnect_after_ms":7000}')
  await vi.advanceTimersByTimeAsync(6_900)
  expect(count()).toBe(1)
  await vi.advanceTimersByTimeAsync(200)
  expect(count()).toBe(2)
})

test('a server that answers while no socket opens is reported as blocked', async () => {
  for (let n = 0; n < 3; n += 1) {
    newest().end(1006)
    const before = count()
    while (count() === before) await vi.advanceTimersByTimeAsync(250)
  }
  expect(states.at(-1)).toBe('blocked')
  newest().open()
  expect(states.at(-1)).toBe('live')
  newest().end(1006)
  expect(states.at(-1)).toBe('waiting')
})

test('more devices than fit in a frame are a subscription to the whole account', () => {
  newest().open()
  client.setSubscription({ all: false, devices: ['hx1', 'hx2'] })
  client.setSubscription({ all: false, devices: Array.from({ length: 1001 }, (_, n) => `hx${String(n)}`) })
  expect(newest().sent.filter((frame) => frame.includes('subscribe')).slice(-2)).toEqual(['{"type":"subscribe","devices":["hx1","hx2"]}', '{"type":"subscribe"}'])
})
