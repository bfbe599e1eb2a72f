import { act, render, screen } from '@testing-library/react'
import { useEffect } from 'react'
import { expect, test, vi } from 'vitest'
import type { Device } from '../../api/client'
import { newestPresence, newestRelayState, onReconnect, useLiveDevice } from '.'
import { applyFrame, setConnectionState } from './store'

const device = (uid: string, version: number, state: boolean): Device =>
  ({ uid, relays: [{ index: 0, name: null, state, version, updated_at: null }] }) as unknown as Device

/** After the pause between two notifications, and a painted frame. */
const painted = () => act(() => new Promise((done) => setTimeout(() => requestAnimationFrame(() => done(undefined)), 120)))

let renders = 0

function Shown({ uid, loaded }: { uid: string; loaded: Device }) {
  const live = useLiveDevice(uid)
  useEffect(() => {
    renders += 1
  })
  const now = newestRelayState(loaded, live.relays.get(0), 0)
  return <p>{`${now.state === true ? 'on' : 'off'} v${now.version} ${live.online === true ? 'online' : 'offline'}`}</p>
}

const state = (uid: string, version: number, on: boolean) =>
  applyFrame({ type: 'device_state', device_uid: uid, relays: [{ index: 0, state: on, version }], source: 'api', command_id: null, at: '' })

test('a state is replaced by a higher version only, in whatever order frames arrive', async () => {
  render(<Shown uid="a" loaded={device('a', 5, false)} />)
  state('a', 4, true)
  await painted()
  screen.getByText('off v5 offline')
  state('a', 7, true)
  state('a', 6, false)
  await painted()
  screen.getByText('on v7 offline')
  applyFrame({ type: 'device_online', device_uid: 'a', at: '' })
  await painted()
  screen.getByText('on v7 online')
})

test('many changes are one rendering per frame, and none for other devices', async () => {
  render(<Shown uid="b" loaded={device('b', 0, false)} />)
  await painted()
  renders = 0
  for (let n = 1; n <= 500; n += 1) {
    state('b', n, n % 2 === 0)
    state('c', n, true)
  }
  await painted()
  screen.getByText('on v500 offline')
  expect(renders).toBeLessThanOrEqual(2)
})

test('stale is what the server reported, until the device sends something', () => {
  expect(newestPresence({ online: false, stale: false }, null)).toBe('offline')
  expect(newestPresence({ online: true, stale: false }, null)).toBe('online')
  expect(newestPresence({ online: true, stale: true }, null)).toBe('stale')
  expect(newestPresence({ online: true, stale: true }, false)).toBe('offline')
  expect(newestPresence({ online: false, stale: false }, true)).toBe('online')
  // It sent something since the server was asked.
  expect(newestPresence({ online: true, stale: true }, true, performance.now() - 1_000)).toBe('online')
  expect(newestPresence({ online: true, stale: true }, true, performance.now() - 60_000)).toBe('stale')
})

test('the first snapshot of a socket replaces all states, also with lower versions', async () => {
  render(<Shown uid="d" loaded={device('d', 1, false)} />)
  const reconnected = vi.fn()
  const stop = onReconnect(reconnected)
  setConnectionState('live')
  const snapshot = (version: number, on: boolean) =>
    applyFrame({ type: 'snapshot', devices: [{ device_uid: 'd', online: true, relays: [{ index: 0, state: on, version }] }] })
  snapshot(9, true)
  await painted()
  screen.getByText('on v9 online')
  // A later snapshot of the same socket does not replace newer states.
  snapshot(8, false)
  await painted()
  screen.getByText('on v9 online')
  setConnectionState('waiting')
  setConnectionState('live')
  expect(reconnected).toHaveBeenCalledTimes(1)
  snapshot(3, false)
  await painted()
  screen.getByText('off v3 online')
  stop()
})
