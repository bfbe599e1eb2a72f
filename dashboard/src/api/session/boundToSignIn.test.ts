/** What belongs to one sign-in stays with it: requests, late answers, messages of other tabs, what is kept. */
import { beforeEach, expect, test, vi } from 'vitest'
import { authorized, changePassword, refresh, session, signIn, signOut, start } from '.'
import { keyOf } from '../storage'

const OTHER = 'https://other.example'
const user = (id: string) => ({ id, email: `${id}@hexa.local`, name: id, role: 'user', created_at: '2026-11-23T12:00:00.000Z' })
const json = (status: number, body: unknown) => new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json' } })
const dead = (code = 'invalid_token') => json(401, { code, message: 'no', details: null, request_id: 'req-1' })

interface Seen {
  path: string
  to: string
  token: string | null
  signal: AbortSignal
}
let seen: Seen[] = []
/** Answers of these paths come when they are let go. */
let held: Record<string, (() => void)[]> = {}
let answers: Record<string, () => Response> = {}
let made = 0
/** Whose cookie the browser has. */
let holder = 'ann'

const server = vi.fn(async (asked: RequestInfo | URL, init?: RequestInit) => {
  const request = new Request(asked instanceof Request ? asked : new URL(asked, window.location.origin), init)
  const url = new URL(request.url)
  const path = url.pathname.replace('/api/v1/', '')
  seen.push({ path, to: url.origin, token: request.headers.get('authorization'), signal: request.signal })
  const waiting = held[path]
  if (waiting !== undefined) await new Promise<void>((go) => waiting.push(go))
  const answer = answers[path]
  if (answer !== undefined) return answer()
  if (path === 'auth/logout') return new Response(null, { status: 204 })
  if (!path.startsWith('auth/')) return json(200, {})
  made += 1
  if (path === 'auth/login') holder = ((await request.json()) as { email: string }).email
  return json(200, { user: user(holder), access_token: `${holder}-${String(made)}`, refresh_token: url.origin === OTHER ? 'rt' : null, token_type: 'Bearer', expires_in: 900 })
})

const hold = (path: string) => (held[path] = [])
const arrived = (path: string) => vi.waitFor(() => expect(held[path]?.length).toBe(1))
const letGo = (path: string) => {
  const waiting = held[path] ?? []
  held = {}
  for (const go of waiting) go()
}
const of = (path: string) => seen.filter((one) => one.path === path)
const wire = new BroadcastChannel('hexa.session')

beforeEach(async () => {
  vi.stubGlobal('fetch', server)
  ;[held, answers] = [{}, {}]
  if (session.state().status === 'in') await signOut()
  localStorage.clear()
  await signIn('', 'ann', 'a password')
  seen = []
})

test('a late 401 is not asked again in the name of whoever came after', async () => {
  hold('devices/claim')
  const asked = authorized(new Request(`${window.location.origin}/api/v1/devices/claim`, { method: 'POST', body: '{}' }))
  await arrived('devices/claim')
  await signOut()
  await signIn('', 'bob', 'a password')
  answers['devices/claim'] = dead
  letGo('devices/claim')
  await expect(asked).rejects.toMatchObject({ status: 401 })
  expect(of('devices/claim').map((one) => one.token?.replace(/-\d+$/, ''))).toEqual(['Bearer ann'])
  expect(of('devices/claim')[0]?.signal.aborted).toBe(true)
  expect(session.state()).toMatchObject({ status: 'in', user: { id: 'bob' } })
})

test('the token of one server goes to no other', async () => {
  await signOut()
  await signIn(OTHER, 'ann', 'a password')
  hold('devices')
  const asked = authorized(new Request(`${OTHER}/api/v1/devices`))
  await arrived('devices')
  await signOut()
  await signIn('', 'bob', 'a password')
  seen = []
  answers.devices = dead
  letGo('devices')
  await expect(asked).rejects.toMatchObject({ status: 401 })
  // Nor does a request that was made before, and is sent after.
  await expect(authorized(new Request(`${OTHER}/api/v1/devices`))).rejects.toMatchObject({ status: 401 })
  expect(seen).toEqual([])
})

test('a change of the password that is under way undoes no sign-out', async () => {
  hold('auth/password')
  const changed = changePassword('a password', 'another password')
  await arrived('auth/password')
  await signOut()
  // Whoever comes next waits for it: its answer has a session, and a cookie.
  const next = signIn('', 'bob', 'a password')
  await Promise.resolve()
  expect(of('auth/login')).toEqual([])
  letGo('auth/password')
  await expect(changed).rejects.toMatchObject({ status: 401 })
  await next
  expect(of('auth/logout').length).toBe(2)
  expect(seen.map((one) => one.path).indexOf('auth/login')).toBeGreaterThan(seen.map((one) => one.path).lastIndexOf('auth/logout'))
  expect(session.state()).toMatchObject({ status: 'in', user: { id: 'bob' } })
})

test('a sign-in that is under way undoes no sign-out', async () => {
  await signOut()
  seen = []
  hold('auth/login')
  const entering = signIn('', 'ann', 'a password')
  await arrived('auth/login')
  await signOut()
  letGo('auth/login')
  await expect(entering).rejects.toMatchObject({ status: 401 })
  expect(session.state()).toEqual({ status: 'out', why: null })
  expect(of('auth/logout').length).toBe(2)
})

test('what another tab said of a sign-in that has ended comes too late; of a new one it is taken', async () => {
  const { id, since } = JSON.parse(localStorage.getItem('hexa.session') ?? '{}') as { id: string; since: number }
  await signOut()
  const who: string[] = []
  const stop = session.subscribe(() => {
    const state = session.state()
    if (state.status === 'in') who.push(state.user.id)
  })
  const token = { kind: 'token', base: '', value: 'late', left_ms: 900_000 }
  wire.postMessage({ ...token, id, since, user: user('ann') })
  wire.postMessage({ ...token, id: 'new', since: since + 1, user: user('bob') })
  await vi.waitFor(() => expect(session.state().status).toBe('in'))
  // Nor does an older sign-in take the place of a later one.
  wire.postMessage({ ...token, id: 'older', since: since - 1, user: user('eve') })
  wire.postMessage({ ...token, id: 'newer', since: since + 2, user: user('cid') })
  await vi.waitFor(() => expect(who.at(-1)).toBe('cid'))
  expect(who).toEqual(['bob', 'cid'])
  stop()
})

test('nothing of the one is there when the next one is told', async () => {
  const order: string[] = []
  session.onEnd(() => order.push('forgotten'))
  const stop = session.subscribe(() => {
    const state = session.state()
    order.push(state.status === 'in' ? state.user.id : state.status)
  })
  const { signal } = session
  const annes = signal()
  wire.postMessage({ kind: 'token', base: '', id: 'of bob', since: Date.now() + 1000, value: 'b', left_ms: 900_000, user: user('bob') })
  await vi.waitFor(() => expect(order).toContain('bob'))
  expect(order).toEqual(['forgotten', 'bob'])
  expect(annes.aborted).toBe(true)
  stop()
})

test('a refused refresh asks the other tabs before it signs out, and believes no token that was refused', async () => {
  const heard = (event: MessageEvent<{ kind: string }>) => {
    if (event.data.kind === 'ask') wire.postMessage({ ...token, value: offered })
  }
  let offered = 'fresh'
  const { id, since } = JSON.parse(localStorage.getItem('hexa.session') ?? '{}') as { id: string; since: number }
  const token = { kind: 'token', base: '', id, since, left_ms: 900_000, user: user('ann') }
  wire.addEventListener('message', heard as EventListener)
  answers['auth/refresh'] = () => dead('refresh_token_reused')
  await refresh()
  expect(session.state().status).toBe('in')
  await authorized(new Request(`${window.location.origin}/api/v1/devices`))
  expect(of('devices')[0]?.token).toBe('Bearer fresh')
  // Theirs is as dead as ours.
  offered = 'fresh'
  answers.devices = () => dead()
  await expect(authorized(new Request(`${window.location.origin}/api/v1/devices`))).rejects.toMatchObject({ status: 401 })
  expect(session.state().status).toBe('out')
  wire.removeEventListener('message', heard as EventListener)
})

test('a sign-out takes nothing of other servers, whatever the browser was told to forget', async () => {
  const others = { [keyOf('session', OTHER)]: '{"base":"x"}', [keyOf('preferences', OTHER, 'u9')]: '{}', [keyOf('refreshed', OTHER)]: '5' }
  for (const [key, text] of Object.entries(others)) localStorage.setItem(key, text)
  localStorage.setItem(keyOf('preferences', '', 'ann'), '{}')
  answers['auth/logout'] = () => {
    // As `Clear-Site-Data: "storage"` does.
    localStorage.clear()
    return new Response(null, { status: 204 })
  }
  await signOut()
  expect(Object.fromEntries(Object.entries(localStorage))).toEqual(others)
})

test('without locks, tabs that begin at once share one refresh', async () => {
  const tabs = [{ start, session, refresh }]
  for (let n = 0; n < 5; n += 1) {
    vi.resetModules()
    tabs.push(await import('.'))
  }
  expect(new Set(tabs.map((tab) => tab.session)).size).toBe(6)
  seen = []
  await Promise.all(tabs.slice(1).map((tab) => tab.start()))
  expect(tabs.map((tab) => tab.session.state().status)).toEqual(Array.from({ length: 6 }, () => 'in'))
  // None at all where the first one, which is open still, has a token for the others.
  expect(of('auth/refresh').length).toBeLessThanOrEqual(1)
  // And again when their token ends.
  seen = []
  await Promise.all(tabs.slice(1).map((tab) => tab.refresh()))
  expect(of('auth/refresh').length).toBe(1)
  // A sign-out is one for all.
  await signOut()
  await vi.waitFor(() => expect(tabs.map((tab) => tab.session.state().status)).toEqual(Array.from({ length: 6 }, () => 'out')))
})
