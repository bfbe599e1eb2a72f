/** Live states for components. */
import { useCallback, useEffect, useRef, useSyncExternalStore } from 'react'
import type { ConnectionState, Frame, Relay } from '../../api/socket'
import { connectionState, type LiveDevice, liveDevice, onConnectionState, onDeviceChange, onFrame } from './store'
import { subscribeAll, subscribeDevices } from './subscription'

/** Keeps these devices live while the component is mounted. */
export function useLiveUpdates(uids: readonly string[]): void {
  const key = uids.join(' ')
  useEffect(() => subscribeDevices(key === '' ? [] : key.split(' ')), [key])
}

/** Keeps every device of the account live while the component is mounted. */
export function useLiveUpdatesForAll(): void {
  useEffect(subscribeAll, [])
}

/** Part of what is known of a device; the component renders only when that part changes. */
export function useLiveSelector<T>(uid: string, select: (live: LiveDevice) => T): T {
  const subscribe = useCallback((listener: () => void) => onDeviceChange(uid, listener), [uid])
  return useSyncExternalStore(subscribe, () => select(liveDevice(uid)))
}

export const useLiveDevice = (uid: string): LiveDevice => useLiveSelector(uid, (live) => live)
export const useRelay = (uid: string, index: number): Relay | undefined => useLiveSelector(uid, (live) => live.relays.get(index))
/** When the device last reported, for a component that waits for it; others would render at every report. */
export const useReportedAt = (uid: string, waiting: boolean): number => useLiveSelector(uid, (live) => (waiting ? live.reportedAt : 0))

export function useConnectionState(): ConnectionState {
  return useSyncExternalStore(onConnectionState, connectionState)
}

/** Calls `onFrames` at most every `pauseMs`, some time after a frame that `concerns` the component. */
function useThrottledFrames(concerns: (frame: Frame) => boolean, pauseMs: number, onFrames: () => void): void {
  const latest = useRef({ concerns, onFrames })
  useEffect(() => {
    latest.current = { concerns, onFrames }
  })
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined
    const unsubscribe = onFrame((frame) => {
      if (!latest.current.concerns(frame)) return
      timer ??= setTimeout(() => {
        timer = undefined
        latest.current.onFrames()
      }, pauseMs)
    })
    return () => {
      clearTimeout(timer)
      unsubscribe()
    }
  }, [pauseMs])
}

const LIST_PAUSE_MS = 1_000
const LIST_FRAMES = new Set<Frame['type']>(['device_added', 'device_removed', 'device_updated'])

/** Calls when devices were added, removed or renamed, at most once a second. */
export const useDeviceListChanges = (onChange: () => void): void => useThrottledFrames((frame) => LIST_FRAMES.has(frame.type), LIST_PAUSE_MS, onChange)

const DEVICE_PAUSE_MS = 700

/** Calls when there were events of this device. */
export const useDeviceEvents = (uid: string, onEvents: () => void): void =>
  useThrottledFrames((frame) => 'device_uid' in frame && frame.device_uid === uid, DEVICE_PAUSE_MS, onEvents)
