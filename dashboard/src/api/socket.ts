/** The client socket: live states of the devices that the page shows. */
import { api, unwrap } from './client'
import { serverUrl } from './serverUrl'
import { session, verify } from './session'

export type Frame =
  | { type: 'snapshot'; devices: { device_uid: string; online: boolean; relays: Relay[] }[] }
  | { type: 'device_state'; device_uid: string; online?: boolean; relays: Relay[]; source: string; command_id: string | null; at: string }
  | { type: 'device_online' | 'device_offline'; device_uid: string; at: string }
  | { type: 'device_added' | 'device_removed' | 'device_updated'; device_uid: string }
  | { type: 'input_event'; device_uid: string; input: number; event: string; at: string }
  | { type: 'error'; code: string; message: string }
  | { type: 'pong' }

export interface Relay {
  index: number
  state: boolean
  version: number
}

/** `waiting`: between two attempts. `blocked`: the server answers requests, but no socket to it opens. */
export type ConnectionState = 'off' | 'connecting' | 'live' | 'waiting' | 'blocked'

/** Delays before the next attempts, in ms; a random time of up to the same length is added to each. */
const RETRY_DELAYS_MS = [500, 1_000, 2_000, 5_000, 10_000, 15_000]
/** The index of the first delay after the server closed the socket for too much traffic. */
const FIRST_DELAY_AFTER_REFUSAL = 3
/** A connection that lasted this long was stable: the delays start again. */
const STABLE_MS = 10_000
/** After this many sockets in a row that never opened, a proxy probably blocks WebSockets. */
const BLOCKED_AFTER = 3
/** Above this number of devices, the page subscribes to all of the account: frames have a size limit. */
const MAX_NAMED = 500
/** The time between two pings. */
const PING_INTERVAL_MS = 15_000
/** A socket that has not opened by then is abandoned. */
const CONNECT_TIMEOUT_MS = 10_000
/** A connection without a pong after this time is dead: a network that fails silently closes no socket. */
const PONG_TIMEOUT_MS = 6_000
/** The longest reconnect delay that is accepted from a restarting server. */
const MAX_RECONNECT_DELAY_MS = 60_000

/** Close codes (docs/API.md, The client socket). */
const ACCESS_ENDED = 4003
const TOO_MUCH = 4008
const RESTARTS = 1012

/** The reconnect delay in the close reason of a restarting server, in ms. */
function reconnectDelay(reason: string): number | null {
  try {
    const { reconnect_after_ms: ms } = JSON.parse(reason) as { reconnect_after_ms?: unknown }
    return typeof ms === 'number' && ms >= 0 && ms <= MAX_RECONNECT_DELAY_MS ? ms : null
  } catch {
    return null
  }
}

export interface Subscription {
  all: boolean
  devices: readonly string[]
}

type Timer = ReturnType<typeof setTimeout>

/** The socket of the page. It opens with the first subscription, and reconnects by itself. */
export class ClientSocket {
  #socket: WebSocket | null = null
  #attempts = 0
  #openedAt: number | null = null
  /** The server closed a socket for too much traffic, and none has been stable since. */
  #tooMuch = false
  /** How many sockets in a row never opened. */
  #unopened = 0
  #reconnectTimer: Timer | undefined
  #pingTimer: Timer | undefined
  #replyTimer: Timer | undefined
  #opening = false
  #subscription: Subscription = { all: false, devices: [] }
  #lastSubscription = ''
  #generation = 0

  constructor(
    readonly onFrame: (frame: Frame) => void,
    readonly onConnection: (link: ConnectionState) => void,
  ) {
    // The network is back, or the machine woke up: reasons not to wait any longer.
    window.addEventListener('online', () => this.#retryNow())
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) this.#retryNow()
    })
  }

  /** Replaces the subscription; opens the socket where that is needed. */
  setSubscription(next: Subscription): void {
    this.#subscription = next
    if (!next.all && next.devices.length === 0 && this.#socket === null) return
    if (this.#socket === null && this.#reconnectTimer === undefined && !this.#opening) void this.#open()
    else this.#sendSubscription()
  }

  /** Closes the socket, until the next subscription. */
  close(): void {
    this.#generation += 1
    this.#opening = false
    this.#stopTimers()
    clearTimeout(this.#reconnectTimer)
    this.#reconnectTimer = undefined
    this.#lastSubscription = ''
    this.#attempts = 0
    this.#unopened = 0
    this.#tooMuch = false
    this.#socket?.close()
    this.#socket = null
    this.onConnection('off')
  }

  /** Reconnects now instead of later; pings where a connection is open. */
  #retryNow(): void {
    if (this.#reconnectTimer !== undefined) {
      // A client that sent too much waits.
      if (this.#tooMuch) return
      clearTimeout(this.#reconnectTimer)
      this.#reconnectTimer = undefined
      this.#attempts = 0
      void this.#open()
    } else if (this.#socket?.readyState === WebSocket.OPEN) this.#sendPing()
  }

  #sendSubscription(): void {
    if (this.#socket?.readyState !== WebSocket.OPEN) return
    const { all, devices } = this.#subscription
    const frame = JSON.stringify(all || devices.length > MAX_NAMED ? { type: 'subscribe' } : { type: 'subscribe', devices })
    if (frame === this.#lastSubscription) return
    this.#lastSubscription = frame
    this.#socket.send(frame)
  }

  async #open(): Promise<void> {
    const generation = ++this.#generation
    this.#opening = true
    if (this.#attempts === 0) this.onConnection('connecting')
    else this.#reportWaiting()
    try {
      const { ticket } = await unwrap(api().POST('/api/v1/ws/ticket'))
      if (generation !== this.#generation) return
      const socket = new WebSocket(`${serverUrl(session.base()).replace(/^http/, 'ws')}/ws/client?ticket=${encodeURIComponent(ticket)}`)
      this.#socket = socket
      this.#opening = false
      this.#openedAt = null
      this.#replyTimer = setTimeout(() => this.#abandon(socket), CONNECT_TIMEOUT_MS)
      socket.onopen = () => {
        this.#openedAt = performance.now()
        this.#unopened = 0
        this.#lastSubscription = ''
        this.onConnection('live')
        this.#sendSubscription()
        this.#stopTimers()
        this.#pingTimer = setInterval(() => this.#sendPing(), PING_INTERVAL_MS)
      }
      socket.onmessage = (event: MessageEvent<unknown>) => {
        if (this.#socket !== socket) return
        clearTimeout(this.#replyTimer)
        this.#replyTimer = undefined
        if (typeof event.data !== 'string') return
        try {
          this.onFrame(JSON.parse(event.data) as Frame)
        } catch {
          // Not a frame; the next snapshot corrects all states.
        }
      }
      socket.onclose = ({ code, reason }) => {
        if (this.#socket !== socket) return
        // The session has ended, or its account has other rights by now: the server knows which.
        if (code === ACCESS_ENDED) void verify()
        this.#scheduleReconnect(code === RESTARTS ? reconnectDelay(reason) : null, code === TOO_MUCH)
      }
    } catch {
      if (generation !== this.#generation) return
      this.#opening = false
      this.#scheduleReconnect()
    }
  }

  #abandon(socket: WebSocket): void {
    if (this.#socket !== socket) return
    // First, because `close` waits for an answer that may never come.
    this.#scheduleReconnect()
    socket.close()
  }

  /** Sends a ping, and abandons the socket when no frame follows. */
  #sendPing(): void {
    const socket = this.#socket
    if (socket?.readyState !== WebSocket.OPEN) return
    socket.send('{"type":"ping"}')
    this.#replyTimer ??= setTimeout(() => this.#abandon(socket), PONG_TIMEOUT_MS)
  }

  #stopTimers(): void {
    clearInterval(this.#pingTimer)
    clearTimeout(this.#replyTimer)
    this.#replyTimer = undefined
  }

  #reportWaiting(): void {
    this.onConnection(this.#unopened >= BLOCKED_AFTER ? 'blocked' : 'waiting')
  }

  /** Reconnects after a delay, or after the one that the server asked for. */
  #scheduleReconnect(requestedMs: number | null = null, tooMuch = false): void {
    this.#stopTimers()
    if (this.#openedAt !== null && performance.now() - this.#openedAt >= STABLE_MS) {
      this.#attempts = 0
      this.#tooMuch = false
    } else if (this.#socket !== null && this.#openedAt === null) this.#unopened += 1
    if (tooMuch) {
      this.#tooMuch = true
      this.#attempts = Math.max(this.#attempts, FIRST_DELAY_AFTER_REFUSAL)
    }
    this.#openedAt = null
    this.#socket = null
    if (session.state().status !== 'in') return
    this.#reportWaiting()
    const delay = RETRY_DELAYS_MS[Math.min(this.#attempts, RETRY_DELAYS_MS.length - 1)] ?? 15_000
    this.#attempts += 1
    this.#reconnectTimer = setTimeout(
      () => {
        this.#reconnectTimer = undefined
        void this.#open()
      },
      requestedMs ?? delay * (1 + Math.random()),
    )
  }
}
