/**
 * Live states of devices, outside of React: frames come as fast as they come, components hear of them once a picture.
 *
 * A relay's state is taken when its `version` is higher than what is known (docs/asyncapi.yaml).
 */
import { useCallback, useEffect, useRef, useSyncExternalStore } from 'react'
import type { Device } from '../../api/client'
import { type Frame, Live, type Link, type Relay } from '../../api/socket'
import { onForget } from '../resetSession'

export interface LiveDevice {
  online: boolean | null
  relays: ReadonlyMap<number, Relay>
  lastInput: { input: number; event: string; at: string } | null
  /** When the device itself last did something, of this page's monotonic clock; minus infinity for never. */
  spokeAt: number
  /** When it last reported its states, changed or not. */
  reportedAt: number
}

const NOTHING: LiveDevice = { online: null, relays: new Map(), lastInput: null, spokeAt: -Infinity, reportedAt: -Infinity }

const devices = new Map<string, LiveDevice>()
const perDevice = new Map<string, Set<() => void>>()
const changed = new Set<string>()
const linkListeners = new Set<() => void>()
const structural = new Set<(frame: Frame) => void>()
let link: Link = 'off'
let scheduled = false
let flushedAt = 0
/** What the last telling cost: a page that has much to draw is told less often, so that it answers in between. */
let costMs = 0
/** The next snapshot is the first of its socket: whatever was known before, it is right (a server may have been restored). */
let afresh = false

/** Between two times that components hear of changes: the first change is shown at once, a storm 12 times a second. */
const PAUSE_MS = 80

/** However much there is to draw, a change is shown within this. */
const SLOWEST_MS = 400

/** All listeners of what changed, just before a picture is painted. */
function flush(): void {
  scheduled = false
  const begun = performance.now()
  const now = [...changed]
  changed.clear()
  for (const uid of now) for (const listener of perDevice.get(uid) ?? []) listener()
  // React draws after this, and before anything else happens.
  queueMicrotask(() => {
    flushedAt = performance.now()
    costMs = flushedAt - begun
  })
}

function touch(uid: string, next: LiveDevice): void {
  devices.set(uid, next)
  changed.add(uid)
  if (scheduled) return
  scheduled = true
  // A page in the background paints nothing, and still is to be right when it is looked at.
  const pause = document.hidden ? 250 : Math.min(Math.max(PAUSE_MS, 2 * costMs), SLOWEST_MS) - (performance.now() - flushedAt)
  if (pause > 0) setTimeout(() => (document.hidden ? flush() : requestAnimationFrame(flush)), pause)
  else requestAnimationFrame(flush)
}

function merged(known: ReadonlyMap<number, Relay>, relays: readonly Relay[]): ReadonlyMap<number, Relay> {
  let next: Map<number, Relay> | null = null
  for (const relay of relays) {
    if ((known.get(relay.index)?.version ?? 0) >= relay.version) continue
    next ??= new Map(known)
    next.set(relay.index, relay)
  }
  return next ?? known
}

/** Takes a frame in; exported for tests. */
export function receive(frame: Frame): void {
  const now = performance.now()
  const known = ('device_uid' in frame ? devices.get(frame.device_uid) : undefined) ?? NOTHING
  switch (frame.type) {
    case 'snapshot':
      // Who is not in the first one may have been restored as well: nothing is known of them until they are asked for.
      if (afresh) for (const uid of devices.keys()) touch(uid, NOTHING)
      for (const device of frame.devices) {
        const before = devices.get(device.device_uid) ?? NOTHING
        const relays = merged(afresh ? NOTHING.relays : before.relays, device.relays)
        touch(device.device_uid, { ...before, online: device.online, relays })
      }
      afresh = false
      break
    case 'device_state': {
      const online = frame.online ?? (frame.source === 'device' ? true : known.online)
      // What the system sends is a picture of what was known; all else the device reported or acknowledged.
      const spokeAt = frame.source === 'system' ? known.spokeAt : now
      const reportedAt = frame.source === 'device' ? now : known.reportedAt
      touch(frame.device_uid, { ...known, online, relays: merged(known.relays, frame.relays), spokeAt, reportedAt })
      break
    }
    case 'device_online':
      touch(frame.device_uid, { ...known, online: true, spokeAt: now })
      break
    case 'device_offline':
      touch(frame.device_uid, { ...known, online: false })
      break
    case 'input_event': {
      const lastInput = { input: frame.input, event: frame.event, at: frame.at }
      touch(frame.device_uid, { ...known, lastInput, spokeAt: now })
      break
    }
    case 'device_added':
    case 'device_removed':
    case 'device_updated':
      break
    default:
      return
  }
  for (const listener of structural) listener(frame)
}

/** What a command's answer says, before its event comes. */
export function confirm(uid: string, relays: readonly Relay[]): void {
  const known = devices.get(uid) ?? NOTHING
  touch(uid, { ...known, relays: merged(known.relays, relays), spokeAt: performance.now() })
}

const returns = new Set<() => void>()

let lost = false

/** Takes in how the socket stands; exported for tests. */
export function linked(next: Link): void {
  link = next
  for (const listener of linkListeners) listener()
  if (next === 'waiting' || next === 'blocked') {
    lost = true
    // What was heard is old by now; what the server answers is not.
    for (const [uid, known] of devices) if (known.online !== null) touch(uid, { ...known, online: null })
  }
  if (next === 'off') lost = false
  if (next !== 'live') return
  afresh = true
  if (!lost) return
  lost = false
  for (const listener of returns) listener()
}

/** Hears that states are live again, after a time of which nothing was heard. */
export function onReturn(listener: () => void): () => void {
  returns.add(listener)
  return () => returns.delete(listener)
}

const socket = new Live(receive, linked)

const interest = new Map<string, number>()
let everything = 0
let wanting: ReturnType<typeof setTimeout> | undefined

/** Rows come and go while somebody scrolls: one subscription for those of a moment, and not only when they rest. */
const WANT_MS = 60

function want(): void {
  wanting ??= setTimeout(() => {
    wanting = undefined
    socket.want({ all: everything > 0, devices: [...interest.keys()].sort() })
  }, WANT_MS)
}

function hold(uids: readonly string[]): () => void {
  for (const uid of uids) interest.set(uid, (interest.get(uid) ?? 0) + 1)
  want()
  return () => {
    for (const uid of uids) {
      const left = (interest.get(uid) ?? 1) - 1
      if (left > 0) interest.set(uid, left)
      else {
        interest.delete(uid)
        // Nothing is heard of it any more, so that what was heard grows old.
        if (everything === 0) devices.delete(uid)
      }
    }
    want()
  }
}

/** What is known of a device at this moment. */
export const peek = (uid: string): LiveDevice => devices.get(uid) ?? NOTHING

/** Somebody else may sign in; what a page of theirs watches already is asked for anew. */
onForget(() => {
  socket.close()
  devices.clear()
  want()
})

/** Keeps these devices live while the component is there. */
export function useWatch(uids: readonly string[]): void {
  const key = uids.join(' ')
  useEffect(() => hold(key === '' ? [] : key.split(' ')), [key])
}

/** Keeps everything of the account live. */
export function useWatchAll(enabled: boolean): void {
  useEffect(() => {
    if (!enabled) return
    everything += 1
    want()
    return () => {
      everything -= 1
      if (everything === 0) for (const uid of devices.keys()) if (!interest.has(uid)) devices.delete(uid)
      want()
    }
  }, [enabled])
}

/** Hears of frames. */
function useFrames(listener: (frame: Frame) => void): void {
  useEffect(() => {
    structural.add(listener)
    return () => {
      structural.delete(listener)
    }
  }, [listener])
}

/** Calls `happened` some time after a frame that `concerns` it: once for a crowd, and also where they never rest. */
function useHappened(concerns: (frame: Frame) => boolean, pauseMs: number, happened: () => void): void {
  const latest = useRef({ concerns, happened })
  useEffect(() => {
    latest.current = { concerns, happened }
  })
  const later = useRef<ReturnType<typeof setTimeout> | undefined>(undefined)
  useEffect(
    () => () => {
      clearTimeout(later.current)
      later.current = undefined
    },
    [],
  )
  useFrames(
    useCallback(
      (frame: Frame) => {
        if (!latest.current.concerns(frame)) return
        later.current ??= setTimeout(() => {
          later.current = undefined
          latest.current.happened()
        }, pauseMs)
      },
      [pauseMs],
    ),
  )
}

/** Lists hear of devices that come, go or are renamed so often, and not more. */
const STRUCTURE_MS = 1_000
const STRUCTURE = new Set<Frame['type']>(['device_added', 'device_removed', 'device_updated'])

/** Calls when devices came, went or were renamed. */
export const useStructure = (changed: () => void): void => useHappened((frame) => STRUCTURE.has(frame.type), STRUCTURE_MS, changed)

const DEVICE_MS = 700

/** Calls when anything happened to this device. */
export const useDeviceEvents = (uid: string, happened: () => void): void =>
  useHappened((frame) => 'device_uid' in frame && frame.device_uid === uid, DEVICE_MS, happened)

/** A part of what is known of a device; who uses it hears only when that part changed. */
function usePart<T>(uid: string, part: (live: LiveDevice) => T): T {
  const subscribe = useCallback(
    (listener: () => void) => {
      const set = perDevice.get(uid) ?? new Set()
      set.add(listener)
      perDevice.set(uid, set)
      return () => {
        set.delete(listener)
        if (set.size === 0) perDevice.delete(uid)
      }
    },
    [uid],
  )
  return useSyncExternalStore(subscribe, () => part(devices.get(uid) ?? NOTHING))
}

export const useLive = (uid: string): LiveDevice => usePart(uid, (live) => live)
/** Only where somebody waits for a report: each would draw all relays of the device anew otherwise. */
export const useReportedAt = (uid: string, waiting: boolean): number => usePart(uid, (live) => (waiting ? live.reportedAt : 0))
export const useRelay = (uid: string, index: number): Relay | undefined => usePart(uid, (live) => live.relays.get(index))

export function useLink(): Link {
  return useSyncExternalStore(
    (listener) => {
      linkListeners.add(listener)
      return () => linkListeners.delete(listener)
    },
    () => link,
  )
}

/** A relay's state: the newer of what the page was told and what it heard since. */
export function relayNow(device: Device, heard: Relay | undefined, index: number): { state: boolean | null; version: number } {
  const told = device.relays.find((r) => r.index === index)
  if (heard !== undefined && heard.version > (told?.version ?? 0)) return heard
  return { state: told?.state ?? null, version: told?.version ?? 0 }
}

export type Presence = 'online' | 'stale' | 'offline'

/** As long as a device may be silent, as the server is set up by default (docs/DEVICES.md, heartbeat). */
const SILENT_MS = 30_000

/** As the server said, unless something newer was heard: who came or spoke a moment ago is not stale. */
export function presenceNow(device: Pick<Device, 'online' | 'stale'>, heard: boolean | null, spokeAt = -Infinity): Presence {
  const online = heard ?? device.online
  if (!online) return 'offline'
  return device.stale && device.online && performance.now() - spokeAt > SILENT_MS ? 'stale' : 'online'
}

/** How a device stands, from what the server said and what was heard since. */
export function usePresence(device: Device): Presence {
  return usePart(device.uid, (live) => presenceNow(device, live.online, live.spokeAt))
}
