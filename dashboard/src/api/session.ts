/**
 * Who is signed in, and the tokens (reliability.md section 3, "dashboard session survives reload").
 *
 * On the server that this page came from, the refresh token is in a cookie that no script can read, and the access
 * token in memory. On another server (`DASHBOARD_CONNECT_SRC`) the refresh token is in storage, which the sign-in page
 * warns of. Refreshes happen one at a time, over all requests of a tab (one promise) and over all tabs (a lock), and a
 * tab that waited takes the token of the one that asked.
 */
import { asApiError, type ApiError, fromAnswer } from './error'
import type { components } from './schema'
import { clear, PREFIX, read, remove, write } from './storage'

export type User = components['schemas']['UserBody']
type SignedIn = components['schemas']['SignedInBody']

/** What is kept over reloads; a refresh token only where there is no cookie. */
interface Kept {
  base: string
  user: User
  refresh_token?: string
}

export type SessionState =
  | { status: 'starting' }
  | { status: 'out'; why: string | null }
  | { status: 'in'; user: User; base: string }

const KEY = `${PREFIX}session`
const BASE_KEY = `${PREFIX}base`
/** Somebody signed out while the server was not there: its cookie is to be ended before anything else. */
const LEFT_KEY = `${PREFIX}signed_out`
const LOCK = 'hexa.refresh'
const TIMEOUT_MS = 20_000
/** An access token is renewed this long before its end. */
const EARLY_MS = 30_000

interface Token {
  value: string
  /** Of this page's monotonic clock: a wrong wall clock ends no session. */
  until: number
  got: number
}

let token: Token | null = null
let state: SessionState = { status: 'starting' }
let base: string = read<string>(BASE_KEY) ?? ''
let refreshing: Promise<void> | null = null
const listeners = new Set<() => void>()
const peers = typeof BroadcastChannel === 'undefined' ? null : new BroadcastChannel('hexa.session')

type Told =
  | { kind: 'token'; base: string; value: string; left_ms: number; user: User }
  | { kind: 'out'; why: string | null }
  | { kind: 'ask'; base: string }

function set(next: SessionState): void {
  state = next
  for (const listener of listeners) listener()
}

export const session = {
  subscribe: (listener: () => void): (() => void) => {
    listeners.add(listener)
    return () => listeners.delete(listener)
  },
  state: (): SessionState => state,
  /** Empty for the server that this page came from. */
  base: (): string => base,
}

/** Whether the browser keeps the session where no script reads it. */
const inCookie = (): boolean => base === ''

const headers = (): Record<string, string> => ({
  'content-type': 'application/json',
  ...(inCookie() ? { 'x-hexa-session': 'cookie' } : {}),
})

async function post(path: string, body: unknown): Promise<Response> {
  const init = { method: 'POST', headers: headers(), body: JSON.stringify(body), signal: AbortSignal.timeout(TIMEOUT_MS) }
  try {
    return await fetch(`${base}/api/v1/auth/${path}`, { ...init, credentials: inCookie() ? 'same-origin' : 'omit' })
  } catch (thrown) {
    throw asApiError(thrown)
  }
}

async function json(response: Response): Promise<unknown> {
  try {
    return (await response.json()) as unknown
  } catch {
    return null
  }
}

async function answered(response: Response): Promise<SignedIn> {
  const body = await json(response)
  if (!response.ok) throw fromAnswer(response, body)
  const signedIn = body as SignedIn | null
  if (typeof signedIn?.access_token !== 'string' || typeof signedIn.user.id !== 'string') throw asApiError(new SyntaxError())
  return signedIn
}

function take(value: string, leftMs: number, user: User): void {
  const now = performance.now()
  token = { value, until: now + leftMs, got: now }
  const same = state.status === 'in' && JSON.stringify(state.user) === JSON.stringify(user) && state.base === base
  if (!same) set({ status: 'in', user, base })
}

function enter(signedIn: SignedIn): void {
  const kept: Kept = { base, user: signedIn.user }
  if (!inCookie() && signedIn.refresh_token !== null) kept.refresh_token = signedIn.refresh_token
  write(KEY, kept)
  remove(LEFT_KEY)
  take(signedIn.access_token, signedIn.expires_in * 1000, signedIn.user)
  tell()
}

function tell(): void {
  if (token === null || state.status !== 'in') return
  const left_ms = token.until - performance.now()
  peers?.postMessage({ kind: 'token', base, value: token.value, left_ms, user: state.user } satisfies Told)
}

peers?.addEventListener('message', (event: MessageEvent<Told>) => {
  const told = event.data
  if (told.kind === 'token' && told.base === base) take(told.value, told.left_ms, told.user)
  if (told.kind === 'out' && state.status === 'in') leave(told.why, false)
  if (told.kind === 'ask' && told.base === base) tell()
})

function leave(why: string | null, announce: boolean): void {
  token = null
  clear([BASE_KEY, LEFT_KEY])
  set({ status: 'out', why })
  if (announce) peers?.postMessage({ kind: 'out', why } satisfies Told)
}

/** Runs alone among all tabs, where the browser can (it cannot on plain HTTP from another machine). */
async function alone<T>(work: () => Promise<T>): Promise<T> {
  const locks = (navigator as { locks?: LockManager }).locks
  if (locks === undefined) return work()
  let done: { value: T } | undefined
  await locks.request(LOCK, async () => {
    done = { value: await work() }
  })
  if (done === undefined) throw asApiError(new Error('the lock was not granted'))
  return done.value
}

/** Asks the other tabs for a token that is newer than ours. */
function fromPeers(since: number, waitMs: number): Promise<boolean> {
  const newer = () => token !== null && token.got > since
  if (peers === null || newer()) return Promise.resolve(newer())
  return new Promise((resolve) => {
    const timer = setTimeout(() => end(newer()), waitMs)
    const heard = () => {
      if (newer()) end(true)
    }
    const end = (found: boolean) => {
      clearTimeout(timer)
      peers.removeEventListener('message', heard)
      resolve(found)
    }
    peers.addEventListener('message', heard)
    peers.postMessage({ kind: 'ask', base } satisfies Told)
  })
}

const STAMP_KEY = `${PREFIX}refreshed`
const stamp = (): number => read<number>(STAMP_KEY) ?? 0

/** A new access token, for the one that did not do; many callers share one request. */
export function refresh(): Promise<void> {
  const asked = { got: token?.got ?? -1, stamp: stamp() }
  refreshing ??= alone(async () => {
    // Whoever had the lock before may have asked already.
    if (token !== null && token.got > asked.got) return
    if (stamp() !== asked.stamp && (await fromPeers(asked.got, 300))) return
    const kept = read<Kept>(KEY)
    const response = await post('refresh', inCookie() ? {} : { refresh_token: kept?.refresh_token ?? '' })
    enter(await answered(response))
    write(STAMP_KEY, Date.now())
  }).finally(() => {
    refreshing = null
  })
  return refreshing
}

const isOver = (error: ApiError): boolean => error.status === 401 || (error.status === 400 && !inCookie())

/** Called once: a session of before goes on. */
export async function start(): Promise<void> {
  if (read<boolean>(LEFT_KEY) === true) {
    try {
      await post('logout', {})
      remove(LEFT_KEY)
    } catch {
      // Still not there: at the next start.
    }
    set({ status: 'out', why: null })
    return
  }
  const kept = read<Kept>(KEY)
  if (kept !== null) base = kept.base
  if (kept === null) {
    set({ status: 'out', why: null })
    return
  }
  try {
    await refresh()
  } catch (thrown) {
    const error = asApiError(thrown)
    if (isOver(error)) leave('Your session has ended. Sign in again.', false)
    // Without an answer it is still theirs: pages say what is wrong, and ask again.
    else set({ status: 'in', user: kept.user, base })
  }
}

/** Signs in at this server (empty: where this page came from). */
export async function signIn(at: string, email: string, password: string): Promise<void> {
  setBase(at)
  enter(await answered(await post('login', { email, password })))
}

/** Makes an account and signs in. */
export async function register(
  at: string,
  account: { email: string; password: string; name?: string; bootstrap_secret?: string },
): Promise<void> {
  setBase(at)
  enter(await answered(await post('register', account)))
}

function setBase(at: string): void {
  base = at === window.location.origin ? '' : at.replace(/\/+$/, '')
  if (base === '') remove(BASE_KEY)
  else write(BASE_KEY, base)
}

/** Changes the password; every other session ends. */
export async function changePassword(current_password: string, new_password: string): Promise<void> {
  const send = async () =>
    fetch(`${base}/api/v1/auth/password`, {
      method: 'POST',
      headers: { ...headers(), authorization: `Bearer ${await bearer()}` },
      body: JSON.stringify({ current_password, new_password }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
  try {
    enter(await answered(await send()))
  } catch (thrown) {
    throw asApiError(thrown)
  }
}

/** Signs out here, in all tabs, also when the server is not there (DB-4). */
export async function signOut(): Promise<void> {
  const kept = read<Kept>(KEY)
  if (inCookie()) write(LEFT_KEY, true)
  const body = inCookie() ? {} : { refresh_token: kept?.refresh_token ?? '' }
  leave(null, true)
  try {
    await post('logout', body)
    remove(LEFT_KEY)
  } catch {
    // The cookie is ended at the next start; nothing shows until then.
  }
}

/** An access token that is good for a while. */
async function bearer(): Promise<string> {
  if (token === null || token.until - performance.now() < EARLY_MS) await refresh()
  return token?.value ?? ''
}

/** `fetch` as the signed-in user: renews the token before its end, and once after a 401. */
export async function authorized(request: Request): Promise<Response> {
  const again = request.clone()
  const send = async (what: Request) => {
    what.headers.set('authorization', `Bearer ${await bearer()}`)
    return fetch(what)
  }
  try {
    const first = await send(request)
    if (first.status !== 401) return first
    const body = await json(first.clone())
    const code = fromAnswer(first, body).code
    // A wrong password is 401 as well, and no reason to ask for a token.
    if (code !== 'invalid_token') {
      if (code === 'account_disabled') leave('This account has been deactivated.', true)
      return first
    }
    await refresh()
    return await send(again)
  } catch (thrown) {
    const error = asApiError(thrown)
    if (isOver(error) && state.status === 'in') leave('Your session has ended. Sign in again.', true)
    throw error
  }
}
