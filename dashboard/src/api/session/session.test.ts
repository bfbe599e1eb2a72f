import { beforeEach, expect, test, vi } from 'vitest'
import { authorized, session, signIn, signOut, start } from '.'

const user = { id: 'u1', email: 'ann@hexa.local', name: 'Ann', role: 'user', created_at: '2026-11-23T12:00:00.000Z' }
const json = (status: number, body: unknown) => new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json' } })
const dead = { code: 'invalid_token', message: 'expired', details: null, request_id: 'req-1' }

let valid = 0
let refreshes = 0
let mayRefresh = true
/** Delays the next refreshes until it resolves. */
let slow: Promise<void> = Promise.resolve()
let logouts = 0

/** A server whose access tokens are numbered; only the newest is valid. */
const server = vi.fn(async (input: RequestInfo | URL, init?: RequestInit) => {
  const request = new Request(input instanceof Request ? input : new URL(input, 'http://hexa.example'), init)
  const path = new URL(request.url).pathname
  await new Promise((later) => setTimeout(later, 5))
  const signedIn = () => json(200, { user, access_token: `t${String(valid)}`, refresh_token: null, token_type: 'Bearer', expires_in: 900 })
  if (path.endsWith('/login')) {
    valid += 1
    return signedIn()
  }
  if (path.endsWith('/refresh')) {
    refreshes += 1
    await slow
    if (!mayRefresh) return json(401, { ...dead, code: 'refresh_token_reused' })
    valid += 1
    return signedIn()
  }
  if (path.endsWith('/logout')) {
    logouts += 1
    return new Response(null, { status: 204 })
  }
  return request.headers.get('authorization') === `Bearer t${String(valid)}` ? json(200, { path }) : json(401, dead)
})

const get = () => authorized(new Request(`${window.location.origin}/api/v1/devices`))

beforeEach(async () => {
  vi.stubGlobal('fetch', server)
  mayRefresh = true
  await signIn('', user.email, 'a password')
  refreshes = 0
})

test('20 simultaneous 401 answers cause one refresh, and every request succeeds', async () => {
  valid += 1
  const answers = await Promise.all(Array.from({ length: 20 }, get))
  expect(answers.map((a) => a.status)).toEqual(Array.from({ length: 20 }, () => 200))
  expect(refreshes).toBe(1)
})

test('an ended session is reported once, and no request follows', async () => {
  valid += 1
  mayRefresh = false
  const ended = await Promise.allSettled(Array.from({ length: 5 }, get))
  expect(ended.every((e) => e.status === 'rejected')).toBe(true)
  expect(refreshes).toBe(1)
  expect(session.state()).toEqual({ status: 'out', why: 'Your session has ended. Sign in again.' })
  expect(Object.keys(localStorage).filter((key) => key.startsWith('hexa.session'))).toEqual([])
})

test('no token is stored where a script could read it', async () => {
  expect(JSON.stringify(Object.entries(localStorage))).not.toMatch(/"t\d+|refresh_token/)
  await signOut()
  expect(Object.keys(localStorage)).toEqual([])
})

test('a pending refresh does not undo a sign-out', async () => {
  valid += 1
  let go: () => void = () => undefined
  slow = new Promise((done) => (go = done))
  const request = get()
  await vi.waitFor(() => expect(refreshes).toBe(1))
  logouts = 0
  await signOut()
  go()
  slow = Promise.resolve()
  await expect(request).rejects.toMatchObject({ status: 401 })
  expect(session.state()).toEqual({ status: 'out', why: null })
  expect(Object.keys(localStorage)).toEqual([])
  // The session that the late answer continued is ended as well.
  expect(logouts).toBe(2)
  await expect(get()).rejects.toMatchObject({ status: 401 })
  expect(refreshes).toBe(1)
})

test('a sign-in waits for the pending refresh of the previous session', async () => {
  valid += 1
  let go: () => void = () => undefined
  slow = new Promise((done) => (go = done))
  const request = get()
  await vi.waitFor(() => expect(refreshes).toBe(1))
  logouts = 0
  await signOut()
  const entered = signIn('', user.email, 'a password')
  await new Promise((later) => setTimeout(later, 20))
  // Ending the late session after the sign-in would end the new one.
  expect([session.state().status, logouts]).toEqual(['out', 1])
  go()
  slow = Promise.resolve()
  await Promise.allSettled([request])
  await entered
  expect([session.state().status, logouts]).toEqual(['in', 2])
  expect((await get()).status).toBe(200)
  expect(logouts).toBe(2)
})

test('a 401 about a token that was renewed meanwhile causes no second refresh', async () => {
  const late = get()
  valid += 1
  await get()
  await late
  expect(refreshes).toBe(1)
})

test('the page starts whatever is in storage', async () => {
  for (const odd of ['5', 'null', '[]', '{"user":1}', '{"base":3,"user":{"id":"u"}}', 'not json']) {
    await signOut()
    localStorage.setItem('hexa.session', odd)
    await start()
    expect(session.state()).toEqual({ status: 'out', why: null })
  }
})

test('an expired token of another tab is renewed', async () => {
  const { id, since } = JSON.parse(localStorage.getItem('hexa.session') ?? '{}') as { id: string; since: number }
  valid += 1
  const request = get()
  const message = { kind: 'token', base: '', id, since, value: 'as dead', left_ms: 1_000_000, user }
  const other = new BroadcastChannel('hexa.session')
  other.postMessage(message)
  expect((await request).status).toBe(200)
  expect(refreshes).toBe(1)
  other.close()
})
