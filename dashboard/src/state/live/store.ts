/**
 * Live states of devices, outside of React: frames arrive at any rate, components are notified at most once per frame
 * that the browser paints.
 *
 * A relay's state is replaced when the received `version` is higher than the known one (docs/asyncapi.yaml).
 */
import type { ConnectionState, Frame, Relay } from '../../api/socket'

export interface LiveDevice {
  online: boolean | null
  relays: ReadonlyMap<number, Relay>
  lastInput: { input: number; event: string; at: string } | null
  /** When the device last sent anything, on the page's monotonic clock; minus infinity for never. */
  spokeAt: number
  /** When it last reported its states, changed or not. */
  reportedAt: number
}

const UNKNOWN_DEVICE: LiveDevice = { online: null, relays: new Map(), lastInput: null, spokeAt: -Infinity, reportedAt: -Infinity }

/** The pause between two notifications: a first change is shown at once, many changes 12 times a second. */
const PAUSE_MS = 80
/** However long the page takes to render, a change is shown within this time. */
const MAX_PAUSE_MS = 400
/** A page in the background paints nothing, but must be up to date when it is shown again. */
const BACKGROUND_PAUSE_MS = 250

const devices = new Map<string, LiveDevice>()
const deviceListeners = new Map<string, Set<() => void>>()
const changed = new Set<string>()
const frameListeners = new Set<(frame: Frame) => void>()
let scheduled = false
let notifiedAt = 0
/** How long the last notification took to render: a busy page is notified less often, so that it stays responsive. */
let renderMs = 0
/** The next snapshot is the first one of its socket and replaces all known states: the server may have been restored. */
let replaceAll = false

/** Notifies the listeners of changed devices, just before the browser paints. */
function notifyChanged(): void {
  scheduled = false
  const startedAt = performance.now()
  const uids = [...changed]
  changed.clear()
  for (const uid of uids) for (const listener of deviceListeners.get(uid) ?? []) listener()
  // React renders after this, before any other task.
  queueMicrotask(() => {
    notifiedAt = performance.now()
    renderMs = notifiedAt - startedAt
  })
}

function schedule(): void {
  if (scheduled) return
  scheduled = true
  const sinceLast = performance.now() - notifiedAt
  const pause = document.hidden ? BACKGROUND_PAUSE_MS : Math.min(Math.max(PAUSE_MS, 2 * renderMs), MAX_PAUSE_MS) - sinceLast
  if (pause > 0) setTimeout(() => (document.hidden ? notifyChanged() : requestAnimationFrame(notifyChanged)), pause)
  else requestAnimationFrame(notifyChanged)
}

function setDevice(uid: string, next: LiveDevice): void {
  devices.set(uid, next)
  changed.add(uid)
  schedule()
}

/** The known states with those of `relays` that have a higher version. */
function mergeNewer(known: ReadonlyMap<number, Relay>, relays: readonly Relay[]): ReadonlyMap<number, Relay> {
  let next: Map<number, Relay> | null = null
  for (const relay of relays) {
    if ((known.get(relay.index)?.version ?? 0) >= relay.version) continue
    next ??= new Map(known)
    next.set(relay.index, relay)
  }
  return next ?? known
}

/** What is known of a device now. */
export const liveDevice = (uid: string): LiveDevice => devices.get(uid) ?? UNKNOWN_DEVICE

function applySnapshot(frame: Frame & { type: 'snapshot' }): void {
  // Devices that are missing in the first snapshot may have been restored too: their states are unknown.
  if (replaceAll) for (const uid of devices.keys()) setDevice(uid, UNKNOWN_DEVICE)
  for (const { device_uid: uid, online, relays } of frame.devices) {
    const known = liveDevice(uid)
    setDevice(uid, { ...known, online, relays: mergeNewer(replaceAll ? UNKNOWN_DEVICE.relays : known.relays, relays) })
  }
  replaceAll = false
}

function applyDeviceState(frame: Frame & { type: 'device_state' }): void {
  const known = liveDevice(frame.device_uid)
  const now = performance.now()
  setDevice(frame.device_uid, {
    ...known,
    online: frame.online ?? (frame.source === 'device' ? true : known.online),
    relays: mergeNewer(known.relays, frame.relays),
    // The source `system` repeats known states; all others come from a message of the device.
    spokeAt: frame.source === 'system' ? known.spokeAt : now,
    reportedAt: frame.source === 'device' ? now : known.reportedAt,
  })
}

/** Applies a frame of the socket. */
export function applyFrame(frame: Frame): void {
  switch (frame.type) {
    case 'snapshot':
      applySnapshot(frame)
      break
    case 'device_state':
      applyDeviceState(frame)
      break
    case 'device_online':
      setDevice(frame.device_uid, { ...liveDevice(frame.device_uid), online: true, spokeAt: performance.now() })
      break
    case 'device_offline':
      setDevice(frame.device_uid, { ...liveDevice(frame.device_uid), online: false })
      break
    case 'input_event': {
      const lastInput = { input: frame.input, event: frame.event, at: frame.at }
      setDevice(frame.device_uid, { ...liveDevice(frame.device_uid), lastInput, spokeAt: performance.now() })
      break
    }
    case 'device_added':
    case 'device_removed':
    case 'device_updated':
      break
    default:
      return
  }
  for (const listener of frameListeners) listener(frame)
}

/** Applies the states in the answer to a command, which may arrive before its event. */
export function applyConfirmed(uid: string, relays: readonly Relay[]): void {
  const known = liveDevice(uid)
  setDevice(uid, { ...known, relays: mergeNewer(known.relays, relays), spokeAt: performance.now() })
}

let connection: ConnectionState = 'off'
const connectionListeners = new Set<() => void>()
const reconnectListeners = new Set<() => void>()
let wasLost = false

/** Applies the state of the socket. */
export function setConnectionState(next: ConnectionState): void {
  connection = next
  for (const listener of connectionListeners) listener()
  if (next === 'waiting' || next === 'blocked') {
    wasLost = true
    // What the socket reported is outdated; what requests report is not.
    for (const [uid, known] of devices) if (known.online !== null) setDevice(uid, { ...known, online: null })
  }
  if (next === 'off') wasLost = false
  if (next !== 'live') return
  replaceAll = true
  if (!wasLost) return
  wasLost = false
  for (const listener of reconnectListeners) listener()
}

export const connectionState = (): ConnectionState => connection

export function onConnectionState(listener: () => void): () => void {
  connectionListeners.add(listener)
  return () => connectionListeners.delete(listener)
}

/** Calls when the socket is live again after an outage, during which changes were missed. */
export function onReconnect(listener: () => void): () => void {
  reconnectListeners.add(listener)
  return () => reconnectListeners.delete(listener)
}

/** Calls for every frame about devices. */
export function onFrame(listener: (frame: Frame) => void): () => void {
  frameListeners.add(listener)
  return () => frameListeners.delete(listener)
}

/** Calls when anything of a device changes. */
export function onDeviceChange(uid: string, listener: () => void): () => void {
  const listeners = deviceListeners.get(uid) ?? new Set()
  listeners.add(listener)
  deviceListeners.set(uid, listeners)
  return () => {
    listeners.delete(listener)
    if (listeners.size === 0) deviceListeners.delete(uid)
  }
}

/** Drops the states of the devices that `keep` is false for. */
export function dropDevices(keep: (uid: string) => boolean = () => false): void {
  for (const uid of devices.keys()) if (!keep(uid)) devices.delete(uid)
}
