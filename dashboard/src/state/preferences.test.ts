import { beforeEach, expect, test, vi } from 'vitest'
import { signIn } from '../api/session'
import { forget } from './resetSession'
import { change, DEFAULTS, load, preferences, save, sound } from './preferences'

test('whatever was stored, preferences are sound', () => {
  for (const bad of [null, 7, 'x', [], { dashboard_settings: 3 }, { dashboard_layout: { order: [1] } }, { notification_settings: { toasts: 'loud' } }])
    expect(sound(bad)).toEqual(DEFAULTS)
  const kept = sound({ dashboard_settings: { scheme: 'dark', density: 'huge', collapsed: { a: true }, other: 1 }, device_view_state: { last_device: 'hx1', search: 5 } })
  expect(kept.dashboard_settings).toEqual({ scheme: 'dark', density: 'comfortable', collapsed: { a: true } })
  expect(kept.device_view_state).toEqual({ ...DEFAULTS.device_view_state, last_device: 'hx1' })
  expect(sound({ dashboard_layout: { order: { overview: ['audit', 3] } } }).dashboard_layout).toEqual({ order: {} })
})

const json = (status: number, body: unknown) => new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json' } })
let account: Record<string, unknown> = {}
let down = false
let patches: unknown[] = []

const server = vi.fn(async (asked: RequestInfo | URL, init?: RequestInit) => {
  const request = new Request(asked instanceof Request ? asked : new URL(asked, 'http://hexa.example'), init)
  if (request.url.endsWith('/login')) return json(200, { user: { id: 'u1' }, access_token: 't', refresh_token: null, expires_in: 900 })
  if (down) return json(503, { code: 'storage_unavailable', message: 'full', details: null, request_id: 'r' })
  if (request.method === 'PATCH') patches.push(await request.json())
  return json(200, account)
})

beforeEach(async () => {
  vi.stubGlobal('fetch', server)
  ;[account, down, patches] = [{ dashboard_settings: { scheme: 'dark', collapsed: { a: true } } }, false, []]
  forget()
  await signIn('', 'ann@hexa.local', 'a password')
})

test('nothing is written over what was not read', async () => {
  down = true
  await load()
  change('dashboard_settings', { density: 'compact' })
  await save()
  expect(patches).toEqual([])
  down = false
  await load()
  expect(preferences().dashboard_settings).toEqual({ scheme: 'dark', density: 'compact', collapsed: { a: true } })
  await save()
  // What was changed here, and nothing else.
  expect(patches).toEqual([{ dashboard_settings: { density: 'compact' } }])
})

test('what could not be saved is sent with the next, and never for somebody else', async () => {
  await load()
  change('dashboard_settings', { scheme: 'light' })
  down = true
  await save()
  down = false
  change('notification_settings', { toasts: 'none' })
  await save()
  expect(patches).toEqual([{ dashboard_settings: { scheme: 'light' }, notification_settings: { toasts: 'none' } }])
  change('dashboard_settings', { scheme: 'auto' })
  down = true
  const late = save()
  forget()
  await late
  down = false
  await load()
  await save()
  expect(patches.length).toBe(1)
})

test('those of another server or account in this browser are not these', async () => {
  await load()
  change('dashboard_settings', { scheme: 'light' })
  const told = (key: string, scheme: string) => {
    const newValue = JSON.stringify({ dashboard_settings: { scheme } })
    localStorage.setItem(key, newValue)
    window.dispatchEvent(new StorageEvent('storage', { key, newValue }))
  }
  for (const other of ['hexa.preferences', 'hexa.preferences#u2', 'hexa.preferences@https://other.example#u1']) told(other, 'dark')
  expect(preferences().dashboard_settings.scheme).toBe('light')
  expect(JSON.parse(localStorage.getItem('hexa.preferences#u1') ?? '{}')).toMatchObject({ dashboard_settings: { scheme: 'light' } })
  // What another tab of the same account says is taken.
  told('hexa.preferences#u1', 'dark')
  expect(preferences().dashboard_settings.scheme).toBe('dark')
})
