/** Relay states and presence: the newer of what the page loaded and what came over the socket since. */
import type { Device } from '../../api/client'
import type { Relay } from '../../api/socket'
import { useLiveSelector } from './hooks'

export type Presence = 'online' | 'stale' | 'offline'

/** How long a device may be silent, by the server's default (docs/DEVICES.md, heartbeat). */
const SILENCE_MS = 30_000

/** The newest known state of a relay; `null` where the device has never reported it. */
export function newestRelayState(device: Device, received: Relay | undefined, index: number): { state: boolean | null; version: number } {
  const loaded = device.relays.find((r) => r.index === index)
  if (received !== undefined && received.version > (loaded?.version ?? 0)) return received
  return { state: loaded?.state ?? null, version: loaded?.version ?? 0 }
}

/** The presence that the server reported, unless a newer message contradicts it: a device that just spoke is not stale. */
export function newestPresence(device: Pick<Device, 'online' | 'stale'>, received: boolean | null, spokeAt = -Infinity): Presence {
  const online = received ?? device.online
  if (!online) return 'offline'
  return device.stale && device.online && performance.now() - spokeAt > SILENCE_MS ? 'stale' : 'online'
}

/** The current presence of a device. */
export function usePresence(device: Device): Presence {
  return useLiveSelector(device.uid, (live) => newestPresence(device, live.online, live.spokeAt))
}
