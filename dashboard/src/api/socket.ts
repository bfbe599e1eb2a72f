/** The client socket: live states of the devices that somebody on the page looks at. */
import { api, ask } from './client'
import { session } from './session'

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

export type Link = 'off' | 'connecting' | 'live' | 'waiting'

/** Pauses before the next try, in ms; each with up to as much again by chance. */
const PAUSES = [500, 1_000, 2_000, 5_000, 10_000, 15_000]
/** The server takes at most so many names. */
const MAX_NAMED = 1000
/** Between two questions whether the server is still there. */
const PING_MS = 15_000
/** A connection that is not there by then will not come. */
const CONNECT_MS = 10_000
/** Whoever has not answered after this is gone: a network that falls silent closes no socket. */
const PONG_MS = 6_000

export interface Interest {
  all: boolean
  devices: readonly string[]
}

type Timer = ReturnType<typeof setTimeout>

/** One socket for the page. It is open as long as something is of interest. */
export class Live {
  #socket: WebSocket | null = null
  #tries = 0
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
    this.#socket?.close()
    this.#socket = null
    this.onLink('off')
  }

  /** Tries now what was to be tried later; asks whether the server is there where that was taken for granted. */
  #hurry(): void {
    if (this.#timer !== undefined) {
      clearTimeout(this.#timer)
      this.#timer = undefined
      this.#tries = 0
      void this.#open()
    } else if (this.#socket?.readyState === WebSocket.OPEN) this.#ask()
  }

  #subscribe(): void {
    if (this.#socket?.readyState !== WebSocket.OPEN) return
    const { all, devices } = this.#interest
    const frame = JSON.stringify(all ? { type: 'subscribe' } : { type: 'subscribe', devices: devices.slice(0, MAX_NAMED) })
    if (frame === this.#asked) return
    this.#asked = frame
    this.#socket.send(frame)
  }

  async #open(): Promise<void> {
    const generation = ++this.#generation
    this.#opening = true
    this.onLink(this.#tries === 0 ? 'connecting' : 'waiting')
    try {
      const { ticket } = await ask(api().POST('/api/v1/ws/ticket'))
      if (generation !== this.#generation) return
      const base = session.base() === '' ? window.location.origin : session.base()
      const socket = new WebSocket(`${base.replace(/^http/, 'ws')}/ws/client?ticket=${encodeURIComponent(ticket)}`)
      this.#socket = socket
      this.#opening = false
      this.#silence = setTimeout(() => this.#giveUp(socket), CONNECT_MS)
      socket.onopen = () => {
        this.#asked = ''
        this.onLink('live')
        this.#subscribe()
        this.#rest()
        this.#ping = setInterval(() => this.#ask(), PING_MS)
      }
      socket.onmessage = (event: MessageEvent<unknown>) => {
        if (this.#socket !== socket) return
        // Whatever it says: it is there, and not a proxy that closes what it opens.
        this.#tries = 0
        clearTimeout(this.#silence)
        this.#silence = undefined
        if (typeof event.data !== 'string') return
        try {
          this.onFrame(JSON.parse(event.data) as Frame)
        } catch {
          // Not ours; the next snapshot sets everything right.
        }
      }
      socket.onclose = () => {
        if (this.#socket === socket) this.#again()
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

  #again(): void {
    this.#rest()
    this.#socket = null
    if (session.state().status !== 'in') return
    this.onLink('waiting')
    const pause = PAUSES[Math.min(this.#tries, PAUSES.length - 1)] ?? 15_000
    this.#tries += 1
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined
        void this.#open()
      },
      pause * (1 + Math.random()),
    )
  }
}
