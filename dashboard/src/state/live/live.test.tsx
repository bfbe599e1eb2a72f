import { act, render, screen } from '@testing-library/react'
import { useEffect } from 'react'
import { expect, test, vi } from 'vitest'
import type { Device } from '../../api/client'
import { linked, onReturn, presenceNow, receive, relayNow, useLive } from '.'

const device = (uid: string, version: number, state: boolean): Device =>
  ({ uid, relays: [{ index: 0, name: null, state, version, updated_at: null }] }) as unknown as Device

/** After the pause between two tellings, and a picture. */
const painted = () => act(() => new Promise((done) => setTimeout(() => requestAnimationFrame(() => done(undefined)), 120)))

let renders = 0

function Shown({ uid, told }: { uid: string; told: Device }) {
  const live = useLive(uid)
  useEffect(() => {
    renders += 1
  })
  const now = relayNow(told, live.relays.get(0), 0)
  return <p>{`${now.state === true ? 'on' : 'off'} v${now.version} ${live.online === true ? 'online' : 'offline'}`}</p>
}

const state = (uid: string, version: number, on: boolean) =>
  receive({ type: 'device_state', device_uid: uid, relays: [{ index: 0, state: on, version }], source: 'api', command_id: null, at: '' })

test('a state is taken when its version is higher, in whatever order frames come', async () => {
  render(<Shown uid="a" told={device('a', 5, false)} />)
  state('a', 4, true)
  await painted()
  screen.getByText('off v5 offline')
  state('a', 7, true)
  state('a', 6, false)
  await painted()
  screen.getByText('on v7 offline')
  receive({ type: 'device_online', device_uid: 'a', at: '' })
  await painted()
  screen.getByText('on v7 online')
})

test('many changes are one rendering a picture, and none of other devices', async () => {
  render(<Shown uid="b" told={device('b', 0, false)} />)
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

test('stale is connected and silent, as the server said', () => {
  expect(presenceNow({ online: false, stale: false }, null)).toBe('offline')
  expect(presenceNow({ online: true, stale: false }, null)).toBe('online')
  expect(presenceNow({ online: true, stale: true }, null)).toBe('stale')
  expect(presenceNow({ online: true, stale: true }, false)).toBe('offline')
  expect(presenceNow({ online: false, stale: false }, true)).toBe('online')
  // It spoke since the server was asked.
  expect(presenceNow({ online: true, stale: true }, true, performance.now() - 1_000)).toBe('online')
  expect(presenceNow({ online: true, stale: true }, true, performance.now() - 60_000)).toBe('stale')
})

test('a new socket begins with what the server knows, also where its versions are lower', async () => {
  render(<Shown uid="d" told={device('d', 1, false)} />)
  const returned = vi.fn()
  const stop = onReturn(returned)
  linked('live')
  const snapshot = (version: number, on: boolean) =>
    receive({ type: 'snapshot', devices: [{ device_uid: 'd', online: true, relays: [{ index: 0, state: on, version }] }] })
  snapshot(9, true)
  await painted()
  screen.getByText('on v9 online')
  // Of the same socket, and older than what an answer said meanwhile: no news.
  snapshot(8, false)
  await painted()
  screen.getByText('on v9 online')
  linked('waiting')
  linked('live')
  expect(returned).toHaveBeenCalledTimes(1)
  snapshot(3, false)
  await painted()
  screen.getByText('off v3 online')
  stop()
})
