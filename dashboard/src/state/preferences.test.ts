import { beforeEach, expect, test, vi } from 'vitest'
import { signIn } from '../api/session'
import { changePreferences, loadPreferences, preferences, savePreferences } from './preferences'
import { DEFAULTS, sanitizePreferences } from './preferencesModel'
import { resetSession } from './resetSession'

test('invalid stored preferences are replaced by defaults', () => {
  for (const bad of [null, 7, 'x', [], { dashboard_settings: 3 }, { dashboard_layout: { order: [1] } }, { notification_settings: { toasts: 'loud' } }])
    expect(sanitizePreferences(bad)).toEqual(DEFAULTS)
  const valid = sanitizePreferences({ dashboard_settings: { scheme: 'dark', density: 'huge', collapsed: { a: true }, other: 1 }, device_view_state: { last_device: 'hx1', search: 5 } })
  expect(valid.dashboard_settings).toEqual({ scheme: 'dark', density: 'comfortable', collapsed: { a: true } })
  expect(valid.device_view_state).toEqual({ ...DEFAULTS.device_view_state, last_device: 'hx1' })
  expect(sanitizePreferences({ dashboard_layout: { order: { overview: ['audit', 3] } } }).dashboard_layout).toEqual({ order: {} })
})

const json = (status: number, body: unknown) => new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json' } })
let account: Record<string, unknown> = {}
let down = false
let patches: unknown[] = []

const server = vi.fn(async (input: RequestInfo | URL, init?: RequestInit) => {
  const request = new Request(input instanceof Request ? input : new URL(input, 'http://hexa.example'), init)
  if (request.url.endsWith('/login')) return json(200, { user: { id: 'u1' }, access_token: 't', refresh_token: null, expires_in: 900 })
  if (down) return json(503, { code: 'storage_unavailable', message: 'full', details: null, request_id: 'r' })
  if (request.method === 'PATCH') patches.push(await request.json())
  return json(200, account)
})

beforeEach(async () => {
  vi.stubGlobal('fetch', server)
  ;[account, down, patches] = [{ dashboard_settings: { scheme: 'dark', collapsed: { a: true } } }, false, []]
  resetSession()
  await signIn('', 'ann@hexa.local', 'a password')
})

test('nothing is saved before the preferences were read', async () => {
  down = true
  await loadPreferences()
  changePreferences('dashboard_settings', { density: 'compact' })
  await savePreferences()
  expect(patches).toEqual([])
  down = false
  await loadPreferences()
  expect(preferences().dashboard_settings).toEqual({ scheme: 'dark', density: 'compact', collapsed: { a: true } })
  await savePreferences()
  // Only what was changed here.
  expect(patches).toEqual([{ dashboard_settings: { density: 'compact' } }])
})

test('a failed save is repeated with the next one, and never for another account', async () => {
  await loadPreferences()
  changePreferences('dashboard_settings', { scheme: 'light' })
  down = true
  await savePreferences()
  down = false
  changePreferences('notification_settings', { toasts: 'none' })
  await savePreferences()
  expect(patches).toEqual([{ dashboard_settings: { scheme: 'light' }, notification_settings: { toasts: 'none' } }])
  changePreferences('dashboard_settings', { scheme: 'auto' })
  down = true
  const late = savePreferences()
  resetSession()
  await late
  down = false
  await loadPreferences()
  await savePreferences()
  expect(patches.length).toBe(1)
})

test('preferences of another server or account in this browser are ignored', async () => {
  await loadPreferences()
  changePreferences('dashboard_settings', { scheme: 'light' })
  const storeInOtherTab = (key: string, scheme: string) => {
    const newValue = JSON.stringify({ dashboard_settings: { scheme } })
    localStorage.setItem(key, newValue)
    window.dispatchEvent(new StorageEvent('storage', { key, newValue }))
  }
  for (const other of ['hexa.preferences', 'hexa.preferences#u2', 'hexa.preferences@https://other.example#u1']) storeInOtherTab(other, 'dark')
  expect(preferences().dashboard_settings.scheme).toBe('light')
  expect(JSON.parse(localStorage.getItem('hexa.preferences#u1') ?? '{}')).toMatchObject({ dashboard_settings: { scheme: 'light' } })
  // A change in another tab of the same account is taken.
  storeInOtherTab('hexa.preferences#u1', 'dark')
  expect(preferences().dashboard_settings.scheme).toBe('dark')
})
