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
const PING_MS = 25_000

export interface Interest {
  all: boolean
  devices: readonly string[]
}

/** One socket for the page. It is open as long as something is of interest. */
export class Live {
  #socket: WebSocket | null = null
  #tries = 0
  #timer: ReturnType<typeof setTimeout> | undefined
  #ping: ReturnType<typeof setInterval> | undefined
  #interest: Interest = { all: false, devices: [] }
  #asked = ''
  #generation = 0

  constructor(
    readonly onFrame: (frame: Frame) => void,
    readonly onLink: (link: Link) => void,
  ) {}

  /** From now on these. */
  want(interest: Interest): void {
    this.#interest = interest
    if (!interest.all && interest.devices.length === 0 && this.#socket === null) return
    if (this.#socket === null && this.#timer === undefined) void this.#open()
    else this.#subscribe()
  }

  close(): void {
    this.#generation += 1
    clearTimeout(this.#timer)
    clearInterval(this.#ping)
    this.#timer = undefined
    this.#asked = ''
    this.#tries = 0
    this.#socket?.close()
    this.#socket = null
    this.onLink('off')
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
    this.onLink(this.#tries === 0 ? 'connecting' : 'waiting')
    try {
      const { ticket } = await ask(api().POST('/api/v1/ws/ticket'))
      if (generation !== this.#generation) return
      const base = session.base() === '' ? window.location.origin : session.base()
      const socket = new WebSocket(`${base.replace(/^http/, 'ws')}/ws/client?ticket=${encodeURIComponent(ticket)}`)
      this.#socket = socket
      socket.onopen = () => {
        this.#tries = 0
        this.#asked = ''
        this.onLink('live')
        this.#subscribe()
        clearInterval(this.#ping)
        this.#ping = setInterval(() => {
          if (socket.readyState === WebSocket.OPEN) socket.send('{"type":"ping"}')
        }, PING_MS)
      }
      socket.onmessage = (event: MessageEvent<unknown>) => {
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
      if (generation === this.#generation) this.#again()
    }
  }

  #again(): void {
    clearInterval(this.#ping)
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
