/** The client socket: live states of the devices that somebody on the page looks at. */
import { api, ask } from './client'
import { address } from './serverUrl'
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

/** `blocked`: the server answers, and no socket to it opens. */
export type Link = 'off' | 'connecting' | 'live' | 'waiting' | 'blocked'

/** Pauses before the next try, in ms; each with up to as much again by chance. */
const PAUSES = [500, 1_000, 2_000, 5_000, 10_000, 15_000]
/** The first of these pauses after the server said that this was too much. */
const REFUSED = 3
/** Sockets that lived for so long were sound: the next try is a first one again. */
const SOUND_MS = 10_000
/** So many that never opened, though the server answered: something in between does not let them pass. */
const BLOCKED = 3
/** More names than these go as a subscription to everything of the account: a frame has a size. */
const MAX_NAMED = 500
/** Between two questions whether the server is still there. */
const PING_MS = 15_000
/** A connection that is not there by then will not come. */
const CONNECT_MS = 10_000
/** Whoever has not answered after this is gone: a network that falls silent closes no socket. */
const PONG_MS = 6_000
/** A server that restarts says when to come back; later than this no one waits. */
const MAX_TOLD_MS = 60_000

/** Close codes (docs/API.md, The client socket). */
const ACCESS_ENDED = 4003
const TOO_MUCH = 4008
const RESTARTS = 1012

/** What a restarting server gave this client as its moment, in ms. */
function told(reason: string): number | null {
  try {
    const { reconnect_after_ms: ms } = JSON.parse(reason) as { reconnect_after_ms?: unknown }
    return typeof ms === 'number' && ms >= 0 && ms <= MAX_TOLD_MS ? ms : null
  } catch {
    return null
  }
}

export interface Interest {
  all: boolean
  devices: readonly string[]
}

type Timer = ReturnType<typeof setTimeout>

/** One socket for the page. It is open as long as something is of interest. */
export class Live {
  #socket: WebSocket | null = null
  #tries = 0
  #opened: number | null = null
  /** The server said that this was too much, and nothing was sound since. */
  #refused = false
  /** Sockets in a row that never opened. */
  #unopened = 0
  #timer: Timer | undefined
  #ping: Timer | undefined
  #silence: Timer | undefined
  #opening = false
  #interest: Interest = { all: false, devices: [] }
  #asked = ''
  #generation = 0

  constructor(
    readonly onFrame: (frame: Frame) => void,
    readonly onLink: (link: Link) => void,
  ) {
    // The network is back, or the machine woke up: both are reasons not to wait.
    window.addEventListener('online', () => this.#hurry())
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) this.#hurry()
    })
  }

  /** From now on these. */
  want(interest: Interest): void {
    this.#interest = interest
    if (!interest.all && interest.devices.length === 0 && this.#socket === null) return
    if (this.#socket === null && this.#timer === undefined && !this.#opening) void this.#open()
    else this.#subscribe()
  }

  close(): void {
    this.#generation += 1
    this.#opening = false
    this.#rest()
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#asked = ''
    this.#tries = 0
    this.#unopened = 0
    this.#refused = false
    this.#socket?.close()
    this.#socket = null
    this.onLink('off')
  }

  /** Tries now what was to be tried later; asks whether the server is there where that was taken for granted. */
  #hurry(): void {
    if (this.#timer !== undefined) {
      // Who was sent away waits it out.
      if (this.#refused) return
      clearTimeout(this.#timer)
      this.#timer = undefined
      this.#tries = 0
      void this.#open()
    } else if (this.#socket?.readyState === WebSocket.OPEN) this.#ask()
  }

  #subscribe(): void {
    if (this.#socket?.readyState !== WebSocket.OPEN) return
    const { all, devices } = this.#interest
    const frame = JSON.stringify(all || devices.length > MAX_NAMED ? { type: 'subscribe' } : { type: 'subscribe', devices })
    if (frame === this.#asked) return
    this.#asked = frame
    this.#socket.send(frame)
  }

  async #open(): Promise<void> {
    const generation = ++this.#generation
    this.#opening = true
    if (this.#tries === 0) this.onLink('connecting')
    else this.#waiting()
    try {
      const { ticket } = await ask(api().POST('/api/v1/ws/ticket'))
      if (generation !== this.#generation) return
      const socket = new WebSocket(`${address(session.base()).replace(/^http/, 'ws')}/ws/client?ticket=${encodeURIComponent(ticket)}`)
      this.#socket = socket
      this.#opening = false
      this.#opened = null
      this.#silence = setTimeout(() => this.#giveUp(socket), CONNECT_MS)
      socket.onopen = () => {
        this.#opened = performance.now()
        this.#unopened = 0
        this.#asked = ''
        this.onLink('live')
        this.#subscribe()
        this.#rest()
        this.#ping = setInterval(() => this.#ask(), PING_MS)
      }
      socket.onmessage = (event: MessageEvent<unknown>) => {
        if (this.#socket !== socket) return
        clearTimeout(this.#silence)
        this.#silence = undefined
        if (typeof event.data !== 'string') return
        try {
          this.onFrame(JSON.parse(event.data) as Frame)
        } catch {
          // Not ours; the next snapshot sets everything right.
        }
      }
      socket.onclose = ({ code, reason }) => {
        if (this.#socket !== socket) return
        // The session may be over, or its account may do other things by now: the server says which.
        if (code === ACCESS_ENDED) void verify()
        this.#again(code === RESTARTS ? told(reason) : null, code === TOO_MUCH)
      }
    } catch {
      if (generation !== this.#generation) return
      this.#opening = false
      this.#again()
    }
  }

  #giveUp(socket: WebSocket): void {
    if (this.#socket !== socket) return
    // Its own close would wait for the answer of somebody who is not there.
    this.#again()
    socket.close()
  }

  /** Asks the server for a sign of life. */
  #ask(): void {
    const socket = this.#socket
    if (socket?.readyState !== WebSocket.OPEN) return
    socket.send('{"type":"ping"}')
    this.#silence ??= setTimeout(() => this.#giveUp(socket), PONG_MS)
  }

  #rest(): void {
    clearInterval(this.#ping)
    clearTimeout(this.#silence)
    this.#silence = undefined
  }

  #waiting(): void {
    this.onLink(this.#unopened >= BLOCKED ? 'blocked' : 'waiting')
  }

  /** Tries again after a while, or after what the server asked for. */
  #again(askedMs: number | null = null, refused = false): void {
    this.#rest()
    if (this.#opened !== null && performance.now() - this.#opened >= SOUND_MS) {
      this.#tries = 0
      this.#refused = false
    } else if (this.#socket !== null && this.#opened === null) this.#unopened += 1
    if (refused) {
      this.#refused = true
      this.#tries = Math.max(this.#tries, REFUSED)
    }
    this.#opened = null
    this.#socket = null
    if (session.state().status !== 'in') return
    this.#waiting()
    const pause = PAUSES[Math.min(this.#tries, PAUSES.length - 1)] ?? 15_000
    this.#tries += 1
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined
        void this.#open()
      },
      askedMs ?? pause * (1 + Math.random()),
    )
  }
}
