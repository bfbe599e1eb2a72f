/** Requests, late answers, messages of other tabs and stored data belong to the sign-in under which they began. */
import { beforeEach, expect, test, vi } from 'vitest'
import { storageKey } from '../storage'
import { authorized, changePassword, refresh, session, signIn, signOut, start } from '.'

const OTHER = 'https://other.example'
const user = (id: string) => ({ id, email: `${id}@hexa.local`, name: id, role: 'user', created_at: '2026-11-23T12:00:00.000Z' })
const json = (status: number, body: unknown) => new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json' } })
const dead = (code = 'invalid_token') => json(401, { code, message: 'no', details: null, request_id: 'req-1' })

interface SeenRequest {
  path: string
  to: string
  token: string | null
  signal: AbortSignal
}
let seen: SeenRequest[] = []
/** Answers of these paths are delayed until they are released. */
let delayed: Record<string, (() => void)[]> = {}
let answers: Record<string, () => Response> = {}
let tokens = 0
/** The account of the browser's cookie. */
let cookieOwner = 'ann'

const server = vi.fn(async (input: RequestInfo | URL, init?: RequestInit) => {
  const request = new Request(input instanceof Request ? input : new URL(input, window.location.origin), init)
  const url = new URL(request.url)
  const path = url.pathname.replace('/api/v1/', '')
  seen.push({ path, to: url.origin, token: request.headers.get('authorization'), signal: request.signal })
  const waiting = delayed[path]
  if (waiting !== undefined) await new Promise<void>((go) => waiting.push(go))
  const answer = answers[path]
  if (answer !== undefined) return answer()
  if (path === 'auth/logout') return new Response(null, { status: 204 })
  if (!path.startsWith('auth/')) return json(200, {})
  tokens += 1
  if (path === 'auth/login') cookieOwner = ((await request.json()) as { email: string }).email
  return json(200, { user: user(cookieOwner), access_token: `${cookieOwner}-${String(tokens)}`, refresh_token: url.origin === OTHER ? 'rt' : null, token_type: 'Bearer', expires_in: 900 })
})

const delay = (path: string) => (delayed[path] = [])
const arrived = (path: string) => vi.waitFor(() => expect(delayed[path]?.length).toBe(1))
const release = (path: string) => {
  const waiting = delayed[path] ?? []
  delayed = {}
  for (const go of waiting) go()
}
const of = (path: string) => seen.filter((one) => one.path === path)
const channel = new BroadcastChannel('hexa.session')

beforeEach(async () => {
  vi.stubGlobal('fetch', server)
  ;[delayed, answers] = [{}, {}]
  if (session.state().status === 'in') await signOut()
  localStorage.clear()
  await signIn('', 'ann', 'a password')
  seen = []
})

test('a request is not repeated for the next account after a late 401', async () => {
  delay('devices/claim')
  const request = authorized(new Request(`${window.location.origin}/api/v1/devices/claim`, { method: 'POST', body: '{}' }))
  await arrived('devices/claim')
  await signOut()
  await signIn('', 'bob', 'a password')
  answers['devices/claim'] = dead
  release('devices/claim')
  await expect(request).rejects.toMatchObject({ status: 401 })
  expect(of('devices/claim').map((one) => one.token?.replace(/-\d+$/, ''))).toEqual(['Bearer ann'])
  expect(of('devices/claim')[0]?.signal.aborted).toBe(true)
  expect(session.state()).toMatchObject({ status: 'in', user: { id: 'bob' } })
})

test('the token of one server is never sent to another', async () => {
  await signOut()
  await signIn(OTHER, 'ann', 'a password')
  delay('devices')
  const request = authorized(new Request(`${OTHER}/api/v1/devices`))
  await arrived('devices')
  await signOut()
  await signIn('', 'bob', 'a password')
  seen = []
  answers.devices = dead
  release('devices')
  await expect(request).rejects.toMatchObject({ status: 401 })
  // Nor is a request for the former server.
  await expect(authorized(new Request(`${OTHER}/api/v1/devices`))).rejects.toMatchObject({ status: 401 })
  expect(seen).toEqual([])
})

test('a pending password change does not undo a sign-out', async () => {
  delay('auth/password')
  const changed = changePassword('a password', 'another password')
  await arrived('auth/password')
  await signOut()
  // The next sign-in waits for it, because its answer has a session and a cookie.
  const next = signIn('', 'bob', 'a password')
  await Promise.resolve()
  expect(of('auth/login')).toEqual([])
  release('auth/password')
  await expect(changed).rejects.toMatchObject({ status: 401 })
  await next
  expect(of('auth/logout').length).toBe(2)
  expect(seen.map((one) => one.path).indexOf('auth/login')).toBeGreaterThan(seen.map((one) => one.path).lastIndexOf('auth/logout'))
  expect(session.state()).toMatchObject({ status: 'in', user: { id: 'bob' } })
})

test('a pending sign-in does not undo a sign-out', async () => {
  await signOut()
  seen = []
  delay('auth/login')
  const entering = signIn('', 'ann', 'a password')
  await arrived('auth/login')
  await signOut()
  release('auth/login')
  await expect(entering).rejects.toMatchObject({ status: 401 })
  expect(session.state()).toEqual({ status: 'out', why: null })
  expect(of('auth/logout').length).toBe(2)
})

test('messages of other tabs about an ended sign-in are ignored, about a new one they are taken', async () => {
  const { id, since } = JSON.parse(localStorage.getItem('hexa.session') ?? '{}') as { id: string; since: number }
  await signOut()
  const who: string[] = []
  const stop = session.subscribe(() => {
    const state = session.state()
    if (state.status === 'in') who.push(state.user.id)
  })
  const token = { kind: 'token', base: '', value: 'late', left_ms: 900_000 }
  channel.postMessage({ ...token, id, since, user: user('ann') })
  channel.postMessage({ ...token, id: 'new', since: since + 1, user: user('bob') })
  await vi.waitFor(() => expect(session.state().status).toBe('in'))
  // An older sign-in does not replace a later one.
  channel.postMessage({ ...token, id: 'older', since: since - 1, user: user('eve') })
  channel.postMessage({ ...token, id: 'newer', since: since + 2, user: user('cid') })
  await vi.waitFor(() => expect(who.at(-1)).toBe('cid'))
  expect(who).toEqual(['bob', 'cid'])
  stop()
})

test('the data of one account is dropped before listeners hear of the next', async () => {
  const order: string[] = []
  session.onEnd(() => order.push('dropped'))
  const stop = session.subscribe(() => {
    const state = session.state()
    order.push(state.status === 'in' ? state.user.id : state.status)
  })
  const { signal } = session
  const annes = signal()
  channel.postMessage({ kind: 'token', base: '', id: 'of bob', since: Date.now() + 1000, value: 'b', left_ms: 900_000, user: user('bob') })
  await vi.waitFor(() => expect(order).toContain('bob'))
  expect(order).toEqual(['dropped', 'bob'])
  expect(annes.aborted).toBe(true)
  stop()
})

test('a refused refresh asks the other tabs before it signs out, and takes no token that was refused', async () => {
  const answer = (event: MessageEvent<{ kind: string }>) => {
    if (event.data.kind === 'ask') channel.postMessage({ ...token, value: offered })
  }
  let offered = 'fresh'
  const { id, since } = JSON.parse(localStorage.getItem('hexa.session') ?? '{}') as { id: string; since: number }
  const token = { kind: 'token', base: '', id, since, left_ms: 900_000, user: user('ann') }
  channel.addEventListener('message', answer as EventListener)
  answers['auth/refresh'] = () => dead('refresh_token_reused')
  await refresh()
  expect(session.state().status).toBe('in')
  await authorized(new Request(`${window.location.origin}/api/v1/devices`))
  expect(of('devices')[0]?.token).toBe('Bearer fresh')
  // The other tab's token has expired as well.
  offered = 'fresh'
  answers.devices = () => dead()
  await expect(authorized(new Request(`${window.location.origin}/api/v1/devices`))).rejects.toMatchObject({ status: 401 })
  expect(session.state().status).toBe('out')
  channel.removeEventListener('message', answer as EventListener)
})

test('a sign-out keeps the data of other servers, even when the browser clears its storage', async () => {
  const others = { [storageKey('session', OTHER)]: '{"base":"x"}', [storageKey('preferences', OTHER, 'u9')]: '{}', [storageKey('refreshed', OTHER)]: '5' }
  for (const [key, text] of Object.entries(others)) localStorage.setItem(key, text)
  localStorage.setItem(storageKey('preferences', '', 'ann'), '{}')
  answers['auth/logout'] = () => {
    // As `Clear-Site-Data: "storage"` does.
    localStorage.clear()
    return new Response(null, { status: 204 })
  }
  await signOut()
  expect(Object.fromEntries(Object.entries(localStorage))).toEqual(others)
})

test('without locks, tabs that start together share one refresh', async () => {
  const tabs = [{ start, session, refresh }]
  for (let n = 0; n < 5; n += 1) {
    vi.resetModules()
    tabs.push(await import('.'))
  }
  expect(new Set(tabs.map((tab) => tab.session)).size).toBe(6)
  seen = []
  await Promise.all(tabs.slice(1).map((tab) => tab.start()))
  expect(tabs.map((tab) => tab.session.state().status)).toEqual(Array.from({ length: 6 }, () => 'in'))
  // None at all when the first tab, which is still open, shares its token.
  expect(of('auth/refresh').length).toBeLessThanOrEqual(1)
  // And again when the token expires.
  seen = []
  await Promise.all(tabs.slice(1).map((tab) => tab.refresh()))
  expect(of('auth/refresh').length).toBe(1)
  // A sign-out ends the session in every tab.
  await signOut()
  await vi.waitFor(() => expect(tabs.map((tab) => tab.session.state().status)).toEqual(Array.from({ length: 6 }, () => 'out')))
})
